"""Each token by how often it came, whatever came before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.ngrams import counts as counts_lib

_UNIFORM = 1e-3  # share of the uniform distribution, so that every token has some probability


class Unigram(NamedTuple):
    """A distribution over tokens.

    probabilities: float64[vocabulary].
    """

    probabilities: np.ndarray

    def log_probabilities(self, stories: Sequence[np.ndarray]) -> np.ndarray:
        """float64[tokens], of all stories' tokens, one after the other.

        Raises:
          ValueError: an id that is not in the vocabulary.
        """
        return np.log(self.probabilities[counts_lib.joined(stories, len(self.probabilities))])

    def distribution(self, context: Sequence[int]) -> np.ndarray:
        """float64[vocabulary]: the same after any context."""
        del context
        return self.probabilities


def fit(stories: Sequence[np.ndarray], vocab_size: int) -> Unigram:
    """The shares of the tokens of some stories, mixed with a little of the uniform distribution.

    Raises:
      ValueError: no token, or an id that is not in the vocabulary.
    """
    tokens = counts_lib.joined(stories, vocab_size)
    if not len(tokens):
        raise ValueError("there must be a token to count")
    shares = np.bincount(tokens, minlength=vocab_size) / len(tokens)
    return Unigram((1 - _UNIFORM) * shares + _UNIFORM / vocab_size)
