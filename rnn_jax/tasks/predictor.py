"""What a trained classifier says of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax import inspect
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.batching import Examples
from rnn_jax.data.epochs import StoryPass
from rnn_jax.data.text import PADDING, UNKNOWN, Vectorizer, checked_text, checked_texts, plain
from rnn_jax.inspect import Gates, Importance, Scorer
from rnn_jax.inspect.importance import STEPS
from rnn_jax.system import programs
from rnn_jax.tasks.base import Task, Trained, outputs_in_order
from rnn_jax.types import Batch, Params


class Prediction(NamedTuple):
    """What a classifier says of one text: the likeliest class, and each class' probability."""

    label: str
    probabilities: dict[str, float]


class Read(NamedTuple):
    """A text as a classifier reads it.

    batch: it alone, padded as it is for a prediction.
    words: those that are read.
    known: whether each is in the vocabulary.
    total: words that the text has.
    """

    batch: Batch
    words: tuple[str, ...]
    known: tuple[bool, ...]
    total: int


class Predictor:
    """A trained classifier: texts in, predictions out.

    Attributes:
      run: config, task and parameters of the run.
      classes: the labels' names.
      vectorizer: from texts to tokens.
      scorer: the network in two halves.
    """

    def __init__(
        self, run: Trained, classes: tuple[str, ...], vectorizer: Vectorizer, scorer: Scorer
    ):
        self.run, self.classes, self.vectorizer = run, classes, vectorizer
        self.scorer = scorer

    def __repr__(self) -> str:
        return f"Predictor({self.run.config.experiment!r}, classes={', '.join(self.classes)})"

    def __call__(self, text: str) -> Prediction:
        """The prediction for one text.

        Raises:
          ValueError: `text` is no string.
        """
        return self.predict([checked_text(text)], batch_size=1)[0]

    def predict(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The prediction for each text, in their order.

        Args:
          texts: any strings; one without a known word is predicted like any other. A byte-order
            mark and white space around a text are no part of it.
          batch_size: texts that are computed together.

        Raises:
          ValueError: `texts` is no sequence of strings, or batch_size below 1.
        """
        texts = [plain(text) for text in checked_texts(texts)]
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be an int of at least 1, got {batch_size!r}")
        length = self.run.config.data.max_length
        stories = Examples(self.vectorizer.encode(texts, length), np.zeros(len(texts), np.int32))
        shapes = shapes_lib.padded_shapes(batch_size, length)
        split = StoryPass(stories, shapes, batch_size, self.vectorizer.words)
        outputs = outputs_in_order(self.run.task, self.run.params, split)
        return [self._prediction(output) for output in outputs]

    def gates(self, text: str) -> Gates:
        """What the gates of each recurrent layer do over the words of a text.

        Raises:
          ValueError: `text` is no string or has no word, or the network no recurrent layer.
        """
        read = self.read(text)
        found = _walker(self.run.task)(self.run.params, read.batch)
        return inspect.gates_of(found, read.words, read.known)

    def importance(self, text: str, *, label: str | None = None, steps: int = STEPS) -> Importance:
        """How much each word of a text counts for a class.

        Args:
          text: the text.
          label: the class; None for the likeliest.
          steps: at how many points integrated gradients look.

        Raises:
          ValueError: `text` is no string or has no word, no such class, or steps below 1.
        """
        read = self.read(text)
        return inspect.importance_of(
            self.scorer, self.run.params, np.asarray(read.batch.tokens)[0], self.classes,
            read.words, read.known, label=label, steps=steps,
        )  # fmt: skip

    def read(self, text: str) -> Read:
        """A text as the network reads it.

        Raises:
          ValueError: `text` is no string, or has no word.
        """
        checked_text(text)
        longest = self.run.config.data.max_length
        words = self.vectorizer.split(plain(text))
        if not words:
            raise ValueError("text must have a word at least, got none")
        ids = self.vectorizer.encode([plain(text)], longest)[0]
        width = next(each for each in shapes_lib.widths(longest) if each >= len(ids))
        tokens = np.full((1, width), PADDING, np.int32)
        tokens[0, : len(ids)] = ids
        batch = Batch(
            tokens, np.array([len(ids)], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32)
        )
        known = tuple((ids != UNKNOWN).tolist())
        return Read(batch, tuple(words[: len(ids)]), known, len(words))

    def _prediction(self, output: np.ndarray) -> Prediction:
        shares = zip(self.classes, output.tolist(), strict=True)
        return Prediction(self.classes[int(np.argmax(output))], dict(shares))


@programs.shared
def _walker(task: Task) -> Callable[..., list[inspect.Walk]]:
    """Returns `(params, batch) -> walks` of a task that knows no carry."""

    def walks(params: Params, batch: Batch) -> list[inspect.Walk]:
        return inspect.walks(task.evaluate, params, None, batch)

    return jax.jit(walks)
