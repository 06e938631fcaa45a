"""What quick compilation saves at the start, and what it costs at each step.

    python benchmarks/compilation.py
    python benchmarks/compilation.py masked_rnn --source=ag_news_subset --data_dir=DIR

Compiles the training steps of an experiment, one program for each shape of its batches, for speed
and quickly (`--config.train.compilation`), and takes eight steps with each in turns. Seconds of the
processor for all programs; of a step the shortest time, the mean over the shapes.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time

import jax
import numpy as np
import record
import startup

from rnn_jax import config as config_lib
from rnn_jax import tasks
from rnn_jax.system import compilation
from rnn_jax.train import plan, steps

COLUMNS = (
    ("experiment", "{}"),
    ("programs", "{}"),
    ("compiled for speed", "{:.1f} s"),
    ("quickly", "{:.1f} s"),
    ("a step, for speed", "{:.2f} ms"),
    ("a step, quickly", "{:.2f} ms"),
    ("times as long", "{:.2f}"),
)


def measure(config: config_lib.Config, turns: int) -> tuple[int, list[float], list[float]]:
    """Programs; seconds to compile them and milliseconds a step, for speed and quickly."""
    resolved = tasks.resolve(config)
    task = tasks.make(resolved.config, tasks.kind_of(config).facts(config))
    data = task.prepare(lambda line: None, None)
    key, calls = steps.run_key(0), resolved.config.train.steps_per_call
    window = data.epochs.window_at(0, 0)
    batches = {}
    for entries in window.runs(0, calls):
        batch = window.assemble(entries)
        batches.setdefault(tuple(leaf.shape for leaf in jax.tree.leaves(batch)), batch)
    programs, seconds, numbers = {}, [], None
    for manner in (compilation.THOROUGH, compilation.QUICK):
        made = plan.make(resolved.config, task, data, manner=manner)
        state, numbers = made.init_state(), made.numbers
        began = time.process_time()
        programs[manner] = [
            made.computed.train_steps.lower(state, batch, np.int32(1), key, numbers).compile()
            for batch in batches.values()
        ]
        seconds.append(time.process_time() - began)
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(turns):
        for number, batch in enumerate(batches.values()):
            for manner, compiled in programs.items():
                copy = jax.block_until_ready(jax.tree.map(jax.numpy.copy, state))
                began = time.perf_counter()
                jax.block_until_ready(compiled[number](copy, batch, np.int32(calls), key, numbers))
                times.setdefault((manner, number), []).append(time.perf_counter() - began)
    means = [
        1e3 / calls * statistics.mean(min(times[manner, n]) for n in range(len(batches)))
        for manner in programs
    ]
    return len(batches), seconds, means


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", default=startup.EXPERIMENTS)
    parser.add_argument("--source", default="bbc_news", help="as --config.data.source")
    parser.add_argument("--data_dir", default="", help="as --config.data.data_dir")
    parser.add_argument("--turns", type=int, default=25, help="of each program")
    record.add_flag(parser)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    sys.path.insert(0, str(startup.ROOT))  # for experiments
    table = record.Table("compilation", COLUMNS)
    for name in arguments.experiments:
        config = config_lib.replace(
            importlib.import_module(f"experiments.{name}").get_config(),
            {"data.source": arguments.source, "data.data_dir": arguments.data_dir},
        )
        count, seconds, means = measure(config, arguments.turns)
        table.add(name, count, *seconds, *means, means[1] / means[0])
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
