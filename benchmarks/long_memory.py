"""How far back cells remember: the copying and the adding problem at long lags.

    python benchmarks/long_memory.py
    python benchmarks/long_memory.py --quick

One layer of each cell, as wide as the others, learns each problem with as many updates on the same
5,000 examples. Copying is measured by the share of right symbols (an eighth is chance), adding by
the mean squared error (who always says 1 has 0.1667), both on the test split. A layer of `lru` is
linear in its inputs: it cannot pick the marked numbers to add. Milliseconds are those of training
passes after the first, which compiles.

Rows that would end after `--minutes` are left out, and said so. The result of a CPU is
long_memory.json, of an accelerator long_memory_on_gpu.json. `--quick` takes fewer updates: about
three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import jax
import record
import tables
import turns

from rnn_jax import AdamConfig, AddingConfig, CopyConfig, TrainConfig, train
from rnn_jax.models import ReaderConfig
from rnn_jax.system.display import Display
from rnn_jax.tasks.copy_memory import CopyData
from rnn_jax.tasks.synthetic import DrawnConfig

CELLS = ("lstm", "gru", "min_gru", "lru")
PROBLEMS = ("copying", "adding")
BATCH = 50
UPDATES = 100  # of an epoch
FIGURES = {"copying": "accuracy", "adding": "loss"}


def config(
    problem: str, cell: str, lag: int, hidden: int, epochs: int
) -> CopyConfig | AddingConfig:
    """One run."""
    size = {"lag": lag, "train": BATCH * UPDATES, "held_out": 200}
    rest = {
        "model": ReaderConfig(cell=cell, hidden=hidden),
        "optimizer": AdamConfig(learning_rate=5e-3, clip_norm=1.0),
        "train": TrainConfig(epochs=epochs, batch_size=BATCH, patience=0),
    }
    if problem == "copying":
        return CopyConfig("long_memory", data=CopyData(**size), **rest)
    return AddingConfig("long_memory", data=DrawnConfig(**size), **rest)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lags", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12, help=f"of {UPDATES} updates each")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--quick", action="store_true", help="a lag of 1,024, few small updates")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.lags, arguments.hidden, arguments.epochs, arguments.minutes = [1024], 16, 2, 3
    clock = turns.Clock(arguments.minutes)
    print(f"{tables.machine()}; {arguments.hidden} units, {arguments.epochs * UPDATES} updates\n")
    table = record.Table(
        "long_memory" if jax.default_backend() == "cpu" else "long_memory_on_gpu",
        [
            ("problem", "{}"), ("lag", "{:,}"), ("cell", "{}"), ("kernel", "{}"),
            ("units", "{}"), ("updates", "{:,}"), ("right symbols", "{:.3f}"),
            ("squared error", "{:.4f}"), ("ms an update", "{:.1f}"),
        ],
    )  # fmt: skip
    took: dict[tuple[str, str], tuple[float, int]] = {}  # seconds, at which lag
    for lag in arguments.lags:
        for problem in PROBLEMS:
            for cell in CELLS:
                before, at = took.get((problem, cell), (10.0, lag))
                if clock.over(f"{problem} at {lag} by {cell}", before * lag / at):
                    continue
                began = time.monotonic()
                asked = config(problem, cell, lag, arguments.hidden, arguments.epochs)
                with tempfile.TemporaryDirectory() as folder:
                    run = train.run(asked, folder, display=Display(quiet=True))
                    content = json.loads((pathlib.Path(folder) / "config.json").read_text())
                took[problem, cell] = time.monotonic() - began, lag
                seconds = statistics.median(run.columns("train")["seconds"][1:])
                found = {problem: float(run.columns("test")[FIGURES[problem]][-1])}
                table.add(
                    problem, lag, cell, content["environment"]["kernel"], arguments.hidden,
                    arguments.epochs * UPDATES, found.get("copying"), found.get("adding"),
                    1e3 * seconds / UPDATES,
                )  # fmt: skip
                if arguments.save:
                    table.save()


if __name__ == "__main__":
    main()
