"""Where each text stands in a batch of a given shape.

A shape with as many rows as a batch has texts is padded: each text has a row of its own. One with
fewer rows is packed: several texts stand one after the other in each row (`rnn_jax.nn.segments`
says how a network tells them apart). Texts are placed by best fit, longest first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A recurrent layer's step costs about as much as this many rows more would: so it is for an LSTM of
# 64 units on two CPU cores. Where a step costs more, as on a GPU, narrower shapes are better.
_STEP = 2


class Shape(NamedTuple):
    """The shape of a batch's tokens."""

    rows: int
    width: int

    @property
    def cost(self) -> int:
        """How long a batch of this shape takes, in no unit."""
        return self.width * (self.rows + _STEP)


def holds(shape: Shape, texts: np.ndarray) -> np.ndarray:
    """bool[batches]: whether a shape holds each batch of texts [batches, texts], longest first."""
    fits = texts.max(axis=1, initial=0) <= shape.width
    if shape.rows < texts.shape[1]:
        fits &= texts.sum(axis=1) <= shape.rows * shape.width
        fits[fits] = _best_fit(texts[fits], shape)[0]
    return fits


def place(lengths: np.ndarray, shape: Shape) -> np.ndarray | None:
    """Where in the flat tokens of a batch each text begins, int64[texts]; None if they do not fit.

    Args:
      lengths: int[texts].
      shape: of the batch.
    """
    if shape.rows >= len(lengths):
        fits = not len(lengths) or lengths.max() <= shape.width
        return np.arange(len(lengths)) * shape.width if fits else None
    order = np.argsort(-lengths, kind="stable")
    fits, starts = _best_fit(lengths[order][None], shape)
    places = np.empty(len(lengths), np.int64)
    places[order] = starts[0]
    return places if fits[0] else None


def _best_fit(texts: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """For batches of texts [batches, texts], longest first: whether each fits, and the flat places
    of its texts. A text goes to the fullest row that it fits in."""
    free = np.full((len(texts), shape.rows), shape.width)
    fits = np.ones(len(texts), bool)
    places = np.zeros(texts.shape, np.int64)
    every = np.arange(len(texts))
    for column in range(texts.shape[1]):
        length = texts[:, column]
        left = free - length[:, None]
        row = np.argmin(np.where(left >= 0, left, shape.width), axis=1)
        fits &= left[every, row] >= 0
        places[:, column] = (row + 1) * shape.width - free[every, row]
        free[every, row] -= length
    return fits, places
