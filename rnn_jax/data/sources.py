"""Where stories come from: one module a source, each with the same two functions.

`classes(config)` gives the classes' names; `read(config)` gives training and test stories. Sources
that can be streamed have three more: `files(config, split)`, `stories(config, split, classes)`,
which yields one at a time, and `named(config)`, the classes' names where the training stories need
not be read for them, otherwise None. What holds for every source (validation, `take`) is done here,
once. A source is one such module and one row of `rnn_jax.data.options.SOURCES`.
"""

from __future__ import annotations

import importlib
import itertools
import pathlib
import types
from collections.abc import Iterator

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.options import SOURCES, DataConfig
from rnn_jax.data.stories import Splits, Stories, cut

__all__ = [
    "SOURCES", "Splits", "Stories", "classes", "files", "load", "named", "stories", "test",
]  # fmt: skip


def classes(config: DataConfig) -> tuple[str, ...]:
    """The classes' names, without network; only a folder without classes.txt is read for them.

    Raises:
      InputError: an unknown source, or files that are missing or malformed.
    """
    return _source(config).classes(config)


def load(config: DataConfig, classes: tuple[str, ...] | None = None) -> Splits:
    """The stories of the three splits.

    With `config.validation` "split", a stratified share of the training stories becomes the
    validation split; with "test", the test stories are the validation split too. The splits are the
    same whatever `config.take` is: it shortens each of them afterwards, from the front;
    `config.train_take` then shortens the training split alone.

    Args:
      config: says which.
      classes: their names, where the caller knows them.

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
    if config.train_take:
        used = min(config.train_take, len(splits["train"]))
        splits["train"] = splits["train"].select(np.arange(used))
    return Splits(**splits, classes=classes or _source(config).classes(config))


def named(config: DataConfig, known: tuple[str, ...]) -> tuple[str, ...]:
    """The classes' names as the data has them; those `known` where it calls them by numbers.

    Raises:
      InputError: an unknown source, or a file that is malformed.
    """
    source = _source(config)
    found = source.named(config) if hasattr(source, "named") else source.classes(config)
    return found or known


def test(config: DataConfig, classes: tuple[str, ...]) -> Stories:
    """The test stories of `load`, without the others where each split has files of its own.

    Raises:
      InputError: as for `load`.
    """
    source = _source(config)
    if not hasattr(source, "stories"):
        return load(config, classes).test
    found = source.stories(config, split="test", classes=classes)
    return Stories.collect(itertools.islice(found, config.take or None))


def files(config: DataConfig, split: str) -> list[pathlib.Path]:
    """The files of "train" or "test", of a source that can be streamed.

    Raises:
      InputError: they are missing.
    """
    return _source(config).files(config, split=split)


def stories(
    config: DataConfig, split: str, classes: tuple[str, ...]
) -> Iterator[tuple[str | None, str, int]]:
    """Yields (title, description, label) of "train" or "test", of a source that can be streamed.

    Args:
      config: says which.
      split: "train" or "test".
      classes: their names.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    return _source(config).stories(config, split=split, classes=classes)


def _source(config: DataConfig) -> types.ModuleType:
    if config.source not in SOURCES:
        raise InputError(f"data.source must be one of {', '.join(SOURCES)}, not {config.source!r}")
    source = _module(config.source)
    if config.stream and not hasattr(source, "stories"):
        able = [name for name in SOURCES if hasattr(_module(name), "stories")]
        raise InputError(
            f"--config.data.stream needs --config.data.source={' or '.join(able)}, "
            f"not {config.source}"
        )
    return source


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(SOURCES[name].module)
