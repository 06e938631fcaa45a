"""Compiled programs that runs in one process share.

`jax.jit` finds what it compiled again only for the same function object, and each run makes its
functions anew. A task's key says that they are the same ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Protocol

_KEPT = 32  # programs; a search over shapes must not hold all that it ever compiled


class Keyed(Protocol):
    """What has a key: two of equal keys compute the same. None is equal to nothing."""

    @property
    def key(self) -> Hashable: ...


class _ByKey:
    """A keyed record, equal to all of the same key."""

    def __init__(self, record: Keyed):
        self.record = record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByKey) and self.record.key == other.record.key

    def __hash__(self) -> int:
        return hash(self.record.key)


def shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates `make(record, *options)`, so that records of equal keys get the same result.

    The options must be hashable. What was not asked for in a long time is forgotten.

    >>> from types import SimpleNamespace as Record
    >>> numbers = iter(range(9))
    >>> make = shared(lambda record, option: next(numbers))
    >>> make(Record(key="a"), 1), make(Record(key="a"), 1), make(Record(key="b"), 1)
    (0, 0, 1)
    >>> make(Record(key="a"), 2), make(Record(key=None), 1), make(Record(key=None), 1)
    (2, 3, 4)
    """
    kept = functools.lru_cache(_KEPT)(lambda keyed, *options: make(keyed.record, *options))

    @functools.wraps(make)
    def made(record: Keyed, *options: Hashable) -> Any:
        if record.key is None:
            return make(record, *options)
        return kept(_ByKey(record), *options)

    return made
