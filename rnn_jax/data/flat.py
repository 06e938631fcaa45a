"""Vectorized stories in plain files, of which any part can be read without the rest.

    NAME.index    for each story 16 bytes: offset int64, length int32, label int32
    NAME.tokens   the stories' token ids, one after the other; the offset counts ids

All little-endian. An id takes two bytes where the vocabulary allows, otherwise four.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from typing import Any, BinaryIO

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.batching import Examples
from rnn_jax.data.text import Ragged
from rnn_jax.data.windows import BLOCK
from rnn_jax.system.messages import first_line

INDEX = np.dtype([("offset", "<i8"), ("length", "<i4"), ("label", "<i4")])
SAMPLE = 2**16  # stories by whose lengths the shapes of batches are chosen


class Writer:
    """Writes stories, a chunk at a time; the memory that it takes does not grow."""

    def __init__(self, folder: pathlib.Path, name: str, vocab_size: int):
        self._tokens = open(folder / f"{name}.tokens", "xb")  # noqa: SIM115 (see close)
        self._index = open(folder / f"{name}.index", "xb")  # noqa: SIM115
        self._kind = "<u2" if vocab_size <= 2**16 else "<i4"
        self._digests = {"tokens": hashlib.sha256(), "index": hashlib.sha256()}
        self.stories = self.tokens = self.longest = 0

    def add(self, examples: Examples) -> None:
        """Appends stories."""
        ragged, lengths = examples.tokens, examples.lengths
        index = np.empty(len(examples), INDEX)
        index["offset"] = self.tokens + ragged.offsets[:-1]
        index["length"], index["label"] = lengths, examples.labels
        for name, file, content in (
            ("tokens", self._tokens, ragged.ids.astype(self._kind).data),
            ("index", self._index, index.view(np.uint8).data),
        ):
            file.write(content)
            self._digests[name].update(content)
        self.stories += len(examples)
        self.tokens += len(ragged.ids)
        self.longest = max(self.longest, int(lengths.max(initial=0)))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the files, whether or not all of them were written."""
        self._tokens.close()
        self._index.close()

    def close(self) -> dict[str, Any]:
        """Ends the files, on the disk, and returns what `Flat` needs to know of them."""
        for file in (self._tokens, self._index):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        return {
            "stories": self.stories,
            "tokens": self.tokens,
            "longest": self.longest,
            "kind": self._kind,
            "digests": {name: digest.hexdigest() for name, digest in self._digests.items()},
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """Stories in files.

    folder, name: where; see the module's docstring.
    stories: how many.
    tokens: of all stories together.
    longest: tokens of the longest story.
    kind: an id's type, "<u2" or "<i4".
    digests: SHA-256 of both files, by "tokens" and "index".
    """

    folder: pathlib.Path
    name: str
    stories: int
    tokens: int
    longest: int
    kind: str
    digests: dict[str, str]

    def __len__(self) -> int:
        return self.stories

    def sample_lengths(self) -> np.ndarray:
        """int64[n]: how many tokens some stories have, all or 65,536 of them from the whole file.

        Raises:
          InputError: the files were changed or removed meanwhile.
        """
        if len(self) <= SAMPLE:
            return self.gather(np.arange(len(self))).lengths
        blocks, count = len(self) // BLOCK, SAMPLE // BLOCK
        first = np.arange(count) * blocks // count * BLOCK
        return self.gather((first[:, None] + np.arange(BLOCK)).reshape(-1)).lengths

    def label_counts(self, classes: int) -> np.ndarray:
        """int64[classes]: how many stories have each label.

        Raises:
          InputError: the files were changed or removed meanwhile.
        """
        found = np.zeros(classes, np.int64)
        try:
            with open(self._path("index"), "rb") as file:
                for start in range(0, len(self), SAMPLE):
                    stop = min(start + SAMPLE, len(self))
                    index = _read(file, INDEX, np.array([start]), np.array([stop]))
                    found += np.bincount(index["label"], minlength=classes)[:classes]
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        return found

    def verify(self) -> None:
        """Reads both files once, a piece at a time.

        Raises:
          ValueError: they are not what was written.
          OSError: they cannot be read.
        """
        sizes = {
            "tokens": self.tokens * np.dtype(self.kind).itemsize,
            "index": self.stories * INDEX.itemsize,
        }
        for part, size in sizes.items():
            path = self._path(part)
            if path.stat().st_size != size:
                raise ValueError(f"{path} has {path.stat().st_size} bytes, not {size}")
            if file_digest(path) != self.digests[part]:
                raise ValueError(f"{path} is damaged")

    def gather(self, numbers: np.ndarray) -> Examples:
        """Some stories, in memory.

        Neighbours are read in one go, and the system is told of all places before the first is
        waited for, so that a disk can serve many at a time.

        Args:
          numbers: int64[n], which stories; rising.

        Raises:
          InputError: the files were changed or removed meanwhile.
        """
        if not len(numbers):
            return Examples(
                Ragged(np.zeros(0, np.int32), np.zeros(1, np.int64)), np.zeros(0, np.int32)
            )
        first = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)  # of each run
        last = np.append(first[1:], len(numbers)) - 1
        try:
            with open(self._path("index"), "rb") as file:
                index = _read(file, INDEX, numbers[first], numbers[last] + 1)
            stops = index["offset"] + index["length"]
            follows = np.flatnonzero(np.diff(numbers) == 1) + 1
            fits = (index["length"] >= 0) & (index["length"] <= self.longest)
            if not fits.all() or (index["offset"][follows] != stops[follows - 1]).any():
                raise OSError("the index was changed")
            with open(self._path("tokens"), "rb") as file:
                ids = _read(file, np.dtype(self.kind), index["offset"][first], stops[last])
        except OSError as error:
            raise self._unreadable(error) from error
        offsets = np.zeros(len(numbers) + 1, np.int64)
        np.cumsum(index["length"], out=offsets[1:])
        return Examples(Ragged(ids.astype(np.int32), offsets), index["label"].astype(np.int32))

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"the prepared stories in {self.folder} cannot be read ({first_line(error)})"
            "; the same command prepares them again and goes on"
        )

    def _path(self, part: str) -> pathlib.Path:
        return self.folder / f"{self.name}.{part}"


def file_digest(path: pathlib.Path) -> str:
    """A file's SHA-256, as hexadecimal digits."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: BinaryIO, kind: np.dtype, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The items from each start to its stop, one range after the other."""
    size = kind.itemsize
    counts = stops - starts
    items = np.empty(int(counts.sum()), kind)
    view = items.view(np.uint8).data
    ranges = np.stack([starts, counts], axis=1) * size
    descriptor = file.fileno()
    if hasattr(os, "posix_fadvise"):
        for start, length in ranges[counts > 0].tolist():  # a length of 0 would mean: to the end
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_WILLNEED)
    filled = 0
    for start, length in ranges.tolist():
        end = filled + length
        while filled < end:
            read = os.preadv(descriptor, [view[filled:end]], start + length - (end - filled))
            if not read:
                raise OSError(f"{file.name} ends early")
            filled += read
    return items
