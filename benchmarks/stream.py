"""Training from a file many times larger than the memory that the process may take.

    python benchmarks/stream.py

Makes a CSV file of generated news, `--times` as large as the memory limit, and trains each
experiment on it twice in turns: streamed from that file under the limit, and in memory, without a
limit, from a file of `--memory_stories` stories of the same distribution. Both read titles: texts
so short that a story's training is cheap and what streaming costs shows most. `--field=text` reads
title and description, whose prepared files can be larger than the limit.

The limit is Linux' RLIMIT_DATA, set before Python starts. It bounds all private writable memory
that the process maps, used or not: Python's, NumPy's and XLA's heaps, compiled programs, stacks of
threads (of 1 MiB here). Pages of files that the system keeps in memory belong to no process and are
not bounded. The table has the peak resident size too, which counts the pages of libraries.

A turn trains until two windows of stories are done, so that what was read ahead while the other
had its turn is used up, and then measures for `--seconds`. The ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import record

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

COLUMNS = (
    ("experiment", "{}"),
    ("in memory, stories/s", "{:,.0f}"),
    ("streamed, stories/s", "{:,.0f}"),
    ("ratio", "{:.2f}"),
    ("counted by the limit", "{:.0f} MiB"),
    ("peak resident", "{:.0f} MiB"),
)
EXPERIMENTS = ("simple_rnn", "masked_rnn", "lstm", "bilstm")
CLASSES = ("World", "Sports", "Business", "Sci/Tech")
MEBIBYTE = 2**20
LOOK = 0.5  # seconds between two looks at what is done, each of which waits for the step
POOL = 20_000  # titles and halves of descriptions that stories are put together of
WORDS = 30_000


def generate(path: pathlib.Path, seed: int, size: float = math.inf, count: float = math.inf) -> int:
    """Writes stories, 16 at a time, until there are `size` bytes or `count` of them; returns how
    many.

    A title has 4 to 10 words, the last of which depends on the class; a description opens with a
    number of its own, so that stories differ.
    """
    rng = random.Random(0)  # the words are the same in all files
    words = [f"w{rng.randrange(10**6)}" for _ in range(WORDS)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(WORDS)))
    draw = lambda count: " ".join(rng.choices(words, cum_weights=weights, k=count))
    titles = [
        [f'"{label + 1}","{draw(rng.randint(3, 9))} topic{label}{rng.randrange(20)}","'
         for _ in range(POOL)]
        for label in range(len(CLASSES))
    ]  # fmt: skip
    halves = [draw(rng.randint(50, 60)) for _ in range(POOL)]
    rng, written, stories = random.Random(seed), 0, 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size and stories < count:
            rows = []
            for title, one, other in zip(
                rng.choices(titles[rng.randrange(len(CLASSES))], k=16),
                rng.choices(halves, k=16),
                rng.choices(halves, k=16),
                strict=True,
            ):
                rows.append(f'{title}{stories} {one} {other}"\n')
                stories += 1
            written += file.write("".join(rows))
    return stories


def make_folder(folder: pathlib.Path, **training: float) -> int:
    """A folder in the csv layout, its training file as `generate` makes it; returns its stories."""
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    generate(folder / "test.csv", seed=1, size=2**20)
    return generate(folder / "train.csv", **training)


class Turns:
    """A display that shows nothing and lets training go on only when it is this process' turn."""

    def __init__(self, seconds: float, warm: int):
        self._wanted, self._warm = seconds, warm
        self._next_turn(ready=True)

    def line(self, text: str) -> None:
        """Passed over."""

    def start(self, title: str, total: int, done: int = 0) -> Turns:
        self._training = title.startswith("epoch")
        self._done, self._began = done, time.perf_counter()
        return self

    def due(self) -> bool:
        return self._training and time.perf_counter() - self._began >= LOOK

    def show(self, done: int, means: dict[str, float]) -> None:
        now = time.perf_counter()
        stories, seconds = done - self._done, now - self._began
        if self._left > 0:
            self._left -= stories
        else:
            self._stories, self._seconds = self._stories + stories, self._seconds + seconds
        if self._seconds >= self._wanted:
            self._next_turn(rate=self._stories / self._seconds)
        self._done, self._began = done, time.perf_counter()

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *exception) -> None:
        """An epoch's end: what it trained since the last look does not count."""

    def _next_turn(self, **answer: Any) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(answer | {"resident": peak, "data": _mapped()}), flush=True)
        if sys.stdin.readline().strip() != "go":
            os._exit(0)
        self._left, self._stories, self._seconds = self._warm, 0, 0.0


def _mapped() -> int:
    """Bytes that count under RLIMIT_DATA."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))


def config_of(experiment: str, folder: pathlib.Path, field: str, streamed: bool):
    from rnn_jax.config import replace

    changes = {
        "data.source": "csv",
        "data.data_dir": str(folder / ("large" if streamed else "small")),
        "data.field": field,
        "data.vocab_field": "title",
        "data.vocab_texts": 2_000,
        "data.max_length": 200,
        "data.stream": streamed,
        "data.cache_dir": str(folder / "cache"),
        "train.epochs": 1_000,
        "train.patience": 0,
        "train.checkpoint_minutes": 0.0,
    }
    return replace(importlib.import_module(f"experiments.{experiment}").get_config(), changes)


def work(arguments: argparse.Namespace) -> None:
    """What a process of its own does: prepare, or train in turns."""
    from rnn_jax import train
    from rnn_jax.data import preparation

    streamed = arguments.work != "memory"
    config = config_of(arguments.experiments[0], arguments.folder, arguments.field, streamed)
    if arguments.work == "prepare":
        began = time.perf_counter()
        data = preparation.prepare(config.data)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": time.perf_counter() - began, "stories": len(data.train)}
        print(json.dumps(answer | {"resident": peak, "data": _mapped()}), flush=True)
        return
    with tempfile.TemporaryDirectory() as run:
        train.run(config, run, display=Turns(arguments.seconds, 2 * config.data.window))


class Worker:
    """A process that works, under the limit if it streams."""

    def __init__(self, what: str, experiment: str, arguments: argparse.Namespace):
        def bounded() -> None:
            resource.setrlimit(resource.RLIMIT_STACK, (MEBIBYTE, MEBIBYTE))
            if what != "memory":
                size = arguments.limit * MEBIBYTE
                resource.setrlimit(resource.RLIMIT_DATA, (size, size))

        command = [
            sys.executable, __file__, experiment, f"--work={what}",
            f"--folder={arguments.folder}", f"--field={arguments.field}",
            f"--seconds={arguments.seconds}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=bounded
        )

    def answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with exit code {self._process.wait()}")
        return json.loads(line)

    def turn(self) -> dict[str, Any]:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def measure(experiment: str, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """A row of the table."""
    workers = {name: Worker(name, experiment, arguments) for name in ("stream", "memory")}
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.answer()
    for round_number in range(arguments.rounds + 1):
        for name, worker in workers.items():
            found = worker.turn()
            if round_number:  # the first one compiles
                rates[name].append(found["rate"])
            if name == "stream":
                memory = found
    for worker in workers.values():
        worker.end()
    ratio = statistics.median(
        one / other for one, other in zip(rates["stream"], rates["memory"], strict=True)
    )
    stream, memory_rate = (statistics.median(rates[name]) for name in workers)
    sizes = (memory[name] / MEBIBYTE for name in ("data", "resident"))
    return experiment, memory_rate, stream, ratio, *sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", default=EXPERIMENTS)
    parser.add_argument("--limit", type=int, default=1_024, help="memory limit in MiB")
    parser.add_argument("--times", type=float, default=10, help="size of the file in limits")
    parser.add_argument("--memory_stories", type=int, default=200_000)
    parser.add_argument("--field", choices=("title", "text"), default="title", help="what is read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="measured in a turn")
    parser.add_argument("--folder", type=pathlib.Path, help="an empty one (default: temporary)")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    arguments.folder = pathlib.Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        size = int(arguments.times * arguments.limit * MEBIBYTE)
        began = time.perf_counter()
        stories = make_folder(arguments.folder / "large", seed=2, size=size)
        make_folder(arguments.folder / "small", seed=3, count=arguments.memory_stories)
        made = time.perf_counter() - began
        print(
            f"{size / 2**30:.2f} GiB of CSV, {stories:,} stories, made in {made:.0f} s", flush=True
        )
        prepared = Worker("prepare", arguments.experiments[0], arguments).answer()
        print(
            f"prepared in {prepared['seconds']:.0f} s under a limit of {arguments.limit} MiB, "
            f"{size / MEBIBYTE / prepared['seconds']:.0f} MiB/s, "
            f"{stories / prepared['seconds']:,.0f} stories/s; "
            f"peak resident size {prepared['resident'] / MEBIBYTE:.0f} MiB"
        )
        cached = sum(
            path.stat().st_size
            for path in (arguments.folder / "cache").rglob("*")
            if path.is_file()
        )
        print(f"{cached / 2**30:.2f} GiB of prepared files\n")
        table = record.Table("stream", COLUMNS)
        for experiment in arguments.experiments:
            table.add(*measure(experiment, arguments))
        if arguments.save:
            table.save()
    finally:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
