"""N-gram language models, as yardsticks for recurrent ones: counts, in NumPy.

Stories are int32[tokens], the last token of each the end; contexts never cross a story, and before
its first token there is one end. What is tuned is tuned on validation stories.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_jax.ngrams import cache, kneser_ney, unigram

__all__ = ["cache", "kneser_ney", "unigram", "yardsticks"]


def yardsticks(
    train: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    vocab_size: int,
    end: int,
) -> list[tuple[str, np.ndarray]]:
    """What n-gram models say of a test split: names with float64[tokens], the natural logarithm of
    the probability of each token after those before it in its story.

    Args:
      train, validation, test: stories.
      vocab_size: how many ids there are.
      end: the id at the end of each story.
    """
    three = kneser_ney.fit(train, validation, 3, vocab_size, end)
    five = kneser_ney.fit(train, validation, 5, vocab_size, end)
    cached = cache.fit(five, validation)
    return [
        ("unigram", unigram.fit(train, vocab_size).log_probabilities(test)),
        ("Kneser-Ney 3-grams", three.log_probabilities(test)),
        ("Kneser-Ney 5-grams", five.log_probabilities(test)),
        ("Kneser-Ney 5-grams with cache", cached.log_probabilities(test)),
    ]
