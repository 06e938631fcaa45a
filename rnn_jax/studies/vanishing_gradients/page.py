"""What the study found: a page with its figures, and some lines."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rnn_jax import report
from rnn_jax.report import Chart, Prose, Section, Table
from rnn_jax.report.history import Tile
from rnn_jax.studies import pages
from rnn_jax.studies.base import Found
from rnn_jax.studies.vanishing_gradients import words
from rnn_jax.studies.vanishing_gradients.cells import GATED, LINEAR, NAMES, SHORT, SIMPLE
from rnn_jax.studies.vanishing_gradients.measures import (
    LARGEST,
    SCALES,
    SMALLEST,
    Curve,
    Trained,
)
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.studies.vanishing_gradients.training import (
    ADDING,
    COPYING,
    Problem,
    Trial,
    learned,
    median,
    reach,
    reaches,
)


class Facts(NamedTuple):
    """All that was found.

    config: the study's.
    untrained: cell -> scale -> curve.
    ladders: problem -> cell -> lag -> trials, by seed.
    shown: cell -> the run whose gradients are shown.
    clipped: what was set and what became of it.
    curves: a run's folder -> its gradients.
    """

    config: VanishingConfig
    untrained: dict[str, dict[str, Curve]]
    ladders: dict[str, dict[str, dict[str, list[Trial]]]]
    shown: dict[str, Trial]
    clipped: Sequence[tuple[dict[str, Any], Trial]]
    curves: dict[str, Trained]


def write(path: pathlib.Path, facts: Facts) -> None:
    """Writes the page, and each of its charts as a file in `figures/`."""
    charts = _charts(facts)
    pages.write(path, _page(facts, charts), charts)


def summary(facts: Facts) -> Found:
    """The figures in lines."""
    lines = []
    for problem in (ADDING, COPYING):
        reached = _reached(facts, problem)
        told = "  ".join(
            f"{name} {lag or '-'}{_by_seed(facts, problem, name)}" for name, lag in reached.items()
        )
        lines.append(f"{problem.name} learned up to lag: {told}")
    best = ", ".join(_best(facts, problem) for problem in (ADDING, COPYING))
    return Found(
        tuple(lines),
        f"longest lag learned  {best}  ({len(NAMES)} cells, {_runs(facts)} runs)",
    )


def _best(facts: Facts, problem: Problem) -> str:
    reached = {name: lag for name, lag in _reached(facts, problem).items() if lag}
    if not reached:
        return f"{problem.name} none"
    longest = max(reached.values())
    names = [name for name, lag in reached.items() if lag == longest]
    return f"{problem.name} {longest} ({', '.join(names)})"


def _reached(facts: Facts, problem: Problem) -> dict[str, int | None]:
    return {name: reach(problem, facts.ladders[problem.name][name]) for name in NAMES}


def _by_seed(facts: Facts, problem: Problem, name: str) -> str:
    """What each seed learned, where there are several: " (40 40 20)"."""
    found = reaches(problem, facts.ladders[problem.name][name])
    return f" ({' '.join(str(lag or '-') for lag in found)})" if len(found) > 1 else ""


def _runs(facts: Facts) -> int:
    ladders = [lags for ladder in facts.ladders.values() for lags in ladder.values()]
    trained = sum(len(trials) for lags in ladders for trials in lags.values())
    return trained + len(facts.clipped)


def _charts(facts: Facts) -> dict[str, Chart]:
    """The page's charts by the names of their files."""
    charts = {}
    for name in NAMES:
        curves = facts.untrained[name]
        series = {f"scale {scale}": curve for scale, curve in curves.items()}
        charts[f"untrained_{name}"] = _over_distance(NAMES[name], series)
    for name, trial in facts.shown.items():
        if trial.folder in facts.curves:
            before, after = facts.curves[trial.folder]
            lag = trial.folder.split("/")[1].removeprefix("lag_")
            title = f"{NAMES[name]}, adding at lag {lag}"
            series = {"untrained": before, "trained": after}
            charts[f"trained_{name}"] = _over_distance(title, series)
    lags = facts.config.study.lags
    for problem, title, level in (
        (ADDING, "Test error of adding", "always 1"),
        (COPYING, "Test accuracy of copying", "chance"),
    ):
        for group, names, what in (
            ("simple", SIMPLE, "simple cells"),
            ("gated", GATED | LINEAR, "gated and linear cells"),
        ):
            charts[f"{problem.name}_{group}"] = Chart(
                title=f"{title}, {what}",
                x_title="lag",
                x=lags,
                series={
                    SHORT[name]: _by_lag(problem, facts.ladders[problem.name][name], lags)
                    for name in names
                },
                levels={level: problem.chance},
                from_zero=problem is COPYING,
            )
    return charts


def _over_distance(title: str, series: dict[str, Curve]) -> Chart:
    length = max(map(len, series.values()))
    return Chart(title=title, x_title="steps back", x=range(length), series=series)


def _by_lag(
    problem: Problem, found: dict[str, list[Trial]], lags: Iterable[int]
) -> list[float | None]:
    return [median(problem, found.get(str(lag), [])) for lag in lags]


def _page(facts: Facts, charts: dict[str, Chart]) -> str:
    of = lambda *begins: [chart for name, chart in charts.items() if name.startswith(begins)]
    far = facts.config.study.length // 2
    sections = [
        Section("What is measured", [Prose(words.measured(facts.config))]),
        Section(
            "Before training",
            [
                *(Prose(text) for text in words.untrained(facts.untrained, far)),
                *of("untrained_"),
                _left(facts, far),
            ],
        ),
        Section(
            "How far back each cell learns",
            [
                *(Prose(text) for text in words.ladders(facts.config, facts.ladders)),
                *of("adding_", "copy_"),
                _lags(
                    facts, ADDING, "Adding: median test error by lag, and how many seeds learned"
                ),
                _lags(
                    facts,
                    COPYING,
                    "Copying: median test accuracy by lag, and how many seeds learned",
                ),
            ],
        ),
        Section("What training does to gradients", [Prose(words.TRAINED), *of("trained_")]),
        Section("Clipping", [Prose(words.clipped(facts.config, facts.clipped)), _clipped(facts)]),
        pages.settings(facts.config),
    ]
    tiles = [
        Tile("cells", len(NAMES), "from simple to linear"),
        Tile("runs", _runs(facts), "each in a folder of its own"),
        *(
            Tile(f"longest lag, {problem.name}", max(found, default=0) or "none", problem.rule)
            for problem in (ADDING, COPYING)
            for found in [[lag for lag in _reached(facts, problem).values() if lag]]
        ),
    ]
    return report.draw(
        title=facts.config.experiment,
        what="study",
        story=words.story(facts.ladders),
        tiles=tiles,
        sections=sections,
    )


def _left(facts: Facts, far: int) -> Table:
    """The norms that are left after so many steps."""
    rows = [
        [NAMES[name], *(shown(curves.get(f"{scale:g}"), far) for scale in SCALES)]
        for name, curves in facts.untrained.items()
    ]
    columns = ["cell", *(f"scale {scale:g}" for scale in SCALES)]
    return Table(f"Norm left after {far} steps, as a share", columns, rows)


def shown(curve: Curve | None, at: int) -> str:
    """A curve's value in three figures, or the bound that it lies beyond; a dash without one."""
    if curve is None:
        return "—"
    if curve[at] is not None:
        return f"{curve[at]:.3g}"
    known = [value for value in curve[:at] if value is not None]
    return f"above {LARGEST:g}" if known and known[-1] > 1 else f"below {SMALLEST:g}"


def _lags(facts: Facts, problem: Problem, title: str) -> Table:
    """The test figures by lag, and the first lag that was not learned."""
    lags, rows = facts.config.study.lags, []
    for name, found in facts.ladders[problem.name].items():
        longest = reach(problem, found)
        failed = next((lag for lag in lags if lag > (longest or 0)), None)
        figures = [_figures(problem, found.get(str(lag), [])) for lag in lags]
        seeds = ", ".join(_or(lag, "—") for lag in reaches(problem, found))
        rows.append([NAMES[name], *figures, _or(longest, "none"), seeds, _or(failed, "none")])
    columns = [
        "cell", *(f"lag {lag}" for lag in lags), "learned up to", "each seed", "first that fails",
    ]  # fmt: skip
    return Table(title, columns, rows)


def _figures(problem: Problem, trials: Sequence[Trial]) -> str:
    """The median over the seeds, and how many of them learned."""
    if not trials:
        return ""
    middle, count = median(problem, trials), sum(learned(problem, trial) for trial in trials)
    share = f" ({count}/{len(trials)})" if len(trials) > 1 else ""
    return f"{'not finite' if middle is None else f'{middle:.4f}'}{share}"


def _figure(trial: Trial) -> str:
    return "not finite" if trial.figure is None else f"{trial.figure:.4f}"


def _or(value: Any, otherwise: str) -> str:
    return otherwise if value is None else str(value)


def _clipped(facts: Facts) -> Table:
    far, rows = facts.config.study.clip_lag - 1, []
    for changes, trial in facts.clipped:
        curves = facts.curves.get(trial.folder)
        rows.append(
            [
                NAMES[changes["model.cell"]],
                f"{changes['model.recurrent_scale']:g}",
                _or(changes["optimizer.clip_norm"] or None, "no"),
                _figure(trial),
                "not finite" if trial.gradient is None else f"{trial.gradient:.3g}",
                shown(curves.before, far) if curves else "—",
                shown(curves.after, far) if curves else "—",
            ]
        )
    columns = [
        "cell", "scale", "clipped at", "test error", "largest gradient norm",
        f"left after {far} steps, untrained", "trained",
    ]  # fmt: skip
    return Table("", columns, rows)
