"""Which trials come next: those of a list, or what Optuna proposes after what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from rnn_jax.config import InputError, nearest
from rnn_jax.sweeps import trials as trials_lib
from rnn_jax.sweeps.points import Found
from rnn_jax.sweeps.proposals import Proposals
from rnn_jax.sweeps.trials import Space, Trial

GRID, RANDOM, TPE = "grid", "random", "tpe"
SEARCHES = (GRID, RANDOM, TPE)


class Search(Protocol):
    """How trials are found.

    total: how many there will be.
    """

    total: int

    def next(self) -> Sequence[Trial]:
        """The trials of the next configuration, one for each seed; none if that was all."""
        ...

    def tell(self, found: Found) -> None:
        """What became of a configuration that `next` returned."""
        ...


class Listed:
    """Trials that are known from the start."""

    def __init__(self, trials: Iterable[Trial]):
        self._trials = list(trials)
        self.total = len(self._trials)

    def next(self) -> Sequence[Trial]:
        """`Search.next`; a configuration a trial, since nobody waits for its seeds."""
        return (self._trials.pop(0),) if self._trials else ()

    def tell(self, found: Found) -> None:
        """`Search.tell`: nothing to learn from."""


def kind_of(space: Space, asked: str | None, count: int | None) -> str:
    """The search that a sweep is to make: by default all combinations, or with draws at random.

    Raises:
      InputError: it does not go together with the axes or with the number of trials.
    """
    kind = asked or (RANDOM if space.draws else GRID)
    if kind not in SEARCHES:
        raise InputError(f"--search must be one of {', '.join(SEARCHES)}{nearest(kind, SEARCHES)}")
    if kind == GRID and space.draws:
        raise InputError(
            f"--search=grid goes through lists and ranges, but {space.draws[0].option} is drawn; "
            "give a list of its values, or --search=random"
        )
    if kind == RANDOM and not space.draws:
        raise InputError("--search=random has nothing to draw; lists and ranges are gone through")
    if kind == TPE and not (space.draws or space.grid):
        raise InputError("--search=tpe needs an option besides the seed")
    if kind == GRID and count is not None:
        raise InputError(
            f"--trials is for draws and --search=tpe: these lists and ranges have "
            f"{space.cell_count() * max(1, len(space.seeds))} combinations, and all are trained"
        )
    if kind != GRID and count is None:
        raise InputError(f"--trials is missing: how many trials --search={kind} makes in all")
    if count is not None:
        trials_lib.check_count(space, count)
    return kind


def make(space: Space, kind: str, count: int | None, known: Found) -> Search:
    """The search of a sweep.

    Args:
      space: what it is over.
      kind: what `kind_of` returned.
      count: how many trials there are to be, for a search that has no end of its own.
      known: earlier trials and what became of them, for a search that learns.

    Raises:
      InputError: a trial that cannot be run, or something is not installed.
    """
    if kind == GRID:
        return Listed(trials_lib.grid(space))
    assert count is not None  # `kind_of` has seen to it
    if kind == RANDOM:
        return Listed(trials_lib.random(space, count))
    return Proposals(space, count, known)
