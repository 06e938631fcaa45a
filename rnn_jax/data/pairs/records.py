"""What a source of pairs gives: texts and the texts that they may become, in three splits.

A source is a module with `read(config) -> Splits` and `TOKENS`, what suits its inputs and its
outputs: "characters" or "words".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.language.tokens import normal
from rnn_jax.data.pairs.options import PAIRS, PairsConfig

HELD = 0.05  # share of what can be drawn that the test has, and validation as well
MOST_ANSWERS = 8  # right answers of a text that are kept

T = TypeVar("T", bound=Hashable)


class Pair(NamedTuple):
    """A text, and what it may become: the first answer is the one to learn, any counts as right."""

    text: str
    answers: tuple[str, ...]


class Splits(NamedTuple):
    """The pairs to learn from, to validate on and to test on."""

    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]


def read(config: PairsConfig) -> Splits:
    """The pairs that a config names: turned round and taken as it says, texts made normal; of
    the right answers of a text the first `MOST_ANSWERS` are kept.

    Raises:
      InputError: they cannot be had or used.
    """
    found = importlib.import_module(PAIRS[config.source].module).read(config)
    splits = []
    for name, pairs in zip(Splits._fields, found, strict=True):
        listed = turned(pairs) if config.reverse else list(pairs)
        if not listed:
            raise InputError(f"--config.data.source={config.source}: no pair is left for {name}")
        splits.append(
            [
                Pair(normal(text), tuple(map(normal, answers[:MOST_ANSWERS])))
                for text, answers in listed[: config.take or None]
            ]
        )
    return Splits(*splits)


def tokens(config: PairsConfig) -> tuple[str, str]:
    """What tokens inputs and outputs have: "characters" or "words"."""
    own = importlib.import_module(PAIRS[config.source].module).TOKENS
    if config.reverse:
        own = own[::-1]
    asked = (config.input_tokens, config.output_tokens)
    first, second = (
        suits if each == "auto" else each for each, suits in zip(asked, own, strict=True)
    )
    return first, second


def turned(pairs: Iterable[Pair]) -> list[Pair]:
    """From answers to texts.

    >>> turned([Pair("there", ("DH EH R",)), Pair("their", ("DH EH R",))])
    [Pair(text='DH EH R', answers=('there', 'their'))]
    """
    found: dict[str, list[str]] = {}
    for text, answers in pairs:
        for answer in answers:
            found.setdefault(answer, []).append(text)
    return [Pair(answer, tuple(dict.fromkeys(texts))) for answer, texts in found.items()]


def sides(values: np.ndarray) -> np.ndarray:
    """Where numbers belong: int[n], 0 training, 1 validation, 2 test.

    By a hash of the number alone: what one seed trains on no other one tests on.

    Args:
      values: int64[n], at least 0.
    """
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    share = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    return np.where(share < HELD, 2, np.where(share < 2 * HELD, 1, 0))


def drawn(
    config: PairsConfig,
    draw: Callable[[np.random.Generator, int], Iterable[tuple[int, T]]],
    show: Callable[[T], Pair],
    most: int,
) -> Splits:
    """Different items, drawn until each split has as many as the config says.

    Args:
      config: says how many.
      draw: `(generator, how many) -> (number, item) pairs`; items of one number are on one side.
      show: an item as a pair.
      most: numbers that there are; so that it is refused where they might not be enough.

    Raises:
      InputError: more are asked for than there may be.
    """
    for name, count, share in (
        ("train", config.train, 1 - 2 * HELD),
        ("held_out", config.held_out, HELD),
    ):
        if count > 0.9 * share * most:
            raise InputError(
                f"--config.data.{name}={count} is more than --config.data.source={config.source} "
                f"has; give {int(0.9 * share * most)} at most"
            )
    splits = []
    for side, count in enumerate((config.train, config.held_out, config.held_out)):
        # A seed for each split: more to learn from leave the others as they are.
        generator = np.random.default_rng((config.seed, side))
        found: dict[T, None] = {}
        while len(found) < count:
            several = list(draw(generator, 2 * count + 100))
            own = sides(np.array([number for number, _ in several], np.int64)) == side
            found.update({item: None for (_, item), here in zip(several, own, strict=True) if here})
        splits.append([show(item) for item in list(found)[:count]])
    return Splits(*splits)
