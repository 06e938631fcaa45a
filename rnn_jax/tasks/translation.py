"""Translation: from one text to another, learned from pairs with softmax cross-entropy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import decoding
from rnn_jax.config import AdamConfig, Config
from rnn_jax.data import batching
from rnn_jax.data.language.vocabulary import END
from rnn_jax.data.pairs import batches, preparation
from rnn_jax.data.pairs.batches import PairBatch, PairPass
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.preparation import Sizes
from rnn_jax.data.pairs.vocabulary import Vocabularies
from rnn_jax.data.text import PADDING
from rnn_jax.models import without_rates
from rnn_jax.models.seq2seq import (
    Decoded,
    Seq2SeqConfig,
    Start,
    seq2seq,
    seq2seq_rates,
    writable,
)
from rnn_jax.nn.noise import rate_array
from rnn_jax.tasks import metrics, recurrent, told, translation_report
from rnn_jax.tasks.base import MODES, Cells, Data, Facts, Kind, Record, Say, Task
from rnn_jax.tasks.metrics import Sums
from rnn_jax.tasks.told import Told
from rnn_jax.tasks.translator import SLACK, Network, Translator, step_of
from rnn_jax.types import AnyArray, Array, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class TranslationConfig(Config):
    """An experiment that learns what texts become."""

    task: ClassVar[str] = "translation"

    data: PairsConfig = PairsConfig()
    model: Seq2SeqConfig = Seq2SeqConfig()
    optimizer: AdamConfig = AdamConfig()


def kind() -> Kind:
    """The kind of task that translates."""
    return Kind(
        config=TranslationConfig,
        noun="a translator",
        facts=lambda config: preparation.sizes(config.data)._asdict(),
        read_facts=_read_facts,
        make=_task,
        resolve=recurrent.resolve_kernel,
        remembers=(recurrent.VOCABULARY,),
        modes=MODES,
    )


def _read_facts(values: Any) -> Facts:
    if not isinstance(values, dict) or set(values) != set(Sizes._fields):
        raise ValueError(f"expected a JSON object with {', '.join(Sizes._fields)}")
    for name, value in values.items():
        if type(value) is not int or not 1 <= value < 2**20:
            raise ValueError(f"{name} is no whole number from 1 on")
    return values


def _task(config: TranslationConfig, facts: Facts, cells: Cells) -> Task:
    sizes, model = Sizes(**facts), config.model
    limit, beam = sizes.longest + SLACK, model.test_beam
    rates = (
        seq2seq_rates(model),
        _some(model.label_smoothing),
        rate_array(model.scheduled_sampling),
    )
    # Rates are arguments of the loss: models that differ in nothing else are the same.
    plain = without_rates(model, cells, "dropout")
    module = seq2seq(plain, sizes.inputs, sizes.outputs, cells)
    # A token at a time, other kernels than the reference prepare more than they compute.
    stepwise = seq2seq(
        dataclasses.replace(plain, kernel="scan"), sizes.inputs, sizes.outputs, cells
    )
    key = recurrent.key_of(module, limit, beam, model.length_penalty)

    teller = told.teller(plain)

    def apply(net: Any, method: str, params: Params, *arrays: Any, **how: Any) -> Any:
        noise = how.pop("noise", None)
        variables = {"params": params} if noise is None else {"params": params, "rates": noise}
        return net(variables, *arrays, method=method, **how)

    telling = functools.partial(teller.apply, module)
    encode = functools.partial(apply, telling, "encode")
    decode = functools.partial(apply, telling, "decode")
    network = Network(
        functools.partial(apply, module.apply, "encode"),
        functools.partial(apply, stepwise.apply, "decode"),
        key,
    )

    def read_and_write(
        params: Params, batch: PairBatch, before: Array, reading: Any, writing: Any
    ) -> tuple[Start, Decoded, Told]:
        """Both passes, with the noise of each, and what kernels tell of them."""
        start, read = encode(params, batch.inputs, **reading)
        said, written = decode(params, start.memory, start.carry, before, **writing)
        return start, said, told.largest(read, written)

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.ones((1, 1), jnp.int32), jnp.ones((1, 1), jnp.int32))["params"]

    def loss(
        params: Params, carry: None, batch: PairBatch, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[None, Sums]]:
        noise, smoothing, sampling = rates
        reading, writing, again, drawing = jax.random.split(key, 4)
        noisy = lambda key: {"noise": noise, "deterministic": False, "rngs": {"dropout": key}}
        before = _before(batch.targets)
        start, said, heard = read_and_write(params, batch, before, noisy(reading), noisy(writing))
        if sampling is not None:
            before = _mixed(drawing, before, said.logits, sampling)
            said, more = decode(params, start.memory, start.carry, before, **noisy(again))
            heard = told.largest(heard, more)
        sums, mean = _measured(said.logits, batch, smoothing)
        sums |= _unsearched(sums) | teller.sums(heard, jnp.asarray(batch.weights) > 0)
        return mean, (carry, sums)

    def evaluate(params: Params, carry: None, batch: PairBatch) -> tuple[None, Sums, Array]:
        start, said, heard = read_and_write(params, batch, _before(batch.targets), {}, {})
        sums, _ = _measured(said.logits, batch, None)
        step, rows = step_of(network, params, start, beam), len(batch.inputs)
        if beam == 1:
            tokens = decoding.greedy(step, start.carry, END, END, rows, limit).tokens
        else:
            tokens = decoding.search(
                step, start.carry, END, END, rows, limit, beam, model.length_penalty
            ).tokens[:, 0]
        tokens = jnp.where(tokens == END, PADDING, tokens)
        edits, wanted = _compared(tokens, batch)
        real = jnp.asarray(batch.weights) > 0
        counted = lambda values: jnp.sum(jnp.where(real, values, 0), dtype=jnp.int32)
        sums |= {
            "exact": counted(edits == 0),
            "edits": counted(edits),
            "wanted": counted(wanted),
            "searched": counted(1),
        } | teller.sums(heard, real)
        return carry, sums, jnp.concatenate([edits[:, None], wanted[:, None], tokens], axis=1)

    def prepare(say: Say, remembered: Mapping[str, str] | None) -> Data:
        known = _vocabularies(remembered) if remembered else None
        found = preparation.prepare(config.data, known)
        size = config.train.batch_size
        return Data(
            digest=preparation.digest(found),
            remembered={recurrent.VOCABULARY: found.vocabularies.to_json()},
            epochs=batches.epochs(found.train, config.data.buckets, batching.dealing(config.train)),
            validation=batches.single_pass(found.validation, size),
            test=batches.single_pass(found.test, size),
        )

    def test(remembered: Mapping[str, str]) -> PairPass:
        pairs = preparation.test_pairs(config.data, _vocabularies(remembered))
        return batches.single_pass(pairs, config.train.batch_size)

    def result(record: Record) -> str:
        return (
            f"test exact match {record['exact_match']:.4f}  "
            f"token errors {record['error_rate']:.4f}  "
            f"({config.data.source}, {record['examples']} pairs)"
        )

    def translator(params: Params, remembered: Mapping[str, str], run: Any = None) -> Translator:
        known = _vocabularies(remembered)
        return Translator(network, params, known, limit, model.beam, model.length_penalty, run)

    task = Task(
        key=key,
        facts=facts,
        init=init,
        loss=loss,
        evaluate=evaluate,
        rates=rates,
        weight=lambda batch: jnp.sum(jnp.asarray(batch.targets) != PADDING),
        sums=dict.fromkeys(("loss",), jnp.float32(0)) | dict.fromkeys(COUNTS, jnp.int32(0)),
        means=metrics.translation_means,
        flow=(
            "input_embedding", "encoder", "bridge", "output_embedding", "lower", "attend",
            "upper_bridge", "upper", "join", "head",
        ),
        counts=("examples", "tokens"),
        examples="pairs",
        headline=("loss", "exact_match"),
        prepare=prepare,
        test=test,
        result=result,
        details=translation_report.lines,
        sections=lambda tested: translation_report.sections(
            tested, translator(tested.params, tested.data.remembered)
        ),
        predictor=lambda trained: translator(trained.params, trained.remembered, trained),
        answer=translation_report.answer,
    )  # fmt: skip
    return teller.reporting(task)


COUNTS = ("tokens", "correct", "examples", "exact", "edits", "wanted", "searched")


def _before(targets: AnyArray) -> Array:
    """The token before each: int32[batch, time]."""
    targets = jnp.asarray(targets)
    return jnp.pad(targets[:, :-1], [(0, 0), (1, 0)], constant_values=END)


def _mixed(key: PRNGKey, before: Array, logits: Array, rate: Array) -> Array:
    """The tokens before, some of them as the model draws them after what truly stands before."""
    drawing, choosing = jax.random.split(key)
    drawn = jax.random.categorical(drawing, jax.lax.stop_gradient(logits)).astype(jnp.int32)
    own = _before(drawn)
    chosen = jax.random.uniform(choosing, own.shape) < rate
    return jnp.where(chosen, own, before)


def _measured(logits: Array, batch: PairBatch, smoothing: Array | None) -> tuple[Sums, Array]:
    """What the logits after the right tokens before are worth: the sums, and the mean loss to be
    learned."""
    targets = jnp.asarray(batch.targets)
    counted = targets != PADDING
    logs = jax.nn.log_softmax(jnp.where(counted[..., None], logits, 0).astype(jnp.float32))
    own = jnp.take_along_axis(logs, targets[..., None], axis=-1)[..., 0]
    hits = jnp.argmax(writable(logs), axis=-1) == targets
    count = lambda flags: jnp.sum(flags, dtype=jnp.int32)
    real = jnp.asarray(batch.weights) > 0
    losses = jnp.sum(jnp.where(counted, -own, 0))
    sums = {
        "loss": losses,
        "tokens": count(counted),
        "correct": count(hits & counted),
        "examples": count(real),
        "exact": count(jnp.all(hits | ~counted, axis=1) & real),
    }
    wanted = losses
    if smoothing is not None:
        spread = jnp.sum(jnp.where(counted, -jnp.mean(logs, axis=-1), 0))
        wanted = (1 - smoothing) * losses + smoothing * spread
    return sums, wanted / jnp.maximum(sums["tokens"], 1).astype(jnp.float32)


def _unsearched(sums: Sums) -> Sums:
    return {name: jnp.int32(0) for name in COUNTS if name not in sums}


def _compared(tokens: Array, batch: PairBatch) -> tuple[Array, Array]:
    """How far answers are from the nearest right one, and how many tokens that has: int32[batch].

    Args:
      tokens: int32[batch, time], without ends.
      batch: has the right answers.
    """
    references = batch.references
    if references is None:
        references = jnp.asarray(batch.targets)[:, None]
    references = jnp.asarray(references)
    there = jnp.any(references != PADDING, axis=-1)
    bare = jnp.where(references == END, PADDING, references)
    edits = decoding.edit_distances(tokens[:, None], bare)
    edits = jnp.where(there, edits, jnp.iinfo(jnp.int32).max)
    nearest = jnp.argmin(edits, axis=1)[:, None]
    lengths = jnp.sum(bare != PADDING, axis=-1, dtype=jnp.int32)
    chosen = lambda values: jnp.take_along_axis(values, nearest, axis=1)[:, 0]
    return chosen(edits), chosen(lengths)


def _some(value: float) -> np.float32 | None:
    return np.float32(value) if value else None


def _vocabularies(remembered: Mapping[str, str]) -> Vocabularies:
    return recurrent.vocabulary(remembered, Vocabularies.from_json)
