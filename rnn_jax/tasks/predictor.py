"""What a trained classifier says of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.batching import Examples
from rnn_jax.data.epochs import Pass
from rnn_jax.data.text import Vectorizer, plain
from rnn_jax.tasks.base import Trained, outputs_in_order


class Prediction(NamedTuple):
    """What a classifier says of one text: the likeliest class, and each class' probability."""

    label: str
    probabilities: dict[str, float]


class Predictor:
    """A trained classifier: texts in, predictions out.

    Attributes:
      run: config, task and parameters of the run.
      classes: the labels' names.
      vectorizer: from texts to tokens.
    """

    def __init__(self, run: Trained, classes: tuple[str, ...], vectorizer: Vectorizer):
        self.run, self.classes, self.vectorizer = run, classes, vectorizer

    def __repr__(self) -> str:
        return f"Predictor({self.run.config.experiment!r}, classes={', '.join(self.classes)})"

    def __call__(self, text: str) -> Prediction:
        """The prediction for one text."""
        return self.predict([text], batch_size=1)[0]

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The prediction for each text, in their order.

        Args:
          texts: any strings; one without a known word is predicted like any other. A byte-order
            mark and white space around a text are no part of it.
          batch_size: texts that are computed together.

        Raises:
          ValueError: `texts` is no sequence of strings.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts must be a sequence of strings, got the string {texts!r:.60}")
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"texts must be a sequence of strings, got {text!r:.60} in it")
        texts = [plain(text) for text in texts]
        length = self.run.config.data.max_length
        stories = Examples(self.vectorizer.encode(texts, length), np.zeros(len(texts), np.int32))
        shapes = shapes_lib.padded_shapes(batch_size, length)
        split = Pass(stories, shapes, batch_size, self.vectorizer.words)
        outputs = outputs_in_order(self.run.task, self.run.params, split)
        return [self._prediction(output) for output in outputs]

    def _prediction(self, output: np.ndarray) -> Prediction:
        shares = zip(self.classes, output.tolist(), strict=True)
        return Prediction(self.classes[int(np.argmax(output))], dict(shares))
