"""From Enter to the first result: one epoch and the test line, beside Keras, PyTorch, stock Flax.

    python benchmarks/first_result.py
    python benchmarks/first_result.py lstm --data_dir=DIR --repeats=5

Runs `python launch.py --experiment=X --config.train.epochs=1` with empty caches and with those that
this run filled, and each peer as its documentation shows it: a process that imports its library,
builds and trains the same model for an epoch and judges the test stories. The peers are handed the
ids; rnn_jax reads the stories, fits the vocabulary, validates, saves checkpoints and writes its
report within its time. All take turns; medians of the time on the clock, and of the processor's.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import epoch as epochs
import peers
import record
import startup

from rnn_jax import config as config_lib

PEERS = {"Keras": "keras", "PyTorch": "torch", "stock Flax": "flax"}
EMPTY, FILLED = "rnn_jax, empty caches", "rnn_jax, filled caches"
COLUMNS = (
    ("experiment", "{}"),
    ("library", "{}"),
    ("first result", "{:.1f} s"),
    ("times Keras", "{:.2f}"),
    ("processor", "{:.1f} s"),
)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor, of child processes."""
    used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    before, began = used(), time.perf_counter()
    work()
    return time.perf_counter() - began, used() - before


def peer(library: str, job: dict) -> None:
    """One epoch and its test in a process of its own."""
    with peers.Worker(f"{library}_worker.py", peers.ensure(library)) as worker:
        worker.ask(job)
        worker.ask({"epoch": 0})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", default=epochs.EXPERIMENTS)
    parser.add_argument("--source", default="bbc_news", help="as --config.data.source")
    parser.add_argument("--data_dir", default="", help="as --config.data.data_dir")
    parser.add_argument("--repeats", type=int, default=3, help="of each; medians count")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    record.add_flag(parser)
    arguments = parser.parse_args()
    arguments.rounds, arguments.take = 1, 0
    options = [
        "--config.train.epochs=1",
        f"--config.data.source={arguments.source}",
        f"--config.data.data_dir={arguments.data_dir}",
    ]
    sys.path.insert(0, str(startup.ROOT))  # for experiments
    for name in arguments.peers:
        peers.ensure(PEERS[name])  # not within anybody's time
    table = record.Table("first_result", COLUMNS)
    for experiment in arguments.experiments:
        config = epochs.experiment_config(experiment, arguments, 0)
        found: dict[str, list[tuple[float, float]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            arrays = pathlib.Path(folder) / "data.npz"
            classes, _ = epochs.export(config, arrays)
            job = {
                "data": str(arrays), "classes": classes, "variant": "documentation",
                "config": config_lib.to_dict(config),
            }  # fmt: skip
            for _ in range(arguments.repeats):
                with tempfile.TemporaryDirectory() as cache:
                    ours = functools.partial(startup.measure, experiment, options, cache)
                    for state in (EMPTY, FILLED):
                        found.setdefault(state, []).append(timed(ours))
                for name in arguments.peers:
                    of_peer = timed(functools.partial(peer, PEERS[name], job))
                    found.setdefault(name, []).append(of_peer)
        medians = {
            name: tuple(map(statistics.median, zip(*times, strict=True)))
            for name, times in found.items()
        }
        keras = medians.get("Keras", (None,))[0]
        for name, (clock, processor) in medians.items():
            table.add(experiment, name, clock, keras and clock / keras, processor)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
