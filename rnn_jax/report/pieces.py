"""What the report's page is made of: plain records, drawn by the macros of page.html.jinja."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


def signed(figure: str) -> str:
    """A printed number with a minus sign, not a hyphen, where it is below zero.

    >>> signed("-0.5") == "\\N{MINUS SIGN}0.5", signed("2e-05")
    (True, '2e-05')
    """
    return "\N{MINUS SIGN}" + figure[1:] if figure.startswith("-") else figure


class Share(float):
    """A part of a whole, 0 to 1, NaN where there is no whole; shown as a bar with its per cent."""


class Seconds(float):
    """A time; tables show three figures of it or tenths, whatever their other figures have."""


@dataclasses.dataclass(frozen=True)
class Prose:
    """A paragraph of plain text."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclasses.dataclass(frozen=True)
class Lines:
    """Sentences, a line each."""

    kind: ClassVar[str] = "lines"
    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    title: what is measured.
    x_title: what the axis counts, such as "epoch".
    x: float[points], rising.
    series: for each line its name and float[points]; None where nothing was measured. A value that
      is not finite breaks the line and is marked by a cross at the edge.
    levels: horizontal lines and their names, such as a threshold.
    mark: (x, name) of a vertical line, such as the best epoch.
    from_zero: whether the vertical axis must show zero.
    linear: whether it stays linear where positive values span more than two powers of ten.
    background: more lines, float[points] each, thin and without names.
    bands: areas between two lines, (low, high), float[points] each, the one over the other.
    """

    kind: ClassVar[str] = "chart"
    title: str
    x_title: str
    x: Sequence[float]
    series: Mapping[str, Sequence[float | None]]
    levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mark: tuple[float, str] | None = None
    from_zero: bool = False
    linear: bool = False
    background: Sequence[Sequence[float | None]] = ()
    bands: Sequence[tuple[Sequence[float], Sequence[float]]] = ()


@dataclasses.dataclass(frozen=True)
class Axis:
    """A scale that values stand on.

    title: what is measured or set.
    values: those that stand on it; words, or numbers of which None is left out.
    logarithmic: whether equal factors, not differences, are equally long.
    """

    title: str
    values: Sequence[Any]
    logarithmic: bool = False


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Points: one value against another.

    title: what is measured.
    x, y: the axes, with a value for each point; y has numbers.
    tips: what each point is, for who asks.
    best: the number of the point that stands out, or None.
    means: of an axis x of words: (word, mean, low, high) of the points there.
    """

    kind: ClassVar[str] = "scatter"
    title: str
    x: Axis
    y: Axis
    tips: Sequence[str]
    best: int | None = None
    means: Sequence[tuple[Any, float, float, float]] = ()


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: an upright axis for each quantity, a line across them for each case.

    title: what is shown.
    axes: each with a value for each case; by the last one lines are told apart.
    tips: what each case is.
    best: the number of the line that stands out, or None.
    """

    kind: ClassVar[str] = "parallel"
    title: str
    axes: Sequence[Axis]
    tips: Sequence[str]
    best: int | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    """A line to copy into a terminal."""

    kind: ClassVar[str] = "command"
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under column headings; a row's first cell names it.

    title: the caption; may be empty.
    columns: the headings.
    rows: cells are str, int, float, `Share`, `Seconds`, or None, which is shown as a dash.
    footer: one more row, set apart, or ().
    digits: decimals of floats.
    wide: False for a table that takes half of the page where there is room.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    footer: Sequence[Any] = ()
    digits: int = 4
    wide: bool = True


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How often each true class was predicted as each class.

    title: the caption.
    classes: the classes' names.
    counts: int[classes, classes]; rows are true, columns predicted.
    wide: as in `Table`.
    """

    kind: ClassVar[str] = "confusion"
    title: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    wide: bool = True


@dataclasses.dataclass(frozen=True)
class Case:
    """One text, with bars below it.

    title: what is to be seen.
    text: shown as one paragraph, in its own direction of writing.
    bars: (name, share of the full width, a remark such as "true" or "").
    """

    kind: ClassVar[str] = "case"
    title: str
    text: str
    bars: Sequence[tuple[str, float, str]] = ()


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a coloured text.

    text: the word.
    strength: -1 to 1, how full its colour is: above zero one colour, below zero another.
    tip: its figures, for who asks.
    known: whether it is in the vocabulary; others are marked.
    """

    text: str
    strength: float
    tip: str
    known: bool = True


@dataclasses.dataclass(frozen=True)
class Coloured:
    """A text whose words are coloured.

    title: what the colours say.
    words: in order.
    above, below: what the two colours mean; without `below` there is one.
    spaced: whether words stand apart.
    """

    kind: ClassVar[str] = "coloured"
    title: str
    words: Sequence[Word]
    above: str
    below: str = ""
    spaced: bool = True


@dataclasses.dataclass(frozen=True)
class Map:
    """One of several heat maps side by side.

    title: what is shown.
    values: [rows][columns].
    size: the value of the fullest colour, minus which has that of the other one; None for values
      from 0 to 1.
    ends: names of the first and the last column.
    """

    title: str
    values: Sequence[Sequence[float]]
    size: float | None = None
    ends: tuple[str, str] = ("", "")


@dataclasses.dataclass(frozen=True)
class Heat:
    """Heat maps that have their rows in common.

    title: what is shown.
    rows: the names of the rows, from the top down.
    maps: from the left to the right.
    row_title, column_title: what rows and columns are.
    """

    kind: ClassVar[str] = "heat"
    title: str
    rows: Sequence[str]
    maps: Sequence[Map]
    row_title: str = "words"
    column_title: str = "units"


@dataclasses.dataclass(frozen=True)
class Section:
    """A titled part of the page.

    title: its heading.
    pieces: the records above, in order; neighbouring charts and cases stand side by side.
    """

    title: str
    pieces: Sequence[Any]
