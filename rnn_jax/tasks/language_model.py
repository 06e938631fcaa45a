"""Language modelling: guess the next token of a text, learned with softmax cross-entropy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.config import AdamConfig, Config, InputError
from rnn_jax.data import batching
from rnn_jax.data.language import preparation, windows
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.data.language.windows import TextBatch, TextEpochs
from rnn_jax.data.text import PADDING, UNKNOWN
from rnn_jax.models import LanguageModelConfig, without_rates
from rnn_jax.models.language_model import (
    Read,
    Readout,
    language_model,
    language_model_rates,
    readout,
)
from rnn_jax.nn import cross_entropy
from rnn_jax.tasks import explanation, language_report, metrics, pretrained, recurrent, told
from rnn_jax.tasks.base import MODES, Cells, Data, Facts, Kind, Record, Say, Task
from rnn_jax.tasks.metrics import Sums
from rnn_jax.tasks.told import Told
from rnn_jax.tasks.writer import Network, Writer, empty_carry
from rnn_jax.types import AnyArray, Array, Carry, Params, PRNGKey

_NEVER = -1e9  # a logit of what cannot come
_NO_BATCH = TextBatch(
    np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32), np.zeros(1, np.int32),
    np.zeros(1, np.float32),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LanguageConfig(Config):
    """An experiment that learns what comes next in a text."""

    task: ClassVar[str] = "language_model"

    data: LanguageDataConfig = LanguageDataConfig()
    model: LanguageModelConfig = LanguageModelConfig()
    optimizer: AdamConfig = AdamConfig()


def kind() -> Kind:
    """The kind of task that models language."""
    return Kind(
        config=LanguageConfig,
        noun="a language model",
        facts=_facts,
        read_facts=_read_facts,
        make=_task,
        resolve=recurrent.resolve_kernel,
        remembers=(recurrent.VOCABULARY,),
        modes=(*MODES, "generate", "explain"),
    )


def _facts(config: LanguageConfig) -> Facts:
    return {"vocab_size": preparation.vocab_size(config.data)}


def _read_facts(values: Any) -> Facts:
    if not isinstance(values, dict) or set(values) != {"vocab_size"}:
        raise ValueError("expected a JSON object with vocab_size")
    if type(values["vocab_size"]) is not int or values["vocab_size"] < 1:
        raise ValueError("vocab_size is no whole number of at least 1")
    return values


def _task(config: LanguageConfig, facts: Facts, cells: Cells) -> Task:
    rates, penalties = language_model_rates(config.model), _penalties(config.model)
    # Rates are arguments of the loss: models that differ in nothing else are the same.
    dropped = [f"{of}_dropout" for of in ("input", "hidden", "output", "embedding")]
    plain = without_rates(config.model, cells, *dropped)
    module, teller = language_model(plain, facts["vocab_size"], cells), told.teller(plain)
    candidates = config.model.sampled
    rows, time, resets = config.train.batch_size, config.data.window, config.data.carry == "story"

    key = recurrent.key_of(module, resets, rows, candidates, pretrained.frozen(config.model))

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, 1), jnp.int32))["params"]

    def read(
        params: Params, carry: Carry, inputs: AnyArray, rates: Any = None, **noise: Any
    ) -> tuple[Read, Told]:
        apply = functools.partial(teller.apply, module)
        return _read(apply, resets, params, carry, inputs, rates, **noise)

    def head(params: Params) -> Readout:
        table, bias = readout(params)
        return Readout(table, bias.at[PADDING].set(_NEVER))

    # A token at a time, other kernels than the reference prepare more than they compute.
    stepwise = language_model(dataclasses.replace(plain, kernel="scan"), facts["vocab_size"], cells)
    network = Network(functools.partial(_read, stepwise.apply, resets), head, key)

    def loss(
        params: Params, carry: Carry, batch: TextBatch, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[Carry, Sums]]:
        noise, penalties = rates
        key, drawn = jax.random.split(key)
        found, heard = read(
            params, carry, batch.inputs, noise, deterministic=False, rngs={"dropout": key}
        )
        counted = (jnp.asarray(batch.targets) != PADDING).astype(jnp.float32)
        asked = (found.features, *head(params), batch.targets, counted)
        if candidates:
            total = cross_entropy.sampled_loss(drawn, *asked, candidates=candidates)
        else:
            total = cross_entropy.weighted_loss(*asked)
        mean = total / jnp.maximum(jnp.sum(counted), 1)
        activation, slowness = penalties
        if activation is not None:
            mean += activation * jnp.mean(jnp.square(found.dropped))
        if slowness is not None:
            steps = found.outputs[:, 1:] - found.outputs[:, :-1]
            mean += slowness * jnp.mean(jnp.square(steps))
        return mean, (found.carry, _sums(total, batch) | teller.sums(heard, _rows(batch)))

    def evaluate(params: Params, carry: Carry, batch: TextBatch) -> tuple[Carry, Sums, Array]:
        found, heard = read(params, carry, batch.inputs)
        said = cross_entropy.token_statistics(found.features, *head(params), batch.targets)
        counted = jnp.asarray(batch.targets) != PADDING
        losses = jnp.where(counted, said.losses, 0)
        outputs = jnp.stack([losses, said.largest, said.hit.astype(jnp.float32)], axis=-1)
        sums = _sums(jnp.sum(losses), batch) | teller.sums(heard, _rows(batch))
        return found.carry, sums, outputs

    def initial_carry() -> Carry:
        return empty_carry(network, jax.eval_shape(lambda: init(jax.random.key(0))), rows)

    def prepare(say: Say, remembered: Mapping[str, str] | None) -> Data:
        vocabulary = _vocabulary(remembered) if remembered else None
        found = preparation.prepare(config.data, vocabulary, say)
        _check_length(config, len(found.train))
        words = found.vocabulary.words
        vectors = pretrained.vectors(config.model, words, len(SPECIAL), say)
        return Data(
            digest=pretrained.digest(preparation.digest(found), vectors),
            remembered={recurrent.VOCABULARY: found.vocabulary.to_json()},
            epochs=TextEpochs(found.train, time, batching.dealing(config.train), words),
            validation=windows.single_pass(found.validation, rows, time, words),
            test=windows.single_pass(found.test, rows, time, words),
            start=pretrained.start(vectors),
            sections=pretrained.sections(vectors, words, len(SPECIAL)),
        )

    def test(remembered: Mapping[str, str]) -> windows.TextPass:
        vocabulary = _vocabulary(remembered)
        stream = preparation.test_stream(config.data, vocabulary)
        return windows.single_pass(stream, rows, time, vocabulary.words)

    def result(record: Record) -> str:
        return (
            f"test perplexity {record['perplexity']:.2f}  "
            f"bits/character {record['bits_per_character']:.3f}  "
            f"({config.data.source}, {record['tokens']} tokens)"
        )

    task = Task(
        key=key,
        facts=facts,
        init=init,
        loss=loss,
        evaluate=evaluate,
        initial_carry=initial_carry,
        held=pretrained.held(config.model, init),
        rates=(rates, penalties),
        weight=lambda batch: jnp.sum(jnp.asarray(batch.targets) != PADDING),
        sums=jax.eval_shape(_sums, jnp.float32(0), _NO_BATCH),
        means=metrics.language_means,
        flow=("embedding", "recurrent", "projection", "head", "bias"),
        counts=("tokens", "unknown"),
        examples="windows",
        headline=("perplexity",),
        prepare=prepare,
        test=test,
        result=result,
        details=language_report.lines,
        sections=lambda tested: language_report.sections(
            tested,
            _vocabulary(tested.data.remembered),
            config.data,
            np.asarray(tested.params["embedding"]) if "embedding" in tested.params else None,
        ),
        shown=lambda params, remembered: language_report.samples(
            Writer(network, params, _vocabulary(remembered))
        ),
        predictor=lambda trained: Writer(
            network, trained.params, _vocabulary(trained.remembered), trained
        ),
        answer=lambda predictor, text: predictor(text)._asdict(),
        explain=explanation.of_writer,
    )
    return teller.reporting(task)


def _read(
    apply: Callable[..., Any],
    resets: bool,
    params: Params,
    carry: Carry,
    inputs: AnyArray,
    rates: Any = None,
    **noise: Any,
) -> Any:
    """What a module's `apply` makes of a window; with `resets` an end is followed by a state of
    none."""
    variables = {"params": params} if rates is None else {"params": params, "rates": rates}
    starts = inputs == END if resets else None
    return apply(variables, inputs, initial=carry, resets=starts, **noise)


def _rows(batch: TextBatch) -> Array:
    """The rows that have a token to be guessed: bool[batch]."""
    return jnp.any(jnp.asarray(batch.targets) != PADDING, axis=-1)


def _sums(loss: Array, batch: TextBatch) -> Sums:
    """The sums of a batch whose tokens' losses sum up to `loss`."""
    targets = jnp.asarray(batch.targets)
    count = lambda flags: jnp.sum(flags, dtype=jnp.int32)
    return {
        "loss": loss,
        "tokens": count(targets != PADDING),
        "unknown": count(targets == UNKNOWN),
        "examples": count(_rows(batch)),
        "characters": jnp.sum(batch.characters, dtype=jnp.int32),
        "spelling": jnp.sum(batch.spelling),
    }


def _penalties(config: LanguageModelConfig) -> tuple[np.float32 | None, np.float32 | None]:
    some = lambda value: np.float32(value) if value else None
    return some(config.activation_penalty), some(config.slowness_penalty)


def _check_length(config: LanguageConfig, tokens: int) -> None:
    """Raises InputError if a window is longer than the rows that the text makes."""
    rows, time = config.train.batch_size, config.data.window
    if tokens < rows * time:
        raise InputError(
            f"the training text has {tokens} tokens, {tokens // rows} for each of "
            f"--config.train.batch_size={rows} rows, fewer than --config.data.window={time}: give "
            "a smaller window or batch"
        )


def _vocabulary(remembered: Mapping[str, str]) -> Vocabulary:
    return recurrent.vocabulary(remembered, Vocabulary.from_json)
