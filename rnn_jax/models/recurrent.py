"""What models have in common: recurrent layers, and the options that describe them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rnn_jax import cells, kernels
from rnn_jax.config import InputError, Section, nearest, option
from rnn_jax.nn import layers
from rnn_jax.nn.noise import KEPT
from rnn_jax.types import Cell

NOMINAL = 0.5  # a rate of recurrent dropout that says only that there is one


def _options(config: Any) -> dict[str, Any]:
    """What of a model section goes into its cells."""
    return {name: getattr(config, name) for name in ("initializer", "recurrent_dropout")}


def _linear(config: Any, make: Callable[..., Cell], **options: Any) -> Cell:
    if config.recurrent_dropout:
        raise InputError(
            "--config.model.recurrent_dropout drops from the hidden state's product, which "
            f"{config.cell} has not; leave it at 0"
        )
    return make(config.hidden, **options)


# name -> (the config's model section) -> cell. A cell is one function and one row.
CELLS: dict[str, Callable[[Any], Cell]] = {
    "simple_rnn": lambda config: cells.simple_rnn(config.hidden, **_options(config)),
    "lstm": lambda config: cells.lstm(config.hidden, **_options(config)),
    "gru": lambda config: cells.gru(config.hidden, **_options(config)),
    "min_gru": lambda config: _linear(config, cells.min_gru, initializer=config.initializer),
    "min_lstm": lambda config: _linear(config, cells.min_lstm, initializer=config.initializer),
    "lru": lambda config: _linear(config, cells.lru),
    "rg_lru": lambda config: _linear(config, cells.rg_lru),
}


@dataclasses.dataclass(frozen=True)
class RecurrentConfig(Section):
    """A stack of recurrent layers."""

    cell: str = option("lstm", f"the recurrent cell: {', '.join(CELLS)}, or the experiment's own")
    hidden: int = option(64, "units of each layer and direction", minimum=1, below=2**20)
    layers: int = option(1, "recurrent layers, one on the other", minimum=1, below=1000)
    initializer: str = option(
        "keras",
        "how the cell's parameters start: keras (one orthogonal recurrent kernel for all gates), "
        "gatewise (one for each, a larger start) or torch (all uniform)",
        choices=("gatewise", "keras", "torch"),
    )
    kernel: str = option(
        "auto",
        "how the recurrence is computed: scan (the reference), fused (the same numbers within "
        "rounding, with a gradient rule of its own), native (on CPUs, in C++; needs a "
        "compiler), blocked or associative (for linear cells, all steps at once), newton (other "
        "cells, all steps at once, repeatedly) or auto (the fastest that can run)",
        choices=(kernels.AUTO, *kernels.KERNELS),
        fixed=False,  # a run may go on where another one is there; its environment names it
    )
    recurrent_dropout: float = option(
        0.0,
        "share of the hidden state's features dropped where it enters its product, the same at "
        "each step (the package's own cells)",
        minimum=0.0,
        below=1.0,
    )


@dataclasses.dataclass(frozen=True)
class WordsConfig(RecurrentConfig):
    """Recurrent layers that read words, each of which has a vector."""

    embedding_size: int = option(
        64,
        "features of a token's learned vector (0: one-hot tokens go straight into the cell)",
        minimum=0,
        below=2**20,
    )
    vectors: str = option(
        "",
        "a file of vectors that the tokens begin with: word2vec's text or binary, GloVe's text, or "
        "NAME.npy with its words in NAME.txt, or glove_6b_50d, which a package brings; tokens that "
        "are not in it begin as they would without (empty: none)",
    )
    frozen_epochs: int = option(
        0,
        "with vectors: epochs in which the tokens' vectors stay as they are; then they are learned "
        "like the rest (0: from the first step; -1: never)",
        minimum=-1,
        below=2**31,
    )

    def check(self) -> None:
        if self.vectors and not self.embedding_size:
            raise InputError(
                "--config.model.vectors needs --config.model.embedding_size, the numbers of a "
                "vector in the file, not 0"
            )
        if self.frozen_epochs and not self.vectors:
            raise InputError(
                f"--config.model.frozen_epochs={self.frozen_epochs} needs "
                "--config.model.vectors=FILE: vectors that are not learned must come from somewhere"
            )


def cell(config: RecurrentConfig, own: Mapping[str, Callable[[Any], Cell]]) -> Cell:
    """The cell that a config names.

    Args:
      config: names it.
      own: cells of the experiment, which count before those of the table.

    Raises:
      InputError: there is none of this name.
    """
    known = CELLS | dict(own)
    if config.cell not in known:
        raise InputError(
            f"--config.model.cell must be one of {', '.join(known)}, not {config.cell!r}"
            f"{nearest(config.cell, known)}; one of your own is found by naming its --experiment, "
            f"or in Python with cells={{{config.cell!r}: ...}}"
        )
    return known[config.cell](config)


def stack(
    config: RecurrentConfig,
    own: Mapping[str, Callable[[Any], Cell]],
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    locked: bool = False,
) -> layers.Stacked:
    """The recurrent layers; `config.kernel` must be one that can run the cell.

    Args:
      config: says which cell, and how many layers.
      own: as for `cell`.
      bidirectional: whether each layer reads in both directions.
      dropout, locked: as for `rnn_jax.nn.layers.Stacked`.
    """
    each = cell(config, own)

    def layer() -> layers.Layer:
        rnn = lambda: layers.RNN(each, kernel=config.kernel)
        return layers.Bidirectional(rnn(), rnn()) if bidirectional else rnn()

    return layers.Stacked([layer() for _ in range(config.layers)], dropout=dropout, locked=locked)


def stack_rates(
    config: RecurrentConfig, *, bidirectional: bool = False, dropout: np.float32 | None = None
) -> dict[str, Any]:
    """What the collection "rates" has for the layers of `stack`, as arrays; None where it is off.

    Args:
      config, bidirectional: as for `stack`.
      dropout: between layers.
    """
    rate = config.recurrent_dropout
    each = {KEPT: np.float32(1 - rate) if rate else None}
    layer: Any = {"forward": each, "backward": each} if bidirectional else each
    return {"dropout": dropout} | {f"layers_{n}": layer for n in range(config.layers)}


def without_rates(config: Any, own: Mapping[str, Callable[[Any], Cell]], *names: str) -> Any:
    """A model section without what the collection "rates" says, so that networks that differ in
    nothing else are equal.

    Args:
      config: the section.
      own: as for `cell`; what such a cell makes of recurrent dropout is not known.
      names: options that are 0 then.
    """
    changed = dict.fromkeys(names, 0.0)
    if config.recurrent_dropout and config.cell not in own:
        changed["recurrent_dropout"] = NOMINAL
    return dataclasses.replace(config, **changed)


def choose_kernel(
    config: RecurrentConfig,
    own: Mapping[str, Callable[[Any], Cell]],
    before: str | None = None,
    strict: bool = True,
    dtype: str = "float32",
) -> kernels.Chosen:
    """The kernel that a config asks for, or the fastest; see `kernels.resolve`.

    Args:
      config: asks for it.
      own: as for `cell`.
      before: what the run used so far; `auto` stays with it where it can run.
      strict: refuse a kernel that cannot run here; otherwise it is `auto`'s turn.
      dtype: the type in which the parameters meet it.

    Raises:
      InputError: it cannot run the config's cell on this machine.
    """
    each, choice = cell(config, own), config.kernel
    made, params = [each], [_params(each, dtype)]
    if choice == kernels.AUTO and isinstance(before, str) and before in kernels.KERNELS:
        with contextlib.suppress(ValueError):
            return kernels.resolve(before, made, params)
    try:
        return kernels.resolve(choice, made, params)
    except ValueError as error:
        if not strict:
            return kernels.resolve(kernels.AUTO, made, params)
        raise InputError(
            f"--config.model.kernel={choice}: {error}, or give --config.model.kernel=auto to take "
            "the fastest one that can run"
        ) from error


def _params(cell: Cell, dtype: str) -> Any:
    """A cell's parameters, as shapes and types, those in float32 taken to be in this type."""
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, dtype if leaf.dtype == np.float32 else leaf.dtype
        ),
        shapes,
    )
