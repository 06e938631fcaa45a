"""Figures of matplotlib, which is imported when the first one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.config import InputError

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#66717c"  # told apart by those who are colour-blind
_LINE = 0.2  # inches of a word


def pyplot() -> Any:
    """The module matplotlib.pyplot.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError(
            "plots need matplotlib: pip install 'rnn_jax[plot]' (in a checkout: pip install -e "
            "'.[plot]')"
        ) from error
    return pyplot


def gates(words: Sequence[str], layers: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> Any:
    """Heat maps, words down and units across: a row of them for each layer.

    Args:
      words: one for each row of a map.
      layers: name and maps, float[words, units] by their names. Those named gates are drawn from 0
        to 1, others from minus to plus their largest size.
    """
    library = pyplot()
    columns = max(len(maps) for _, maps in layers)
    height = len(layers) * (1.2 + _LINE * len(words))
    figure, axes = library.subplots(
        len(layers), columns, figsize=(1.6 + 2.2 * columns, height), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, (name, maps) in zip(axes, layers, strict=True):
        for each in row[len(maps) :]:
            each.set_visible(False)
        for number, (each, (title, values)) in enumerate(zip(row, maps.items(), strict=False)):
            if title.endswith("gate"):
                scale = {"cmap": "Blues", "vmin": 0, "vmax": 1}
            else:
                size = max(float(np.abs(values).max()), 1e-9)
                scale = {"cmap": "PuOr", "vmin": -size, "vmax": size}
            shown = each.imshow(values, aspect="auto", interpolation="nearest", **scale)
            figure.colorbar(shown, ax=each, shrink=min(1.0, 8 / max(len(words), 8)))
            each.set(title=title, xlabel="units, sorted")
            each.set_yticks(range(len(words)), words if number == 0 else [])
        row[0].set_ylabel(f"words\n{name}")
    return figure


def importance(words: Sequence[str], named: Mapping[str, np.ndarray], title: str) -> Any:
    """Bars beside each word.

    Args:
      words: from the top down.
      named: float[words] for each kind of bar.
      title: what is measured.
    """
    library = pyplot()
    figure, axes = library.subplots(
        figsize=(6.5, 1.2 + 1.6 * _LINE * len(words)), layout="constrained"
    )
    places, height = np.arange(len(words)), 0.8 / len(named)
    for number, ((name, values), colour) in enumerate(
        zip(named.items(), (BLUE, ORANGE, GREY), strict=False)
    ):
        axes.barh(places + (number - 1) * height, values, height, label=name, color=colour)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(places, words)
    axes.invert_yaxis()
    axes.set(xlabel=title, ylabel="words")
    axes.legend()
    return figure
