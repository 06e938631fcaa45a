"""What a person sees of a sweep while it goes on: a live table in a terminal, else a line a
trial."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rnn_jax.sweeps.book import Book, Entry, counts
from rnn_jax.sweeps.outcomes import ENDED, FAILED, RUNNING
from rnn_jax.sweeps.trials import Trial

ROWS = 8  # of trials that have ended, in the live table


class Watch:
    """Shows nothing."""

    @contextlib.contextmanager
    def open(self, book: Book) -> Iterator[None]:
        """While it is open, the book is shown."""
        yield

    def changed(self) -> None:
        """Something is known that was not."""

    def ended(self, book: Book, trial: Trial) -> None:
        """A trial has ended."""

    def line(self, text: str) -> None:
        """Something else is to be said."""


class Lines(Watch):
    """A line for each trial that ends."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say

    def line(self, text: str) -> None:
        self._say(text)

    @contextlib.contextmanager
    def open(self, book: Book) -> Iterator[None]:
        if book.before:
            self._say(f"{book.before} of {book.total} trials have ended already")
        left = book.total - book.before
        self._say(f"{left} trials to train; each has a run folder in {book.path}")
        yield

    def ended(self, book: Book, trial: Trial) -> None:
        outcome, best = book.entries[trial.name].outcome, book.best()
        figures = f"validation loss {_number(outcome.loss)} at epoch {outcome.best.get('epoch')}"
        if outcome.loss is None:
            figures = outcome.reason or "no validation loss"
        lowest = f"  best so far {_number(best.outcome.loss)}" if best else ""
        status = "" if outcome.status == "finished" else f"  {outcome.status}"
        self._say(
            f"{len(book.of(*ENDED))}/{book.total}  {settings(trial.changes)}  {figures}{status}"
            f"{lowest}{_left(book)}"
        )


class Table(Watch):
    """A table that is drawn anew in its place: what runs, and the best of what has ended."""

    def __init__(self) -> None:
        self._book: Book | None = None

    def line(self, text: str) -> None:
        print(text, file=sys.stderr)  # above the table

    @contextlib.contextmanager
    def open(self, book: Book) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        self._book = book
        # Drawn by a thread of its own, twice a second; the last one stays.
        console = Console(file=sys.stderr)
        with Live(get_renderable=lambda: self._draw(), console=console, refresh_per_second=2):
            yield

    def _draw(self) -> Any:
        from rich import box
        from rich.table import Table as Drawn

        book = self._book
        assert book is not None  # it is open
        for _ in range(3):  # another thread may write in it meanwhile
            with contextlib.suppress(RuntimeError):
                entries = list(book.entries.values())
                break
        else:
            entries = []
        ended = [entry for entry in entries if entry.outcome.status in ENDED]
        best = book.best()
        lowest = f", lowest validation loss {_number(best.outcome.loss)}" if best else ""
        table = Drawn(
            title=f"{len(ended)} of {book.total} trials ({counts(book)}){lowest}{_left(book)}",
            title_justify="left", box=box.SIMPLE_HEAD, show_edge=False,
        )  # fmt: skip
        options = list(dict.fromkeys(name for entry in entries for name in entry.trial.changes))
        for name in options:
            table.add_column(name.split(".")[-1], justify="right")
        for name in ("epoch", "validation loss", ""):
            table.add_column(name, justify="right")
        running = [entry for entry in entries if entry.outcome.status == RUNNING]
        ranked = sorted(ended, key=lambda entry: (entry.outcome.loss is None, entry.outcome.loss))
        for entry in [*running, *ranked[:ROWS]]:
            table.add_row(*_row(entry, options), style="bold" if entry is best else None)
        return table


def settings(changes: Mapping[str, Any]) -> str:
    """A trial's settings in a few words: "learning_rate=0.001 seed=3"."""
    return " ".join(f"{name.split('.')[-1]}={value}" for name, value in changes.items())


def _row(entry: Entry, options: Sequence[str]) -> list[str]:
    outcome = entry.outcome
    status = outcome.reason if outcome.status == FAILED else outcome.status
    return [
        *(str(entry.trial.changes.get(name, "")) for name in options),
        str(outcome.epochs),
        _number(outcome.loss),
        status,
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _left(book: Book) -> str:
    seconds = book.seconds_left()
    if not seconds:
        return ""
    return f"  about {datetime.timedelta(seconds=round(seconds))} left"
