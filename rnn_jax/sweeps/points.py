"""Configurations and what became of them: trials that differ in the seed alone belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnn_jax.sweeps.outcomes import FINISHED, Outcome
from rnn_jax.sweeps.trials import Trial

Found = Sequence[tuple[Trial, Outcome]]


def mean_loss(found: Found) -> float | None:
    """What a configuration is judged by: the mean over its seeds of the lowest validation losses;
    None unless all were trained to their end."""
    losses = [outcome.loss for _, outcome in found if outcome.status == FINISHED]
    known = [loss for loss in losses if loss is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def by_point(found: Found) -> list[tuple[Mapping[str, Any], list[tuple[Trial, Outcome]]]]:
    """Trials by what they change but for the seed, in the order of their first."""
    points: dict[str, tuple[Mapping[str, Any], list[tuple[Trial, Outcome]]]] = {}
    for trial, outcome in found:
        points.setdefault(repr(trial.point), (trial.point, []))[1].append((trial, outcome))
    return list(points.values())
