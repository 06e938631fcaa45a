"""A network that reads a sequence of vectors and answers at some of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.cells.wrappers import scaled_start
from rnn_jax.config import InputError, option
from rnn_jax.models import recurrent
from rnn_jax.models.recurrent import RecurrentConfig
from rnn_jax.nn.heads import Head
from rnn_jax.types import Array, Cell


@dataclasses.dataclass(frozen=True)
class ReaderConfig(RecurrentConfig):
    """A reader of vectors."""

    recurrent_scale: float = option(
        1.0,
        "how many times as large the recurrent kernels start: with the initializer gatewise the "
        "spectral radius of each",
        minimum=0.0,
    )


class SequenceReader(nn.Module):
    """Vectors through recurrent layers, and an affine map of their outputs at the steps asked for.

    Attributes:
      recurrent: a layer, `(inputs, lengths=...) -> (carry, outputs)`.
      symbols: how many symbols the inputs are of, which are read one-hot; 0 for vectors.
      outputs: features of an answer.
    """

    recurrent: nn.Module
    symbols: int
    outputs: int

    def setup(self) -> None:
        self.head = Head(self.outputs)

    def __call__(self, inputs: Array, at: Array, lengths: Array | None = None) -> Array:
        """The answers.

        Args:
          inputs: int32[batch, time] of symbols, or float32[batch, time, features].
          at: int32[batch, answers], the steps at which the network answers.
          lengths: int32[batch], of right-padded rows; None where all steps are valid.

        Returns:
          float32[batch, answers, outputs].
        """
        vectors = jax.nn.one_hot(inputs, self.symbols) if self.symbols else inputs
        _, read = self.recurrent(vectors, lengths=lengths)
        return self.head(jnp.take_along_axis(read, at[..., None], axis=1))


def reader(
    config: ReaderConfig,
    symbols: int,
    outputs: int,
    cells: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({}),
) -> SequenceReader:
    """The reader that a config describes.

    Args:
      config: the options; the kernel is one that can run the cell.
      symbols, outputs: as for `SequenceReader`.
      cells: those of the experiment, beside `rnn_jax.models.CELLS`.

    Raises:
      InputError: there is no such cell, or it has no recurrent kernel to be scaled.
    """
    return SequenceReader(recurrent.stack(config, _scaled(config, cells)), symbols, outputs)


def _scaled(
    config: ReaderConfig, cells: Mapping[str, Callable[[Any], Cell]]
) -> Mapping[str, Callable[[Any], Cell]]:
    """`cells`, and among them the config's own with the start that it asks for."""
    if config.recurrent_scale == 1:
        return cells
    cell = scaled_start(recurrent.cell(config, cells), config.recurrent_scale)
    try:
        jax.eval_shape(lambda key: cell.init(key, 1), jax.random.key(0))
    except ValueError as error:
        raise InputError(
            f"--config.model.recurrent_scale={config.recurrent_scale:g} scales the recurrent "
            f"kernel, which the cell {config.cell} has not; leave it at 1"
        ) from error
    return {**cells, config.cell: lambda _: cell}
