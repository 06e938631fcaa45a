"""Kills training runs at random moments and compares how they end: `python benchmarks/kill.py`.

Each run is first made undisturbed, and then again while it is killed over and over: with SIGKILL
and with SIGTERM, in every phase (start, compile, step, checkpoint, evaluation, report), at a random
moment of it. A killed run is started again by the same command until it ends. Then its parameters
(final and best, optimizer state too), metrics.jsonl (less `seconds`), config.json and what it
remembers of its data (vocabulary.json, series.json) must be those of the undisturbed run, bit for
bit. After each kill the newest complete
checkpoint must still be good, and the next start must go on from it.

The program that is killed is launch.py itself. Only its display is replaced, by one that also tells
through a pipe which phase begins; so at the moment of a kill the phase is known, not guessed. A run
that gets SIGTERM near its end may finish instead (the rest takes less time than it is granted): it
is compared, and then killed on from where it stood before.

It prints tables in Markdown, and ends with exit code 1 if a run was lost or too few kills hit their
phase.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import logging
import os
import pathlib
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import record

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RUN_COLUMNS = (
    ("run", "{}"),
    ("undisturbed", "{:.0f} s"),
    ("kills", "{}"),
    ("parameters, optimizer state, records", "{}"),
)
PHASE_COLUMNS = (
    ("phase", "{}"),
    ("SIGKILL", "{}"),
    ("SIGTERM", "{}"),
    ("longest from SIGTERM to the end", "{:.1f} s"),
)
PHASES = ("start", "compile", "step", "checkpoint", "evaluation", "report")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
# Each takes a minute or more on two cores.
RUNS = (
    ("gru", 150), ("masked_rnn", 150), ("lstm", 150), ("bilstm", 14), ("language_model", 1),
    ("time_series", 150), ("translation", 2),
)  # fmt: skip


class Kill(NamedTuple):
    """One kill; `seconds` from the signal to the end of the process."""

    run: str
    phase: str
    signal: signal.Signals
    code: int
    seconds: float


class Lost(Exception):  # noqa: N818
    """A run was lost."""


# What runs in the process that is killed.


def work(pipe: int, arguments: list[str]) -> int:
    """launch.py's `main`, with a display that announces phases."""
    announced = ["start"]

    def announce(phase: str) -> None:
        announced.append(phase)
        os.write(pipe, f"{phase}\n".encode())

    class Compilations(logging.Handler):
        """JAX logs when it begins to compile, and when it has done so."""

        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if not any(name in message for name in ("train_steps", "evaluate")):
                return
            if message.startswith("Compiling"):
                announce("compile")
            elif message.startswith("Finished XLA compilation") and announced[-1] == "compile":
                announce(announced[-2])

    import jax

    jax.config.update("jax_log_compiles", True)
    logger = logging.getLogger("jax")
    logger.propagate = False
    logger.handlers[:] = [Compilations()]

    from rnn_jax.system import display

    class Announcing(display.Display):
        @contextlib.contextmanager
        def start(
            self, title: str, total: int, done: int = 0, unit: str = "examples"
        ) -> Iterator[Any]:
            announce("step" if title.startswith("epoch") else "evaluation")
            with super().start(title, total, done, unit) as shown:
                yield shown
            announce("report" if title == "test" else "step")

    display.Display = Announcing
    import launch

    return launch.main(["launch.py", *arguments])


class Process:
    """A training process, watched."""

    def __init__(self, arguments: list[str], folder: pathlib.Path, cache: pathlib.Path):
        self.folder, self.announced = folder, "start"
        self.entered = time.monotonic()
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`close` closes it)
        program = [sys.executable, __file__, "--worker", str(writer), *arguments]
        self.popen = subprocess.Popen(
            [*program, f"--workdir={folder}"], cwd=ROOT, pass_fds=[writer],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
            stdout=self._output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(writer)

    def watch(self, seconds: float) -> None:
        """Reads announcements for so long, or until one comes."""
        if select.select([self._reader], [], [], max(0.0, seconds))[0]:
            if lines := os.read(self._reader, 65536).decode().split():
                self.announced, self.entered = lines[-1], time.monotonic()
            else:
                time.sleep(max(0.0, seconds))  # it has ended, or is about to

    def phase(self) -> str:
        """What goes on right now. Checkpoints are written beside everything else."""
        with contextlib.suppress(FileNotFoundError):
            if any(path.suffix == ".part" for path in (self.folder / "checkpoints").iterdir()):
                return "checkpoint"
        return self.announced

    def kill(self, number: signal.Signals) -> tuple[str, float]:
        """Sends a signal and waits for the end; returns the phase it came in, and the seconds."""
        self.watch(0)
        phase, sent = self.phase(), time.monotonic()
        self.popen.send_signal(number)
        self.wait(60)
        seconds = time.monotonic() - sent
        if number == signal.SIGKILL:  # the dead do not move: what they left is the exact phase
            self.watch(0)
            phase = self.phase()
        return phase, seconds

    def wait(self, seconds: float) -> int:
        try:
            return self.popen.wait(seconds)
        finally:
            if self.popen.poll() is None:
                self.popen.kill()
                self.popen.wait()

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        os.close(self._reader)
        self._output.close()


# What kills it.


class Victim:
    """One run, with its command, its folders and the undisturbed run to compare with."""

    def __init__(self, experiment: str, epochs: int, seed: int, scratch: pathlib.Path):
        self.name = f"{experiment}, {epochs} epochs"
        self.arguments = [
            f"--experiment={experiment}", f"--config.train.epochs={epochs}",
            f"--config.train.seed={seed}", "--config.train.patience=0",
            "--config.train.checkpoint_steps=150",
        ]  # fmt: skip
        self.scratch, self.cache = scratch, scratch / "cache"
        self.undisturbed, self.folder = scratch / "undisturbed", scratch / "killed"
        self.seconds = 0.0

    def start(self, folder: pathlib.Path, cold: bool = False) -> Process:
        cache = self.cache
        if cold:
            cache = self.scratch / "cold"
            shutil.rmtree(cache, ignore_errors=True)
        return Process(self.arguments, folder, cache)

    def finish(self, folder: pathlib.Path) -> float:
        """Runs to the end without being disturbed; returns the seconds."""
        began = time.monotonic()
        process = self.start(folder)
        try:
            while process.popen.poll() is None:
                process.watch(0.2)
            if process.popen.returncode:
                raise Lost(f"{self.name}: exit code {process.popen.returncode}: {process.output()}")
        finally:
            process.close()
        return time.monotonic() - began

    def compare(self, folder: pathlib.Path) -> None:
        """Raises Lost where a run ended otherwise than the undisturbed one."""
        names = sorted(path.name for path in self.undisturbed.glob("*.json"))
        if names != sorted(path.name for path in folder.glob("*.json")):
            raise Lost(f"{self.name}: it has not the files {', '.join(names)}")
        for name in names:
            if (folder / name).read_bytes() != (self.undisturbed / name).read_bytes():
                raise Lost(f"{self.name}: {name} differs")
        if _records(folder) != _records(self.undisturbed):
            raise Lost(f"{self.name}: metrics.jsonl differs")
        if _bits(folder) != _bits(self.undisturbed):
            raise Lost(f"{self.name}: parameters or optimizer state differ")


def _records(folder: pathlib.Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def _bits(folder: pathlib.Path) -> list[tuple[str, bytes]]:
    """Every array of the newest checkpoint, which must be a finished run's."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    from rnn_jax.runs import checkpoints

    found = checkpoints.newest(folder / "checkpoints")
    if not found.progress.finished:
        raise Lost(f"{folder} is not finished")
    leaves = []
    with ocp.StandardCheckpointer() as checkpointer:
        for name in ("state", "best"):
            tree = checkpointer.restore((found.path / name).absolute())
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                leaves.append((jax.tree_util.keystr(path), np.asarray(leaf).tobytes()))
    return leaves


def _position(folder: pathlib.Path) -> tuple[int, int] | None:
    """Where the newest complete checkpoint stands; raises if one is damaged."""
    from rnn_jax.runs import checkpoints

    for path in (folder / "checkpoints").glob("*"):
        if path.suffix != ".part" and (problem := checkpoints.verify(path)):
            raise Lost(f"{path} is damaged after a kill: {problem}")
    found = checkpoints.newest(folder / "checkpoints")
    return found and (found.progress.epoch, found.progress.batch)


def _finished(folder: pathlib.Path) -> bool:
    """Whether nothing is left to be done but what the report says."""
    from rnn_jax.runs import checkpoints

    found = checkpoints.newest(folder / "checkpoints")
    return found is not None and found.progress.finished


def disturb(
    victim: Victim,
    target: str,
    number: signal.Signals,
    source: random.Random,
    typical: dict[str, float],
) -> Kill | None:
    """Starts the run and kills it in a phase; None if it ended before it could be killed.

    Raises:
      Lost: it did not go on from the newest checkpoint, or did not end as a signal ends it.
    """
    before = _position(victim.folder)
    process = victim.start(victim.folder, cold=target == "compile")
    try:
        skipped = source.randrange(3) if target in ("step", "checkpoint", "evaluation") else 0
        if not _reach(process, target, skipped):
            return None
        entered, until = time.monotonic(), time.monotonic() + source.uniform(0, typical[target])
        while time.monotonic() < until and process.phase() == target:
            process.watch(min(0.001, until - time.monotonic()))
        if process.phase() != target:  # shorter than thought
            typical[target] = time.monotonic() - entered
        phase, seconds = process.kill(number)
        code = process.popen.returncode
        expected = {-signal.SIGKILL} if number == signal.SIGKILL else {143}
        if number == signal.SIGTERM and phase == "start":
            expected |= {-signal.SIGTERM}  # before Python has read the program
        if number == signal.SIGTERM and phase in ("report", "evaluation", "checkpoint"):
            expected |= {0}  # it finished instead
        output = process.output()
        if code not in expected:
            raise Lost(f"{victim.name}: {number.name} in {phase}: exit code {code}: {output}")
        if (
            before
            and phase != "start"
            and f"{before[0]} epochs and {before[1]} batches" not in output
        ):
            raise Lost(f"{victim.name}: went on elsewhere than at {before}: {output}")
        _position(victim.folder)
        return Kill(victim.name, phase, number, code, seconds)
    finally:
        process.close()


def _reach(process: Process, target: str, skipped: int) -> bool:
    """Waits until a phase begins that has begun `skipped` times before; False if it never does."""
    times, last = 0, ""
    while process.popen.poll() is None:
        phase = process.phase()
        if phase == target != last:
            times += 1
            if times > skipped:
                return True
        last = phase
        process.watch(0.001)
    return False


def torment(
    victim: Victim,
    quota: collections.Counter,
    source: random.Random,
    deadline: float,
    kills: list[Kill],
) -> None:
    """Kills a run until its quota of (phase, signal) is used up, and lets it end.

    Raises:
      Lost: it ended otherwise than the undisturbed run, or cannot go on.
    """
    seconds = (3.0, 1.0, 0.4, 0.1, 0.02, 0.6)  # a first guess
    typical = dict(zip(PHASES, seconds, strict=True))
    backup = victim.scratch / "backup"
    while quota.total() and time.monotonic() < deadline:
        wanted = list(+quota)
        # The report comes last.
        target, number = source.choice([pair for pair in wanted if pair[0] != "report"] or wanted)
        shutil.rmtree(backup, ignore_errors=True)
        if victim.folder.exists():
            shutil.copytree(victim.folder, backup)
        kill = disturb(victim, target, number, source, typical)
        if kill is not None:
            kills.append(kill)
            quota[kill.phase, number] -= 1
            print(f"{victim.name}: {number.name} in {kill.phase}", file=sys.stderr, flush=True)
        if _finished(victim.folder):  # a process may be killed after its last checkpoint, too
            victim.finish(victim.folder)
            victim.compare(victim.folder)
            shutil.rmtree(victim.folder)
            if backup.exists():
                backup.rename(victim.folder)
        quota = +quota  # drops what is used up
    victim.finish(victim.folder)
    victim.compare(victim.folder)
    victim.finish(victim.folder)  # once more: it prints the result and changes nothing
    victim.compare(victim.folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=120, help="how many in all")
    names = [experiment for experiment, _ in RUNS]
    parser.add_argument("--runs", nargs="+", choices=names, default=names, help="which of the runs")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--minutes", type=float, default=60.0, help="no new kill after so long")
    parser.add_argument("--shorter", type=int, default=1, help="divides the epochs, for a trial")
    record.add_flag(parser)
    arguments = parser.parse_args()
    source, deadline = random.Random(arguments.seed), time.monotonic() + 60 * arguments.minutes
    pairs = itertools.cycle(itertools.product(PHASES, SIGNALS))
    chosen = [run for run in RUNS if run[0] in arguments.runs]
    quotas = [collections.Counter() for _ in chosen]
    for index, pair in enumerate(itertools.islice(pairs, arguments.kills)):
        quotas[index // (len(PHASES) * len(SIGNALS)) % len(chosen)][pair] += 1
    kills, rows, lost = [], [], 0
    for index, (experiment, epochs) in enumerate(chosen):
        with tempfile.TemporaryDirectory(prefix="rnn_jax_kill_") as scratch:
            victim = Victim(
                experiment, max(1, epochs // arguments.shorter), index, pathlib.Path(scratch)
            )
            seconds = victim.finish(victim.undisturbed)
            mine: list[Kill] = []
            try:
                torment(victim, quotas[index], source, deadline, mine)
                outcome = "the same bits"
            except Lost as failure:
                print(failure, file=sys.stderr)
                outcome, lost = f"lost: {str(failure)[:80]}", lost + 1
            kills += mine
            rows.append((victim.name, seconds, len(mine), outcome))
    runs = record.Table("kill_runs", RUN_COLUMNS)
    for row in rows:
        runs.add(*row)
    print()
    phases = record.Table("kill_phases", PHASE_COLUMNS)
    counts = collections.Counter((kill.phase, kill.signal) for kill in kills)
    for phase in PHASES:
        waits = [k.seconds for k in kills if k.phase == phase and k.signal == signal.SIGTERM]
        killed, terminated = counts[phase, signal.SIGKILL], counts[phase, signal.SIGTERM]
        phases.add(phase, killed, terminated, max(waits, default=0))
    print(f"\n{len(kills)} kills, {lost} runs lost")
    if arguments.save:
        runs.save()
        phases.save()
    enough = all(
        sum(counts[phase, number] for number in SIGNALS) >= arguments.kills // 12
        for phase in PHASES[1:]
    )
    return 0 if enough and not lost else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.exit(work(int(sys.argv[2]), sys.argv[3:]))
    sys.exit(main())
