"""Dates as people write them in twenty places, to ISO 8601; written by `babel` from Unicode's CLDR.

The place is the first token, such as <en_GB>, since 3/5/2021 is two dates.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.pairs import records
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair, Splits

TOKENS = ("characters", "characters")
LOCALES = (
    "cs", "da", "de", "el", "en_GB", "en_US", "es", "fi", "fr", "hu", "it", "ja", "ko", "nl", "pl",
    "pt_BR", "ru", "sv", "tr", "zh",
)  # fmt: skip
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
SKELETONS = ("yMd", "yMEd", "yMMMd", "yMMMEd", "yMMMMd")  # beside the four standard formats
_SHORT_YEAR = re.compile(r"(?<!y)yy(?!y)")


def read(config: PairsConfig) -> Splits:
    """Different dates, each in one of the formats of a place.

    Raises:
      InputError: babel is not installed.
    """
    dates = _library()
    days = LAST.toordinal() - FIRST.toordinal() + 1
    found = [(locale, pattern) for locale in LOCALES for pattern in patterns(locale)]
    weights = np.repeat(
        [1 / len(patterns(locale)) for locale in LOCALES],
        [len(patterns(locale)) for locale in LOCALES],
    )

    def draw(
        generator: np.random.Generator, count: int
    ) -> Iterator[tuple[int, tuple[int, str, str]]]:
        numbers = (FIRST.toordinal() + generator.integers(days, size=count)).tolist()
        chosen = generator.choice(len(found), size=count, p=weights / weights.sum()).tolist()
        return ((day, (day, *found[each])) for day, each in zip(numbers, chosen, strict=True))

    def show(item: tuple[int, str, str]) -> Pair:
        day, locale, pattern = item
        date = datetime.date.fromordinal(day)
        return Pair(
            f"<{locale}> {dates.format_date(date, pattern, locale=locale)}", (date.isoformat(),)
        )

    return records.drawn(config, draw, show, days * 5)


@functools.cache
def patterns(locale: str) -> tuple[str, ...]:
    """The ways in which dates are written in a place, years with all their digits, as patterns of
    CLDR."""
    dates, place = _library(), _core().Locale.parse(locale)
    found = [dates.get_date_format(name, place).pattern for name in ("short", "medium", "long")]
    found.append(dates.get_date_format("full", place).pattern)
    known = place.datetime_skeletons
    found += [known[name].pattern for name in SKELETONS if name in known]
    return tuple(dict.fromkeys(_SHORT_YEAR.sub("y", pattern) for pattern in found))


def _library() -> Any:
    try:
        import babel.dates
    except ImportError as error:
        raise InputError("--config.data.source=dates needs a package: pip install babel") from error
    return babel.dates


def _core() -> Any:
    import babel

    return babel
