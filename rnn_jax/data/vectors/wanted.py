"""What of a file of vectors is kept: those of the words that a vocabulary has."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from rnn_jax.config import InputError


class Wanted:
    """The words that are looked for, and the vectors that were found.

    Attributes:
      path: the file.
      features: numbers of a vector.
      values: float32[words, features], 0 for what was not found (yet).
    """

    def __init__(self, path: pathlib.Path, words: Sequence[str], features: int):
        """Args:
        path: the file, for messages.
        words: the vocabulary, all different; "" is never found.
        features: numbers that each vector must have.
        """
        self.path, self.features = path, features
        self.values = np.zeros((len(words), features), np.float32)
        self._rows = {word: row for row, word in enumerate(words) if word}
        self._places: dict[int, str] = {}

    @property
    def rows(self) -> np.ndarray:
        """int32[found]; the words that were found, in rising order."""
        return np.array(sorted(self._places), np.int32)

    def row(self, word: bytes, place: str) -> int | None:
        """A word's row, or None if nobody wants it.

        Args:
          word: as the file has it.
          place: where in the file, for messages.

        Raises:
          InputError: it is no UTF-8.
        """
        try:
            return self._rows.get(word.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise self.error(
                place,
                f"the word {word[:40]!r} is no UTF-8; convert the file, for instance with iconv",
            ) from error

    def keep(self, row: int, vector: np.ndarray, place: str) -> None:
        """Keeps a word's vector.

        Args:
          row: the word's.
          vector: float[features].
          place: where in the file, for messages.

        Raises:
          InputError: the word has one already, or a number is not finite.
        """
        if row in self._places:
            word = next(each for each, other in self._rows.items() if other == row)
            raise self.error(
                place,
                f"the word {word!r} stands in {self._places[row]} already; remove one of them",
            )
        with np.errstate(over="ignore"):  # of what is too large for float32: it is infinite there
            self.values[row] = vector
        if not np.isfinite(self.values[row]).all():
            raise self.error(place, "a number that is not finite in float32; remove the word")
        self._places[row] = place

    def check_features(self, found: int, place: str) -> None:
        """Raises InputError if the file's vectors have another length."""
        if found != self.features:
            raise self.error(
                place,
                f"vectors of {found} numbers, but --config.model.embedding_size is "
                f"{self.features}; give --config.model.embedding_size={found}",
            )

    def error(self, place: str, problem: str) -> InputError:
        """The error that names the file and the place in it."""
        return InputError(f"{self.path}, {place}: {problem}")
