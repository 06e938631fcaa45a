"""Stories in three parts, with those that repeat each other on one side of every cut."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Sequence

import numpy as np

SHINGLE = 8  # words in a row, by which stories are compared
ALIKE = 0.1  # of the shorter story's shingles, at which two stories count as versions of one
HELD = (0.1, 0.1)  # shares of the words that validation and test get


def groups(stories: Sequence[str]) -> np.ndarray:
    """Which stories are versions of one: int64[stories], the least index of a story's group.

    Two stories that share a tenth of the shorter one's runs of eight words are versions; so are
    those between which there is a chain of such.
    """
    hashes = [_shingles(story) for story in stories]
    owners = np.repeat(np.arange(len(stories)), [len(each) for each in hashes])
    order = np.argsort(np.concatenate([*hashes, np.zeros(0, np.uint64)]), kind="stable")
    values, owners = np.concatenate([*hashes, np.zeros(0, np.uint64)])[order], owners[order]
    shared: dict[tuple[int, int], int] = {}
    for start, stop in _runs(values):
        for pair in itertools.combinations(owners[start:stop].tolist(), 2):
            shared[pair] = shared.get(pair, 0) + 1
    found = np.arange(len(stories))
    for (one, other), count in shared.items():
        if count >= ALIKE * min(len(hashes[one]), len(hashes[other])):
            low, high = sorted((_root(found, one), _root(found, other)))
            found[high] = low
    return np.array([_root(found, story) for story in range(len(stories))], np.int64)


def cut(stories: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Training, validation and test stories; versions of one story stay together.

    Groups are ranked by a hash of their texts, and the first fill the test split, then validation,
    each until it has its share of the words. So a story's side depends on the texts alone.
    """
    sizes = np.array([len(story.split()) for story in stories])
    found = groups(stories)
    names = np.array([_digest(story) for story in stories], np.uint64)
    ranked = sorted(
        (min(int(names[member]) for member in members), members)
        for members in (np.flatnonzero(found == group) for group in np.unique(found))
    )
    side = np.zeros(len(stories), int)  # 0 training, 1 validation, 2 test
    filled, wanted = {1: 0, 2: 0}, {1: HELD[0] * sizes.sum(), 2: HELD[1] * sizes.sum()}
    for _, members in ranked:
        for part in (2, 1):
            if filled[part] < wanted[part]:
                side[members], filled[part] = part, filled[part] + int(sizes[members].sum())
                break
    order = np.argsort(names, kind="stable")
    train, validation, test = (
        [stories[story] for story in order if side[story] == part] for part in range(3)
    )
    return train, validation, test


def _shingles(story: str) -> np.ndarray:
    """uint64[n], the different runs of eight words, hashed; of a shorter story all its words."""
    words = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in story.lower().split()]
    hashes = np.array(words or [0], np.uint64)
    count = max(1, len(hashes) - SHINGLE + 1)
    found = np.zeros(count, np.uint64)
    for offset in range(min(SHINGLE, len(hashes))):  # a polynomial in an odd number, modulo 2^64
        found = found * np.uint64(0x9E3779B97F4A7C15) + hashes[offset : offset + count]
    return np.unique(found)


def _digest(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Where a sorted array has the same value more than once: (start, stop) each."""
    edges = np.flatnonzero(np.diff(values, prepend=values[:1] + 1, append=values[-1:] + 1))
    return [
        (int(start), int(stop)) for start, stop in itertools.pairwise(edges) if stop - start > 1
    ]


def _root(parents: np.ndarray, place: int) -> int:
    while parents[place] != place:
        place = int(parents[place])
    return place
