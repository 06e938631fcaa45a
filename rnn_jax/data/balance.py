"""How many stories each class has, and what follows: what each counts, and what to warn of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_jax.data.batching import Examples
from rnn_jax.data.flat import Flat

FEW = 5  # training stories of a class, below which there is little to learn from
SHOWN = 5  # classes that a line names
# The largest class is a majority if it has more than half of the stories, and so many times what it
# would have were all equally large: of two classes three quarters.
_MAJORITY = 1.5


def counts(stories: Examples | Flat, classes: int) -> np.ndarray:
    """int64[classes]: how many stories each class has."""
    if isinstance(stories, Flat):
        return stories.label_counts(classes)
    return np.bincount(stories.labels, minlength=classes)


def class_weights(counts: np.ndarray) -> np.ndarray:
    """float32[classes]: what a story of each class counts, so that all classes count the same and
    the mean over the stories is 1: `stories / (classes * stories of the class)`, as scikit-learn's
    `class_weight="balanced"`. Classes without stories share in nothing."""
    present = counts > 0
    shares = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, shares, 0).astype(np.float32)


def warnings(counts: np.ndarray, classes: Sequence[str], balanced: bool) -> list[str]:
    """What to say of training stories that are hard to learn from, a line each.

    Args:
      counts: int[classes].
      classes: the names.
      balanced: whether classes already count the same.
    """
    lines = []
    pairs = zip(classes, counts, strict=True)
    if few := [f"{name!r} ({count})" for name, count in pairs if count < FEW]:
        lines.append(f"fewer than {FEW} training stories: class {_named(few)}")
    largest = int(counts.argmax())
    share = counts[largest] / max(counts.sum(), 1)
    if share > max(0.5, _MAJORITY / len(classes)):
        hint = "" if balanced else "; --config.data.class_weights=balanced lets classes count alike"
        lines.append(
            f"{share:.0%} of the training stories are of class {classes[largest]!r}, so that "
            f"always saying so is right about as often{hint}"
        )
    return lines


def unrecognised(outputs: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The same of classes whose test stories were all taken for others.

    Args:
      outputs: float[stories, classes].
      labels: int[stories].
      classes: the names.
    """
    said = outputs.argmax(axis=1)
    right = np.bincount(labels[said == labels], minlength=len(classes))
    missed = (right == 0) & (np.bincount(labels, minlength=len(classes)) > 0)
    names = [repr(name) for name, gone in zip(classes, missed, strict=True) if gone]
    return [f"recall 0: no test story was recognised of class {_named(names)}"] if names else []


def _named(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
