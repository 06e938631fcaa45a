"""Number words and digits: 0 to 999,999,999 as `num2words` writes them, to digits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from num2words import CONVERTER_CLASSES, num2words

from rnn_jax.config import InputError, nearest
from rnn_jax.data.pairs import records
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair, Splits

TOKENS = ("characters", "characters")
DIGITS = 9  # of the longest number


def read(config: PairsConfig) -> Splits:
    """Different numbers, each count of digits equally often as far as there are enough.

    Raises:
      InputError: num2words has not this language, or has no words for a number in it.
    """
    language = config.language
    if language not in CONVERTER_CLASSES:
        raise InputError(
            f"--config.data.language={language} is none of num2words: "
            f"{', '.join(sorted(CONVERTER_CLASSES))}{nearest(language, CONVERTER_CLASSES)}"
        )

    def show(number: int) -> Pair:
        try:
            return Pair(num2words(number, lang=language), (str(number),))
        except Exception as error:  # whatever a language's module raises
            raise InputError(
                f"--config.data.language={language}: num2words has no words for {number} "
                f"({type(error).__name__}); give another language"
            ) from error

    return records.drawn(config, _draw, show, 10**DIGITS)


def _draw(generator: np.random.Generator, count: int) -> Iterator[tuple[int, int]]:
    """Numbers, each count of digits equally often; in every second one a half of the digits that
    follow the first are zeros, since round numbers are few among those that are drawn evenly."""
    digits = generator.integers(1, DIGITS, size=(count, 1), endpoint=True)
    drawn = generator.integers(10, size=(count, DIGITS))  # units first
    first = generator.integers(digits > 1, 10)
    is_round = generator.random((count, 1)) < 0.5
    drawn[is_round & (generator.random(drawn.shape) < 0.5)] = 0
    places = np.arange(DIGITS)
    drawn = np.where(places < digits - 1, drawn, np.where(places == digits - 1, first, 0))
    numbers = (drawn @ 10**places).tolist()
    return zip(numbers, numbers, strict=True)
