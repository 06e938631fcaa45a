"""Options of the labelled stories that classifiers read, and the table of their sources."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from rnn_jax.config import InputError, Section, option


class Source(NamedTuple):
    """A row of a table of sources.

    module: the module with its functions.
    what: what it is, for `--help`.
    """

    module: str
    what: str


# `rnn_jax.data.sources` says which functions a module has.
SOURCES = {
    "bbc_news": Source("rnn_jax.data.bbc_news", "which comes with the installation"),
    "ag_news_subset": Source("rnn_jax.data.ag_news_subset", "from TensorFlow Datasets"),
    "csv": Source("rnn_jax.data.csv_folder", "a folder with train.csv and test.csv"),
    "array_record": Source(
        "rnn_jax.data.array_record_folder",
        "a folder with train*.array_record and test*.array_record",
    ),
}


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """What the model reads, and how texts are put into batches."""

    source: str = option(
        "bbc_news",
        "the data set: " + "; ".join(f"{name}, {each.what}" for name, each in SOURCES.items()),
        choices=tuple(SOURCES),
    )
    data_dir: str = option(
        "",
        "folder of the data: for ag_news_subset TFDS' own (empty: its default), for csv and "
        "array_record the folder with the files",
        fixed=False,  # what is in it counts, and a run knows that by its digest
    )
    field: str = option(
        "text",
        "what of a story is read: title, or text (title + description)",
        choices=("title", "text"),
    )
    tokens: str = option(
        "words", "what a token is: words or characters", choices=("words", "characters")
    )
    vocab_size: int = option(
        20_000,
        "tokens in the vocabulary, the padding and unknown ones among them",
        minimum=3,
        below=2**24 + 1,
    )
    vocab_field: str = option(
        "title",
        "the field that the vocabulary is fitted on: title or text",
        choices=("title", "text"),
    )
    vocab_texts: int = option(
        2_000, "how many training texts the vocabulary is fitted on (0: all of them)", minimum=0
    )
    max_length: int = option(
        200, "tokens of a text that are read; the rest is cut off", minimum=1, below=2**24
    )
    take: int = option(0, "stories of each split that are used (0: all of them)", minimum=0)
    train_take: int = option(
        0,
        "training stories that are used of those, the first ones (0: all of them); validation and "
        "test stay as they are",
        minimum=0,
    )
    validation: str = option(
        "split",
        "what is validated on: split (a share cut from the training stories) or test (the test "
        "stories themselves: optimistic, but how many tutorials report)",
        choices=("split", "test"),
    )
    validation_share: float = option(
        0.1,
        "share of the training stories that --config.data.validation=split cuts off",
        minimum=0.0,
        below=1.0,
    )
    stream: bool = option(
        False,
        "leave the training stories (csv or array_record, of any number) on the disk and hold a "
        "window of them in memory; they are vectorized once into data.cache_dir",
    )
    window: int = option(
        16_384, "with data.stream: stories of a window; the next one is read meanwhile", minimum=1
    )
    cache_dir: str = option(
        "",
        "with data.stream: folder of the vectorized stories (empty: in the user's cache folder)",
        fixed=False,
    )
    pool: int = option(
        1,
        "batches whose texts are sorted by length together: more leave less padding, but make "
        "batches of texts that are alike",
        minimum=1,
    )
    pack: bool = option(
        False,
        "put several short texts into one row of a batch, which leaves little padding (masked "
        "models that pool the mean or max of their outputs)",
    )
    class_weights: str = option(
        "none",
        "what a training story counts in the loss: none (each the same) or balanced (each class "
        "the same, however few its stories); figures count each story once either way",
        choices=("none", "balanced"),
    )

    def check(self) -> None:
        if self.train_take and self.stream:
            raise InputError(
                "--config.data.train_take is for stories in memory; give --noconfig.data.stream, "
                "or --config.data.take to shorten every split"
            )
