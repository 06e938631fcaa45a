"""AG News through TensorFlow Datasets, without TensorFlow.

X. Zhang, J. Zhao and Y. LeCun, "Character-level Convolutional Networks for Text Classification",
NeurIPS 2015: 120,000 training and 7,600 test stories in four classes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import absl.logging
import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories
from rnn_jax.system.messages import first_line

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
URL = "https://drive.google.com/uc?export=download&id=0Bz8a_Dbh9QhbUDNpeUdjb0wxRms"
PATIENCE = 10.0  # seconds until a server that does not answer counts as out of reach


def classes(config: DataConfig) -> tuple[str, ...]:
    """The names of the four classes."""
    return CLASSES


def read(config: DataConfig) -> tuple[Stories, Stories]:
    """Training and test stories, in TFDS' order.

    A prepared copy in `config.data_dir` (empty: TFDS' own folder) is read where it is; otherwise
    TFDS downloads and prepares one there.

    Raises:
      InputError: there is no copy and no way to download one, or the copy cannot be read.
    """
    with _quiet():
        builder = _prepared(config.data_dir)
        return _stories(builder, "train"), _stories(builder, "test")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS off standard output, which is the program's, and from extra warnings."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _prepared(data_dir: str) -> Any:
    """A TFDS builder whose files are on the disk."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(
            "ag_news_subset", data_dir=data_dir or None, file_format="array_record"
        )
        if builder.is_prepared():
            return builder
    except Exception as error:  # TFDS raises whatever its layers raise
        raise InputError(
            f"ag_news_subset in {data_dir or 'the folder of TFDS'}: {first_line(error)} "
            "(another --config.data.data_dir gets a fresh copy)"
        ) from error
    # Only now, since without network TFDS would retry for more than three minutes.
    if not reachable(URL):
        raise InputError(
            f"ag_news_subset is not in {builder.data_dir} and cannot be downloaded: give "
            "--config.data.data_dir=DIR with a prepared copy, use --config.data.source=csv with "
            "the original CSV files, or --config.data.source=bbc_news, which needs no download"
        )
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:
        raise InputError(f"ag_news_subset cannot be downloaded: {first_line(error)}") from error
    return builder


def reachable(url: str, patience: float | None = None) -> bool:
    """Whether the server of `url` answers, found out within `patience` seconds (None: PATIENCE).

    A thread asks, since neither the look-up of a name nor a server that sends a byte now and then
    keeps to a timeout.
    """
    patience = PATIENCE if patience is None else patience
    answers: list[bool] = []

    def ask() -> None:
        try:
            import requests  # TFDS' own client: the same proxies and certificates

            with requests.get(url, stream=True, timeout=patience) as response:
                answers.append(response.ok)
        except Exception:  # a proxy's address that cannot be parsed, too, means: no answer
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return answers == [True]


def _stories(builder: Any, split: str) -> Stories:
    try:
        source = builder.as_data_source(split)
        examples = source.__getitems__(range(len(source)))
        titles = [example["title"].decode() for example in examples]
        descriptions = [example["description"].decode() for example in examples]
        labels = np.array([example["label"] for example in examples], np.int64)
    except Exception as error:
        raise InputError(
            f"cannot read ag_news_subset in {builder.data_dir}: {first_line(error)}"
        ) from error
    if not len(labels):
        raise InputError(f"ag_news_subset in {builder.data_dir} has no {split} stories")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise InputError(
            f"ag_news_subset in {builder.data_dir}: the {split} split has a label out of range"
        )
    return Stories(titles, descriptions, labels.astype(np.int32))
