"""A model's parameters as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax

Row = tuple[str, tuple[int, ...], str, int]  # layer, shape, dtype, count


def rows(params: Any, flow: Sequence[str] = ()) -> list[Row]:
    """A row for each array of a parameter tree, of arrays or shapes.

    Args:
      params: the tree.
      flow: the names at its top in the order in which data flows through the model; others come
        after them, by name.
    """
    places = {name: place for place, name in enumerate(flow)}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    leaves.sort(key=lambda leaf: places.get(getattr(leaf[0][0], "key", ""), len(places)))
    return [
        (
            "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path),
            tuple(leaf.shape),
            str(leaf.dtype),
            math.prod(leaf.shape),
        )
        for path, leaf in leaves
    ]


def table(params: Any, flow: Sequence[str] = ()) -> str:
    """The rows as aligned text, with their total."""
    lines = [("parameters of", "shape", "dtype", "count")]
    for name, shape, dtype, count in rows(params, flow):
        lines.append((name, " x ".join(map(str, shape)), dtype, f"{count:,}"))
    lines.append(("total", "", "", f"{sum(row[3] for row in rows(params, flow)):,}"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=False)),
                   line[3].rjust(widths[3])])
        for line in lines
    ]  # fmt: skip
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
