"""The cells that the study compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnn_jax import cells
from rnn_jax.types import Cell


def _simple(activation: str) -> Callable[[Any], Cell]:
    return lambda config: cells.simple_rnn(
        config.hidden, activation=activation, initializer=config.initializer
    )


def _lstm(forget_bias: float) -> Callable[[Any], Cell]:
    return lambda config: cells.lstm(
        config.hidden, forget_bias=forget_bias, initializer=config.initializer
    )


# Cells that no other experiment has; `gru` and `lru` are those of `rnn_jax.models.CELLS`.
CELLS: dict[str, Callable[[Any], Cell]] = {
    "simple_tanh": _simple("tanh"),
    "simple_sigmoid": _simple("sigmoid"),
    "simple_relu": _simple("relu"),
    "simple_identity": _simple("identity"),
    "lstm_forget_0": _lstm(0.0),
    "lstm_forget_1": _lstm(1.0),
}
# name -> what a page calls it
SIMPLE = {
    "simple_tanh": "SimpleRNN, tanh",
    "simple_sigmoid": "SimpleRNN, sigmoid",
    "simple_relu": "SimpleRNN, relu",
    "simple_identity": "SimpleRNN, identity",
}
GATED = {
    "gru": "GRU",
    "lstm_forget_0": "LSTM, forget bias 0",
    "lstm_forget_1": "LSTM, forget bias 1",
}
LINEAR = {"lru": "LRU (linear)"}
NAMES = SIMPLE | GATED | LINEAR
# name -> what stands at a line's end
SHORT = {
    "simple_tanh": "tanh",
    "simple_sigmoid": "sigmoid",
    "simple_relu": "relu",
    "simple_identity": "identity",
    "gru": "GRU",
    "lstm_forget_0": "LSTM, 0",
    "lstm_forget_1": "LSTM, 1",
    "lru": "LRU",
}
