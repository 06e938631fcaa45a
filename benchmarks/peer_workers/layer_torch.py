"""Times a recurrent layer of PyTorch: a worker of `layer.py`, see `layer_jax.py`."""

from __future__ import annotations

import layer_timing
import torch
from torch import nn

LAYERS = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def build(cell: str, shape: tuple[int, int, int, int], gradient: bool):
    """A function without arguments that runs the layer once, to its end."""
    batch, time, in_features, hidden = shape
    torch.manual_seed(0)
    layer = LAYERS[cell](in_features, hidden, batch_first=True)
    inputs = torch.randn(batch, time, in_features, requires_grad=gradient)
    cotangent = torch.randn(batch, time, hidden)

    def forward():
        with torch.no_grad():
            layer(inputs)

    def both():
        outputs, _ = layer(inputs)
        torch.autograd.grad(outputs, [inputs, *layer.parameters()], cotangent)

    return both if gradient else forward


layer_timing.serve(lambda entrant, *what: build(*what))
