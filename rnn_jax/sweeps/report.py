"""report.html of a sweep: which setting did what, on one page."""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from rnn_jax import report
from rnn_jax.config import Config
from rnn_jax.report.history import Tile
from rnn_jax.report.pieces import (
    Axis,
    Chart,
    Command,
    Parallel,
    Prose,
    Scatter,
    Seconds,
    Section,
    Table,
)
from rnn_jax.runs.folder import REPORT
from rnn_jax.sweeps import book as book_lib
from rnn_jax.sweeps import points
from rnn_jax.sweeps.book import Book, Entry
from rnn_jax.sweeps.grammar import Choice, Draw
from rnn_jax.sweeps.outcomes import ENDED, FINISHED
from rnn_jax.sweeps.trials import Space
from rnn_jax.sweeps.watch import settings
from rnn_jax.system.files import write_atomically

LARGEST_TABLE = 200  # trials; sweep.csv has all
CURVES = 200  # lines of the learning curves

_LOSS = "lowest validation loss"


def write(path: pathlib.Path, book: Book, space: Space, default: Config) -> None:
    """Writes a sweep's report.html, of whatever is known so far.

    Args:
      path: the sweep's folder.
      book: its trials.
      space: what it is over.
      default: the experiment's own config.
    """
    write_atomically(path / REPORT, render(book, space, default))


def render(book: Book, space: Space, default: Config) -> str:
    """The page."""
    entries = [entry for entry in book.entries.values() if entry.outcome.loss is not None]
    best = book.best()
    return report.draw(
        title=f"{space.base.experiment}: {len(book.entries)} trials",
        what="sweep report",
        story=_story(book, best),
        tiles=_tiles(book, best),
        warnings=_warnings(book),
        sections=[
            Section("The best trial", _best(book, best, default)),
            Section("Settings against the result", _scatters(space, entries, best)),
            Section("All trials at once", _across(space, entries, best)),
            Section("Learning curves", _curves(entries, best)),
            Section("Over the seeds", _seeds(book, space)),
            Section("Trials", _trials(book)),
        ],
    )


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a sample, and the bounds of its 95% confidence interval by Student's t.

    With fewer than two values the bounds are the mean.

    >>> [round(bound, 4) for bound in interval([1.0, 2.0, 3.0])]
    [2.0, -0.4841, 4.4841]
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    from scipy import stats  # late: a second

    width = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - float(width), mean + float(width)


def _story(book: Book, best: Entry | None) -> list[str]:
    sentences = [f"{book.total} trials: {book_lib.counts(book)}."]
    if best:
        sentences.append(f"The lowest validation loss, {best.outcome.loss:.4f}, was found with ")
        sentences[-1] += f"{settings(best.trial.changes)}."
    sentences.append(
        "A trial is judged by the lowest validation loss of its epochs; the test figures are of "
        "that epoch's parameters, and chose nothing."
    )
    return sentences


def _tiles(book: Book, best: Entry | None) -> list[Tile]:
    seconds = sum(entry.outcome.seconds for entry in book.entries.values())
    tiles = [
        Tile("trials", len(book.of(*ENDED)), f"of {book.total}"),
        Tile("training", f"{seconds / 60:.1f} min", "with validation, all trials"),
    ]
    if best:
        tiles.append(Tile(_LOSS, best.outcome.loss, f"epoch {best.outcome.best['epoch']}"))
        for name, value in best.outcome.test.items():
            if isinstance(value, float) and name not in ("seconds",):
                tiles.append(Tile(f"test {name}", value, "best trial"))
    return tiles[:6]


def _warnings(book: Book) -> list[str]:
    left = book.total - len(book.of(*ENDED))
    return [f"{left} trials have not ended; the same command goes on."] if left else []


def _best(book: Book, best: Entry | None, default: Config) -> list[Any]:
    if best is None:
        return []
    pieces: list[Any] = [
        Prose("Train it again, or use it from where it is:"),
        Command(book_lib.command(best.trial.config, default)),
        Command(f"python launch.py --mode=predict --workdir={book.folder(best.trial)}"),
    ]
    group = book_lib.mean_of_best(book)
    if len(group) > 1:
        mean, low, high = interval(_known([Entry(*found) for found in group]))
        pieces.append(
            Prose(
                f"The lowest mean over the seeds, {mean:.4f} (95% interval {low:.4f} to "
                f"{high:.4f}), has {settings(group[0][0].point) or 'the only configuration'}."
            )
        )
    return pieces


def _losses(entries: Sequence[Entry]) -> list[float | None]:
    return [entry.outcome.loss for entry in entries]


def _known(entries: Sequence[Entry]) -> list[float]:
    return [loss for loss in _losses(entries) if loss is not None]


def _tips(entries: Sequence[Entry]) -> list[str]:
    return [f"{settings(e.trial.changes)}: {e.outcome.loss:.4f} ({e.trial.name})" for e in entries]


def _axis(axis: Choice | Draw, entries: Sequence[Entry]) -> Axis:
    values = [entry.trial.changes.get(axis.option) for entry in entries]
    shown = [str(value).lower() if isinstance(value, bool) else value for value in values]
    return Axis(axis.option, shown, logarithmic=isinstance(axis, Draw) and axis.scale == "log")


def _scatters(space: Space, entries: Sequence[Entry], best: Entry | None) -> list[Any]:
    """The loss against each option, with means and intervals at values that were chosen."""
    if not entries or best is None:
        return []
    pieces: list[Any] = []
    for axis in space.axes:
        x = _axis(axis, entries)
        means = []
        if isinstance(axis, Choice):
            for value in dict.fromkeys(x.values):
                there = [e for e, v in zip(entries, x.values, strict=True) if v == value]
                means.append((value, *interval(_known(there))))
        pieces.append(
            Scatter(
                title=f"{_LOSS.capitalize()} by {axis.option}",
                x=x,
                y=Axis(_LOSS, _losses(entries)),
                tips=_tips(entries),
                best=list(entries).index(best),
                means=means if len(entries) > len(means) else (),
            )
        )
    pieces.append(
        Prose(
            "A point is a trial; the green one is the best. Bars are means over all trials with "
            "that value, with 95% confidence intervals."
        )
    )
    return pieces


def _across(space: Space, entries: Sequence[Entry], best: Entry | None) -> list[Any]:
    if len(entries) < 2 or len(space.axes) < 2 or best is None:
        return []
    axes = [_axis(axis, entries) for axis in space.axes] + [Axis(_LOSS, _losses(entries))]
    return [
        Parallel(
            "A line is a trial, the stronger the lower its loss; the best is green",
            axes, _tips(entries), list(entries).index(best),
        )
    ]  # fmt: skip


def _curves(entries: Sequence[Entry], best: Entry | None) -> list[Any]:
    """Validation loss by epoch, and the first other figure there is."""
    if best is None:
        return []
    shown = sorted(entries, key=lambda entry: entry.outcome.loss or math.inf)[:CURVES]
    epochs = max(entry.outcome.epochs for entry in shown)
    names = [
        name
        for name, value in best.outcome.best.items()
        if isinstance(value, float) and name != "seconds"
    ]
    return [
        Chart(
            title=f"Validation {name}",
            x_title="epoch",
            x=range(1, epochs + 1),
            series={"best": _curve(best, name, epochs)},
            background=[_curve(entry, name, epochs) for entry in shown if entry is not best],
        )
        for name in names
    ]


def _curve(entry: Entry, name: str, epochs: int) -> list[float | None]:
    by_epoch = {record["epoch"]: record.get(name) for record in entry.outcome.of("validation")}
    return [by_epoch.get(epoch) for epoch in range(1, epochs + 1)]


def _seeds(book: Book, space: Space) -> list[Any]:
    """Means and intervals of each configuration."""
    if len(space.seeds) < 2:
        return []
    rows: list[list[Any]] = []
    for point, found in points.by_point(list(book.entries.values())):
        losses = [o.loss for _, o in found if o.status == FINISHED and o.loss is not None]
        if losses:
            tests = [o.test for _, o in found if o.test]
            means = [statistics.fmean(t[name] for t in tests) for name in _test_names(tests)]
            name = settings(point) or "as given"
            rows.append([name, len(losses), *interval(losses), *means])
    if not rows:
        return []
    rows.sort(key=lambda row: row[2])
    names = _test_names([o.test for _, o in book.entries.values() if o.test])
    columns = ["configuration", "seeds", "mean loss", "95% from", "to"]
    columns += [f"test {name}" for name in names]
    return [Table("", columns, rows[:LARGEST_TABLE])]


def _test_names(tests: Sequence[Any]) -> list[str]:
    if not tests:
        return []
    return [n for n, v in tests[0].items() if isinstance(v, float) and n not in ("seconds", "loss")]


def _trials(book: Book) -> list[Any]:
    entries = sorted(
        book.entries.values(),
        key=lambda entry: (entry.outcome.loss is None, entry.outcome.loss or 0.0),
    )
    names = _test_names([entry.outcome.test for entry in entries if entry.outcome.test])
    rows = [
        [
            trial.name, settings(trial.changes), outcome.reason or outcome.status, outcome.epochs,
            outcome.loss, *(outcome.test.get(name) for name in names), Seconds(outcome.seconds),
        ]
        for trial, outcome in entries[:LARGEST_TABLE]
    ]  # fmt: skip
    columns = ["trial", "settings", "status", "epochs", "validation loss"]
    columns += [*(f"test {name}" for name in names), "seconds"]
    pieces: list[Any] = [Table("", columns, rows)] if rows else []
    if len(entries) > LARGEST_TABLE:
        pieces.append(Prose(f"The best {LARGEST_TABLE} of {len(entries)}; sweep.csv has all."))
    return pieces
