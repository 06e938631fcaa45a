"""Each token by how often it came, whatever came before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_UNIFORM = 1e-3  # share of the uniform distribution, so that every token has some probability


class Unigram(NamedTuple):
    """A distribution over tokens.

    probabilities: float64[vocabulary].
    """

    probabilities: np.ndarray

    def log_probabilities(self, stories: Sequence[np.ndarray]) -> np.ndarray:
        """float64[tokens], of all stories' tokens, one after the other."""
        return np.log(self.probabilities[np.concatenate([np.zeros(0, np.int32), *stories])])


def fit(stories: Sequence[np.ndarray], vocab_size: int) -> Unigram:
    """The shares of the tokens of some stories, mixed with a little of the uniform distribution."""
    counts = np.bincount(np.concatenate(stories), minlength=vocab_size)
    return Unigram((1 - _UNIFORM) * counts / counts.sum() + _UNIFORM / vocab_size)
