"""From Enter to the first steps and the first epoch's end, and the memory of the whole command.

    python benchmarks/startup.py
    python benchmarks/startup.py lstm bilstm -- --config.data.source=csv --config.data.data_dir=DIR

Runs `python launch.py --experiment=X`, with whatever follows `--`, in a terminal of its own: with
an empty cache, of XLA's programs and of the native kernel, then with the one that this run filled.
Times are those at which the words stand on the screen: the bar's first figures, which come half a
second into an epoch or after its first steps, whichever is later, and the line that ends the first
epoch.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pathlib
import pty
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from typing import NamedTuple

import record

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLUMNS = (
    ("experiment", "{}"),
    ("cache", "{}"),
    ("first steps", "{:.1f} s"),
    ("first epoch", "{:.1f} s"),
    ("whole command", "{:.1f} s"),
    ("peak memory", "{:.2f} GB"),
)
EXPERIMENTS = ("simple_rnn", "masked_rnn", "lstm", "bilstm")

FIRST_STEPS = re.compile(rb"loss [0-9]")
FIRST_EPOCH = re.compile(rb"epoch 1/[0-9]+ +loss")


class Run(NamedTuple):
    """One command, from Enter on.

    first_steps, first_epoch, whole: seconds.
    peak_memory: bytes.
    """

    first_steps: float
    first_epoch: float
    whole: float
    peak_memory: int


def measure(experiment: str, options: list[str], cache: str) -> Run:
    """Runs the command once.

    Args:
      experiment: its name.
      options: more flags of `launch.py`.
      cache: the compilation cache's folder.

    Raises:
      RuntimeError: the command failed; the message ends with what it printed.
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "launch.py", f"--experiment={experiment}"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--workdir={folder}", *options],
            cwd=ROOT,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "XDG_CACHE_HOME": cache},
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        shown, seen = b"", {}
        while chunk := _read(screen):
            shown += chunk
            for words in (FIRST_STEPS, FIRST_EPOCH):
                if words not in seen and words.search(shown):
                    seen[words] = time.perf_counter() - began
        os.close(screen)
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(seen) < 2:
        raise RuntimeError(
            f"{experiment} ended with exit code {process.returncode}: {shown[-2000:].decode()}"
        )
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return Run(seen[FIRST_STEPS], seen[FIRST_EPOCH], whole, usage.ru_maxrss * unit)


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:  # Linux: nobody has the terminal open any more
        return b""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", default=EXPERIMENTS)
    parser.add_argument("--epochs", type=int, default=1, help="of each run")
    parser.add_argument("--repeats", type=int, default=3, help="cold and warm runs; medians count")
    record.add_flag(parser)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    options = [f"--config.train.epochs={arguments.epochs}", *sys.argv[split + 1 :]]

    table = record.Table("startup", COLUMNS)
    for experiment in arguments.experiments:
        runs: dict[str, list[Run]] = {"empty": [], "filled": []}
        for _ in range(arguments.repeats):
            with tempfile.TemporaryDirectory() as cache:
                for state in runs:
                    runs[state].append(measure(experiment, options, cache))
        for state, measured in runs.items():
            median = Run(*map(statistics.median, zip(*measured, strict=True)))
            table.add(experiment, state, *median[:3], median.peak_memory / 1e9)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
