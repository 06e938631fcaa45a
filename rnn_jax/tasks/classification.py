"""Text classification: one label for each text, learned with softmax cross-entropy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax import models, report
from rnn_jax.config import Config, InputError
from rnn_jax.data import balance, batching, epochs, preparation, sources
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.epochs import StoryPass
from rnn_jax.data.options import DataConfig
from rnn_jax.data.text import SPECIAL, Vectorizer
from rnn_jax.inspect import Scorer
from rnn_jax.models import ModelConfig
from rnn_jax.optim.tables import Tables
from rnn_jax.tasks import explanation, metrics, pretrained, recurrent, told
from rnn_jax.tasks.base import (
    MODES,
    Cells,
    Data,
    Facts,
    Kind,
    Record,
    Resolved,
    Say,
    Task,
    Tested,
    choose_nothing,
)
from rnn_jax.tasks.metrics import Sums
from rnn_jax.tasks.predictor import Predictor
from rnn_jax.types import AnyArray, Array, Batch, Params, PRNGKey

# (model section, vocab_size, classes, widths, cells) -> a module like `models.SequenceClassifier`
Network = Callable[..., nn.Module]


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(Config):
    """An experiment that classifies texts."""

    task: ClassVar[str] = "classification"
    moved: ClassVar[Mapping[str, str]] = {"train.pool": "data.pool", "train.pack": "data.pack"}

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()

    def check(self) -> None:
        model = self.model
        update = getattr(self.optimizer, "embedding_update", "dense")
        if model.frozen_epochs > 0 and update == "delayed":
            raise InputError(
                "--config.model.frozen_epochs needs --config.optimizer.embedding_update=touched or "
                "dense: a row whose updates are delayed would make up for those of frozen epochs"
            )
        if self.data.pack and not (model.masked and model.pooling in ("mean", "max")):
            raise InputError(
                "--config.data.pack needs --config.model.masked and --config.model.pooling=mean or "
                f"max, not {'masked' if model.masked else 'nomasked'} and {model.pooling}; give "
                "--noconfig.data.pack to put each text into a row of its own"
            )
        if self.data.pack and self.train.accumulate > 1:
            raise InputError(
                f"--config.train.accumulate={self.train.accumulate} needs --noconfig.data.pack: "
                "texts that share rows cannot be parted by rows"
            )


def kind(
    config: type[ClassificationConfig] = ClassificationConfig,
    network: Network = models.classifier,
    rates: Callable[[Any], Any] | None = None,
    resolve: Callable[..., Resolved] | None = None,
) -> Kind:
    """The kind of task that classifies texts, with this network.

    Args:
      config: the class of its configs; one with another `task` and `model` section for a network of
        one's own.
      network: `(model section, vocab_size, classes, widths, cells) -> module`; the module has the
        methods `embed` and `classify` of `models.SequenceClassifier`, and with
        `model.embedding_size` its table of vectors is the parameter "embedding".
      rates: `(model section) -> the collection "rates"`, for a network that reads its dropout from
        there (`rnn_jax.nn.noise.module_rate`); otherwise its rates are its own.
      resolve: `rnn_jax.tasks.recurrent.resolve_kernel` for a network that is made of the config's
        cell and kernel.
    """
    if network is models.classifier:
        rates, resolve = models.classifier_rates, recurrent.resolve_kernel

    def make(config: ClassificationConfig, facts: Facts, cells: Cells) -> Task:
        return _task(config, facts, cells, network, rates)

    return Kind(
        config=config,
        noun="a classifier",
        facts=_facts,
        read_facts=_read_facts,
        make=make,
        resolve=resolve or choose_nothing,
        remembers=(recurrent.VOCABULARY,),
        modes=(*MODES, "explain"),
    )


def _facts(config: ClassificationConfig) -> Facts:
    return {"classes": sources.classes(config.data)}


def _read_facts(values: Any) -> Facts:
    if not isinstance(values, dict) or set(values) != {"classes"}:
        raise ValueError("expected a JSON object with classes")
    names = values["classes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("classes are no list of names")
    if len(set(names)) != len(names) or len(names) < 2:
        raise ValueError("there must be two classes or more, all different")
    return {"classes": tuple(names)}


def _task(
    config: ClassificationConfig,
    facts: Facts,
    cells: Cells,
    network: Network,
    rates: Callable[[Any], Any] | None,
) -> Task:
    classes = facts["classes"]
    widths = shapes_lib.widths(config.data.max_length)
    model, loss_rates = config.model, None
    if rates is not None:
        # They are arguments of the loss: networks that differ in nothing else are the same.
        loss_rates = rates(model)
        model = models.without_rates(model, cells, "dropout", "token_dropout")
    module = network(model, config.data.vocab_size, len(classes), widths, cells)
    teller = told.teller(model)
    has_table = bool(config.model.embedding_size)
    balanced = config.data.class_weights == "balanced"

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32))["params"]

    def embed(params: Params, tokens: AnyArray) -> Array:
        if has_table:
            # Not the module's own look-up, since the table may hold the batch's rows alone.
            return params["embedding"]["embedding"][tokens]
        vectors = module.apply({"params": params}, tokens, method="embed")
        assert not isinstance(vectors, tuple)  # flax returns one only where a collection is mutable
        return vectors

    def score(params: Params, vectors: Array, lengths: AnyArray) -> Array:
        logits = module.apply(
            {"params": params}, vectors, lengths, segments=None, method="classify"
        )
        assert not isinstance(logits, tuple)
        return logits

    def classify(
        params: Params, batch: Batch, rates: Any = None, **noise: Any
    ) -> tuple[Array, Sums]:
        vectors = embed(params, batch.tokens)
        variables = {"params": params} if rates is None else {"params": params, "rates": rates}
        logits, heard = teller.apply(
            module, variables, vectors, batch.lengths, segments=batch.segments, method="classify",
            **noise,
        )  # fmt: skip
        sums = metrics.classification(logits, batch.labels, batch.weights, batch.lengths)
        segments = batch.segments
        rows = batch.weights > 0 if segments is None else (segments > 0).any(axis=1)
        sums |= teller.sums(heard, jnp.asarray(rows))
        return logits, sums

    def loss(
        params: Params, carry: None, batch: Batch, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[None, Sums]]:
        logits, sums = classify(params, batch, rates, deterministic=False, rngs={"dropout": key})
        if balanced:
            return metrics.weighted_loss(logits, batch.labels, batch.weights), (carry, sums)
        mean = sums["loss"] / jnp.maximum(sums["examples"], 1).astype(jnp.float32)
        return mean, (carry, sums)

    def evaluate(params: Params, carry: None, batch: Batch) -> tuple[None, Sums, Array]:
        logits, sums = classify(params, batch)
        return carry, sums, jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    def prepare(say: Say, remembered: Mapping[str, str] | None) -> Data:
        vectorizer = _vectorizer(remembered) if remembered else None
        found = preparation.prepare(config.data, vectorizer, classes, say)
        words, size = found.vectorizer.words, config.train.batch_size
        dealing = batching.dealing(config.train)
        vectors = pretrained.vectors(config.model, words, len(SPECIAL), say)
        counts = balance.counts(found.train, len(classes))
        for line in balance.warnings(counts, classes, balanced):
            say(f"warning: {line}")
        weights = balance.class_weights(counts) if balanced else None
        return Data(
            digest=pretrained.digest(preparation.digest(found), vectors),
            remembered={recurrent.VOCABULARY: found.vectorizer.to_json()},
            epochs=epochs.epochs(config.data, dealing, found.train, words, weights),
            validation=epochs.single_pass(config.data, size, found.validation, words),
            test=epochs.single_pass(config.data, size, found.test, words, found.test_texts),
            start=pretrained.start(vectors),
            sections=pretrained.sections(vectors, words, len(SPECIAL)),
        )

    def test(remembered: Mapping[str, str]) -> StoryPass:
        stories = preparation.test_stories(config.data, classes)
        vectorizer = _vectorizer(remembered)
        examples = preparation.examples(stories, vectorizer, config.data)
        size, texts = config.train.batch_size, stories.text(config.data.field)
        return epochs.single_pass(config.data, size, examples, vectorizer.words, texts)

    def result(record: Record) -> str:
        return (
            f"test accuracy {record['accuracy']:.4f}  loss {record['loss']:.4f}  "
            f"({config.data.source}, {record['examples']} examples)"
        )

    def sections(tested: Tested) -> list[Any]:
        test: Any = tested.data.test
        found = report.classification_sections(
            test.stories.labels, tested.outputs, test.texts, classes
        )
        vectorizer = _vectorizer(tested.data.remembered)
        explained = explanation.tested_texts(tested, test, classes, vectorizer)
        return [*found, explained, *tested.data.sections]

    rows = jax.ShapeDtypeStruct((1,), jnp.int32)
    logits = jax.ShapeDtypeStruct((1, len(classes)), jnp.float32)
    frozen = pretrained.frozen(config.model)
    sums = jax.eval_shape(metrics.classification, logits, rows, rows, rows)
    key = recurrent.key_of(module, widths, config.data.vocab_size, has_table, frozen, balanced)
    task = Task(
        key=key,
        facts=facts,
        init=init,
        loss=loss,
        evaluate=evaluate,
        rates=loss_rates,
        sums=sums,
        means=metrics.classification_means,
        flow=("embedding", "recurrent", "head"),
        counts=("examples", "tokens"),
        tables=_tables(init, config.data.vocab_size) if has_table else None,
        held=pretrained.held(config.model, init),
        prepare=prepare,
        test=test,
        warnings=lambda outputs, test: balance.unrecognised(outputs, test.stories.labels, classes),
        result=result,
        sections=sections,
        predictor=lambda trained: Predictor(
            trained, classes, _vectorizer(trained.remembered), Scorer(embed, score, key)
        ),
        answer=lambda predictor, text: predictor(text)._asdict(),
        explain=explanation.of_classifier,
    )
    return teller.reporting(task)


def _tables(init: Callable[[PRNGKey], Params], rows: int) -> Tables:
    return Tables(
        marks=pretrained.marks(init),
        rows=rows,
        read=lambda batch: batch.tokens,
        with_reads=lambda batch, tokens: batch._replace(tokens=tokens),
    )


def _vectorizer(remembered: Mapping[str, str]) -> Vectorizer:
    return recurrent.vocabulary(remembered, Vectorizer.from_json)
