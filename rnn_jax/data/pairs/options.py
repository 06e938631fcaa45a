"""Options of the pairs that translators read, and the table of their sources."""

from __future__ import annotations

import dataclasses

from rnn_jax.config import InputError, Section, option
from rnn_jax.data.options import Source

# A module has the function `read` and the pair `TOKENS`; `rnn_jax.data.pairs.records` says more.
PAIRS = {
    "numbers": Source("rnn_jax.data.pairs.numbers", "number words to digits"),
    "dates": Source(
        "rnn_jax.data.pairs.dates", "dates as people write them to ISO 8601 (the extra pairs)"
    ),
    "pronunciation": Source(
        "rnn_jax.data.pairs.pronunciation", "English spelling to phonemes (the extra pairs)"
    ),
    "tsv": Source("rnn_jax.data.pairs.tsv_file", "a file of your own, a pair a line"),
}
TOKENS = ("auto", "characters", "words")


@dataclasses.dataclass(frozen=True)
class PairsConfig(Section):
    """What a translator reads, and how."""

    source: str = option(
        "numbers",
        "the pairs: " + "; ".join(f"{name}, {each.what}" for name, each in PAIRS.items()),
        choices=tuple(PAIRS),
    )
    data_dir: str = option(
        "",
        "for tsv: the file, in UTF-8; two columns with a tab between them",
        fixed=False,  # what is in it counts, and a run knows that by its digest
    )
    reverse: bool = option(False, "from the second text to the first (for numbers and tsv)")
    language: str = option("en", "for numbers: the language of the words, as num2words names it")
    input_tokens: str = option(
        "auto",
        "what a token of an input is: characters, words, or auto (what suits the pairs: characters "
        "but for phonemes); a tag such as <de> at its beginning is a token in any case",
        choices=TOKENS,
    )
    output_tokens: str = option(
        "auto", "likewise, of an output; punctuation marks are words of their own", choices=TOKENS
    )
    vocab_size: int = option(
        10_000,
        "tokens in each vocabulary, the padding, the unknown one and the end among them; they are "
        "fitted on the training pairs",
        minimum=4,
        below=2**20,
    )
    max_length: int = option(
        400, "tokens that a text may have; a longer one is refused", minimum=1, below=2**16
    )
    train: int = option(
        40_000,
        "for numbers and dates, which are drawn: pairs to learn from",
        minimum=1,
        below=10**7,
    )
    held_out: int = option(
        2000,
        "for numbers and dates: pairs to validate on, and as many more to test on",
        minimum=1,
        below=10**6,
    )
    seed: int = option(
        0, "for numbers and dates: the seed that pairs are drawn from", minimum=0, below=2**32
    )
    take: int = option(0, "pairs of each split that are used (0: all of them)", minimum=0)
    buckets: int = option(
        4,
        "shapes that training batches have at most; pairs of like lengths share one",
        minimum=1,
        below=100,
    )

    def check(self) -> None:
        if self.source == "tsv" and not self.data_dir:
            raise InputError(
                "--config.data.source=tsv needs the file: give --config.data.data_dir=FILE"
            )
        if self.source == "dates" and self.reverse:
            raise InputError(
                "--config.data.reverse: a date can be written in many ways, so it has no one "
                "answer; leave it out, or give another --config.data.source"
            )
        if self.source == "pronunciation" and self.reverse:
            raise InputError(
                "--config.data.reverse: words that sound alike are on two sides, so phonemes of "
                "the test would be learned; leave it out, or give another --config.data.source"
            )
