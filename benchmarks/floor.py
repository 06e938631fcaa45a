"""How far an epoch of each experiment is from the time of its matrix products alone.

    python benchmarks/floor.py --source=csv --data_dir=DIR

An epoch's products are those with the recurrent layers' kernels, forwards and twice backwards, over
all cells of the batches, padding included. The floor is their time at the rate of one large product
(2,048 cubed), measured before and after each training. An epoch's seconds are the median from the
second of the training's epochs on. Small models never come near: their products are no work, and
the rest of a step is.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import record
import tables
from epoch import EXPERIMENTS, experiment_config

from rnn_jax import Config, tasks, train
from rnn_jax.data import batching, epochs, preparation
from rnn_jax.system import compilation
from rnn_jax.system.display import Display

COLUMNS = (
    ("experiment", "{}"),
    ("cells an epoch", "{:,}"),
    ("GFLOP", "{:.1f}"),
    ("at GFLOP/s", "{:.0f}"),
    ("floor", "{:.3f} s"),
    ("epoch", "{:.2f} s"),
    ("epoch / floor", "{:.1f}"),
)
SIDE = 2048
CALLS = 15


def product_rate() -> float:
    """Floating-point operations a second of one large product; the median of some calls."""
    matrix, product = jnp.ones((SIDE, SIDE)), jax.jit(jnp.matmul)
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * SIDE**3 / statistics.median(seconds)


def epoch_work(config: Config) -> tuple[int, int]:
    """The cells of an epoch's batches, rows times width, and the operations of its products."""
    data = preparation.prepare(config.data)
    dealt = epochs.epochs(
        config.data, batching.dealing(config.train), data.train, data.vectorizer.words
    )
    plan = dealt.window_at(1, 0).plan
    cells = sum(shape.rows * shape.width for shape, _ in plan)
    params = jax.eval_shape(
        tasks.make(tasks.resolve(config).config, {"classes": data.classes}).init, jax.random.key(0)
    )
    kernels = sum(leaf.size for leaf in jax.tree.leaves(params["recurrent"]) if leaf.ndim == 2)
    return cells, 3 * 2 * kernels * cells


def epoch_seconds(config: Config) -> float:
    """Of training as `launch.py` does it."""
    with tempfile.TemporaryDirectory() as folder:
        history = train.run(config, folder, display=Display(quiet=True)).history
    seconds = [record["seconds"] for record in history if record["split"] == "train"]
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="csv", help="as --config.data.source")
    parser.add_argument("--data_dir", default="", help="as --config.data.data_dir")
    parser.add_argument("--take", type=int, default=0, help="as --config.data.take")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--rounds", type=int, default=5, help="epochs; the first compiles")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: the first one compiles")
    compilation.return_memory()
    print(f"{tables.machine()}\n")
    table = record.Table("floor", COLUMNS)
    for name in arguments.experiments:
        config = experiment_config(name, arguments, seed=0)
        cells, work = epoch_work(config)
        before = product_rate()
        seconds = epoch_seconds(config)
        rate = (before + product_rate()) / 2
        floor = work / rate
        table.add(name, cells, work / 1e9, rate / 1e9, floor, seconds, seconds / floor)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
