"""Writing files so that nobody ever finds half of one."""

from __future__ import annotations

import os
import pathlib


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8): a reader finds the old file or the whole new one, whatever happens."""
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
