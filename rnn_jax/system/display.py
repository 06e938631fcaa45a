"""What a person sees while a run goes on: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence

import tqdm

INTERVAL = 0.5  # seconds between two looks at the device's sums, each of which waits for the step
LINE_INTERVAL = 20.0  # seconds between two lines where there is no terminal
COLUMNS = 80  # of a line
NARROW = 60  # columns of a terminal that has no room for a bar beside what is said


def fitted(
    begin: str, parts: Sequence[str], end: Sequence[str] = (), columns: int = COLUMNS
) -> str:
    """A line of what fits: parts are left out from the last, but for the first.

    >>> fitted("epoch 1/2", ["loss 0.5", "accuracy 0.7", "3 s"], ["best"], columns=30)
    'epoch 1/2  loss 0.5  best'
    """
    parts = list(parts)
    while len(line := "  ".join([begin, *parts, *end])) > columns and len(parts) > 1:
        parts.pop()
    return line


class Display:
    """Prints lines to standard output, and the state of the current pass to standard error."""

    def __init__(self, quiet: bool = False, terminal: bool | None = None, verbose: bool = False):
        """Args:
        quiet: print nothing.
        terminal: draw bars; by default where standard error is a terminal.
        verbose: print details, too.
        """
        self._quiet = quiet
        self._verbose = verbose
        self._terminal = sys.stderr.isatty() if terminal is None else terminal

    @property
    def columns(self) -> int:
        """How wide a line may be: as a terminal that is narrower than usual, otherwise 80."""
        return min(COLUMNS, _terminal()) if sys.stdout.isatty() else COLUMNS

    def line(self, text: str) -> None:
        """Prints a line. A reader that has gone away (a closed pipe or terminal) ends no run."""
        if self._quiet:
            return
        try:
            # Clears a bar away, prints, draws it anew.
            with tqdm.tqdm.external_write_mode(file=sys.stdout):
                print(text, flush=True)
        except OSError:
            self._quiet = True

    def detail(self, text: str) -> None:
        """Prints a line for those who want to know more."""
        if self._verbose:
            self.line(text)

    def start(self, title: str, total: int, done: int = 0, unit: str = "examples") -> Meter:
        """A pass over `total` examples, which people call `unit`, of which `done` were done before
        an interruption."""
        bar, narrow = None, _terminal() < NARROW
        if self._terminal and not self._quiet:
            with contextlib.suppress(OSError):
                bar = tqdm.tqdm(
                    desc=title, total=total, initial=done, unit=f" {unit}", leave=False,
                    dynamic_ncols=True, file=sys.stderr, mininterval=0,
                    bar_format="{desc} {percentage:.0f}%{postfix}" if narrow else None,
                )  # fmt: skip
        line = None if bar or self._quiet else self.line
        return Meter(title, total, done, unit, bar, line, self.columns)


def _terminal() -> int:
    return shutil.get_terminal_size((COLUMNS, 24)).columns


def aside(text: str) -> None:
    """Prints a line to standard error, above a bar if there is one."""
    with contextlib.suppress(OSError), tqdm.tqdm.external_write_mode(file=sys.stderr):
        print(text, file=sys.stderr, flush=True)


def of_the_caller() -> Display:
    """What shows progress where nobody said how: bars in a notebook, nothing elsewhere."""
    in_notebook = "ipykernel" in sys.modules
    return Display(quiet=not in_notebook, terminal=in_notebook)


class Meter:
    """One pass over the data."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int,
        unit: str,
        bar: tqdm.tqdm | None,
        line: Callable[[str], None] | None,
        columns: int = COLUMNS,
    ):
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._bar, self._line, self._columns = bar, line, columns
        self._began = self._looked = self._printed = time.perf_counter()
        self._began_at = done

    def due(self) -> bool:
        """Whether it is time for another look."""
        return time.perf_counter() - self._looked >= INTERVAL

    def show(self, done: int, means: dict[str, float]) -> None:
        """Shows that `done` examples are done, and the figures so far."""
        now = self._looked = time.perf_counter()
        figures = [f"{name} {value:.4f}" for name, value in means.items()]
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.set_postfix_str("  ".join(figures), refresh=False)
                self._bar.update(done - self._done)
        elif self._line and now - self._printed >= LINE_INTERVAL:
            self._printed = now
            rate = (done - self._began_at) / (now - self._began)
            left = (self._total - done) / rate if rate else float("inf")
            end = [f"{rate:.0f} {self._unit}/s", f"{left:.0f} s left"]
            begin = f"{self._title}: {done}/{self._total} {self._unit}"
            self._line(fitted(begin, figures, end, self._columns))
        self._done = done

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
