"""Pairs of one's own: a text file with two columns, a tab between them, a pair a line."""

from __future__ import annotations

import hashlib
import pathlib

from rnn_jax.config import InputError
from rnn_jax.data.language.tokens import normal
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair, Splits

TOKENS = ("characters", "characters")
HELD = 0.1  # share of the pairs that the test has, and validation as well
LARGEST = 2**28  # bytes of a file


def read(config: PairsConfig) -> Splits:
    """The file's pairs; those that share a text or an answer, but for white space, are on one side.

    A text that stands in several lines has several right answers. Groups of pairs are ranked by a
    hash of their texts; the first are the test, the next validation. A group that is larger than
    half of a share is trained on.

    Raises:
      InputError: there is no such file, or a line is no pair; with its number.
    """
    pairs = listed(pathlib.Path(config.data_dir).expanduser(), config.data_dir)
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups(pairs)):
        members.setdefault(group, []).append(index)
    ranked = sorted((min(_hash(pairs[i]) for i in each), each) for each in members.values())
    wanted = HELD * len(pairs)
    parts: tuple[list[Pair], list[Pair], list[Pair]] = ([], [], [])
    for _, each in ranked:
        room = [len(parts[side]) < wanted and len(each) <= max(1, wanted / 2) for side in (2, 1)]
        side = 2 if room[0] else 1 if room[1] else 0
        parts[side].extend(pairs[index] for index in each)
    if not all(parts):
        raise InputError(
            f"{config.data_dir} has too few pairs that have nothing in common: training, "
            "validation and test (8:1:1) need some each"
        )
    return Splits(*parts)


def listed(path: pathlib.Path, name: str) -> list[Pair]:
    """The file's texts with their answers.

    Args:
      path: the file.
      name: how it was called.

    Raises:
      InputError: it cannot be read, or a line is no pair.
    """
    try:
        if not path.is_file():
            raise InputError(f"--config.data.data_dir={name}: there is no such file")
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes; give a smaller file")
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            columns = line.decode("utf-8").rstrip("\r").split("\t")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} line {number} is no UTF-8; convert the file, for instance with iconv"
            ) from error
        if not any(map(str.strip, columns)):
            continue  # an empty line
        if len(columns) != 2:
            raise InputError(
                f"{path} line {number} has {len(columns)} columns, expected 2 with a tab between "
                "them"
            )
        if not all(map(str.strip, columns)):
            raise InputError(f"{path} line {number} has an empty column; fill it, or leave it out")
        # As they will be read: what differs by white space alone is the same.
        text, answer = map(normal, columns)
        found.setdefault(text, []).append(answer)
    if not found:
        raise InputError(f"{path} has no pairs; give two columns with a tab between them")
    return [Pair(text, tuple(dict.fromkeys(answers))) for text, answers in found.items()]


def groups(pairs: list[Pair]) -> list[int]:
    """Which pairs share an answer, or are linked by a chain of such: the least index of each one's
    group.

    >>> groups([Pair("a", ("1",)), Pair("b", ("2", "1")), Pair("c", ("3",)), Pair("d", ("2",))])
    [0, 0, 2, 0]
    """
    parents = list(range(len(pairs)))
    owner: dict[str, int] = {}  # of each answer, the first pair that has it

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for index, pair in enumerate(pairs):
        for answer in pair.answers:
            low, high = sorted((root(owner.setdefault(answer, index)), root(index)))
            parents[high] = low
    return [root(index) for index in range(len(pairs))]


def _hash(pair: Pair) -> bytes:
    return hashlib.blake2b(pair.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
