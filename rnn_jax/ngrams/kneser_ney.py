"""Interpolated modified Kneser-Ney smoothing.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling",
Computer Speech and Language 13, 1999. With c the count of a gram (below the highest order: after
how many different tokens it came), D(c) the discount of its order for a count of 1, 2, or 3 and
more, and N_k the number of tokens that came k times after the context h:

    p(w | h) = (c(h w) - D(c(h w))) / sum_v c(h v) + g(h) p(w | h'),
    g(h) = (D(1) N_1(h) + D(2) N_2(h) + D(3) N_3+(h)) / sum_v c(h v)

where h' is h without its first token. Below order 1 is the uniform distribution. The discounts
start from the paper's formulas, and are then tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.ngrams import counts as counts_lib
from rnn_jax.ngrams.counts import Order, Places

_LEAST = 1e-3  # discounts stay above, so that every token has some probability


class KneserNey(NamedTuple):
    """A fitted model.

    orders: the counts, the first of order 1.
    discounts: float64[orders, 3], of counts of 1, 2, and 3 or more.
    vocab_size: how many ids there are.
    end: the id at the end of each story.
    """

    orders: tuple[Order, ...]
    discounts: np.ndarray
    vocab_size: int
    end: int

    def log_probabilities(self, stories: Sequence[np.ndarray]) -> np.ndarray:
        """float64[tokens]: the natural logarithm of the probability of each token after those
        before it in its story, all stories one after the other."""
        places = counts_lib.look_up(self.orders, stories, self.vocab_size, self.end)
        return np.log(probabilities(places, self.discounts, self.vocab_size))

    def distribution(self, context: Sequence[int]) -> np.ndarray:
        """float64[vocabulary]: what comes after a story's first tokens."""
        # No more than the longest gram reads, so that a long story costs no more than a short one.
        read = np.asarray(context, np.int64)[max(len(context) - len(self.orders) + 1, 0) :]
        stories = [np.append(read, token) for token in range(self.vocab_size)]
        places = counts_lib.look_up(self.orders, stories, self.vocab_size, self.end)
        last = np.arange(1, self.vocab_size + 1) * (len(read) + 1) - 1
        return probabilities(places, self.discounts, self.vocab_size)[last]


def fit(
    train: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    order: int,
    vocab_size: int,
    end: int,
) -> KneserNey:
    """Counts the training stories, and tunes the discounts on the validation stories.

    Args:
      train: what is counted.
      validation: on which perplexity becomes least; without any, the formulas' discounts stay.
      order: the longest grams' length.
      vocab_size: how many ids there are.
      end: the id at the end of each story.

    Raises:
      ValueError: an order below 1, no training token, or an id that is not in the vocabulary.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    orders = counts_lib.count(train, order, vocab_size, end)
    model = KneserNey(orders, np.stack([discounts(each) for each in orders]), vocab_size, end)
    if not sum(map(len, validation)):
        return model
    return model._replace(discounts=_tuned(model, validation))


def discounts(order: Order) -> np.ndarray:
    """float64[3], the discounts of Chen and Goodman's formulas, within their bounds.

    With n_k the number of grams that came k times and Y = n_1 / (n_1 + 2 n_2), they are
    1 - 2 Y n_2 / n_1, 2 - 3 Y n_3 / n_2 and 3 - 4 Y n_4 / n_3.
    """
    n = [0, *(int((order.counts == k).sum()) for k in range(1, 5))]
    y = n[1] / max(n[1] + 2 * n[2], 1)
    found = [k - (k + 1) * y * n[k + 1] / max(n[k], 1) for k in (1, 2, 3)]
    return np.clip(found, _LEAST, [1, 2, 3])


def probabilities(places: Places, discounts: np.ndarray, vocab_size: int) -> np.ndarray:
    """float64[tokens]: the equations above, from the lowest order to the highest."""
    return _by_order(places, discounts, vocab_size)[0][-1]


def _by_order(
    places: Places, discounts: np.ndarray, vocab_size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The probabilities by grams of each order, the uniform ones first; and of each order what is
    left to the one below, `g(h)`; float64[tokens] each."""
    found = [np.full(places.counts.shape[1], 1 / vocab_size)]
    left = []
    for count, total, kinds, each in zip(*places, discounts, strict=True):
        taken = np.concatenate([[0.0], each])[np.minimum(count, 3)]
        whole = np.maximum(total, 1)
        left.append(np.where(total > 0, kinds @ each / whole, 1.0))
        found.append((count - taken) / whole + left[-1] * found[-1])
    return found, left


def loss_and_gradient(
    places: Places, discounts: np.ndarray, vocab_size: int
) -> tuple[float, np.ndarray]:
    """The mean loss of some tokens, and its gradient with respect to the discounts,
    float64[orders, 3]."""
    found, left = _by_order(places, discounts, vocab_size)
    gradient = np.zeros(discounts.shape)
    with_respect = -1 / found[-1] / len(found[-1])  # of the loss, to the present order's
    for n in reversed(range(len(left))):
        each = with_respect / np.maximum(places.totals[n], 1)
        own = np.minimum(places.counts[n], 3)[:, None] == np.arange(1, 4)
        gradient[n] = (each * found[n]) @ places.kinds[n] - each @ own
        with_respect = with_respect * left[n]
    return -float(np.log(found[-1]).mean()), gradient


def _tuned(model: KneserNey, validation: Sequence[np.ndarray]) -> np.ndarray:
    from scipy import optimize  # late: most of a second

    places = counts_lib.look_up(model.orders, validation, model.vocab_size, model.end)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss_and_gradient(places, values.reshape(-1, 3), model.vocab_size)
        return value, gradient.ravel()

    start = model.discounts.ravel()
    bounds = [(_LEAST, k) for k in (1.0, 2.0, 3.0)] * len(model.orders)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    best = found.x if found.fun < loss(start)[0] else start
    return best.reshape(model.discounts.shape)
