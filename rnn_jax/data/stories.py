"""Labelled stories, and how a share of them is cut off."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Stories:
    """Labelled stories in a fixed order.

    titles: one string a story; None for one that has but one text, which is the description.
    descriptions: one string a story; what follows the title.
    labels: int32[stories], counted from 0.
    """

    titles: Sequence[str | None]
    descriptions: Sequence[str]
    labels: np.ndarray

    @classmethod
    def collect(cls, rows: Iterable[tuple[str | None, str, int]]) -> Stories:
        """The stories of (title, description, label), at least one."""
        titles, descriptions, labels = zip(*rows, strict=True)
        return cls(titles, descriptions, np.array(labels, np.int32))

    def __len__(self) -> int:
        return len(self.labels)

    def text(self, field: str) -> list[str]:
        """The stories' texts: their titles, or for the field "text" title and description. Of a
        story of one text it is that text either way."""
        if field not in ("title", "text"):
            raise ValueError(f"field must be 'title' or 'text', not {field!r}")
        return [
            description
            if title is None
            else title
            if field == "title"
            else f"{title} {description}"
            for title, description in zip(self.titles, self.descriptions, strict=True)
        ]

    def select(self, rows: np.ndarray) -> Stories:
        """The stories at the given rows (int[n]), in that order."""
        return Stories(
            [self.titles[row] for row in rows],
            [self.descriptions[row] for row in rows],
            self.labels[rows],
        )


class Splits(NamedTuple):
    """A data set as an experiment sees it; a label is an index into `classes`."""

    train: Stories
    validation: Stories
    test: Stories
    classes: tuple[str, ...]


def digests(texts: Iterable[str]) -> np.ndarray:
    """uint64[texts], a hash of each text: random numbers that every machine agrees on."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
            for text in texts
        ],
        np.uint64,
    )


def cut(stories: Stories, share: float) -> tuple[Stories, Stories]:
    """Cuts off a stratified share of the stories: (the rest, the share), each in the old order.

    In each class the stories are ranked by a hash of how they open (eight words of the description)
    and then of their whole text, and the first are cut off. So a story's side depends on the texts
    alone, not on their order, a seed or a library's random numbers; and the versions of a story
    that was updated after its publication are, but for one pair at the border, on the same side.
    `round(share * stories)` are cut off in all; classes share the rounding by largest remainder.
    """
    names, counts = np.unique(stories.labels, return_counts=True)
    exact = share * counts
    quota = np.floor(exact).astype(int)
    missing = round(share * len(stories)) - quota.sum()
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1

    openings = (" ".join(text.lower().split(None, 8)[:8]) for text in stories.descriptions)
    ranked = np.lexsort((digests(stories.text("text")), digests(openings)))
    chosen = np.zeros(len(stories), bool)
    for name, count in zip(names, quota, strict=True):
        chosen[ranked[stories.labels[ranked] == name][:count]] = True
    return stories.select(np.flatnonzero(~chosen)), stories.select(np.flatnonzero(chosen))
