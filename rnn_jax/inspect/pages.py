"""What was found of a text, as parts of a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_jax.inspect.gates import Gates, LayerGates
from rnn_jax.inspect.importance import Importance
from rnn_jax.report.pieces import Coloured, Heat, Lines, Map, Prose, Section, Table, Word

UNITS = 32  # shown of a layer, evenly from its order
WORDS = 200  # shown of a text
LISTED = 12  # words in a table
_NAMES = {"\n": "(line end)", " ": "(space)"}


def coloured(found: Importance, title: str, spaced: bool = True) -> Coloured:
    """A text, each word coloured by its integrated gradients."""
    largest = max(float(np.abs(found.integrated).max(initial=0.0)), 1e-30)
    words = [
        Word(word, float(value) / largest, f"{value:+.3f}", bool(known))
        for word, value, known in zip(found.words, found.integrated, found.known, strict=True)
    ]
    return Coloured(title, words, f"for {found.label}", f"against {found.label}", spaced)


def importance_section(found: Importance, spaced: bool = True) -> Section:
    """Which words count: a coloured text, and the largest in figures."""
    order = np.argsort(-np.abs(found.integrated), kind="stable")[:LISTED]
    columns = (found.integrated, found.gradient, found.occlusion)
    rows = [
        [named(found.words[i]), int(i) + 1, *(float(column[i]) for column in columns)]
        for i in order
    ]
    sums = [float(column.sum()) for column in columns]
    return Section(
        "The words that count",
        [
            Prose(
                f"How much each word adds to the logit of {found.label}, by integrated gradients "
                f"at {found.steps} points. The logit is {found.logit:.3f}, that of a text without "
                f"any vector {found.baseline:.3f}; the words add up to the difference, "
                f"{found.logit - found.baseline:.3f}, within {abs(found.gap):.1g}."
            ),
            coloured(found, "Text", spaced),
            Table(
                "The largest",
                ["word", "place", "integrated", "gradient", "occlusion"],
                rows,
                footer=["all words", None, *sums],
                digits=3,
                wide=False,
            ),
        ],
    )


def gates_sections(found: Gates) -> list[Section]:
    """What the gates did: for each direction of each layer maps, and a line for each."""
    return [_layer(layer, found.words) for layer in found.layers]


def _layer(layer: LayerGates, words: Sequence[str]) -> Section:
    count = len(layer.order)
    chosen = layer.order[
        np.unique(np.linspace(0, count - 1, min(UNITS, count)).round().astype(int))
    ]
    how = "from the one that keeps most to the one that keeps least"
    if layer.keep is None:
        how = "from the one that changes least to the one that changes most"
    shown = f"{len(chosen)} of {count} units" if len(chosen) < count else f"its {count} units"
    part = f" The first {WORDS} of {len(words)} words are shown." if len(words) > WORDS else ""
    maps = []
    for name, values in {**layer.gates, **layer.states}.items():
        fits = values.shape[1] == count
        kept = values[:WORDS, chosen if fits else np.arange(min(UNITS, values.shape[1]))]
        size = None
        if not name.endswith("gate"):
            size = max(float(np.abs(kept).max(initial=0.0)), 1e-9)
        ends = (
            (f"unit {chosen[0]}", f"{chosen[-1]}") if fits else ("unit 0", f"{kept.shape[1] - 1}")
        )
        maps.append(Map(name, kept.astype(float).tolist(), size, ends))
    return Section(
        f"What the gates do: {layer.name}",
        [
            Prose(
                f"{shown[0].upper()}{shown[1:]}, {how}. A gate's blue is fuller the more it lets "
                f"through; states and candidates are blue above zero and orange below.{part}"
            ),
            Heat("Over the words", [named(word) for word in words[:WORDS]], maps),
            Lines(layer.summary(words)),
        ],
    )


def named(word: str) -> str:
    """A word as a map shows it."""
    return _NAMES.get(word, word)
