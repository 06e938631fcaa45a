"""Errors of others as one readable line."""

from __future__ import annotations

import os


def first_line(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing; what the system said comes first.

    >>> first_line(ValueError("no such table\\nsee the manual"))
    'no such table'
    >>> first_line(KeyError())
    'KeyError'
    """
    strerror = getattr(error, "strerror", None)
    return strerror or next(iter(str(error).splitlines()), "") or type(error).__name__


def cause(error: OSError) -> str:
    """What the system said, and of which path.

    >>> cause(PermissionError(13, "Permission denied", "/data/train.csv"))
    'Permission denied: /data/train.csv'
    >>> cause(OSError(5, "Input/output error"))
    'Input/output error'
    """
    said = first_line(error)
    if error.filename is None or isinstance(error.filename, int):
        return said
    return f"{said}: {os.fsdecode(error.filename)}"


def shortened(text: str, length: int) -> str:
    """A text of about so many characters at most: how it begins and how it ends.

    >>> shortened("0123456789", 4)
    '01...89'
    """
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


def one_line(error: BaseException) -> str:
    """All that an error says, in a line.

    >>> one_line(ValueError("no such flag:\\n  --x"))
    'no such flag: --x'
    """
    return " ".join(str(error).split())


def printable(message: str) -> str:
    """A message in one line that does nothing else to a terminal, whatever it quotes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
