"""A residual block around a linear cell, which by itself mixes its units at no step."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.masking import last_valid, lengths_to_mask, rows_where, zero_masked
from rnn_jax.nn.layers import RNN, Layer
from rnn_jax.nn.noise import dropout
from rnn_jax.types import Array, Carry


class BlockCarry(NamedTuple):
    """What a `ResidualBlock` carries.

    inner: the carry of its recurrent layer.
    hidden: the block's output at the last valid step, float[batch, features].
    """

    inner: Carry
    hidden: Array


class ResidualBlock(Layer):
    """A recurrent layer between a normalisation and a gated projection, added to its inputs.

        y_t = x_t + GLU(gelu(rnn(LN(x))_t) @ W + b)

    as in the LRU's paper (Orvieto et al. 2023, https://arxiv.org/abs/2303.06349), and with `mlp`

        y_t := y_t + gelu(LN(y_t) @ W_1 + b_1) @ W_2 + b_2

    as in the blocks of min_gru and min_lstm (Feng et al. 2024, https://arxiv.org/abs/2410.01201,
    there behind a convolution, which this block has not). Inputs and outputs have equal widths.

    rnn: an RNN, forwards; its outputs may have another width (an LRU has twice its units).
    mlp: how many times as wide as the inputs the second part is; 0 leaves it away.
    dropout: share of the features dropped before each of the two sums.

    >>> from rnn_jax.cells import lru
    >>> layer = ResidualBlock(RNN(lru(hidden=8)), mlp=2)
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 7, 4)))
    >>> outputs.shape, layer.final_output(carry).shape
    ((2, 7, 4), (2, 4))
    """

    rnn: RNN
    mlp: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.rnn, RNN) or self.rnn.reverse:
            raise ValueError(f"rnn must be an RNN with reverse=False, got {self.rnn!r}")
        if isinstance(self.mlp, bool) or not isinstance(self.mlp, int) or self.mlp < 0:
            raise ValueError(f"mlp must be an int of at least 0, got {self.mlp!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a number in [0, 1), got {self.dropout!r}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        initial: BlockCarry | None = None,
        deterministic: bool = True,
    ) -> tuple[BlockCarry, Array]:
        width = inputs.shape[-1]
        counted = mask if lengths is None else lengths_to_mask(lengths, inputs.shape[1])
        inputs = zero_masked(inputs, counted)
        before = None if initial is None else initial.inner
        seen = nn.LayerNorm(name="norm")(inputs)
        inner, told = self.rnn(seen, lengths, mask, resets, before, deterministic)
        mixed, gate = jnp.split(nn.Dense(2 * width, name="mix")(jax.nn.gelu(told)), 2, axis=-1)
        outputs = inputs + self._dropped(mixed * jax.nn.sigmoid(gate), deterministic)
        if self.mlp:
            wide = nn.Dense(self.mlp * width, name="wide")(nn.LayerNorm(name="norm_2")(outputs))
            added = nn.Dense(width, name="narrow")(jax.nn.gelu(wide))
            outputs = outputs + self._dropped(added, deterministic)
        outputs = zero_masked(outputs, counted)
        hidden = last_valid(outputs, counted)
        if initial is not None and not inputs.shape[1]:
            hidden = initial.hidden
        elif initial is not None and counted is not None:  # of rows without a step
            hidden = rows_where(jnp.any(counted, axis=1), hidden, initial.hidden)
        return BlockCarry(inner, hidden), outputs

    @nn.nowrap
    def final_output(self, carry: BlockCarry) -> Array:
        """The block's output after each row's last step: float[batch, features]."""
        return carry.hidden

    @nn.nowrap
    def members(self) -> list[RNN]:
        """The RNN layer in here."""
        return self.rnn.members()

    def _dropped(self, values: Array, deterministic: bool) -> Any:
        if deterministic or not self.dropout:
            return values
        return dropout(self.make_rng("dropout"), values, self.dropout)
