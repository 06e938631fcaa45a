"""An epoch of a word language model, beside PyTorch's own example, Keras and stock Flax.

    python benchmarks/language_model.py
    python benchmarks/language_model.py --epochs=4 --tokens=200000

All read the same windows of the BBC stories with a vocabulary of 10,000, 20 rows of 35 tokens, the
state carried from window to window: an LSTM of two layers of 200 on vectors of 200, without
dropout, gradients clipped at 0.25, as PyTorch's word_language_model example has it by default.
PyTorch trains by that example's SGD (rate 20, a quarter of it after an epoch that did not
help), the others by Adam. The first epoch of each, in which programs are compiled, is not timed;
the epochs of all follow each other in turn, so that a busy machine is busy for all.
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

from rnn_jax import LanguageDataConfig
from rnn_jax.data.batching import Dealing
from rnn_jax.data.language import preparation
from rnn_jax.data.language.streams import Encoded, Stream
from rnn_jax.data.language.windows import TextEpochs

ROWS, TIME = 20, 35
# name -> (worker, peer whose environment it runs in, words sampled)
WORKERS = {
    "rnn_jax": ("windows_rnn_jax.py", "flax", 0),
    "rnn_jax, sampled softmax (1,024 words)": ("windows_rnn_jax.py", "flax", 1024),
    "PyTorch, its word_language_model": ("windows_torch.py", "torch", 0),
    "Keras, stateful": ("windows_keras.py", "keras", 0),
    "stock Flax": ("windows_flax.py", "flax", 0),
}


def windows_of(stream: Stream, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, int32[windows, rows, time] each; the last, shorter ones left out."""
    count = min(tokens, len(stream)) if tokens else len(stream)
    count -= count % (ROWS * TIME)
    cut = Stream(Encoded(*(part[:count] for part in stream.tokens)), np.array([0, count]))
    window = TextEpochs(cut, TIME, Dealing(ROWS, 1, 0), ()).window_at(0, 0)
    batches = [window.batch(index) for index in range(window.rows.windows)]
    inputs, targets = (np.stack(part) for part in list(zip(*batches, strict=True))[:2])
    return inputs, targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=4, help="of each, the first not timed")
    parser.add_argument("--tokens", type=int, default=0, help="of the training text (0: all)")
    parser.add_argument("--only", nargs="*", default=list(WORKERS), help="names of workers")
    record.add_flag(parser)
    arguments = parser.parse_args()
    data = preparation.prepare(LanguageDataConfig())
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = pathlib.Path(folder) / "windows.npz"
        train = windows_of(data.train, arguments.tokens)
        validation = windows_of(data.validation, arguments.tokens // 8)
        np.savez(
            file, train_inputs=train[0], train_targets=train[1],
            validation_inputs=validation[0], validation_targets=validation[1],
        )  # fmt: skip
        print(f"{train[0].size} training tokens, {len(data.vocabulary)} words in the vocabulary")
        workers = {}
        for name in arguments.only:
            script, environment, sampled = WORKERS[name]
            worker = stack.enter_context(peers.Worker(script, peers.ensure(environment)))
            worker.ask(
                {"data": str(file), "vocab_size": len(data.vocabulary), "width": 200, "layers": 2,
                 "clip_norm": 0.25, "learning_rate": 2e-3, "sampled": sampled,
                 "threads": os.cpu_count()}
            )  # fmt: skip
            workers[name] = worker
        said = {name: [] for name in workers}
        for epoch in range(arguments.epochs):
            for name, worker in workers.items():
                said[name].append(worker.ask({"epoch": epoch}))
                last = said[name][-1]
                print(
                    f"epoch {epoch + 1}  {name}: {last['seconds']:.1f} s, "
                    f"validation perplexity {last['perplexity']:.1f}",
                    flush=True,
                )
    table = record.Table(
        "language_model",
        [("library", "{}"), ("epoch", "{:.1f} s"), ("times ours", "{:.2f}"),
         (f"validation perplexity after {arguments.epochs} epochs", "{:.1f}"),
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
