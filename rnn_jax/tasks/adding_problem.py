"""The adding problem: the sum of two numbers that stood far apart, among others that do not count.

At each step the network reads a number drawn evenly from [0, 1] and a mark, 1 at two steps and 0 at
the others; one of the two stands in the first half of the sequence, one in the second. After the
last step it says the sum of the two marked numbers; the loss is the squared error. Who always says
1, the mean, has the error 1/6.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, as in Arjovsky, Shah
and Bengio 2016, https://arxiv.org/abs/1511.06464. The lag is the sequence's length; with
`data.vary=0.1` lengths are drawn from [lag, 1.1 lag], as in the first of the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from rnn_jax.report import Prose, Section, Table
from rnn_jax.tasks import synthetic
from rnn_jax.tasks.base import Kind
from rnn_jax.tasks.synthetic import DrawnConfig, Examples, Problem, SyntheticConfig
from rnn_jax.types import Array

BASELINE = 1 / 6  # the variance of a sum of two numbers drawn evenly from [0, 1]
SHOWN = 10  # examples in the report


@dataclasses.dataclass(frozen=True)
class AddingConfig(SyntheticConfig):
    """An experiment on the adding problem."""

    task: ClassVar[str] = "adding_problem"


def kind() -> Kind:
    """The kind of task that adds."""
    return synthetic.kind(AddingConfig, problem, "adding", "a network that adds")


def problem(config: AddingConfig) -> Problem:
    """What is asked."""
    return Problem(
        symbols=0,
        features=2,
        outputs=1,
        draw=lambda generator, count: draw(config.data, generator, count),
        measure=_measure,
        means=_means,
        result=lambda record: f"test error {record['loss']:.4f}",
        sections=_sections,
    )


def draw(config: DrawnConfig, generator: np.random.Generator, count: int) -> Examples:
    """So many examples; inputs are float32[count, time, 2], the numbers and their marks."""
    lengths = synthetic.draw_lags(config, generator, count)
    time, rows = config.longest, np.arange(count)
    numbers = generator.random((count, time), np.float32)
    places = np.stack(
        [generator.integers(0, lengths // 2), generator.integers(lengths // 2, lengths)], axis=1
    )
    marks = np.zeros((count, time), np.float32)
    marks[rows[:, None], places] = 1
    sums = numbers[rows[:, None], places].sum(axis=1, keepdims=True)
    numbers[np.arange(time) >= lengths[:, None]] = 0
    return Examples(
        inputs=np.stack([numbers, marks], axis=-1),
        lengths=lengths.astype(np.int32),
        at=(lengths - 1).astype(np.int32)[:, None],
        targets=sums,
    )


def _measure(answers: Array, targets: Array) -> dict[str, Array]:
    return {"loss": jnp.square(answers[:, 0, 0] - targets[:, 0])}


def _means(sums: Mapping[str, Any], examples: int) -> dict[str, float]:
    return {"loss": float(sums["loss"]) / examples}


def _sections(answers: np.ndarray, examples: Examples) -> list[Any]:
    said, sums = answers[:, 0, 0], np.asarray(examples.targets)[:, 0]
    inputs, rows = np.asarray(examples.inputs), []
    for row in range(min(SHOWN, len(sums))):
        places = np.flatnonzero(inputs[row, :, 1])
        distance = int(examples.lengths[row]) - 1 - int(places[0])
        numbers = inputs[row, places, 0]
        rows.append([f"{row + 1}", distance, *map(float, (*numbers, sums[row], said[row]))])
    error = float(np.mean(np.square(said - sums)))
    text = (
        f"The mean squared error is {error:.4f}. Who always says 1, the mean of all sums, has "
        f"{BASELINE:.4f}, and on these examples {float(np.mean(np.square(1 - sums))):.4f}. The "
        "distance is how many steps before the last one the first of the two numbers stood."
    )
    columns = ["example", "distance", "first number", "second number", "sum", "answer"]
    return [Section("Sums of the test split", [Prose(text), Table("", columns, rows)])]
