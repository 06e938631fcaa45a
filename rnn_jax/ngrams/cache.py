"""A model with a memory of the story so far: what came lately comes again.

R. Kuhn and R. De Mori, "A cache-based natural language model for speech recognition", IEEE TPAMI
12, 1990; with a memory that fades (Clarkson and Robinson, ICASSP 1997):

    p(w) = (1 - s) p_model(w) + s c(w) / sum_v c(v),    s = share n / (n + patience),
    c(w) = sum over the places j < i where w came of exp(-(i - j) / span)

after n tokens of the story.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.ngrams.kneser_ney import KneserNey

SPANS = (50.0, 100.0, 200.0, 400.0, 800.0, 1e9)  # tokens; the last never fades


class Cached(NamedTuple):
    """A model with a cache.

    model: what is mixed with it.
    share: what the cache gets in the end.
    patience: tokens of a story after which it gets half of that.
    span: tokens over which the memory fades.
    """

    model: KneserNey
    share: float
    patience: float
    span: float

    def log_probabilities(self, stories: Sequence[np.ndarray]) -> np.ndarray:
        """As of `KneserNey`."""
        remembered, places = remember(stories, self.span)
        known = np.exp(self.model.log_probabilities(stories))
        return np.log(_mixed(known, remembered, places, self.share, self.patience))

    def distribution(self, context: Sequence[int]) -> np.ndarray:
        """As of `KneserNey`."""
        read = np.asarray(context, np.int64)
        fade = np.exp(-(len(read) - np.arange(len(read))) / self.span)
        counts = np.bincount(read, weights=fade, minlength=self.model.vocab_size)
        remembered = counts / max(counts.sum(), 1e-300)
        places = np.full(self.model.vocab_size, len(read))
        known = self.model.distribution(context)
        return _mixed(known, remembered, places, self.share, self.patience)


def fit(model: KneserNey, validation: Sequence[np.ndarray]) -> Cached:
    """The cache with which the validation stories have the least perplexity."""
    from scipy import optimize  # late: most of a second

    known = np.exp(model.log_probabilities(validation))
    found: list[tuple[float, float, float, float]] = [(-float(np.log(known).mean()), 0.0, 1.0, 1e9)]
    for span in SPANS:
        remembered, places = remember(validation, span)

        def loss(
            values: np.ndarray, remembered: np.ndarray = remembered, places: np.ndarray = places
        ) -> float:
            share, patience = 1 / (1 + np.exp(-values[0])), np.exp(values[1])
            mixed = _mixed(known, remembered, places, float(share), float(patience))
            return -float(np.log(mixed).mean())

        best = optimize.minimize(loss, np.array([-2.0, 4.0]), method="Nelder-Mead")
        share, patience = 1 / (1 + np.exp(-best.x[0])), np.exp(best.x[1])
        found.append((float(best.fun), float(share), float(patience), span))
    _, share, patience, span = min(found)
    return Cached(model, share, patience, span)


def remember(stories: Sequence[np.ndarray], span: float) -> tuple[np.ndarray, np.ndarray]:
    """For each token of the stories its share of what is remembered before it, float64[tokens],
    and how many tokens of its story stand before it, int64[tokens]."""
    shares, places = [np.zeros(0)], [np.zeros(0, np.int64)]
    step = np.exp(-1 / span)
    for story in stories:
        last: dict[int, tuple[int, float]] = {}  # token -> where it last came, and its count there
        held, whole = np.zeros(len(story)), 0.0
        for place, token in enumerate(story.tolist()):
            before = last.get(token)
            count = before[1] * step ** (place - before[0]) if before else 0.0
            held[place] = count / whole if whole else 0.0
            last[token] = (place, count + 1)
            whole = (whole + 1) * step
        shares.append(held)
        places.append(np.arange(len(story)))
    return np.concatenate(shares), np.concatenate(places)


def _mixed(
    known: np.ndarray, remembered: np.ndarray, places: np.ndarray, share: float, patience: float
) -> np.ndarray:
    weight = share * places / (places + patience)
    return (1 - weight) * known + weight * remembered
