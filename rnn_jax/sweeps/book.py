"""What is known of a sweep's trials, and the files that say so: sweep.json, sweep.csv, report.html.

The trials' own folders are the truth; these files are made anew from them. Of what happened, only
sweep.json says which trials were pruned, since a pruned run is one that could go on.
"""

from __future__ import annotations

import csv
import io
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError
from rnn_jax.runs import records, sweep_folder
from rnn_jax.sweeps import outcomes, points
from rnn_jax.sweeps.outcomes import ENDED, FAILED, FINISHED, PRUNED, RUNNING, WAITING, Outcome
from rnn_jax.sweeps.trials import Space, Trial
from rnn_jax.system import files

SHARE = 0.05  # of the time that goes into the files while trials are trained


class Entry(NamedTuple):
    """A line of the book."""

    trial: Trial
    outcome: Outcome


class Book:
    """The trials of a sweep in the order in which they were first taken, and what became of them.

    Not thread-safe: the sweep that keeps it sees to that.
    """

    def __init__(self, path: pathlib.Path, said: Mapping[str, Any]):
        """Args:
        path: the sweep's folder.
        said: what sweep.json is to say besides the trials.
        """
        self.path, self._said = path, dict(said)
        self.entries: dict[str, Entry] = {}
        self._losses: dict[str, float | None] = {}  # the lowest of each, so that nobody searches
        self.total = 0
        self.began = time.monotonic()
        self.before = 0  # trials that had ended when this process began
        self._cost, self._written = 0.0, self.began  # of the files, when they were last written

    def folder(self, trial: Trial) -> pathlib.Path:
        """A trial's run folder."""
        return self.path / sweep_folder.TRIALS / trial.name

    def put(self, trial: Trial, outcome: Outcome) -> None:
        """Notes what is known of a trial now."""
        self.entries[trial.name] = Entry(trial, outcome)
        self._losses[trial.name] = outcome.loss

    def of(self, *status: str) -> list[Entry]:
        """The entries of these states."""
        return [entry for entry in self.entries.values() if entry.outcome.status in status]

    def best(self) -> Entry | None:
        """The trial with the lowest validation loss."""
        known = {name: loss for name, loss in self._losses.items() if loss is not None}
        return self.entries[min(known, key=lambda name: known[name])] if known else None

    def seconds_left(self) -> float | None:
        """About how long the rest will take; None before anything has ended."""
        ended = len(self.of(*ENDED))
        here = ended - self.before
        if here <= 0:
            return None
        return (time.monotonic() - self.began) / here * max(self.total - ended, 0)

    def keep(self) -> None:
        """Writes the files, unless that would take more than `SHARE` of the time: those of ten
        thousand trials take seconds, and each trial that ends asks for them."""
        if self._cost <= SHARE * (time.monotonic() - self._written):
            self.write()

    def write(self) -> None:
        """Writes sweep.json and sweep.csv."""
        began = time.monotonic()
        best = self.best()
        said = {
            "format": sweep_folder.FORMAT,
            **self._said,
            "best": best and best.trial.name,
            "total": self.total,
            "trials": [_line(entry) for entry in self.entries.values()],
        }
        text = json.dumps(said, indent=1, allow_nan=False) + "\n"
        files.write_atomically(self.path / sweep_folder.SWEEP, text)
        files.write_atomically(self.path / sweep_folder.TABLE, self._table())
        self._written = time.monotonic()
        self._cost = self._written - began

    def _table(self) -> str:
        """A row for each trial: what it changes, and its figures."""
        rows = [_flat(entry) for entry in self.entries.values()]
        columns = dict.fromkeys(name for row in rows for name in row)
        file = io.StringIO()
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()


def known(said: Mapping[str, Any] | None, space: Space, path: pathlib.Path) -> list[Entry]:
    """The trials of an earlier sweep in a folder that this one could have, too, as they stand now.

    Args:
      said: what `sweep_folder.read` returned.
      space: what this sweep is over.
      path: the sweep's folder.
    """
    found: list[Entry] = []
    for line in (said or {}).get("trials", []):
        try:
            config = config_lib.replace(space.base, line["changes"])
            trial = Trial(line["name"], line["changes"], config)
        except (InputError, LookupError, TypeError):
            continue  # another experiment's, or damaged
        found.append(Entry(trial, present(path, trial.name, line)))
    return found


def present(path: pathlib.Path, name: str, line: Mapping[str, Any] | None) -> Outcome:
    """A trial as its folder has it.

    Args:
      path: the sweep's folder.
      name: the trial's.
      line: what sweep.json said of it, if anything.
    """
    outcome = outcomes.read(path / sweep_folder.TRIALS / name)
    if line and line.get("status") == PRUNED and outcome.status == outcomes.PAUSED:
        return outcome._replace(status=PRUNED)
    return outcome


def command(config: Config, default: Config, sweep: str = "") -> str:
    """The command line that trains a config.

    Args:
      config: the run's.
      default: what the experiment's file says.
      sweep: text after it.
    """
    changed = [
        f"--config.{name}={_quoted(value)}"
        if not isinstance(value, bool)
        else f"--{'' if value else 'no'}config.{name}"
        for (name, _, value), (_, _, before) in zip(
            config_lib.options(config), config_lib.options(default), strict=True
        )
        if value != before
    ]
    words = ["python launch.py", f"--experiment={config.experiment}", *changed, sweep]
    return " ".join(filter(None, words))


def _quoted(value: Any) -> str:
    import shlex

    return shlex.quote(str(value))


def _line(entry: Entry) -> dict[str, Any]:
    """A trial in sweep.json."""
    trial, outcome = entry
    return {
        "name": trial.name,
        "changes": trial.changes,
        "status": WAITING if outcome.status == RUNNING else outcome.status,
        "reason": outcome.reason,
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds, 3),
        "validation": _figures(outcome.best),
        "test": _figures(outcome.test),
    }


def _flat(entry: Entry) -> dict[str, Any]:
    """A trial in sweep.csv."""
    line = _line(entry)
    changes, validation, test = line.pop("changes"), line.pop("validation"), line.pop("test")
    return {
        "name": line.pop("name"),
        **changes,
        **line,
        **{f"validation_{name}": value for name, value in validation.items()},
        **{f"test_{name}": value for name, value in test.items()},
    }


def _figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of the model, and of which epoch."""
    figures = {
        name: value
        for name, value in record.items()
        if value is not None and records.is_figure(name, value) and name != "gradient_norm"
    }
    return ({"epoch": record["epoch"]} if record else {}) | figures


def counts(book: Book) -> str:
    """How many trials stand how: "38 finished, 2 failed"."""
    words = {FINISHED: "finished", PRUNED: "pruned", FAILED: "failed"}
    found = {word: len(book.of(status)) for status, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in found.items() if count) or "none ended"


def mean_of_best(book: Book) -> points.Found:
    """The trials of the configuration with the lowest mean loss over its seeds."""
    means = {
        n: mean
        for n, (_, found) in enumerate(points.by_point(list(book.entries.values())))
        if (mean := points.mean_loss(found)) is not None
    }
    if not means:
        return []
    return points.by_point(list(book.entries.values()))[min(means, key=lambda n: means[n])][1]
