"""The cells that have steps in C++: one record each, and a file of that name in `cpp/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_jax.kernels.fused.rule import GATED
from rnn_jax.kernels.support import Options

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")  # `Variant` in `cpp/simple_rnn.cc`


class NativeCell(NamedTuple):
    """What is to be known of a cell with steps in C++.

    options: given a cell's options, the values that they may have.
    saved: given them, what a step keeps for the backward pass beside the hidden state that it
      leaves: the features of each array, in units of `hidden`.
    variant: given them, the number by which the C++ tells variants apart.
    separate_bias: given them, whether the recurrent bias stays apart from the other.
    """

    options: Callable[[Any], Options]
    saved: Callable[[Any], tuple[int, ...]]
    variant: Callable[[Any], int] = lambda spec: 0
    separate_bias: Callable[[Any], bool] = lambda spec: False


CELLS: dict[str, NativeCell] = {
    "lstm": NativeCell(
        options=lambda spec: GATED | {"projection": (None,), "peepholes": (False,)},
        saved=lambda spec: (1, 4),  # the cell; i, f, g, o
    ),
    "gru": NativeCell(
        options=lambda spec: GATED,
        saved=lambda spec: (4 if spec.reset_after else 3,),  # r, z, n, and the product within n
        variant=lambda spec: int(spec.reset_after),
        separate_bias=lambda spec: spec.reset_after,
    ),
    "simple_rnn": NativeCell(
        options=lambda spec: {"activation": ACTIVATIONS, "layer_norm": (False,)},
        saved=lambda spec: (),
        variant=lambda spec: ACTIVATIONS.index(spec.activation),
    ),
}
