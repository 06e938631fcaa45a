"""What a trained language model says of texts, and the texts that it writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import inspect, sampling
from rnn_jax.data.language.tokens import Joiner, normal
from rnn_jax.data.language.vocabulary import END, Vocabulary
from rnn_jax.data.text import PADDING, UNKNOWN, checked_text, plain
from rnn_jax.inspect import Gates
from rnn_jax.models.language_model import Read, Readout
from rnn_jax.nn import cross_entropy
from rnn_jax.sampling import Sampling
from rnn_jax.system import programs
from rnn_jax.types import Array, Carry, Params

CHUNK = 32  # tokens of a call; what is written can be shown after each
LONGEST = 2**10  # tokens of a text that are read in one call, a power of two: a full call whose
# state the next one needs is not padded
LIKELY = 10  # tokens that are shown of a distribution
START = "(start)"  # how the end before a text is shown
TEMPERATURE = 0.8  # where nobody says another


class Network(NamedTuple):
    """A language model, as functions.

    read: `(params, carry, tokens int32[batch, time]) -> Read`, without noise.
    head: `(params) -> Readout`.
    key: networks of equal keys compute the same, as in `rnn_jax.tasks.base.Task`.
    """

    read: Callable[..., Read]
    head: Callable[[Params], Readout]
    key: Hashable = None


class Manner(NamedTuple):
    """How a text is written; the keywords of `Writer.generate`.

    temperature: below 1 the likely becomes likelier; at 0 it is all that comes.
    top_k: only so many of the likeliest tokens may come (0: all).
    top_p: only the likeliest tokens may come that have this probability together (1: all).
    seed: the same one gives the same text.
    stop: the text ends before this string comes, after the prompt.
    """

    temperature: float = TEMPERATURE
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str = ""


class Guess(NamedTuple):
    """What a language model says of a text.

    next: the likeliest tokens after it, with their probabilities.
    perplexity: of its tokens, by their probabilities after what stands before each.
    tokens: the text's tokens with those probabilities.
    unknown: the words of the text that the model does not know.
    """

    next: dict[str, float]
    perplexity: float
    tokens: list[tuple[str, float]]
    unknown: list[str]


class Writer:
    """A trained language model: `writer(text)` guesses, `writer.generate(prompt)` writes.

    Attributes:
      network: the model.
      params: its parameters.
      vocabulary: its tokens.
      run: config, task and parameters of its run, if it is of one.
    """

    def __init__(self, network: Network, params: Params, vocabulary: Vocabulary, run: Any = None):
        self.network, self.params, self.vocabulary = network, params, vocabulary
        self.run = run

    def __repr__(self) -> str:
        name = repr(self.run.config.experiment) if self.run else "a model"
        return f"Writer({name}, {len(self.vocabulary)} {self.vocabulary.kind})"

    def __call__(self, text: str) -> Guess:
        """How likely a text is, token by token, and what comes next.

        Raises:
          ValueError: `text` is no string, or has no token.
        """
        ids, unknown = self.read(text)
        if not len(ids):
            raise ValueError("text must have a token at least, got none")
        # One more step than there are tokens: what comes after the last.
        inputs, targets = np.append(END, ids), np.append(ids, PADDING)
        logs: list[np.ndarray] = []
        carry = empty_carry(self.network, self.params, 1)
        shares: Any = ()
        for start in range(0, len(inputs), LONGEST):
            count = len(inputs[start : start + LONGEST])
            # A power of two of steps, so that few programs are compiled; what is beyond the text
            # comes after it, and is not looked at.
            missing = (1 << max(count - 1, 31).bit_length()) - count
            window, told = (
                np.pad(each[start : start + LONGEST], (0, missing)).astype(np.int32)[None]
                for each in (inputs, targets)
            )
            carry, losses, shares = _reader(self.network)(
                self.params, carry, window, told, np.int32(count - 1)
            )
            logs.append(-np.asarray(losses)[0, :count])
        chances = np.concatenate(logs)[:-1].astype(np.float64)
        shares = np.asarray(shares, np.float64)
        likely = np.argsort(-shares, kind="stable")[:LIKELY]
        shown = [self.vocabulary.words[index] for index in ids]
        return Guess(
            {self.vocabulary.words[index]: float(shares[index]) for index in likely},
            float(np.exp(min(-chances.mean(), 700.0))),
            list(zip(shown, np.exp(chances).tolist(), strict=True)),
            unknown,
        )

    def read(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A text's ids, int32[tokens], and those of its words that are unknown.

        Raises:
          ValueError: `text` is no string.
        """
        shown = normal(plain(checked_text(text)))
        ids = self.vocabulary.encode(shown).ids
        pieces = self.vocabulary.split(shown)
        missing = (pieces[place] for place in np.flatnonzero(ids == UNKNOWN).tolist())
        return ids, list(dict.fromkeys(missing))

    def gates(self, text: str) -> Gates:
        """What the gates of each recurrent layer do over the tokens of a text, before which there
        is an end, `START`; of a long text over its first ones.

        Raises:
          ValueError: `text` is no string, or has no token.
        """
        ids, _ = self.read(text)
        if not len(ids):
            raise ValueError("text must have a token at least, got none")
        inputs = np.append(END, ids)[:LONGEST].astype(np.int32)
        missing = (1 << max(len(inputs) - 1, 31).bit_length()) - len(inputs)
        found = _walker(self.network)(self.params, np.pad(inputs, (0, missing))[None])
        pieces = self.vocabulary.split(normal(plain(text)))
        words = (START, *pieces)[: len(inputs)]
        return inspect.gates_of(found, words, (inputs != UNKNOWN).tolist(), len(inputs))

    def generate(
        self,
        prompt: str = "",
        tokens: int = 100,
        *,
        samples: int | None = None,
        **how: Any,
    ) -> Any:
        """A text that goes on from a prompt, with the prompt; with `samples` a list of so many.

        Args:
          prompt: how it begins; empty for a new story.
          tokens: how many are written at most. A story may end before; unknown ones never come.
          samples: how many texts, computed together; sample i is the same in any number of them.
          how: by keyword, temperature (0.8: below 1 the likely becomes likelier, at 0 it is all
            that comes), top_k (only so many of the likeliest tokens may come; 0: all), top_p (only
            the likeliest that have this probability together; 1: all), seed (the same one gives the
            same text) and stop (the text ends before this string comes, after the prompt).

        Raises:
          ValueError: an argument is out of its bounds; the message begins with its name.
          TypeError: there is no such keyword.
        """
        texts = [prompt] * (1 if samples is None else samples)
        for gained in self.pieces(prompt, tokens, samples=len(texts), **how):
            texts = [text + more for text, more in zip(texts, gained, strict=True)]
        return texts if samples is not None else texts[0]

    def stream(self, prompt: str = "", tokens: int = 100, **how: Any) -> Iterator[str]:
        """The text that `generate` returns, without the prompt, piece by piece as it is written.

        Args and errors are those of `generate`, without `samples`.
        """
        for (piece,) in self.pieces(prompt, tokens, **how):
            if piece:
                yield piece

    def pieces(
        self, prompt: str = "", tokens: int = 100, samples: int = 1, **how: Any
    ) -> Iterator[list[str]]:
        """Yields, as it is written, what each of the samples gains; arguments as for `generate`."""
        manner = Manner(**how)
        seed = manner.seed
        if type(tokens) is not int or not 0 <= tokens < 2**31:
            raise ValueError(f"tokens must be a whole number of at least 0, got {tokens!r}")
        if type(samples) is not int or not 1 <= samples < 2**16:
            raise ValueError(f"samples must be a whole number from 1 to 65535, got {samples!r}")
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
        drawing = sampling.sampling(manner.temperature, manner.top_k, manner.top_p)
        ids, _ = self.read(prompt)
        return self._pieces(ids, tokens, drawing, seed, manner.stop, samples)

    def _pieces(
        self, prompt: np.ndarray, tokens: int, how: Sampling, seed: int, stop: str, samples: int
    ) -> Iterator[list[str]]:
        texts = [_Growing(Joiner(self.vocabulary.kind), stop) for _ in range(samples)]
        for token in prompt:
            for text in texts:
                text.joiner.add(self.vocabulary.shown(token))
        carry: Carry = empty_carry(self.network, self.params, samples)
        last: Any = np.full(samples, END, np.int32)
        write = _writer(self.network)
        position, end = 0, len(prompt) + tokens
        while position < end and not all(text.ended for text in texts):
            given = prompt[position : position + CHUNK]
            forced = np.pad(given, (0, CHUNK - len(given))).astype(np.int32)
            carry, last, drawn = write(
                self.params, carry, last, np.uint32(seed), np.int32(position), forced,
                np.int32(len(given)), how,
            )  # fmt: skip
            new = np.asarray(drawn)[:, len(given) : end - position]
            yield [
                text.grow(map(int, row), self.vocabulary)
                for text, row in zip(texts, new, strict=True)
            ]
            position += CHUNK
        yield [text.rest() for text in texts]


class _Growing:
    """A text while it is written: holds back what may become the string that it stops before."""

    def __init__(self, joiner: Joiner, stop: str):
        self.joiner, self.stop = joiner, stop
        self.held, self.ended = "", False

    def grow(self, ids: Iterator[int], vocabulary: Vocabulary) -> str:
        """What can be shown when these tokens have been written."""
        for index in ids:
            if self.ended:
                return ""
            if index == END:
                self.ended = True
                break
            self.held += self.joiner.add(vocabulary.shown(index))
            if self.stop and self.stop in self.held:
                self.held, self.ended = self.held[: self.held.index(self.stop)], True
        keep = 0 if self.ended or not self.stop else _overlap(self.held, self.stop)
        place = len(self.held) - keep
        shown, self.held = self.held[:place], self.held[place:]
        return shown

    def rest(self) -> str:
        """What is left when no more comes."""
        shown, self.held = self.held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """How much of a text's end is the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def empty_carry(network: Network, params: Params, rows: int) -> Carry:
    """The carry before any token, zeros of NumPy, for which nothing is compiled; of `params` only
    the shapes count."""
    tokens = jax.ShapeDtypeStruct((rows, 1), jnp.int32)
    shapes = jax.eval_shape(
        lambda params, tokens: network.read(params, None, tokens).carry, params, tokens
    )
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@programs.shared
def _writer(network: Network) -> Callable[..., tuple[Carry, Array, Array]]:
    """Returns `(params, carry, last, seed, position, forced, count, how) -> (carry, last, tokens)`:
    the next CHUNK tokens of each row, the first `count` of which are `forced`."""

    def write(
        params: Params, carry: Carry, last: Array, seed: Array, position: Array, forced: Array,
        count: Array, how: Sampling,
    ) -> tuple[Carry, Array, Array]:  # fmt: skip
        table, bias = network.head(params)
        bias = bias.at[np.array([PADDING, UNKNOWN])].set(-jnp.inf)  # they are not written
        samples = jnp.arange(len(last), dtype=jnp.uint32)
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(samples)

        def step(state: tuple[Carry, Array], at: tuple[Array, Array]) -> Any:
            (carry, last), (index, given) = state, at
            found = network.read(params, carry, last[:, None])
            # Not a product with the transposed table, which XLA would write down at each step.
            logits = jnp.einsum("vd,bd->bv", table, found.features[:, 0]) + bias
            logits = logits.astype(jnp.float32)
            here = jax.vmap(lambda key: jax.random.fold_in(key, position + index))(keys)
            drawn = sampling.draw(here, logits, how)
            token = jnp.where(index < count, given, drawn)
            return (found.carry, token), token

        steps = jnp.arange(CHUNK, dtype=jnp.int32), forced
        (carry, last), tokens = jax.lax.scan(step, (carry, last), steps)
        return carry, last, tokens.T

    return jax.jit(write)


@programs.shared
def _reader(network: Network) -> Callable[..., tuple[Carry, Array, Array]]:
    """Returns `(params, carry, inputs, targets, last) -> (carry, losses, next)` of int32[1, time]
    inputs and targets; `next` is the distribution after input number `last`."""

    def read(
        params: Params, carry: Carry, inputs: Array, targets: Array, last: Array
    ) -> tuple[Carry, Array, Array]:
        found, head = network.read(params, carry, inputs), network.head(params)
        losses = cross_entropy.token_statistics(found.features, *head, targets).losses
        logits = head.table @ found.features[0, last] + head.bias
        return found.carry, losses, jax.nn.softmax(logits.astype(jnp.float32))

    return jax.jit(read)


@programs.shared
def _walker(network: Network) -> Callable[..., list[inspect.Walk]]:
    """Returns `(params, tokens int32[1, time]) -> walks` from a state of none."""

    def walks(params: Params, tokens: Array) -> list[inspect.Walk]:
        return inspect.walks(network.read, params, None, tokens)

    return jax.jit(walks)
