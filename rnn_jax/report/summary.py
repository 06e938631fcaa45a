"""A model's parameters as a table."""

from __future__ import annotations

import math
from typing import Any

import jax

Row = tuple[str, tuple[int, ...], str, int]  # layer, shape, dtype, count


def rows(params: Any) -> list[Row]:
    """A row for each array of a parameter tree (of arrays or shapes), as data flows through the
    model: by name, which has the embedding before the recurrent layers, and the head last."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    leaves.sort(key=lambda leaf: getattr(leaf[0][0], "key", None) == "head")  # else as they were
    return [
        (
            "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path),
            tuple(leaf.shape),
            str(leaf.dtype),
            math.prod(leaf.shape),
        )
        for path, leaf in leaves
    ]


def table(params: Any) -> str:
    """The rows as aligned text, with their total."""
    lines = [("parameters of", "shape", "dtype", "count")]
    for name, shape, dtype, count in rows(params):
        lines.append((name, " x ".join(map(str, shape)), dtype, f"{count:,}"))
    lines.append(("total", "", "", f"{sum(row[3] for row in rows(params)):,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=False)),
                   line[3].rjust(widths[3])])
        for line in lines
    ]  # fmt: skip
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
