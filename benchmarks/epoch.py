"""Seconds per epoch of whole trainings, beside Keras, PyTorch and stock Flax.

    python benchmarks/epoch.py --source=csv --data_dir=DIR
    python benchmarks/epoch.py --source=csv --data_dir=DIR --seeds 0 1 2 --json=epoch.json

Each experiment is trained on the same ids, from the same kind of start, with the same batch size,
loss and Adam, by processes that take turns: one epoch each, round after round, the others at rest.
After every epoch the test stories are judged, outside of the clock. The first round, in which
programs are compiled, is reported apart.

rnn_jax is the training that `launch.py` runs: batching on the host and checkpoints are in its time.
Each peer runs as its documentation shows it, and with its best settings on rnn_jax's batches, which
it is handed ready-made (see `peer_workers/`). No peer clips gradients, though rnn_jax does.
Threads are each library's default for the processors that it may use.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np
import peers
import record
import tables

from rnn_jax import Config
from rnn_jax import config as config_lib
from rnn_jax.data import batching, epochs, preparation
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.text import UNKNOWN

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXPERIMENTS = ("simple_rnn", "masked_rnn", "lstm", "bilstm")


class Entrant(NamedTuple):
    """One way to run the training.

    title: what the tables call it.
    library: "rnn_jax", "flax", "keras" or "torch".
    variant: which of the worker's settings.
    changes: options of the config that differ.
    """

    title: str
    library: str
    variant: str = ""
    changes: tuple[tuple[str, Any], ...] = ()


ENTRANTS = (
    Entrant("rnn_jax", "rnn_jax"),
    Entrant("rnn_jax, dense Adam", "rnn_jax", "", (("optimizer.embedding_update", "dense"),)),
    Entrant("Keras, as documented", "keras", "documentation"),
    Entrant("Keras, best settings", "keras", "buckets"),
    Entrant("PyTorch, as documented", "torch", "documentation"),
    Entrant("PyTorch, best settings", "torch", "buckets"),
    Entrant("PyTorch, best settings, SparseAdam", "torch", "sparse"),
    Entrant("stock Flax, as documented", "flax", "documentation"),
    Entrant("stock Flax, best settings", "flax", "buckets"),
)


def default_config(name: str) -> Config:
    """An experiment's own config."""
    return importlib.import_module(f"experiments.{name}").get_config()


def experiment_config(name: str, arguments: argparse.Namespace, seed: int) -> Config:
    """An experiment on the chosen data: all training stories, judged on the test's every epoch."""
    return config_lib.replace(
        default_config(name),
        {
            "data.source": arguments.source,
            "data.data_dir": arguments.data_dir,
            "data.take": arguments.take,
            "data.validation": "test",
            "train.epochs": arguments.rounds,
            "train.patience": 0,
            "train.compilation": "thorough",  # as of 10,000 steps and more
            "train.seed": seed,
        },
    )


def export(config: Config, path: pathlib.Path) -> tuple[int, int]:
    """Writes the ids and the batches of every epoch; returns the numbers of classes and stories."""
    data = preparation.prepare(config.data)
    arrays = {}
    for split in ("train", "test"):
        examples = getattr(data, split)
        ids, offsets = examples.tokens.ids, examples.tokens.offsets
        # A text without words becomes one unknown word: the peers' layers take no empty rows.
        empty = examples.lengths == 0
        arrays |= {
            f"{split}_ids": np.insert(ids, offsets[:-1][empty], UNKNOWN),
            f"{split}_offsets": offsets + np.append(0, np.cumsum(empty)),
            f"{split}_labels": examples.labels,
        }
    deal = lambda options: epochs.epochs(
        options, batching.dealing(config.train), data.train, data.vectorizer.words
    )
    own = deal(config.data)
    # The peers' layers do not take packed rows: theirs are the same batches, each text in a row. In
    # the test every width may occur: an unmasked model reads a text to its own width in rnn_jax.
    padded = deal(dataclasses.replace(config.data, pack=False))
    every = shapes_lib.padded_shapes(config.train.batch_size, config.data.max_length)
    plans = {
        "test": batching.plan(data.test.lengths, config.train.batch_size, every, shuffle=False)
    }
    for epoch in range(config.train.epochs):
        plans[str(epoch)] = padded.window_at(epoch, 0).plan
    for name, plan in plans.items():
        arrays |= {
            f"plan_{name}_widths": np.array([shape.width for shape, _ in plan]),
            f"plan_{name}_counts": np.array([len(members) for _, members in plan]),
            f"plan_{name}_rows": np.concatenate([members for _, members in plan]),
        }
    arrays["own_padding"] = np.array(
        [
            batching.padded_share(own.window_at(epoch, 0).plan, data.train.lengths)
            for epoch in range(config.train.epochs)
        ]
    )
    np.savez(path, **arrays)
    return len(data.classes), len(data.train)


def measure(entrants: list[Entrant], config: Config) -> list[dict[str, Any]]:
    """All rounds of one experiment with one seed: a record for each entrant and epoch."""
    records = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        arrays = pathlib.Path(folder) / "data.npz"
        classes, stories = export(config, arrays)
        workers = []
        for entrant in entrants:
            own = config_lib.replace(config, dict(entrant.changes))
            python = (
                sys.executable if entrant.library == "rnn_jax" else peers.ensure(entrant.library)
            )
            worker = peers.Worker(f"{entrant.library}_worker.py", python)
            workers.append(stack.enter_context(worker))
            job = {
                "data": str(arrays),
                "classes": classes,
                "variant": entrant.variant,
                "config": config_lib.to_dict(own),
            }
            worker.ask(job)
        for epoch in range(config.train.epochs):
            for entrant, worker in zip(entrants, workers, strict=True):
                answer = worker.ask({"epoch": epoch})
                own = {
                    "experiment": config.experiment,
                    "seed": config.train.seed,
                    "epoch": epoch,
                    "entrant": entrant.title,
                    "stories": stories,
                }
                records.append(own | answer)
                print(tables.progress(records[-1]), file=sys.stderr, flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="csv", help="as --config.data.source")
    parser.add_argument("--data_dir", default="", help="as --config.data.data_dir")
    parser.add_argument("--take", type=int, default=0, help="as --config.data.take")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--rounds", type=int, default=6, help="epochs; the first compiles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--entrants",
        nargs="+",
        help="words: only entrants with one of them in their title (rnn_jax takes part always)",
    )
    parser.add_argument("--processors", type=int, help="how many each process may use (Linux)")
    parser.add_argument("--json", type=pathlib.Path, help="where every epoch's record goes")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: the first one compiles")
    if arguments.processors:
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[: arguments.processors])  # workers inherit it
    words = arguments.entrants or [""]
    entrants = [
        entrant
        for entrant in ENTRANTS
        if entrant.title == "rnn_jax" or any(word in entrant.title for word in words)
    ]
    sys.path.insert(0, str(ROOT))  # for experiments

    print(tables.machine(), flush=True)
    records = []
    for name in arguments.experiments:
        found = []
        for seed in arguments.seeds:
            found += measure(entrants, experiment_config(name, arguments, seed))
            records_so_far = records + found
            if arguments.json:
                arguments.json.write_text(json.dumps(records_so_far, indent=1) + "\n")
        records += found
        table = tables.experiment(name, found)
        if arguments.save:
            table.save()


if __name__ == "__main__":
    main()
