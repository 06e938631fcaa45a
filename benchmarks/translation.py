"""An epoch of an encoder-decoder with attention, beside the same network in PyTorch and Keras.

    python benchmarks/translation.py
    python benchmarks/translation.py --source=pronunciation --epochs=3

All train on the same batches of the pairs, in the same order, 64 to a batch, in three shapes: a
bidirectional LSTM of 96 + 96 units reads characters, two LSTMs with scaled dot attention between
them write them; teacher forcing, Adam at 0.003, gradients clipped at norm 1. The first epoch of
each, in which programs are compiled, is not timed; the epochs of all follow each other in turn, so
that a busy machine is busy for all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import statistics
import tempfile

import numpy as np
import peers
import record

from rnn_jax import PairsConfig
from rnn_jax.data.batching import Dealing
from rnn_jax.data.language.vocabulary import END
from rnn_jax.data.pairs import batches, preparation

BATCH, SHAPES = 64, 3
WORKERS = {  # name -> (worker, peer whose environment it runs in)
    "rnn_jax": ("pairs_rnn_jax.py", "flax"),
    "PyTorch": ("pairs_torch.py", "torch"),
    "Keras": ("pairs_keras.py", "keras"),
}


def arrays(pairs: preparation.Encoded, split: str) -> dict[str, np.ndarray]:
    """A split's full batches, by shape, and their order: (shape, number within it) of each."""
    window = batches.epochs(pairs, SHAPES, Dealing(BATCH, 8, 0)).window_at(0, 0)
    found: list[list[batches.PairBatch]] = [[] for _ in range(SHAPES)]
    order = []
    for position, (group, members) in enumerate(window.plan):
        if len(members) == BATCH:
            order.append((group, len(found[group])))
            found[group].append(window.batch(position))
    made = {f"{split}_order": np.array(order)}
    for group, several in enumerate(found):
        for side in ("inputs", "targets"):
            made[f"{split}_{side}_{group}"] = np.stack([getattr(each, side) for each in several])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", default="numbers", help="of the pairs, as of data.source")
    parser.add_argument("--pairs", type=int, default=20_000, help="to learn from, where drawn")
    parser.add_argument("--epochs", type=int, default=4, help="of each, the first not timed")
    parser.add_argument("--only", nargs="*", default=list(WORKERS), help="names of workers")
    record.add_flag(parser)
    arguments = parser.parse_args()
    data = preparation.prepare(PairsConfig(source=arguments.source, train=arguments.pairs))
    inputs, outputs, longest = (
        len(data.vocabularies.inputs), len(data.vocabularies.outputs),
        int(data.train.targets.lengths.max()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = pathlib.Path(folder) / "pairs.npz"
        split = arrays(data.train, "train") | arrays(data.validation, "validation")
        np.savez(file, groups=SHAPES, **split)
        print(f"{BATCH * len(split['train_order'])} pairs in {len(split['train_order'])} batches")
        workers = {}
        for name in arguments.only:
            script, environment = WORKERS[name]
            worker = stack.enter_context(peers.Worker(script, peers.ensure(environment)))
            worker.ask(
                {"data": str(file), "inputs": inputs, "outputs": outputs, "longest": longest,
                 "end": END, "width": 96, "embedding_size": 32, "clip_norm": 1.0,
                 "learning_rate": 3e-3, "threads": os.cpu_count()}
            )  # fmt: skip
            workers[name] = worker
        said = {name: [] for name in workers}
        for epoch in range(arguments.epochs):
            for name, worker in workers.items():
                said[name].append(worker.ask({"epoch": epoch}))
                last = said[name][-1]
                print(
                    f"epoch {epoch + 1}  {name}: {last['seconds']:.1f} s, "
                    f"validation perplexity {last['perplexity']:.3f}",
                    flush=True,
                )
    table = record.Table(
        "translation",
        [("library", "{}"), ("epoch", "{:.1f} s"), ("times ours", "{:.2f}"),
         (f"validation perplexity after {arguments.epochs} epochs", "{:.3f}"),
         ("peak memory", "{:.0f} MB")],
    )  # fmt: skip
    times = {
        name: statistics.median([each["seconds"] for each in lines[1:] or lines])
        for name, lines in said.items()
    }
    first = next(iter(times.values()))
    for name, lines in said.items():
        last = lines[-1]
        table.add(name, times[name], times[name] / first, last["perplexity"], last["memory"] / 1e6)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
