"""Measures what a mirror costs: `python benchmarks/mirror_cost.py [--store=s3://BUCKET/FOLDER]`.

For the checkpoint of each experiment: the seconds until it is whole in the store, the processor
time that this takes beside the training, and the seconds in which a fresh machine has it back; the
median of `--repeats`. Training itself waits for none of it. A folder of this disk stands for a
store, and is measured beside the one that is given. The arrays are noise, which does not compress.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import record
from checkpoint_cost import EXPERIMENTS, processor_seconds, state_of

COLUMNS = (
    ("experiment", "{}"),
    ("store", "{}"),
    ("checkpoint", "{:.1f} MB"),
    ("files", "{}"),
    ("whole in the store after", "{:.2f} s"),
    ("processor time", "{:.2f} s"),
    ("back after", "{:.2f} s"),
)


def measure(experiment: str, url: str, repeats: int) -> tuple[float, int, float, float, float]:
    """Bytes and files of a checkpoint; seconds until it is sent, of processor time, and until it is
    fetched."""
    import jax
    import numpy as np

    from rnn_jax.runs import copies, restored
    from rnn_jax.runs.checkpoints import FOLDER, Checkpoints
    from rnn_jax.runs.copies import Layout
    from rnn_jax.runs.progress import Progress
    from rnn_jax.system.store import open_store

    noise = np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: noise.normal(size=leaf.shape).astype(leaf.dtype), state_of(experiment)
    )
    store, layout, has = open_store(f"{url}/{experiment}"), Layout("run", "", ()), {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run, fresh = pathlib.Path(folder) / "run", pathlib.Path(folder) / "fresh"
        checkpoints = Checkpoints(run / FOLDER)
        for epoch in range(repeats + 1):
            checkpoints.save(state, state.params, Progress(epoch=epoch))
            checkpoints.wait()
            began, used = time.perf_counter(), processor_seconds()
            copies.send(store, run, layout, [""], [], has)
            sent, used = time.perf_counter() - began, processor_seconds() - used
            began = time.perf_counter()
            restored.fetch(store, store.sizes(), fresh, layout)
            rows.append((sent, used, time.perf_counter() - began))
            shutil.rmtree(fresh)
        newest = max((run / FOLDER).iterdir())
        found = [file.stat().st_size for file in newest.rglob("*") if file.is_file()]
    store.remove(store.sizes())
    # The first connects.
    return (
        sum(found),
        len(found),
        *(statistics.median(column) for column in zip(*rows[1:], strict=True)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", help="such as s3://BUCKET/FOLDER, an empty one")
    parser.add_argument("--called", default="the store", help="what the table calls it")
    parser.add_argument("--repeats", type=int, default=7)
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = record.Table("mirror_cost", COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        stores = {"a folder of this disk": f"file://{folder}"}
        if arguments.store:
            stores[arguments.called] = arguments.store
        for name, url in stores.items():
            for experiment in EXPERIMENTS:
                size, count, *seconds = measure(experiment, url, arguments.repeats)
                table.add(experiment, name, size / 1e6, count, *seconds)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
