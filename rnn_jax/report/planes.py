"""The geometry of scatter plots and parallel coordinates, as `charts` has that of lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rnn_jax.report import charts
from rnn_jax.report.charts import BOTTOM, HEIGHT, LEFT, MARGIN, RIGHT, WIDTH, drawable
from rnn_jax.report.pieces import Axis, Parallel, Scatter, signed

BROAD = 900  # width of a drawing across the page
_SIDE = 90  # from the drawing's sides to the first and last upright axis
_TOP = 40  # room for two rows of titles
_WORDS = 12  # different values of an axis that are each named
_FAINTEST, _STRONGEST = 0.12, 0.85

Place = Callable[[Any], float]
Ticks = list[tuple[float, str]]


def scatter(piece: Scatter) -> dict[str, Any]:
    """Where everything of a scatter plot stands, for the template to draw."""
    x, x_ticks = _placed(piece.x, LEFT + MARGIN, RIGHT + 60 - MARGIN)
    known = [v for v in piece.y.values if drawable(v)]
    interval = [bound for _, _, low, high in piece.means for bound in (low, high)]
    y, y_ticks, logarithmic = charts.vertical([*known, *filter(drawable, interval)], False)
    points = [
        (x(a), y(b), tip, number == piece.best)
        for number, (a, b, tip) in enumerate(
            zip(piece.x.values, piece.y.values, piece.tips, strict=True)
        )
        if drawable(b) and a is not None
    ]
    means = [
        (x(at), y(mean), y(low), y(high), f"mean {mean:.4g}, from {low:.4g} to {high:.4g}")
        for at, mean, low, high in piece.means
    ]
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT + 60, "bottom": BOTTOM,
        "x_ticks": x_ticks, "y_ticks": y_ticks, "logarithmic": logarithmic,
        "points": sorted(points, key=lambda point: point[-1]), "means": means,
        "summary": f"{piece.title}: {len(points)} points, {piece.y.title} from "
        f"{min(known, default=math.nan):.4g} to {max(known, default=math.nan):.4g}",
    }  # fmt: skip


def parallel(piece: Parallel) -> dict[str, Any]:
    """Where everything of parallel coordinates stands, for the template to draw."""
    last = len(piece.axes) - 1
    columns = [_SIDE + (BROAD - 2 * _SIDE) * n / max(last, 1) for n in range(last + 1)]
    placed = [_placed(axis, BOTTOM + 40, _TOP + 10) for axis in piece.axes]
    judged = [value for value in piece.axes[-1].values if drawable(value)]
    lines, best = [], None
    for number, tip in enumerate(piece.tips):
        values = [axis.values[number] for axis in piece.axes]
        if values[-1] is None or not drawable(values[-1]):
            continue
        corners = [
            f"{round(column, 1)} {place(value)}"
            for column, (place, _), value in zip(columns, placed, values, strict=True)
            if value is not None
        ]
        path = "M" + "L".join(corners)
        if number == piece.best:
            best = (path, tip)
        rank = sum(value < values[-1] for value in judged) / max(len(judged) - 1, 1)
        strength = _STRONGEST * (1 - rank) ** 2 + _FAINTEST
        lines.append((path, tip, f"{strength:.2f}"))
    axes = [
        {
            "x": round(column, 1),
            "y": 14 if number % 2 == 0 else 28,  # neighbours' long names do not meet
            "title": axis.title,
            "ticks": ticks,
            # The outer titles stay within the figure, their ticks stand outside of the lines.
            "title_x": 0 if number == 0 else BROAD if number == last else round(column, 1),
            "title_anchor": "start" if number == 0 else "end" if number == last else "middle",
            "anchor": "end" if number == 0 else "start",
        }
        for number, (column, axis, (_, ticks)) in enumerate(
            zip(columns, piece.axes, placed, strict=True)
        )
    ]
    return {
        "width": BROAD, "height": BOTTOM + 56, "top": _TOP, "bottom": BOTTOM + 46,
        "lines": lines, "best": best, "axes": axes,
        "summary": f"{piece.title}: {len(lines)} lines across "
        f"{', '.join(axis.title for axis in piece.axes)}",
    }  # fmt: skip


def _placed(axis: Axis, start: float, end: float) -> tuple[Place, Ticks]:
    """A map from an axis' values to places between two ends, and its ticks."""
    values = [value for value in axis.values if value is not None]
    distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    numbers = all(type(value) in (int, float) and drawable(value) for value in distinct)
    if not numbers or (len(distinct) <= _WORDS // 2 and not _continuous(distinct)):
        return _words(distinct, start, end)
    low, high = distinct[0], distinct[-1]
    if axis.logarithmic and low > 0:
        first, last = math.log10(low), math.log10(high)
        place = charts.scale(first, last, start, end)
        marks = _logarithmic_ticks(low, high)
        return (
            lambda value: place(math.log10(value)),
            [(place(math.log10(mark)), signed(f"{mark:g}")) for mark in marks],
        )
    place = charts.scale(low, high, start, end)
    marks = [mark for mark in charts.ticks(low, high, 5) if low <= mark <= high]
    return place, [(place(mark), charts.short(mark)) for mark in marks]


def _continuous(values: Sequence[float]) -> bool:
    """Whether few numbers look measured, not chosen: with more than four figures."""
    return any(float(f"{value:.4g}") != value for value in values)


def _words(distinct: Sequence[Any], start: float, end: float) -> tuple[Place, Ticks]:
    """Values side by side, whatever they are."""
    rank = {value: number for number, value in enumerate(distinct)}
    place = charts.scale(-0.5, len(distinct) - 0.5, start, end)
    step = -(-len(distinct) // _WORDS)
    ticks = [(place(rank[value]), _name(value)) for value in distinct[::step]]
    return lambda value: place(rank[value]), ticks


def _name(value: Any) -> str:
    return signed(f"{value:g}") if isinstance(value, float) else str(value)


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the range, or the powers alone if those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [mark for mark in every if low <= mark <= high]
    if len(inside) > 7:
        inside = [10.0**power for power in powers if low <= 10.0**power <= high]
    return inside or [low, high]
