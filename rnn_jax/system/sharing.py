"""What runs of one process need to make only once: kept while a scope is open, and no longer."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_open: list[_Scope] = []


class _Scope:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.locks: dict[Hashable, threading.Lock] = {}
        self.made: dict[Hashable, Any] = {}


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """While it is open, functions that are `shared` compute nothing twice, in any thread.

    What they return must not be changed by those who get it.
    """
    _open.append(_Scope())
    try:
        yield
    finally:
        _open.pop()


def shared(key: Callable[..., Hashable]) -> Callable[[F], F]:
    """Decorates a function whose result depends on `key(*arguments)` alone.

    Outside of a scope, and where the key is None, it is the function itself.

    >>> calls = []
    >>> double = shared(lambda number: number)(lambda number: calls.append(number) or 2 * number)
    >>> with scope():
    ...     double(1), double(1), double(2), calls
    (2, 2, 4, [1, 2])
    >>> double(1), calls
    (2, [1, 2, 1])
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            found = key(*arguments, **named) if _open else None
            if found is None:
                return function(*arguments, **named)
            scope, name = _open[-1], (function, found)
            with scope.lock:
                lock = scope.locks.setdefault(name, threading.Lock())
            with lock:  # others that want the same wait for it
                if name not in scope.made:
                    scope.made[name] = function(*arguments, **named)
                return scope.made[name]

        return call  # type: ignore[return-value]

    return decorate
