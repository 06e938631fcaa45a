"""What a person sees while a run goes on: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

import tqdm

INTERVAL = 0.5  # seconds between two looks at the device's sums, each of which waits for the step
LINE_INTERVAL = 20.0  # seconds between two lines where there is no terminal


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

    def start(self, title: str, total: int, done: int = 0, unit: str = "examples") -> Pass:
        """A pass over `total` examples, which people call `unit`, of which `done` were done before
        an interruption."""
        bar = None
        if self._terminal and not self._quiet:
            with contextlib.suppress(OSError):
                bar = tqdm.tqdm(
                    desc=title, total=total, initial=done, unit=f" {unit}", leave=False,
                    dynamic_ncols=True, file=sys.stderr, mininterval=0,
                )  # fmt: skip
        return Pass(title, total, done, unit, bar, None if bar or self._quiet else self.line)


def of_the_caller() -> Display:
    """What shows progress where nobody said how: bars in a notebook, nothing elsewhere."""
    in_notebook = "ipykernel" in sys.modules
    return Display(quiet=not in_notebook, terminal=in_notebook)


class Pass:
    """One pass over the data."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int,
        unit: str,
        bar: tqdm.tqdm | None,
        line: Callable[[str], None] | None,
    ):
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._bar, self._line = bar, line
        self._began = self._looked = self._printed = time.perf_counter()
        self._began_at = done

    def due(self) -> bool:
        """Whether it is time for another look."""
        return time.perf_counter() - self._looked >= INTERVAL

    def show(self, done: int, means: dict[str, float]) -> None:
        """Shows that `done` examples are done, and the figures so far."""
        now = self._looked = time.perf_counter()
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.set_postfix_str(figures, refresh=False)
                self._bar.update(done - self._done)
        elif self._line and now - self._printed >= LINE_INTERVAL:
            self._printed = now
            rate = (done - self._began_at) / (now - self._began)
            left = (self._total - done) / rate if rate else float("inf")
            self._line(
                f"{self._title}: {done}/{self._total} {self._unit}  {figures}  "
                f"{rate:.0f} {self._unit}/s  {left:.0f} s left"
            )
        self._done = done

    def __enter__(self) -> Pass:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
