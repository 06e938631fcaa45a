"""Norms of gradients by distance, of cells that were not trained and of runs that were."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cells.wrappers import scaled_start
from rnn_jax.inspect.gradients import by_distance, gradient_norms
from rnn_jax.models import CELLS as ALL
from rnn_jax.studies.vanishing_gradients import options
from rnn_jax.studies.vanishing_gradients.cells import CELLS, LINEAR
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.tasks import Extras, adding_problem
from rnn_jax.train.opened import open_run
from rnn_jax.types import Array, Cell

SCALES = (0.5, 0.8, 1.0, 1.25, 2.0)  # of the recurrent kernels that are not trained
SMALLEST, LARGEST = 1e-12, 1e12  # norms beyond are not told

Curve = list[float | None]  # a norm for each distance, in shares of that at distance 0


class Trained(NamedTuple):
    """A run's gradients.

    before, after: with the parameters that it started from and with its best ones.
    """

    before: Curve
    after: Curve


def untrained(config: VanishingConfig, name: str) -> dict[str, Curve]:
    """A cell's curve for each scale of its recurrent kernel.

    Args:
      config: the study's.
      name: the cell's. A linear cell has no recurrent kernel, and one curve, of scale 1.
    """
    cell = _cell(config, name)
    key, inputs = jax.random.key(config.train.seed), _inputs(config)
    curves = {}
    for scale in (1.0,) if name in LINEAR else SCALES:
        start = cell if scale == 1 else scaled_start(cell, scale)
        params = start.init(key, inputs.shape[-1])
        curves[f"{scale:g}"] = _curve(_norms(cell)(params, inputs))
    return curves


def trained(config: VanishingConfig, folder: pathlib.Path) -> Trained:
    """A run's curves, of the network's answer with respect to what each step hands on.

    Args:
      config: the study's.
      folder: the run's, of the adding problem.
    """
    run = open_run(folder, Extras(cells=CELLS))
    cell, inputs = _cell(config, run.config.model.cell), _inputs(config)
    start = run.task.init(jax.random.key(run.config.train.seed))

    def curve(params: Any) -> Curve:
        (recurrent,) = params["recurrent"].values()
        direction = params["head"]["dense"]["kernel"][:, 0]
        return _curve(_norms(cell)(recurrent, inputs, direction))

    return Trained(curve(start), curve(run.params))


def _cell(config: VanishingConfig, name: str) -> Cell:
    return (ALL | CELLS)[name](options.adding(config, config.study.length).model)


def _inputs(config: VanishingConfig) -> Array:
    """Sequences of the adding problem that no run has seen: float32[rows, length, 2]."""
    task = options.adding(config, config.study.length)
    generator = np.random.default_rng((config.train.seed, 3))
    drawn = adding_problem.draw(task.data, generator, config.study.rows)
    return jnp.asarray(drawn.inputs)


@functools.cache
def _norms(cell: Cell) -> Callable[..., Array]:
    """Norms by distance, compiled: of the default loss, or of one in a direction of the output."""

    @jax.jit
    def norms(params: Any, inputs: Array, direction: Array | None = None) -> Array:
        loss = None if direction is None else lambda output: output @ direction
        return by_distance(gradient_norms(cell, params, inputs, loss=loss))

    return norms


def _curve(norms: Array) -> Curve:
    """The median over the rows at each distance; None where it is too small or large to be told."""
    medians: Sequence[float] = np.median(np.asarray(norms, np.float64), axis=0).tolist()
    told = lambda norm: math.isfinite(norm) and SMALLEST <= norm <= LARGEST
    return [norm if told(norm) else None for norm in medians]
