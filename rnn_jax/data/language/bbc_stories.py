"""The stories of BBC News (see `rnn_jax.data.bbc_news`) as running text."""

from __future__ import annotations

from rnn_jax.data import bbc_news
from rnn_jax.data.language import splits
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.texts import Texts
from rnn_jax.data.language.tokens import normal


def read(config: LanguageDataConfig) -> Texts:
    """All stories, title first, in a split of their own: versions of a story are on one side.

    Raises:
      InputError: the installed package lacks the corpus.
    """
    texts = dict.fromkeys(map(normal, bbc_news.texts()))
    return Texts(*splits.cut(list(texts)))
