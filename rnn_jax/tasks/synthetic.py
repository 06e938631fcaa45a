"""What tasks have in common whose examples are drawn: sequences with questions about what stood far
back.

A `Problem` says what is drawn, what an answer is worth and what the report shows; `kind` makes a
kind of task of it. The network is `rnn_jax.models.reader`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.config import AdamConfig, Config, InputError, Section, option
from rnn_jax.data.arrays import ArrayBatch, ArrayPass
from rnn_jax.models.reader import ReaderConfig, reader
from rnn_jax.tasks import recurrent, told
from rnn_jax.tasks.base import (
    Cells,
    Data,
    Facts,
    Kind,
    Record,
    Resolved,
    Say,
    Task,
    Tested,
    Trained,
)
from rnn_jax.tasks.in_memory import data_of
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import AnyArray, Array, Params, PRNGKey

MODES = ("train", "summary", "evaluate")  # there is no text to predict from
LARGEST = 2**28  # numbers of a split's inputs: a gigabyte


class Examples(NamedTuple):
    """Some sequences, and what is asked of them.

    inputs: int32[examples, time] of symbols, or float32[examples, time, features].
    lengths: int32[examples]; what stands beyond a row's length is padding.
    at: int32[examples, answers], the steps at which the network answers.
    targets: [examples, answers], the right answers.
    """

    inputs: AnyArray
    lengths: AnyArray
    at: AnyArray
    targets: AnyArray


@dataclasses.dataclass(frozen=True)
class DrawnConfig(Section):
    """Drawn examples."""

    lag: int = option(100, "steps over which something must be remembered", minimum=2)
    vary: float = option(
        0.0,
        "examples have lags of their own, up to this share longer; the shorter ones are padded",
        minimum=0.0,
        below=10.0,
    )
    train: int = option(10_000, "examples to learn from", minimum=1, below=10**8)
    held_out: int = option(
        1000, "examples to validate on, and as many more to test on", minimum=1, below=10**8
    )
    seed: int = option(0, "the seed that examples are drawn from", minimum=0, below=2**32)

    @property
    def longest(self) -> int:
        """The longest lag of an example."""
        return self.lag + int(self.lag * self.vary)


class Problem(NamedTuple):
    """A question, for one config.

    symbols: how many symbols the inputs are of; 0 for vectors.
    features: of an input vector.
    outputs: features of an answer.
    draw: `(generator, how many) -> Examples` of NumPy arrays.
    measure: `(answers float[batch, answers, outputs], targets) -> sums by name`, float32[batch]
      each; "loss" is what is learned, the others say more of it.
    means: `(sums, examples) -> figures by name`, of sums over all examples.
    result: `(record) -> str`, the last line without its end.
    sections: `(answers, examples) -> report sections` of the test split.
    """

    symbols: int
    features: int
    outputs: int
    draw: Callable[[np.random.Generator, int], Examples]
    measure: Callable[[Array, Array], dict[str, Array]]
    means: Callable[[Mapping[str, Any], int], dict[str, float]]
    result: Callable[[Record], str]
    sections: Callable[[np.ndarray, Examples], list[Any]]


@dataclasses.dataclass(frozen=True)
class SyntheticConfig(Config):
    """An experiment on drawn examples."""

    data: DrawnConfig = DrawnConfig()
    model: ReaderConfig = ReaderConfig()
    optimizer: AdamConfig = AdamConfig()


@dataclasses.dataclass(frozen=True)
class Answers:
    """A trained network, as `rnn_jax.load` returns it.

    task: what it learned.
    params: its parameters.
    """

    task: Task
    params: Params

    def predict(self, examples: Examples) -> np.ndarray:
        """What it answers: float32[examples, answers, outputs]; targets are not looked at."""
        weights = np.ones(len(examples.lengths), np.float32)
        _, _, answers = self.task.evaluate(self.params, None, ArrayBatch(examples, weights))
        return np.asarray(answers)


def kind(
    config: type[SyntheticConfig], problem: Callable[[Any], Problem], name: str, noun: str
) -> Kind:
    """The kind of task of a problem.

    Args:
      config: the class of its configs.
      problem: `(config) -> Problem`.
      name: what its last line calls it.
      noun: what a run of it is.
    """

    def resolve(
        config: SyntheticConfig, cells: Cells, environment: Mapping[str, Any], strict: bool
    ) -> Resolved:
        resolved = recurrent.resolve_kernel(config, cells, environment, strict)
        asked = problem(config)
        reader(resolved.config.model, asked.symbols, asked.outputs, cells)
        _check_size(config.data, asked)
        return resolved

    return Kind(
        config=config,
        make=lambda config, facts, cells: _task(config, facts, cells, problem(config), name),
        noun=noun,
        resolve=resolve,
        modes=MODES,
    )


def drawn(config: DrawnConfig, problem: Problem) -> tuple[Examples, Examples, Examples]:
    """Training, validation and test split: a pure function of the config.

    Each is drawn from a seed of its own, so that more examples to learn from leave the others as
    they are.
    """
    counts = (config.train, config.held_out, config.held_out)
    train, validation, test = (
        problem.draw(np.random.default_rng((config.seed, split)), count)
        for split, count in enumerate(counts)
    )
    return train, validation, test


def draw_lags(config: DrawnConfig, generator: np.random.Generator, count: int) -> np.ndarray:
    """The lag of each example: int64[count], all the same unless they vary."""
    return generator.integers(config.lag, config.longest, size=count, endpoint=True)


def _check_size(config: DrawnConfig, problem: Problem) -> None:
    """Raises InputError for examples that no memory holds."""
    rows = max(config.train, config.held_out)
    if rows * config.longest * problem.features > LARGEST:
        raise InputError(
            f"{rows} examples of lag {config.longest} have more than {LARGEST} numbers; give a "
            "smaller --config.data.lag, --config.data.train or --config.data.held_out"
        )


def _task(config: SyntheticConfig, facts: Facts, cells: Cells, problem: Problem, name: str) -> Task:
    module = reader(config.model, problem.symbols, problem.outputs, cells)
    padded, teller = config.data.longest > config.data.lag, told.teller(config.model)

    def init(key: PRNGKey) -> Params:
        inputs = (
            jnp.zeros((1, 1), jnp.int32)
            if problem.symbols
            else jnp.zeros((1, 1, problem.features), jnp.float32)
        )
        return module.init(key, inputs, jnp.zeros((1, 1), jnp.int32))["params"]

    def measured(params: Params, batch: ArrayBatch) -> tuple[Sums, Array]:
        apply = functools.partial(teller.apply, module)
        found, heard = applied(apply, params, batch.arrays, padded)
        real = jnp.asarray(batch.weights) > 0
        sums = {
            each: jnp.sum(jnp.where(real, values, 0))
            for each, values in problem.measure(found, jnp.asarray(batch.arrays.targets)).items()
        }
        sums |= {"examples": jnp.sum(real, dtype=jnp.int32)}
        return sums | teller.sums(heard, real), found

    def loss(
        params: Params, carry: None, batch: ArrayBatch, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[None, Sums]]:
        sums, _ = measured(params, batch)
        count = jnp.maximum(sums["examples"], 1).astype(jnp.float32)
        return sums["loss"] / count, (carry, sums)

    def evaluate(params: Params, carry: None, batch: ArrayBatch) -> tuple[None, Sums, Array]:
        sums, found = measured(params, batch)
        return carry, sums, found

    def prepare(say: Say, remembered: Mapping[str, str] | None) -> Data:
        return data_of(config.train, *drawn(config.data, problem))

    def test(remembered: Mapping[str, str]) -> ArrayPass:
        return ArrayPass(drawn(config.data, problem)[2], config.train.batch_size)

    def means(sums: Mapping[str, Any]) -> dict[str, float]:
        return problem.means(sums, max(int(sums["examples"]), 1))

    def sections(tested: Tested) -> list[Any]:
        split: Any = tested.data.test
        return problem.sections(np.stack(list(tested.outputs)), split.arrays)

    def result(record: Record) -> str:
        lag = f"lag {config.data.lag}" + (f" to {config.data.longest}" if padded else "")
        return f"{problem.result(record)}  ({name}, {lag}, {record['examples']} examples)"

    def predictor(trained: Trained) -> Answers:
        return Answers(trained.task, trained.params)

    task = Task(
        key=recurrent.key_of(module, problem.features, padded),
        facts=facts,
        init=init,
        loss=loss,
        evaluate=evaluate,
        sums=_like_sums(problem),
        means=means,
        flow=("recurrent", "head"),
        prepare=prepare,
        test=test,
        result=result,
        sections=sections,
        predictor=predictor,
        answer=_no_text,
    )
    return teller.reporting(task)


def applied(apply: Callable[..., Any], params: Params, examples: Examples, padded: bool) -> Any:
    """What a network's `apply` makes of examples: its answers, float32[batch, answers, outputs].

    Args:
      apply: of the network.
      params: its parameters.
      examples: what is asked; targets are not looked at.
      padded: whether lengths count; otherwise all steps are valid.
    """
    lengths = jnp.asarray(examples.lengths) if padded else None
    return apply(
        {"params": params}, jnp.asarray(examples.inputs), jnp.asarray(examples.at), lengths
    )


def _like_sums(problem: Problem) -> Any:
    drawn = problem.draw(np.random.default_rng(0), 1)
    answers = jax.ShapeDtypeStruct((*drawn.targets.shape, problem.outputs), jnp.float32)
    rows = jax.eval_shape(problem.measure, answers, jnp.asarray(drawn.targets))
    return {name: jnp.float32(0) for name in rows} | {"examples": jnp.int32(0)}


def _no_text(predictor: Any, text: str) -> dict[str, Any]:
    raise InputError("this task reads numbers, not texts; rnn_jax.load(...).predict takes them")
