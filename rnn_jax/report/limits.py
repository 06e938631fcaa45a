"""How much of a piece a page shows: whatever comes in, a page stays below 5 MB.

What is left out is said where it is missing. Rows keep both ends, since tables are in the order of
time or of rank; points are left out evenly, but for those that stand out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.report.pieces import Axis, Chart, Coloured, Lines, Parallel, Scatter, Table

ROWS = 400  # of a table
POINTS = 500  # of a line
BACKGROUND = 100  # lines without names
CASES = 1000  # points of a scatter, lines of parallel coordinates
SENTENCES = 300
WORDS = 5000  # of a coloured text
CHARACTERS = 200  # of a cell


def shortened(text: str, characters: int = CHARACTERS) -> str:
    """A text of no more characters than that, an ellipsis for the rest.

    >>> shortened("business", 6)
    'busin…'
    """
    return text if len(text) <= characters else text[: characters - 1] + "…"


@functools.singledispatch
def within(piece: Any) -> Any:
    """The piece, or as much of it as a page shows."""
    return piece


@within.register
def _table(piece: Table) -> Table:
    rows = [[shortened(x) if isinstance(x, str) else x for x in row] for row in _ends(piece.rows)]
    missing = len(piece.rows) - len(rows)
    if missing:
        gap = [f"… {missing:,} more", *[None] * (len(piece.columns) - 1)]
        rows.insert(len(rows) // 2, gap)
    return dataclasses.replace(piece, rows=rows)


@within.register
def _lines(piece: Lines) -> Lines:
    missing = len(piece.texts) - SENTENCES
    if missing <= 0:
        return piece
    return Lines([*piece.texts[:SENTENCES], f"… {missing:,} more"])


@within.register
def _chart(piece: Chart) -> Chart:
    x, background = list(piece.x), piece.background
    if len(background) > BACKGROUND:
        background = [background[n] for n in _spread(len(background), BACKGROUND)]
    if len(x) > POINTS:
        lines = [np.array(list(line), float) for line in piece.series.values()]
        lost = [np.flatnonzero(np.isinf(line))[: POINTS // 10].tolist() for line in lines]
        marked = [x.index(piece.mark[0])] if piece.mark and piece.mark[0] in x else []
        kept = sorted({*_spread(len(x), POINTS), *marked, *(n for some in lost for n in some)})
        of = lambda line: [line[n] for n in kept]
        piece = dataclasses.replace(
            piece,
            x=of(x),
            series={name: of(line) for name, line in piece.series.items()},
            bands=[(of(low), of(high)) for low, high in piece.bands],
        )
        background = [of(line) for line in background]
    return dataclasses.replace(piece, background=background)


@within.register
def _scatter(piece: Scatter) -> Scatter:
    if len(piece.tips) <= CASES:
        return piece
    kept, best = _cases(len(piece.tips), piece.best)
    return dataclasses.replace(
        piece, x=_some(piece.x, kept), y=_some(piece.y, kept),
        tips=[piece.tips[n] for n in kept], best=best,
    )  # fmt: skip


@within.register
def _parallel(piece: Parallel) -> Parallel:
    if len(piece.tips) <= CASES:
        return piece
    kept, best = _cases(len(piece.tips), piece.best)
    axes = [_some(axis, kept) for axis in piece.axes]
    return dataclasses.replace(piece, axes=axes, tips=[piece.tips[n] for n in kept], best=best)


@within.register
def _coloured(piece: Coloured) -> Coloured:
    return dataclasses.replace(piece, words=piece.words[:WORDS])


def _ends(rows: Sequence[Any]) -> list[Any]:
    if len(rows) <= ROWS:
        return list(rows)
    half = ROWS // 2
    return [*rows[:half], *rows[len(rows) - half :]]


def _spread(count: int, most: int) -> list[int]:
    """Numbers below `count`, evenly apart, both ends among them."""
    return sorted({math.floor(n * (count - 1) / (most - 1) + 0.5) for n in range(most)})


def _cases(count: int, best: int | None) -> tuple[list[int], int | None]:
    kept = sorted({*_spread(count, CASES), *([] if best is None else [best])})
    return kept, None if best is None else kept.index(best)


def _some(axis: Axis, kept: Sequence[int]) -> Axis:
    return dataclasses.replace(axis, values=[axis.values[n] for n in kept])
