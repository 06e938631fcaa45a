"""Where stories come from: one module a source, each with the same two functions.

`classes(config)` gives the classes' names without reading stories; `read(config)` gives training
and test stories. What holds for every source (validation, `take`) is done here, once.
"""

from __future__ import annotations

import types

import numpy as np

from rnn_jax.config import DataConfig, InputError
from rnn_jax.data import ag_news_subset, bbc_news, csv_folder
from rnn_jax.data.stories import Splits, Stories, cut

__all__ = ["SOURCES", "Splits", "Stories", "classes", "load"]

SOURCES: dict[str, types.ModuleType] = {
    "bbc_news": bbc_news,
    "ag_news_subset": ag_news_subset,
    "csv": csv_folder,
}


def classes(config: DataConfig) -> tuple[str, ...]:
    """The classes' names, without network; stories are read only for a csv without classes.txt.

    Raises:
      InputError: an unknown source, or files that are missing or malformed.
    """
    return _source(config).classes(config)


def load(config: DataConfig) -> Splits:
    """The stories of the three splits.

    With `config.validation` "split", a stratified share of the training stories becomes the
    validation split; with "test", the test stories are the validation split too. The splits are the
    same whatever `config.take` is: it shortens each of them afterwards, from the front.

    Raises:
      InputError: the source is unknown, out of reach or malformed, or a split is empty.
    """
    train, test = _source(config).read(config)
    validation = test
    if config.validation == "split":
        train, validation = cut(train, config.validation_share)
    splits = {"train": train, "validation": validation, "test": test}
    for name, stories in splits.items():
        if not len(stories):
            raise InputError(
                f"the {name} split of {config.source} is empty: --config.data.validation_share="
                f"{config.validation_share} leaves it no story"
            )
        if config.take:
            splits[name] = stories.select(np.arange(min(config.take, len(stories))))
    return Splits(**splits, classes=classes(config))


def _source(config: DataConfig) -> types.ModuleType:
    if config.source not in SOURCES:
        raise InputError(f"data.source must be one of {', '.join(SOURCES)}, not {config.source!r}")
    return SOURCES[config.source]
