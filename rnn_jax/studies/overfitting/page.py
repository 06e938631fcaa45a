"""What the study found: a page with its figures, and some lines."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from rnn_jax import report
from rnn_jax.report import Chart, Prose, Section, Table
from rnn_jax.report.history import Tile
from rnn_jax.studies import pages
from rnn_jax.studies.base import Found
from rnn_jax.studies.overfitting import figures, words
from rnn_jax.studies.overfitting.figures import Setting, Spread
from rnn_jax.studies.overfitting.options import OverfittingConfig
from rnn_jax.studies.overfitting.training import DROPOUT, TOKENS, WIDTH, Runs

HEADINGS = {WIDTH: "Width", DROPOUT: "Dropout of features", TOKENS: "Dropout of words"}


class Facts(NamedTuple):
    """All that was found.

    config: the study's.
    sizes: training stories -> runs.
    varied: quantity -> value -> runs.
    """

    config: OverfittingConfig
    sizes: Mapping[float, Runs]
    varied: Mapping[str, Mapping[float, Runs]]

    def groups(self) -> dict[str, Mapping[float, Runs]]:
        """All that is varied, the stories first."""
        return {"stories": self.sizes, **self.varied}


def write(path: pathlib.Path, facts: Facts) -> None:
    """Writes the page, and each of its charts as a file in `figures/`."""
    charts = _charts(facts)
    pages.write(path, _page(facts, charts), charts)


def summary(facts: Facts) -> Found:
    """The figures in lines."""
    lines = ["loss of training at the end / of validation at its best / at the end, by setting:"]
    for name, group in facts.groups().items():
        parts = []
        for value, runs in group.items():
            found = figures.of(runs)
            told = " / ".join(f"{x.mean:.3f}" for x in (found.train, found.best, found.last))
            parts.append(f"{value:g}: {told}")
        lines.append(f"{name}  {'  '.join(parts)}")
    best = [
        f"{figures.of(runs).best.mean:.3f} with {stories:g} training stories"
        for stories, runs in (list(facts.sizes.items())[place] for place in (0, -1))
    ]
    return Found(tuple(lines), f"lowest validation loss  {', '.join(best)}  ({_count(facts)} runs)")


def _count(facts: Facts) -> int:
    return sum(len(runs) for group in facts.groups().values() for runs in group.values())


def _charts(facts: Facts) -> dict[str, Chart]:
    """The page's charts by the names of their files."""
    charts = {}
    for name, group in facts.groups().items():
        charts[f"{name}_summary"] = _summary(name, group)
        for value, runs in group.items():
            charts[f"{name}_{value:g}"] = _curves(_title(name, value), runs)
    return charts


def _title(name: str, value: float) -> str:
    what = {"stories": "training stories", WIDTH: "units", DROPOUT: "of features dropped"}
    shown = f"{100 * value:g}%" if name in (DROPOUT, TOKENS) else f"{value:g}"
    return f"{shown} {what.get(name, 'of words dropped')}"


def _summary(name: str, group: Mapping[float, Runs]) -> Chart:
    """Losses against what is varied."""
    found = [figures.of(runs) for runs in group.values()]
    per_cent = name in (DROPOUT, TOKENS)
    x_title = {"stories": "training stories", WIDTH: "units"}.get(name, "dropped, per cent")
    return Chart(
        title="Loss at the end, and in the best epoch",
        x_title=x_title,
        x=[100 * value if per_cent else value for value in group],
        series={
            "train, end": [each.train.mean for each in found],
            "validation, end": [each.last.mean for each in found],
            "validation, best": [each.best.mean for each in found],
        },
        from_zero=True,
        linear=True,
    )


def _curves(title: str, runs: Runs) -> Chart:
    """Losses by epoch, the means over seeds in front of the single ones."""
    train, validation = [run.train for run in runs], [run.validation for run in runs]
    turns = sorted(figures.turn(run) for run in runs)
    return Chart(
        title=f"Loss, {title}",
        x_title="epoch",
        x=range(1, len(train[0]) + 1),
        series={"train": figures.mean_curve(train), "validation": figures.mean_curve(validation)},
        background=[*train, *validation],
        mark=(turns[len(turns) // 2], "best epoch"),
        from_zero=True,
        linear=True,
    )


def _page(facts: Facts, charts: dict[str, Chart]) -> str:
    of = lambda name: [chart for key, chart in charts.items() if _group(key) == name]
    sizes = {value: figures.of(runs) for value, runs in facts.sizes.items()}
    sections = [
        Section("What is measured", [Prose(words.measured(facts.config))]),
        Section(
            "More data",
            [*map(Prose, words.sized(sizes)), *of("stories"), _table("training stories", sizes)],
        ),
    ]
    for name, group in facts.varied.items():
        settings = {value: figures.of(runs) for value, runs in group.items()}
        pieces = [*map(Prose, words.varied(name, settings)), *of(name)]
        sections.append(Section(HEADINGS[name], [*pieces, _table(name, settings)]))
    sections.append(pages.settings(facts.config))
    tiles = [
        Tile("runs", _count(facts), "each in a folder of its own"),
        *(
            Tile(f"gap, {value:g} stories", each.gap, "validation less training loss at the end")
            for value, each in sizes.items()
        ),
    ]
    return report.draw(
        title=facts.config.experiment,
        what="study",
        story=words.story(sizes),
        tiles=tiles,
        sections=sections,
    )


def _group(key: str) -> str:
    return key.rpartition("_")[0]


def _table(what: str, settings: Mapping[float, Setting]) -> Table:
    rows = [
        [
            f"{value:g}",
            _spread(each.train),
            _spread(each.best),
            f"{each.turn.mean:.1f} of {each.epochs}",
            _spread(each.last),
            _spread(each.accuracy),
        ]
        for value, each in settings.items()
    ]
    columns = [
        what, "training loss at the end", "lowest validation loss", "in epoch",
        "validation loss at the end", "test accuracy, best epoch",
    ]  # fmt: skip
    return Table("Means over seeds, with the lowest and the highest", columns, rows)


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f} ({spread.low:.3f} to {spread.high:.3f})"
