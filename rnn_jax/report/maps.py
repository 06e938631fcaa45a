"""The geometry of heat maps: words down, units across, several maps side by side."""

from __future__ import annotations

import math
from typing import Any

from rnn_jax.report import charts
from rnn_jax.report.pieces import Heat

LABEL = 118  # width of the words
LETTERS = 16  # of a word that are shown
ROW, HEAD, FOOT = 15, 24, 34  # heights of a word, and of what stands above and below the maps
WIDEST, NARROWEST = 128, 84  # of a map; a narrow one keeps the room of its title
CELL = 14  # width of a unit, at most
GAP = 16
LEVELS = 8  # steps of a colour


def heat(piece: Heat) -> dict[str, Any]:
    """Where everything of heat maps stands, for the template to draw.

    Neighbours of one colour are drawn as one, and all of one colour in one path, so that a page
    with thousands of cells stays small.
    """
    height = HEAD + ROW * len(piece.rows) + FOOT
    left, drawn = LABEL, []
    for each in piece.maps:
        columns = max((len(row) for row in each.values), default=0)
        width = min(CELL, WIDEST / max(columns, 1))
        size = each.size or 1.0
        paths: dict[tuple[str, int], list[str]] = {}
        for number, row in enumerate(each.values):
            top = HEAD + ROW * number
            for start, end, level in _runs(row, size):
                if level:
                    long = charts.short(round(width * (end - start), 1)).replace(",", "")
                    corner = f"M{round(left + start * width, 1):g} {top}"
                    path = f"{corner}h{long}v{ROW - 1}h-{long}z"
                    side = "above" if level > 0 else "below"
                    paths.setdefault((side, abs(level)), []).append(path)
        drawn.append(
            {
                "left": left,
                "width": round(columns * width, 1),
                "title": each.title,
                "scale": "0 to 1" if each.size is None else f"±{charts.short(size)}",
                "ends": each.ends,
                "paths": [
                    (side, f"{level / LEVELS:g}", "".join(path))
                    for (side, level), path in sorted(paths.items())
                ],
            }
        )
        left = math.ceil(left + max(columns * width, NARROWEST) + GAP)
    words = [
        (HEAD + ROW * number, word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…")
        for number, word in enumerate(piece.rows)
    ]
    titles = ", ".join(each.title for each in piece.maps)
    return {
        "width": left, "height": height, "label": LABEL - 8, "row": ROW, "head": HEAD,
        "bottom": HEAD + ROW * len(piece.rows), "words": words, "maps": drawn,
        "summary": f"{piece.title}: {titles} for {len(piece.rows)} words",
    }  # fmt: skip


def _runs(row: Any, size: float) -> list[tuple[int, int, int]]:
    """Neighbours of one colour: (start, end, level), level from -LEVELS to LEVELS; what is not
    finite has the level of none."""
    levels = [
        round(max(-1.0, min(1.0, value / size)) * LEVELS) if math.isfinite(value) else 0
        for value in row
    ]
    found: list[tuple[int, int, int]] = []
    for place, level in enumerate(levels):
        if found and found[-1][2] == level:
            found[-1] = (found[-1][0], place + 1, level)
        else:
            found.append((place, place + 1, level))
    return found
