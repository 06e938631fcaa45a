"""The geometry of line charts: from values to places on a small drawing.

The page's template draws the result as inline SVG in the page's own colours and font, so that a
chart follows light and dark, narrow screens and print. Everything here is plain arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from rnn_jax.report.pieces import Chart, signed

WIDTH, HEIGHT = 430, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 24, 212  # the plane's edges within the drawing
MARGIN = 10  # between the plane's sides and the first and last point
LINE_HEIGHT = 14  # of the names at the lines' ends
LETTER = 6.7  # width of a name's letter, at most, on the mean
MARKED_POINTS = 30  # a line with more of them is drawn without dots, which would hide others
LARGEST = 1e30  # a value beyond it is drawn like infinity: nothing else could be seen beside it


def layout(chart: Chart) -> dict[str, Any]:
    """Where everything of `chart` stands, in the drawing's units, for the template to draw."""
    edges = [edge for band in chart.bands for edge in band]
    lines = (*chart.series.values(), *chart.background, *edges, chart.levels.values())
    values = [v for line in lines for v in line if drawable(v)]
    low, high = min(chart.x, default=0), max(chart.x, default=1)
    place_x = scale(low, high, LEFT + MARGIN, RIGHT - MARGIN)
    place_y, y_ticks, logarithmic = vertical(values, chart.from_zero, chart.linear)
    x_ticks = [tick for tick in ticks(low, high, 7, smallest=1) if low <= tick <= high]

    drawn, names = [], []
    for index, (name, line) in enumerate(chart.series.items()):
        tone = {"train": 0, "validation": 1}.get(name, 2 + index)
        points, lost, path, pen = [], [], "", "M"
        for x, value in zip(chart.x, line, strict=True):
            if value is None:
                continue
            tip = f"{name}, {chart.x_title} {x:g}: {value:.4g}"
            if drawable(value):
                points.append((place_x(x), place_y(value), tip))
                path, pen = f"{path}{pen}{place_x(x)} {place_y(value)}", "L"
            else:
                lost.append((place_x(x), BOTTOM if value < 0 else TOP, tip))
                pen = "M"
        dots = points if len(points) <= MARKED_POINTS else []
        drawn.append({"tone": tone, "path": path, "points": dots, "lost": lost})
        if points:
            names.append((points[-1][1], name, f"tone{tone}"))
    thin = []
    for line in chart.background:
        known = [(x, v) for x, v in zip(chart.x, line, strict=True) if drawable(v)]
        thin.append("M" + "L".join(f"{place_x(x)} {place_y(v)}" for x, v in known) if known else "")
    areas = []
    for low_edge, high_edge in chart.bands:
        above = [f"{place_x(x)} {place_y(v)}" for x, v in zip(chart.x, high_edge, strict=True)]
        below = [f"{place_x(x)} {place_y(v)}" for x, v in zip(chart.x, low_edge, strict=True)]
        areas.append("M" + "L".join([*above, *below[::-1]]) + "Z" if above else "")
    levels = [(place_y(v), name) for name, v in chart.levels.items() if drawable(v)]
    names += [(y, name, "quiet") for y, name in levels]
    longest = max((len(name) for _, name, _ in names), default=0)
    return {
        "width": max(WIDTH, math.ceil(RIGHT + 8 + LETTER * longest)),  # names are not cut off
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
        "x_ticks": [(place_x(tick), signed(f"{tick:,.0f}")) for tick in x_ticks],
        "y_ticks": y_ticks,
        "logarithmic": logarithmic,
        "lines": drawn,
        "thin": thin,
        "areas": areas,
        "levels": levels,
        "names": _spread(names),
        "mark": chart.mark and (place_x(chart.mark[0]), chart.mark[1]),
        "summary": _summary(chart),
    }


def ticks(low: float, high: float, count: int = 5, smallest: float = 0.0) -> list[float]:
    """Round numbers from `low` or just below it to `high` or just above it.

    Args:
      low, high: the range to enclose, low <= high.
      count: how many steps at most, within the range.
      smallest: the least distance of two ticks; 1 for whole numbers.

    Returns:
      Successive multiples of 1, 2 or 5 times a power of ten.
    """
    size = max(abs(low), abs(high), 1e-3)
    if high - low < 1e-6 * size:
        low, high = low - 0.1 * size, high + 0.1 * size
    least = max((high - low) / count, smallest)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def vertical(
    values: Sequence[float], from_zero: bool, linear: bool = False
) -> tuple[Callable[[float], float], list[tuple[float, str]], bool]:
    """The map of values to heights, the ticks as (height, label), and whether it is logarithmic.

    Positive values that span more than two powers of ten get a logarithmic axis, unless it is to be
    linear: an exploding loss would otherwise press flat whatever came before it.
    """
    if not values:
        return scale(0, 1, BOTTOM, TOP), [], False
    low, high = min(values), max(values)
    if low > 0 and high / low > 100 and not linear:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        place = scale(first, last, BOTTOM, TOP)
        powers = range(first, last + 1, -(-(last - first) // 6))
        marks = [(place(power), short(10.0**power)) for power in powers]
        return lambda value: place(math.log10(value)), marks, True
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    steps = ticks(low, high)
    place = scale(steps[0], steps[-1], BOTTOM, TOP)
    return place, [(place(step), short(step)) for step in steps], False


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The linear map of [low, high] to [start, end]; a range of one value stands in the middle."""
    if high <= low:
        return lambda value: round((start + end) / 2, 1)
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _spread(names: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Moves names apart that would overlap, downwards, and up again where the plane ends."""
    placed: list[tuple[float, str, str]] = []
    for y, name, style in sorted(names):
        y = max(y, placed[-1][0] + LINE_HEIGHT) if placed else y
        placed.append((y, name, style))
    limit = float(BOTTOM)
    for index, (y, name, style) in reversed(list(enumerate(placed))):
        placed[index] = (round(min(y, limit), 1), name, style)
        limit = placed[index][0] - LINE_HEIGHT
    return placed


def _summary(chart: Chart) -> str:
    """The chart in a sentence, for those who do not see it."""
    parts = []
    for name, line in chart.series.items():
        seen = [value for value in line if drawable(value)]
        if seen:
            ends = f"{name} from {seen[0]:.4g} to {seen[-1]:.4g}"
            parts.append(f"{ends}, lowest {min(seen):.4g}, highest {max(seen):.4g}")
    if chart.mark:
        parts.append(f"{chart.mark[1]} at {chart.x_title} {chart.mark[0]:g}")
    return f"{chart.title} by {chart.x_title}: " + ("; ".join(parts) or "no finite value")


def short(tick: float) -> str:
    """A tick in the six characters that fit beside the plane: `0.25`, `60,000`, `1.5e5`."""
    if tick == 0 or 1e-3 <= abs(tick) < 1e5:
        return signed(f"{tick:,.4g}" if abs(tick) < 1e3 else f"{tick:,.0f}")
    mantissa, exponent = f"{tick:.2e}".split("e")
    return signed(f"{float(mantissa):g}e{int(exponent)}")


def drawable(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and abs(value) <= LARGEST
