"""What a trained translator makes of texts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import decoding
from rnn_jax.data.language.tokens import normal
from rnn_jax.data.language.vocabulary import END
from rnn_jax.data.pairs.vocabulary import Vocabularies
from rnn_jax.data.text import checked_text, checked_texts, plain
from rnn_jax.decoding import Hypotheses
from rnn_jax.models.seq2seq import Decoded, Start, writable
from rnn_jax.system import programs
from rnn_jax.types import AnyArray, Array, Params

SLACK = 5  # tokens that an answer may have more than the longest one of the run's data
NARROWEST = 16  # tokens of a row; wider ones are powers of two, so that few programs are compiled
DRAWN = 64  # the same of alignments: those that are drawn have one program


class Network(NamedTuple):
    """An encoder and a decoder, as functions.

    encode: `(params, texts int32[batch, time]) -> Start`, without noise.
    decode: `(params, memory, carry, before int32[batch, time]) -> Decoded`, likewise.
    key: networks of equal keys compute the same, as in `rnn_jax.tasks.base.Task`.
    """

    encode: Callable[..., Start]
    decode: Callable[..., Decoded]
    key: Hashable = None


class Hypothesis(NamedTuple):
    """A text that a translator found.

    text: the text.
    score: the natural logarithm of its probability, divided by the penalty of its length
      (`rnn_jax.decoding.penalty`); the higher, the better.
    """

    text: str
    score: float


class Alignment(NamedTuple):
    """Which tokens of a text were attended to while another was written.

    inputs, outputs: the tokens, each with its end.
    weights: float32[outputs, inputs], of the attention; each row's sum is 1.
    """

    inputs: list[str]
    outputs: list[str]
    weights: np.ndarray


class Translator:
    """A trained translator: `translator(text)` is the best answer, `translate(texts)` gives more.

    Attributes:
      network: the model.
      params: its parameters.
      vocabularies: the tokens of texts and answers.
      limit: tokens of an answer at most, its end among them.
      beam, alpha: of the search, where nobody says another.
      run: config, task and parameters of its run, if it is of one.
    """

    def __init__(
        self,
        network: Network,
        params: Params,
        vocabularies: Vocabularies,
        limit: int,
        beam: int = 5,
        alpha: float = 0.6,
        run: Any = None,
    ):
        self.network, self.params, self.vocabularies = network, params, vocabularies
        self.limit, self.beam, self.alpha, self.run = limit, beam, alpha, run

    def __repr__(self) -> str:
        name = repr(self.run.config.experiment) if self.run else "a model"
        inputs, outputs = self.vocabularies
        return f"Translator({name}, from {inputs.kind} to {outputs.kind})"

    def __call__(self, text: str) -> str:
        """The best answer.

        Raises:
          ValueError: `text` is no string.
        """
        return self.translate([checked_text(text)])[0][0].text

    def translate(
        self, texts: Sequence[str], beam: int | None = None, batch_size: int = 32
    ) -> list[list[Hypothesis]]:
        """For each text the best answers, best first.

        Args:
          texts: any strings. A byte-order mark and white space around a text are no part of it.
          beam: how many answers are looked for (1: the likeliest token each time, which is
            quickest); by default the run's.
          batch_size: texts that are computed together; those of like lengths, whatever their order.

        Raises:
          ValueError: `texts` is no sequence of strings, or an argument is out of its bounds.
        """
        texts = checked_texts(texts)
        beam = self.beam if beam is None else beam
        for name, value, most in (("beam", beam, 1000), ("batch_size", batch_size, 2**16)):
            if type(value) is not int or not 1 <= value < most:
                raise ValueError(
                    f"{name} must be a whole number from 1 to {most - 1}, got {value!r}"
                )
        rows = [self.vocabularies.inputs.encode(normal(plain(text))) for text in texts]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found: list[list[Hypothesis]] = [[] for _ in rows]
        search = _searching(self.network, beam, self.limit)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = _padded([rows[place] for place in places], batch_size)
            best = jax.device_get(search(self.params, batch, np.float32(self.alpha)))
            for number, place in enumerate(places):
                found[place] = self._hypotheses(best, number)
        return found

    def align(self, text: str, answer: str | None = None) -> Alignment:
        """Which tokens were attended to while an answer was written: its own, or the one given.

        Raises:
          ValueError: `text` or `answer` is no string.
        """
        answer = self(text) if answer is None else checked_text(answer, "answer")
        checked_text(text)
        inputs = self.vocabularies.inputs.encode(normal(plain(text)))
        outputs = self.vocabularies.outputs.encode(normal(answer))
        before = np.append(END, outputs[:-1])
        weights = _attending(self.network)(
            self.params, _padded([inputs], 1, DRAWN), _padded([before], 1, DRAWN)
        )
        return Alignment(
            self.vocabularies.inputs.shown(inputs),
            self.vocabularies.outputs.shown(outputs),
            np.asarray(weights)[0, : len(outputs), : len(inputs)],
        )

    def _hypotheses(self, best: Hypotheses, row: int) -> list[Hypothesis]:
        return [
            Hypothesis(self.vocabularies.outputs.decode(tokens[:length]), float(score))
            for tokens, length, log, score in zip(*(leaf[row] for leaf in best), strict=True)
            if log > decoding.NEVER
        ]


def step_of(network: Network, params: Params, start: Start, beam: int) -> decoding.Step:
    """What `rnn_jax.decoding` asks: the decoder, a token at a time.

    Args:
      network: the model.
      params: its parameters.
      start: of each text.
      beam: sequences of each text.
    """
    memory = jax.tree.map(lambda leaf: jnp.repeat(leaf, beam, axis=0), start.memory)

    def step(carry: Any, tokens: Array) -> tuple[Any, Array]:
        found = network.decode(params, memory, carry, tokens[:, None])
        return found.carry, writable(found.logits[:, 0])

    return step


def _padded(rows: Sequence[np.ndarray], count: int, least: int = NARROWEST) -> np.ndarray:
    """int32[count or 1, time], a row each."""
    longest = max(least, *map(len, rows))
    width = 1 << (longest - 1).bit_length()
    batch = np.zeros((count if len(rows) > 1 else 1, width), np.int32)
    for row, ids in zip(batch, rows, strict=False):
        row[: len(ids)] = ids
    return batch


@programs.shared
def _searching(network: Network, beam: int, limit: int) -> Callable[..., Hypotheses]:
    """Returns `(params, texts int32[batch, time], alpha) -> hypotheses`."""

    def search(params: Params, texts: AnyArray, alpha: Array) -> Hypotheses:
        start = network.encode(params, texts)
        step = step_of(network, params, start, beam)
        if beam == 1:
            best = decoding.greedy(step, start.carry, END, END, len(texts), limit)
            scores = best.logs / decoding.penalty(best.lengths, alpha)
            return Hypotheses(*(leaf[:, None] for leaf in (*best, scores)))
        return decoding.search(step, start.carry, END, END, len(texts), limit, beam, alpha)

    return jax.jit(search)


@programs.shared
def _attending(network: Network) -> Callable[..., Array]:
    """Returns `(params, texts, before) -> weights`."""

    def attend(params: Params, texts: AnyArray, before: AnyArray) -> Array:
        start = network.encode(params, texts)
        return network.decode(params, start.memory, start.carry, before).weights

    return jax.jit(attend)
