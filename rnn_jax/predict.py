"""Predictions of a trained run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax.data import batching
from rnn_jax.evaluate import Trained, open_run


class Prediction(NamedTuple):
    """What a classifier says of one text: the likeliest class, and each class' probability."""

    label: str
    probabilities: dict[str, float]


class Predictor:
    """A trained classifier: texts in, predictions out.

    Attributes:
      run: config, classes, vectorizer, task (with its flax module) and parameters of the run.
    """

    def __init__(self, run: Trained):
        self.run = run
        self._widths = batching.widths(run.config.data.max_length)
        self._evaluate = jax.jit(run.task.evaluate)

    def __call__(self, text: str) -> Prediction:
        """The prediction for one text."""
        return next(self.predict([text], batch_size=1))

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> Iterator[Prediction]:
        """Yields the prediction for each text, in their order.

        Args:
          texts: any strings; one without a known word is predicted like any other.
          batch_size: texts that are computed together.
        """
        ids = self.run.vectorizer.encode(texts, self.run.config.data.max_length)
        examples = batching.Examples(ids, np.zeros(len(texts), np.int32))
        outputs: list[np.ndarray | None] = [None] * len(texts)
        for width, rows in batching.plan(examples.lengths, batch_size, self._widths, shuffle=False):
            batch = batching.assemble(examples, width, rows, batch_size)
            _, probabilities = self._evaluate(self.run.params, batch)
            for row, output in zip(rows, np.asarray(probabilities), strict=False):
                outputs[row] = output
        for output in outputs:
            label = self.run.classes[int(np.argmax(output))]
            shares = zip(self.run.classes, output.tolist(), strict=True)
            yield Prediction(label, dict(shares))


def load(path: str | os.PathLike) -> Predictor:
    """The predictor of a run's folder, with the parameters of its best epoch.

    Raises:
      InputError: the folder holds no trained run.
    """
    return Predictor(open_run(path))
