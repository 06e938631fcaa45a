"""What the study trains: each cell on longer and longer lags until it fails, and clipped or not."""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax import sweeps
from rnn_jax.config import Config
from rnn_jax.studies.base import Say
from rnn_jax.studies.vanishing_gradients import options
from rnn_jax.studies.vanishing_gradients.cells import CELLS, NAMES
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.sweeps.book import Entry
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.watch import Lines
from rnn_jax.system.interrupts import Request
from rnn_jax.tasks import Extras
from rnn_jax.tasks.adding_problem import BASELINE

CLIPPED = ("simple_tanh", "simple_relu", "simple_identity", "gru")
CLIP_SCALES = (1.0, 1.5)


class Problem(NamedTuple):
    """A task as the study asks it.

    name: what a page calls it, and its folder.
    config: `(study's config, lag) -> config`.
    figure: the test figure that is told.
    chance: that of who knows nothing.
    worst: what a run counts as that stopped because something was not finite.
    learned: whether a figure means that it was learned.
    rule: that in words.
    """

    name: str
    config: Callable[[VanishingConfig, int], Config]
    figure: str
    chance: float
    worst: float
    learned: Callable[[float], bool]
    rule: str


ADDING = Problem(
    "adding", options.adding, "loss", BASELINE, math.inf, lambda error: error < BASELINE / 10,
    "a test error below a tenth of what who always says 1 has",
)  # fmt: skip
COPYING = Problem(
    "copy", options.copying, "accuracy", 1 / 8, -math.inf, lambda accuracy: accuracy > 0.9,
    "more than nine of ten symbols said right",
)  # fmt: skip


class Trial(NamedTuple):
    """What became of a run.

    figure: its test figure; None where it stopped because something was not finite.
    folder: where it is, in the study's folder.
    gradient: the largest mean norm of an epoch's gradients; None without an epoch, or where it is
      not finite.
    """

    figure: float | None
    folder: str
    gradient: float | None


Trials = Sequence[Trial]  # of a cell at a lag, a seed each


def ladder(
    config: VanishingConfig, problem: Problem, path: pathlib.Path, say: Say, request: Request
) -> dict[str, dict[str, list[Trial]]]:
    """Trains each cell on one lag after the other, until the first that it does not learn with more
    than half of the seeds.

    Args:
      config: the study's.
      problem: what is learned.
      path: the study's folder.
      say: told in a line how it goes.
      request: asks it to stop.

    Returns:
      cell -> lag -> what became of the runs, by seed.

    Raises:
      Interrupted: by request; the same call goes on.
    """
    found: dict[str, dict[str, list[Trial]]] = {name: {} for name in NAMES}
    left = list(NAMES)
    for lag in config.study.lags:
        say(f"{problem.name}, lag {lag}: {', '.join(left)}")
        axes = f"model.cell=[{','.join(left)}]; train.seed={list(range(config.study.seeds))}"
        place = pathlib.Path(problem.name) / f"lag_{lag}"
        for entry in _sweep(axes, problem.config(config, lag), path / place, say, request):
            name = entry.trial.changes["model.cell"]
            found[name].setdefault(str(lag), []).append(_trial(entry, place, problem.figure))
        left = [name for name in left if settled(problem, found[name][str(lag)])]
        if not left:
            break
    return found


def clipping(
    config: VanishingConfig, path: pathlib.Path, say: Say, request: Request
) -> list[tuple[dict[str, Any], Trial]]:
    """Trains some cells on the adding problem, with and without clipping, from usual and from large
    recurrent kernels.

    Returns:
      (what was set, what became of the run) of each.
    """
    lag, norm = config.study.clip_lag, config.optimizer.clip_norm or 1.0
    say(f"clipping, adding at lag {lag}: {', '.join(CLIPPED)}")
    axes = (
        f"model.cell=[{','.join(CLIPPED)}]; model.recurrent_scale={list(CLIP_SCALES)}; "
        f"optimizer.clip_norm=[0,{norm!r}]"
    )
    place = pathlib.Path("clipping")
    entries = _sweep(axes, options.adding(config, lag), path / place, say, request)
    return [(entry.trial.changes, _trial(entry, place, "loss")) for entry in entries]


def learned(problem: Problem, trial: Trial) -> bool:
    """Whether a run learned; one that stopped did not."""
    return trial.figure is not None and problem.learned(trial.figure)


def median(problem: Problem, trials: Trials) -> float | None:
    """The middle figure of the seeds; None where that is of a run that stopped, or there is
    none."""
    figures = [problem.worst if trial.figure is None else trial.figure for trial in trials]
    found = statistics.median(figures) if figures else problem.worst
    return found if math.isfinite(found) else None


def settled(problem: Problem, trials: Trials) -> bool:
    """Whether more than half of a lag's runs learned."""
    return 2 * sum(learned(problem, trial) for trial in trials) > len(trials)


def reach(problem: Problem, lags: Mapping[str, Trials]) -> int | None:
    """The longest lag that more than half of the seeds learned, of a cell's trials by lag."""
    return max((int(lag) for lag, trials in lags.items() if settled(problem, trials)), default=None)


def reaches(problem: Problem, lags: Mapping[str, Trials]) -> list[int | None]:
    """The longest lag that each seed learned, of those that were tried."""
    return [
        reach(problem, {lag: [trial] for lag, trial in zip(lags, trials, strict=True)})
        for trials in zip(*lags.values(), strict=True)
    ]


def _sweep(
    axes: str, base: Config, path: pathlib.Path, say: Say, request: Request
) -> Sequence[Entry]:
    """Every trial of a sweep on this machine."""
    found = sweeps.run(
        sweeps.Sweep(axes), base, path, engine=local.make(Options()), watch=Lines(say),
        extras=Extras(cells=CELLS), request=request,
    )  # fmt: skip
    return found.entries


def _trial(entry: Entry, place: pathlib.Path, name: str) -> Trial:
    figure = entry.outcome.test.get(name)
    norms = [record.get("gradient_norm") for record in entry.outcome.of("train")]
    finite = [norm for norm in norms if norm is not None and math.isfinite(norm)]
    return Trial(
        figure if figure is not None and math.isfinite(figure) else None,
        str(place / "trials" / entry.trial.name),
        max(finite) if finite and len(finite) == len(norms) else None,
    )
