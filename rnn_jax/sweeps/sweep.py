"""A sweep: from what is asked for to trained trials, their table and report.

In order: the axes are read and checked, with every trial that is known already; the folder is
claimed; an engine takes one trial after the other and trains it; after each the files are written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax import tasks as tasks_lib
from rnn_jax.config import Config, InputError
from rnn_jax.runs import checkpoints, identity, sweep_folder
from rnn_jax.runs import mirror as mirror_lib
from rnn_jax.runs.failure import writing
from rnn_jax.runs.folder import CHECKPOINTS, place
from rnn_jax.runs.mirror import Mirror
from rnn_jax.runs.sweep_folder import TRIALS
from rnn_jax.sweeps import book as book_lib
from rnn_jax.sweeps import grammar, search
from rnn_jax.sweeps import report as report_lib
from rnn_jax.sweeps.book import Book, Entry
from rnn_jax.sweeps.engines import Engine, Work
from rnn_jax.sweeps.outcomes import ENDED, RUNNING, Outcome
from rnn_jax.sweeps.proposals import Pruner
from rnn_jax.sweeps.trials import Space, Trial
from rnn_jax.sweeps.watch import Watch
from rnn_jax.system import files
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.system.messages import cause
from rnn_jax.tasks import Extras


class Sweep(NamedTuple):
    """What is asked for.

    axes: as `rnn_jax.sweeps.grammar` reads it.
    trials: how many there are to be in all, for a search that has no end of its own.
    search: "grid", "random", "tpe", or None for what the axes are made for.
    prune: "none", "median" or "halving": which trials are stopped early.
    budget: seconds after which no trial begins any more; None: all do.
    """

    axes: str
    trials: int | None = None
    search: str | None = None
    prune: str = "none"
    budget: float | None = None


class Found(NamedTuple):
    """What a sweep found.

    entries: every trial and what became of it.
    best: the one with the lowest validation loss.
    folder: its run's.
    line: the best trial's test result in a line, with how many trials there were.
    """

    entries: tuple[Entry, ...]
    best: Entry | None
    folder: pathlib.Path | None
    line: str


def run(
    asked: Sweep,
    base: Config,
    path: str | os.PathLike,
    *,
    engine: Engine,
    watch: Watch,
    default: Config | None = None,
    extras: Extras = tasks_lib.NO_EXTRAS,
    request: Request | None = None,
    mirror: str | None = None,
) -> Found:
    """Trains the trials of a sweep, each in `path/trials/NAME`.

    Called again with the same arguments it goes on: trials that have ended stay, others continue
    from their checkpoints. So does one with more values or trials, with what both have.

    Args:
      asked: what to sweep over, and how.
      base: the config that trials change.
      path: the sweep's folder.
      engine: trains trials.
      watch: shows how it goes.
      default: the experiment's own config, for the best trial's command line.
      extras: cells and tasks that the experiment brings with it.
      request: asks it to stop; by default nobody does.
      mirror: where the folder is mirrored to, as of `rnn_jax.train.run`.

    Raises:
      InputError: a wrong sweep or trial, before anything is trained.
      Interrupted: it was asked to stop; everything is saved.
      RunError: nothing can be written.
    """
    request, default = request or Request(), default or base
    space = Space(base, grammar.parse(asked.axes, base))
    kind = search.kind_of(space, asked.search, asked.trials)
    path = place(path)
    mirrored = mirror_lib.opened(mirror, watch.line)
    with _held(path), writing(path):
        said = sweep_folder.read(path)
        if said and said.get("experiment") != base.experiment:
            raise InputError(
                f"{path} holds a sweep of experiment {said.get('experiment')!r}, not "
                f"{base.experiment!r}; choose another --workdir"
            )
        sweep_folder.restore(path, base.experiment, tasks_lib.reader(extras), mirrored)
        said = sweep_folder.read(path)
        trials = search.make(space, kind, asked.trials, book_lib.known(said, space, path))
        lines = {line.get("name"): line for line in (said or {}).get("trials", [])}
        book = Book(path, {"experiment": base.experiment, "sweep": asked.axes, "search": kind})
        book.total = trials.total
        desk = _Desk(
            book, trials, lines, _pruner(asked.prune), watch, request, asked.budget, mirrored
        )
        first = desk.peek()
        for trial in first:
            tasks_lib.resolve(trial.config, extras)  # a wrong one must cost nothing
        work = Work(extras, request, book.folder, desk.promising)
        with watch.open(book), mirrored.following(request):
            try:
                engine.run(desk.take, desk.ended, work)
            finally:
                desk.finish()
                report_lib.write(path, book, space, default)
        if request.signal is not None:
            raise Interrupted(request.signal)
        best = book.best()
        return Found(
            tuple(book.entries.values()),
            best,
            best and book.folder(best.trial),
            _last_line(book, best, extras),
        )


class _Desk:
    """Hands out trials and takes in what became of them; one at a time."""

    def __init__(
        self,
        book: Book,
        trials: search.Search,
        lines: Mapping[str, Mapping[str, Any]],
        pruner: Any,
        watch: Watch,
        request: Request,
        budget: float | None,
        mirror: Mirror,
    ):
        self._book, self._search, self._lines = book, trials, lines
        self._pruner, self._watch, self._request = pruner, watch, request
        self._mirror = mirror
        self._end = None if budget is None else time.monotonic() + budget
        self._lock = threading.Lock()
        self._waiting: deque[Trial] = deque()
        self._groups: dict[str, Sequence[Trial]] = {}  # a trial's name -> those of its point
        self._told: set[str] = set()
        self._fill()
        book.before = len(book.of(*ENDED))

    def peek(self) -> Sequence[Trial]:
        """The trials that are known to come."""
        return tuple(self._waiting)

    def take(self) -> Trial | None:
        """The next trial to be trained; None if there is none, or no time."""
        with self._lock:
            late = self._end is not None and time.monotonic() > self._end
            if late or self._request.signal is not None:
                return None
            if not self._waiting:
                self._fill()
            if not self._waiting:
                return None
            trial = self._waiting.popleft()
            outcome = self._book.entries[trial.name].outcome
            self._note(trial, outcome._replace(status=RUNNING))
            self._mirror.take(f"{TRIALS}/{trial.name}")
            return trial

    def promising(self, trial: Trial, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a trial should go on after an epoch; shows it, too."""
        with self._lock:
            self._note(trial, Outcome(RUNNING, tuple(history)))
            return self._pruner is None or self._pruner.promising(trial.name, history)

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """What became of a trial that was taken."""
        with self._lock:
            self._note(trial, outcome)
            if outcome.status in ENDED:
                self._settle(trial, outcome)
                self._watch.ended(self._book, trial)
            self._book.keep()
            self._mirror.ended(f"{TRIALS}/{trial.name}")

    def finish(self) -> None:
        """Brings the files up to date at the end."""
        with self._lock:
            self._book.write()

    def _fill(self) -> None:
        """Asks the search for trials until one has something left to do; a list is asked for
        all."""
        while not self._waiting or isinstance(self._search, search.Listed):
            group = self._search.next()
            if not group:
                return
            for trial in group:
                self._groups[trial.name] = group
            for trial in group:
                if trial.name in self._book.entries:
                    continue
                line = self._lines.get(trial.name)
                outcome = book_lib.present(self._book.path, trial.name, line)
                self._note(trial, outcome)
                if outcome.status in ENDED:
                    self._settle(trial, outcome)
                else:
                    self._waiting.append(trial)

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        if self._pruner is not None and trial.name not in self._told:
            self._told.add(trial.name)
            self._pruner.ended(trial.name, outcome)
        group = [self._book.entries.get(each.name) for each in self._groups[trial.name]]
        whole = [entry for entry in group if entry and entry.outcome.status in ENDED]
        if len(whole) == len(group):
            self._search.tell(whole)

    def _note(self, trial: Trial, outcome: Outcome) -> None:
        self._book.put(trial, outcome)
        self._watch.changed()


def _pruner(kind: str) -> Any:
    if kind == "none":
        return None
    return Pruner(kind)


@contextlib.contextmanager
def _held(path: pathlib.Path) -> Iterator[None]:
    """Keeps other sweeps out of a folder, which is made."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.made(path, lambda: any((path / TRIALS).glob("*"))))
            lock = held.enter_context(files.open_lock(path / ".sweep_lock"))
        except OSError as error:
            raise InputError(
                f"cannot write to the sweep's folder {path} ({cause(error)})"
            ) from error
        if (path / identity.CONFIG).exists():
            raise InputError(
                f"{path} holds a run, and a sweep needs a folder of its own; choose another "
                "--workdir"
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process sweeps in {path}; wait for it, or choose another --workdir"
            ) from error
        yield


def _last_line(book: Book, best: Entry | None, extras: Extras) -> str:
    """The best trial's test result, as its task says it."""
    said = f"{len(book.entries)} trials: {book_lib.counts(book)}"
    if best is None or not best.outcome.test:
        return said
    reader = tasks_lib.reader(extras)
    found = checkpoints.newest(book.folder(best.trial) / CHECKPOINTS)
    assert found is not None  # it was tested
    run = identity.read_identity(found.path, reader)
    resolved = tasks_lib.resolve(run.config, extras, run.last_environment, strict=False)
    task = tasks_lib.make(resolved.config, run.facts, extras)
    return f"{task.result(best.outcome.test)}  (best of {said})"
