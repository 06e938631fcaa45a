"""From runs to figures: what a setting's seeds have in common."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rnn_jax.studies.overfitting.training import Run, Runs


class Spread(NamedTuple):
    """A figure over seeds.

    mean: of them.
    low, high: the smallest and the largest.
    """

    mean: float
    low: float
    high: float


class Setting(NamedTuple):
    """What the runs of a setting found.

    train: the last epoch's training loss.
    best: the lowest validation loss of any epoch.
    turn: the epoch that has it, from 1.
    last: the last epoch's validation loss.
    accuracy: of the test, with the parameters of that epoch.
    epochs: of a run.
    """

    train: Spread
    best: Spread
    turn: Spread
    last: Spread
    accuracy: Spread
    epochs: int

    @property
    def gap(self) -> float:
        """By how much validation is above training at the end."""
        return self.last.mean - self.train.mean

    @property
    def lost(self) -> float:
        """What the epochs after the best one added to the validation loss."""
        return self.last.mean - self.best.mean


def of(runs: Runs) -> Setting:
    """The figures of a setting's runs, one at least."""

    def spread(figure: Callable[[Run], float]) -> Spread:
        known = [figure(run) for run in runs]
        return Spread(statistics.fmean(known), min(known), max(known))

    return Setting(
        train=spread(lambda run: run.train[-1]),
        best=spread(lambda run: min(run.validation)),
        turn=spread(turn),
        last=spread(lambda run: run.validation[-1]),
        accuracy=spread(lambda run: run.accuracy),
        epochs=len(runs[0].validation),
    )


def turn(run: Run) -> int:
    """The epoch of a run's lowest validation loss, from 1."""
    return run.validation.index(min(run.validation)) + 1


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves of one length, epoch by epoch."""
    return [statistics.fmean(column) for column in zip(*curves, strict=True)]
