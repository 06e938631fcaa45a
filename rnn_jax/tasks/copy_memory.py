"""The copying problem: symbols to be said again, in their order, after a long silence.

The network reads some symbols drawn evenly from an alphabet, then blanks, the last of which is a
sign to begin, then as many blanks as there were symbols; at these it says the symbols. The loss is
the softmax cross-entropy at those steps alone, the mean over them; who guesses has log(alphabet)
and an accuracy of 1 / alphabet.

Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, as in Arjovsky, Shah
and Bengio 2016, https://arxiv.org/abs/1511.06464: 10 symbols of 8, with `lag` steps between the
last symbol and the first answer. There the loss is the mean over all lag + 20 steps, at most of
which a blank is right: ours times 10 / (lag + 20), for a network that is sure of the blanks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.config import option
from rnn_jax.report import Chart, Prose, Section
from rnn_jax.tasks import synthetic
from rnn_jax.tasks.base import Kind
from rnn_jax.tasks.synthetic import DrawnConfig, Examples, Problem, SyntheticConfig
from rnn_jax.types import Array


@dataclasses.dataclass(frozen=True)
class CopyData(DrawnConfig):
    """Drawn examples of the copying problem."""

    symbols: int = option(10, "how many symbols there are to copy", minimum=1, below=1000)
    alphabet: int = option(8, "how many different symbols there are", minimum=2, below=1000)


@dataclasses.dataclass(frozen=True)
class CopyConfig(SyntheticConfig):
    """An experiment on the copying problem."""

    task: ClassVar[str] = "copy_memory"

    data: CopyData = CopyData()


def kind() -> Kind:
    """The kind of task that copies."""
    return synthetic.kind(CopyConfig, problem, "copy", "a network that copies")


def problem(config: CopyConfig) -> Problem:
    """What is asked."""
    alphabet = config.data.alphabet
    return Problem(
        symbols=alphabet + 2,
        features=1,
        outputs=alphabet,
        draw=lambda generator, count: draw(config.data, generator, count),
        measure=_measure,
        means=_means,
        result=lambda record: (
            f"test accuracy {record['accuracy']:.4f}  cross-entropy {record['loss']:.4f}"
        ),
        sections=lambda answers, examples: _sections(config.data, answers, examples),
    )


def draw(config: CopyData, generator: np.random.Generator, count: int) -> Examples:
    """So many examples; inputs are int32[count, time], of which `alphabet` is the blank and
    `alphabet + 1` the sign to begin."""
    lags = synthetic.draw_lags(config, generator, count)
    width, blank = config.symbols, config.alphabet
    symbols = generator.integers(0, config.alphabet, (count, width), np.int32)
    inputs = np.full((count, config.longest + 2 * width), blank, np.int32)
    inputs[:, :width] = symbols
    begins = width + lags
    inputs[np.arange(count), begins - 1] = blank + 1
    return Examples(
        inputs=inputs,
        lengths=(begins + width).astype(np.int32),
        at=(begins[:, None] + np.arange(width)).astype(np.int32),
        targets=symbols,
    )


def _measure(answers: Array, targets: Array) -> dict[str, Array]:
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(answers, targets)
    hits = (jnp.argmax(answers, axis=-1) == targets).astype(jnp.float32)
    return {"loss": jnp.mean(losses, axis=1), "hits": jnp.mean(hits, axis=1)}


def _means(sums: Mapping[str, Any], examples: int) -> dict[str, float]:
    return {"loss": float(sums["loss"]) / examples, "accuracy": float(sums["hits"]) / examples}


def _sections(config: CopyData, answers: np.ndarray, examples: Examples) -> list[Any]:
    hits = answers.argmax(axis=-1) == np.asarray(examples.targets)
    by_place = hits.mean(axis=0)
    guess, loss = 1 / config.alphabet, math.log(config.alphabet)
    steps = config.lag + 2 * config.symbols
    text = (
        f"{hits.mean():.2%} of the symbols were said right, and all of them in "
        f"{hits.all(axis=1).mean():.2%} of the examples. Who guesses is right in {guess:.2%} and "
        f"has a cross-entropy of {loss:.4f}; as a mean over all {steps} steps, as the literature "
        f"counts, that is {config.symbols * loss / steps:.4f}."
    )
    chart = Chart(
        title="Accuracy by the symbol's place",
        x_title="place",
        x=range(1, config.symbols + 1),
        series={"test": by_place.tolist()},
        levels={"chance": guess},
        from_zero=True,
    )
    return [Section("Symbols of the test split", [Prose(text), chart])]
