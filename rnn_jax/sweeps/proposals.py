"""Trials that Optuna proposes, by the tree-structured Parzen estimator, and its pruning.

Optuna's studies live in memory: what is known stands in the sweep's folder, and is told to it anew
when a sweep goes on (Akiba et al., "Optuna", KDD 2019; Bergstra et al., "Algorithms for
hyper-parameter optimization", NeurIPS 2011).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.sweeps import points
from rnn_jax.sweeps import trials as trials_lib
from rnn_jax.sweeps.grammar import Axis, Choice, Draw
from rnn_jax.sweeps.outcomes import ENDED, PRUNED, Outcome, loss
from rnn_jax.sweeps.points import Found
from rnn_jax.sweeps.trials import Space, Trial
from rnn_jax.train.company import History

NONE, MEDIAN, HALVING = "none", "median", "halving"
PRUNERS = (NONE, MEDIAN, HALVING)


def optuna() -> Any:
    """The library.

    Raises:
      InputError: it is not installed.
    """
    try:
        import optuna as library
    except ImportError as error:
        raise InputError(
            "--search=tpe and --prune need Optuna: pip install 'rnn_jax[sweep]' (in a checkout: "
            "pip install -e '.[sweep]')"
        ) from error
    library.logging.set_verbosity(library.logging.ERROR)
    return library


class Proposals:
    """A search that learns: each configuration is one of Optuna's trials, its value the mean of the
    lowest validation losses over the seeds."""

    def __init__(self, space: Space, count: int, known: Found):
        """Args:
        space: what to search.
        count: trials in all, earlier ones among them.
        known: earlier trials of this folder; those that fit the space count.
        """
        library = optuna()
        self._space, self.total = space, count
        self._axes: list[Axis] = [*space.grid, *space.draws]
        self._distributions = {axis.option: _distribution(library, axis) for axis in self._axes}
        self._asked: dict[str, Any] = {}
        self._open: collections.deque[Mapping[str, Any]] = collections.deque()
        self._left = count // max(1, len(space.seeds))
        told = []
        for point, found in points.by_point(known):
            if self._left == 0 or not self._fits(point):
                continue
            self._left -= 1
            if all(outcome.status in ENDED for _, outcome in found) and len(found) == max(
                1, len(space.seeds)
            ):
                told.append((point, found))
            self._open.append(point)  # whoever trains finds out what is left of it to be done
        # The sampler's state is kept nowhere: another one for each continuation.
        sampler = library.samplers.TPESampler(seed=len(told), constant_liar=True)
        self._study = library.create_study(direction="minimize", sampler=sampler)
        for point, found in told:
            self._add(library, point, found)

    def next(self) -> Sequence[Trial]:
        """`Search.next`."""
        if self._open:
            return self._space.trials_of(self._open.popleft())
        if not self._left:
            return ()
        self._left -= 1
        asked = self._study.ask(self._distributions)
        point = {
            axis.option: trials_lib.rounded(axis, asked.params[axis.option])
            if isinstance(axis, Draw) and axis.scale != "int"
            else asked.params[axis.option]
            for axis in self._axes
        }
        self._asked[repr(self._ordered(point))] = asked
        return self._space.trials_of(point)

    def tell(self, found: Found) -> None:
        """`Search.tell`."""
        asked = self._asked.pop(repr(found[0][0].point), None)
        if asked is None:  # known from an earlier start
            return
        value = points.mean_loss(found)
        if value is None:
            self._study.tell(asked, state=optuna().trial.TrialState.FAIL)
        else:
            self._study.tell(asked, value)

    def _ordered(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """As `Trial.point` has it."""
        names = [axis.option for axis in self._space.axes]
        return {name: point[name] for name in names if name in point}

    def _fits(self, point: Mapping[str, Any]) -> bool:
        return set(point) == set(self._distributions) and all(
            point[axis.option] in axis.values
            if isinstance(axis, Choice)
            else type(point[axis.option]) in (int, float)
            and axis.low <= point[axis.option] <= axis.high
            for axis in self._axes
        )

    def _add(self, library: Any, point: Mapping[str, Any], found: Found) -> None:
        value = points.mean_loss(found)
        if value is not None:
            self._study.add_trial(
                library.trial.create_trial(
                    params=dict(point), distributions=self._distributions, value=value
                )
            )


class Pruner:
    """Says which trials are worth going on with, after each of their epochs.

    Not thread-safe: one asks at a time.
    """

    def __init__(self, kind: str):
        """Args:
        kind: "median" (worse than the median of the others at its epoch) or "halving" (not in the
          better half of those that came as far as 1, 2, 4, 8, ... epochs).
        """
        library = optuna()
        pruner = {
            MEDIAN: lambda: library.pruners.MedianPruner(n_startup_trials=4),
            HALVING: lambda: library.pruners.SuccessiveHalvingPruner(reduction_factor=2),
        }[kind]()
        self._study = library.create_study(direction="minimize", pruner=pruner)
        self._trials: dict[str, Any] = {}
        self._told: dict[str, int] = {}
        self._states = library.trial.TrialState

    def promising(self, name: str, history: History) -> bool:
        """Whether the trial of this name should go on after these records."""
        if name not in self._trials:
            self._trials[name] = self._study.ask()
            self._told[name] = 0
        validated = [record for record in history if record["split"] == "validation"]
        for record in validated[self._told[name] :]:
            value = loss(record)
            self._trials[name].report(math.inf if value is None else value, record["epoch"])
        self._told[name] = len(validated)
        return not self._trials[name].should_prune()

    def ended(self, name: str, outcome: Outcome) -> None:
        """What became of it; of one that ended earlier, too."""
        self.promising(name, outcome.history)
        value, state = outcome.loss, self._states.COMPLETE
        if outcome.status == PRUNED:
            value, state = None, self._states.PRUNED  # Optuna takes its last report
        elif value is None:
            state = self._states.FAIL
        self._study.tell(self._trials[name], value, state=state)


def _distribution(library: Any, axis: Axis) -> Any:
    if isinstance(axis, Choice):
        return library.distributions.CategoricalDistribution(axis.values)
    if axis.scale == "int":
        return library.distributions.IntDistribution(int(axis.low), int(axis.high))
    log = axis.scale == "log"
    return library.distributions.FloatDistribution(axis.low, axis.high, log=log)
