"""Predictions of a trained run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax.data import batching, packing
from rnn_jax.evaluate import Trained, open_run, outputs_in_order


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
        self._evaluate = jax.jit(run.task.evaluate)

    def __call__(self, text: str) -> Prediction:
        """The prediction for one text."""
        return self.predict([text], batch_size=1)[0]

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The prediction for each text, in their order.

        Args:
          texts: any strings; one without a known word is predicted like any other.
          batch_size: texts that are computed together.

        Raises:
          ValueError: `texts` is a single string.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts must be a sequence of strings, got the string {texts!r:.60}")
        ids = self.run.vectorizer.encode(texts, self.run.config.data.max_length)
        examples = batching.Examples(ids, np.zeros(len(texts), np.int32))
        shapes = packing.padded_shapes(batch_size, self.run.config.data.max_length)
        outputs = outputs_in_order(self._evaluate, self.run.params, examples, batch_size, shapes)
        return [self._prediction(output) for output in outputs]

    def _prediction(self, output: np.ndarray) -> Prediction:
        shares = zip(self.run.classes, output.tolist(), strict=True)
        return Prediction(self.run.classes[int(np.argmax(output))], dict(shares))


def load(path: str | os.PathLike) -> Predictor:
    """The predictor of a run's folder, with the parameters of its best epoch.

    Raises:
      InputError: the folder holds no trained run.
    """
    return Predictor(open_run(path))
