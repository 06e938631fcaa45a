"""What all workers do alike: take a job, train an epoch when asked to, and say how it went.

A worker is a process of its own that speaks JSON lines: the job comes first on standard input, then
a line for each epoch; each is answered with one line. NumPy and the standard library only, since
the peers' environments have nothing else in common.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np


class Batch(NamedTuple):
    """Texts of one width.

    tokens: int32[rows, width]; 0 is padding.
    lengths: int32[rows].
    labels: int32[rows].
    weights: float32[rows]; 0 for a row that only fills the shape.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Split(NamedTuple):
    """Texts as ids: row i is `ids[offsets[i] : offsets[i + 1]]`, never empty."""

    ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def rows(self) -> list[np.ndarray]:
        """The texts, each as int32[length]."""
        return np.split(self.ids, self.offsets[1:-1])

    def batch(self, rows: np.ndarray, width: int, fill: int = 0) -> Batch:
        """Some texts, padded to `width`, and with rows of weight 0 to at least `fill` rows.

        Those have one token, since means over no step are no numbers in Keras and PyTorch.
        """
        count = max(len(rows), fill)
        tokens = np.zeros((count, width), np.int32)
        tokens[len(rows) :, 0] = 1
        lengths, labels = np.ones(count, np.int32), np.zeros(count, np.int32)
        weights = np.zeros(count, np.float32)
        weights[: len(rows)] = 1
        lengths[: len(rows)], labels[: len(rows)] = self.lengths[rows], self.labels[rows]
        for position, row in enumerate(rows):
            tokens[position, : lengths[position]] = self.ids[
                self.offsets[row] : self.offsets[row + 1]
            ]
        return Batch(tokens, lengths, labels, weights)


class Job:
    """What to train.

    data: the path of the arrays.
    variant: "documentation", or one that trains on rnn_jax's batches; see each worker.
    config: the experiment's config as nested dictionaries.
    classes: how many.
    """

    def __init__(self, data: str, variant: str, config: dict[str, Any], classes: int):
        self.variant, self.config, self.classes = variant, config, classes
        self.model, self.optimizer = config["model"], config["optimizer"]
        self.vocab_size = config["data"]["vocab_size"]
        self.batch_size, self.seed = config["train"]["batch_size"], config["train"]["seed"]
        self._arrays = np.load(data)
        self.train, self.test = self._split("train"), self._split("test")

    @property
    def own_batches(self) -> bool:
        """Whether the library makes its batches as its documentation shows; otherwise rnn_jax's."""
        return self.variant == "documentation"

    def plan(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """rnn_jax's batches of an epoch ("0", "1", ...) or of the test: (width, rows) for each."""
        widths, counts, rows = (
            self._arrays[f"plan_{name}_{field}"] for field in ("widths", "counts", "rows")
        )
        return zip(widths.tolist(), np.split(rows, np.cumsum(counts)[:-1]), strict=True)

    def own_padding(self, epoch: int) -> float:
        """The share of padding in the batches that rnn_jax itself trains on."""
        return float(self._arrays["own_padding"][epoch])

    def batches(self, epoch: int, fill: bool = False) -> list[Batch]:
        """rnn_jax's batches of an epoch, ready-made; `fill` gives all of them `batch_size` rows."""
        fill = self.batch_size if fill else 0
        return [self.train.batch(rows, width, fill) for width, rows in self.plan(str(epoch))]

    def test_batches(self, fill: bool = False) -> list[Batch]:
        """The test texts in batches: of rnn_jax's widths, or padded to the longest of a batch."""
        fill = self.batch_size if fill else 0
        if not self.own_batches:
            return [self.test.batch(rows, width, fill) for width, rows in self.plan("test")]
        starts = range(0, len(self.test), self.batch_size)
        rows = [np.arange(len(self.test))[start : start + self.batch_size] for start in starts]
        return [self.test.batch(part, self.test.lengths[part].max(), fill) for part in rows]

    def _split(self, name: str) -> Split:
        return Split(*(self._arrays[f"{name}_{field}"] for field in Split._fields))


class Trainer(Protocol):
    """What a worker brings along."""

    def prepare(self, epoch: int) -> Any:
        """The epoch's data, as far as they are made outside the clock."""

    def train(self, prepared: Any) -> None:
        """One epoch, to its very end: no work may go on in the background."""

    def evaluate(self) -> float:
        """The accuracy on the test texts."""

    def cells(self, prepared: Any) -> int:
        """Tokens of an epoch's batches, padding included."""


class Channel:
    """JSON lines on the standard input and output that the process was started with.

    Whatever a library prints goes to standard error.
    """

    def __init__(self):
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._left = (time.perf_counter(), time.process_time())

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None at the end."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def exchange(self, **answer: Any) -> dict[str, Any] | None:
        """Answers, and waits for the next message; both only when this process is at rest."""
        _settle()
        print(json.dumps(answer), file=self._output, flush=True)
        began, used = time.perf_counter(), time.process_time()
        message = self.receive()
        wall = max(time.perf_counter() - began, 1e-9)
        # Reported with the next answer: the share of a processor that this process used in waiting.
        self.idle_share = (time.process_time() - used) / wall if wall > 1 else 0.0
        return message

    idle_share = 0.0


def serve(make: Callable[[Job], Trainer]) -> None:
    """Runs a worker to its end."""
    channel = Channel()
    job = Job(**channel.receive())
    trainer = make(job)
    message = channel.exchange(ready=True)
    while message is not None:
        prepared = trainer.prepare(message["epoch"])
        began = time.perf_counter()
        trainer.train(prepared)
        seconds = time.perf_counter() - began
        memory = peak_memory()
        message = channel.exchange(
            seconds=seconds,
            accuracy=trainer.evaluate(),
            padded=1 - len(job.train.ids) / trainer.cells(prepared),
            peak_memory=memory,
            idle_share=channel.idle_share,
        )


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    try:
        # Not ru_maxrss: on Linux that starts from the size of the process that started this one.
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _settle(patience: float = 5.0) -> None:
    """Waits until threads in the background (a checkpoint's, say) are done, so that nobody else's
    epoch pays for them."""
    began = time.perf_counter()
    while time.perf_counter() - began < patience:
        used = time.process_time()
        time.sleep(0.1)
        if time.process_time() - used < 0.005:
            return
