"""Where text comes from: each source gives the stories of a training, a validation and a test
split."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import NamedTuple

from rnn_jax.data.language.options import TEXTS, LanguageDataConfig


class Texts(NamedTuple):
    """A text in three parts: for each the stories, which may be read again and again.

    A story is what may be shuffled, and what a state need not be carried out of. One that is very
    long comes in pieces of any length that follow each other: see `whole`.

    whole: whether each text is a story; otherwise all texts of a split are the pieces of one.
    """

    train: Iterable[str]
    validation: Iterable[str]
    test: Iterable[str]
    whole: bool = True


def read(config: LanguageDataConfig) -> Texts:
    """The text that a config names.

    Raises:
      InputError: it cannot be had or used.
    """
    return importlib.import_module(TEXTS[config.source].module).read(config)
