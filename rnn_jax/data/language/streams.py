"""Tokens of whole splits, in memory or in files that are read as they are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import tempfile
from collections.abc import Iterable

import numpy as np

from rnn_jax.data.language.vocabulary import END, Encoded, Vocabulary

_TYPES = (np.int32, np.uint16, np.float32)  # of the three arrays of Encoded
_BLOCK = 2**22  # tokens that are hashed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """The tokens of a split's stories, each with an end.

    tokens: of all stories, one after the other.
    offsets: int64[stories + 1]; story i is the tokens from `offsets[i]` to `offsets[i + 1]`.
    """

    tokens: Encoded
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens.ids)

    def stories(self) -> list[np.ndarray]:
        """The ids of each story, int32[tokens], its end the last."""
        return [
            self.tokens.ids[start:stop]
            for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True)
        ]

    def digest(self) -> bytes:
        """SHA-256 of tokens and offsets."""
        found = hashlib.sha256(np.ascontiguousarray(self.offsets, "<i8").data)
        for array, kind in zip(self.tokens, ("<i4", "<u2", "<f4"), strict=True):
            for start in range(0, len(array), _BLOCK):
                found.update(np.ascontiguousarray(array[start : start + _BLOCK], kind).data)
        return found.digest()


def held(texts: Iterable[str], vocabulary: Vocabulary) -> Stream:
    """The tokens of stories, normal texts, in memory."""
    parts = [joined for text in texts for joined in (vocabulary.encode(text), _end())]
    ends = np.cumsum([0, *(len(part.ids) for part in parts)])[::2]
    parts = parts or [Encoded(*(np.zeros(0, kind) for kind in _TYPES))]
    return Stream(Encoded(*map(np.concatenate, zip(*parts, strict=True))), ends)


def filed(texts: Iterable[str], vocabulary: Vocabulary, folder: str | None = None) -> Stream:
    """The tokens of the pieces of one story, in files without a name: memory stays bounded.

    Args:
      texts: the pieces, normal texts.
      vocabulary: what turns them into ids.
      folder: where the files are; by default where temporary files are. They vanish with the
        stream, or with the process.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in _TYPES]
        count = 0
        for part in itertools.chain(map(vocabulary.encode, texts), [_end()]):
            for file, array in zip(files, part, strict=True):
                file.write(np.ascontiguousarray(array).data)
            count += len(part.ids)
        arrays = []
        for file, kind in zip(files, _TYPES, strict=True):
            file.flush()
            arrays.append(np.memmap(file, kind, "r", shape=(count,)))
    return Stream(Encoded(*arrays), np.array([0, count]))


def _end() -> Encoded:
    # In a text that is put together again it takes a line's end.
    return Encoded(
        *(np.array([value], kind) for value, kind in zip((END, 1, 0), _TYPES, strict=True))
    )
