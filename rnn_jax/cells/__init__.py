"""Recurrent cells as records of pure functions, what they share, and cells made of cells."""

from rnn_jax.cells.cells import gru, lstm, simple_rnn
from rnn_jax.cells.linear import lru, min_gru, min_lstm, rg_lru
from rnn_jax.cells.wrappers import learnable_initial, zoneout

__all__ = [
    "gru",
    "learnable_initial",
    "lru",
    "lstm",
    "min_gru",
    "min_lstm",
    "rg_lru",
    "simple_rnn",
    "zoneout",
]
