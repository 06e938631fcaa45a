"""report.html: a run on one page that needs nothing else, offline, in light and dark, on paper.

The page itself knows no task. What a task has to show it hands over as `Section`s of pieces
(`Prose`, `Lines`, `Chart`, `Table`, `Confusion`, `Case`, `Coloured`, `Heat`);
`classification_sections` does so for classes. A new kind of piece is a dataclass with a `kind`, and
a macro of that name in page.html.jinja.
"""

from rnn_jax.report.classification import classification_sections
from rnn_jax.report.page import draw, drawing, render, write
from rnn_jax.report.pieces import (
    Case,
    Chart,
    Coloured,
    Confusion,
    Heat,
    Prose,
    Seconds,
    Section,
    Share,
    Table,
)

__all__ = [
    "Case",
    "Chart",
    "Coloured",
    "Confusion",
    "Heat",
    "Prose",
    "Seconds",
    "Section",
    "Share",
    "Table",
    "classification_sections",
    "draw",
    "drawing",
    "render",
    "write",
]
