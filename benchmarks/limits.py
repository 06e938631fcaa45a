"""Measures the parts from which docs/scaling.md says where large runs and sweeps meet their limits.

    python benchmarks/limits.py run [--experiments lstm bilstm language_model]
    python benchmarks/limits.py sweep

`run`, for each experiment with its own batch size: what a host takes to put a batch together (the
shortest of `--calls`, since only that is free of what else the machine does), and the bytes of the
gradient that data-parallel devices have to add up. From these follow, for `--devices` of them and
links of 100 and 400 Gb/s, what the sum takes at least, `2 (n - 1) / n * bytes / bandwidth +
2 log2(n) * latency` (a ring's bytes and a tree's steps), and from which step on it costs less than
a tenth.

`sweep`: what it takes the process that keeps a sweep's book to say a line for a trial that has
ended, to write the book, which it does at most so
often that a twentieth of the time goes there, and to write the report, for so many trials with the
records of ten epochs.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import pathlib
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import record

GIGABIT = 1e9 / 8  # bytes
LINKS = (100, 400)  # Gb/s
REPEATS = 5


def parts(experiment: str, calls: int) -> tuple[int, float, int, int]:
    """Batch size; seconds of a batch's making; bytes of the gradient, and of tables among them."""
    import jax

    from rnn_jax import tasks

    config = importlib.import_module(f"experiments.{experiment}").get_config()
    resolved = tasks.resolve(config)
    task = tasks.make(resolved.config, tasks.kind_of(config).facts(config))
    epochs = task.prepare(lambda line: None, None).epochs
    making: list[float] = []
    for window in epochs.windows(0, 0):
        runs = window.runs(window.start, config.train.steps_per_call)
        for entries in itertools.islice(runs, calls):
            began = time.perf_counter()
            window.assemble(entries)
            making.append((time.perf_counter() - began) / len(entries))
        break
    params = jax.eval_shape(task.init, jax.random.key(0))
    size = lambda leaf: math.prod(leaf.shape) * leaf.dtype.itemsize
    tables = jax.tree.map(lambda leaf, mark: size(leaf) * mark, params, _marks(task, params))
    whole = sum(map(size, jax.tree.leaves(params)))
    return config.train.batch_size, min(making), whole, sum(jax.tree.leaves(tables))


def _marks(task: Any, params: Any) -> Any:
    import jax

    marks = task.tables and task.tables.marks
    return (
        marks
        if marks is not None and jax.tree.leaves(marks)
        else jax.tree.map(lambda _: False, params)
    )


def added(size: float, devices: int, gigabits: float, latency: float) -> float:
    """Seconds that the sum of so many bytes over devices takes at least.

    >>> round(added(1e9, 2, 8, 0.0), 3)  # a gigabyte at a gigabyte a second, of two
    1.0
    """
    moved = 2 * (devices - 1) / devices * size / (gigabits * GIGABIT)
    return moved + 2 * math.log2(devices) * latency


def run(arguments: argparse.Namespace) -> record.Table:
    columns = [
        ("experiment", "{}"), ("batch", "{}"), ("a batch is made in", "{:.2f} ms"),
        ("gradient", "{:.1f} MB"), ("of this tables", "{:.1f} MB"),
    ]  # fmt: skip
    for link in LINKS:
        columns.append((f"summed at {link} Gb/s", "{:.2f} ms"))
        columns.append((f"a tenth of a step of, at {link} Gb/s", "{:.1f} ms"))
    table = record.Table("limits_run", columns)
    for experiment in arguments.experiments:
        batch, made, size, tables = parts(experiment, arguments.calls)
        sums = [added(size, arguments.devices, link, arguments.latency * 1e-6) for link in LINKS]
        table.add(
            experiment, batch, 1e3 * made, size / 1e6, tables / 1e6,
            *(value for each in sums for value in (1e3 * each, 1e4 * each)),
        )  # fmt: skip
    return table


def kept(trials: int) -> tuple[float, float, float, float]:
    """Seconds to say that one of so many trials has ended, to write the book, and the report; bytes
    of the book."""
    from rnn_jax import Config
    from rnn_jax.config import replace
    from rnn_jax.runs.sweep_folder import SWEEP
    from rnn_jax.sweeps import grammar, search
    from rnn_jax.sweeps import report as report_lib
    from rnn_jax.sweeps.book import Book
    from rnn_jax.sweeps.outcomes import FINISHED, Outcome
    from rnn_jax.sweeps.trials import Space
    from rnn_jax.sweeps.watch import Lines

    base = replace(Config(experiment="limits"), {"model.cell": "gru"})
    axes = "optimizer.learning_rate=log(1e-4,1e-1); model.hidden=[8,16]; train.seed=0..4"
    space = Space(base, grammar.parse(axes, base))
    found = search.make(space, search.kind_of(space, None, trials), trials, [])
    figures = {"loss": 0.5, "accuracy": 0.75}
    history = [
        {"step": epoch, "epoch": epoch, "split": split, **figures, "seconds": 1.0}
        for epoch in range(1, 11)
        for split in ("train", "validation")
    ]
    history.append({"step": 10, "epoch": 10, "split": "test", **figures})
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        book = Book(path, {"experiment": "limits", "sweep": axes, "search": "random"})
        while group := found.next():
            for trial in group:
                book.put(trial, Outcome(FINISHED, tuple(history)))
        book.total = len(book.entries)
        began, said = time.perf_counter(), Lines(lambda line: None)
        for _ in range(REPEATS):
            said.ended(book, trial)
        told = (time.perf_counter() - began) / REPEATS
        seconds, reported = [], []
        for _ in range(REPEATS):
            began = time.perf_counter()
            book.write()
            seconds.append(time.perf_counter() - began)
        for _ in range(2):  # the first imports
            began = time.perf_counter()
            report_lib.write(path, book, space, base)
            reported.append(time.perf_counter() - began)
        size = (path / SWEEP).stat().st_size
    return told, min(seconds), min(reported), size


def sweep(arguments: argparse.Namespace) -> record.Table:
    table = record.Table(
        "limits_sweep",
        [
            ("trials", "{:,}"), ("a trial's line takes", "{:.1f} ms"),
            ("sweep.json", "{:.2f} MB"), ("the book is written in", "{:.3f} s"),
            ("so at most every", "{:.1f} s"), ("the report in", "{:.1f} s"),
        ],
    )  # fmt: skip
    from rnn_jax.sweeps import book

    for trials in arguments.trials:
        told, written, reported, size = kept(trials)
        table.add(trials, 1e3 * told, size / 1e6, written, written / book.SHARE, reported)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("run", "sweep"))
    parser.add_argument("--experiments", nargs="+", default=["lstm", "bilstm", "language_model"])
    parser.add_argument("--calls", type=int, default=100, help="so many are measured")
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--latency", type=float, default=10.0, help="of a step of the sum, in us")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1_000, 10_000])
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = {"run": run, "sweep": sweep}[arguments.part](arguments)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
