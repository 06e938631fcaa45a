"""Weights and carries of PyTorch and Keras, in and out, bit for bit.

    module, variables = interop.from_torch(torch_layer.state_dict(), kind="lstm")
    module, variables = interop.from_keras(layer.get_weights(), config=layer.get_config())

Neither library is needed: arrays come and go as NumPy arrays, or come as anything that NumPy takes.
`docs/interop.md` is the guide; `docs/equations.md` says where the frameworks' conventions differ
from ours.
"""

from rnn_jax.interop.files import load_arrays, save_arrays
from rnn_jax.interop.keras import from_keras, to_keras
from rnn_jax.interop.keras_layers import KerasLayer
from rnn_jax.interop.keras_states import (
    carry_from_keras,
    carry_to_keras,
    final_output_to_keras,
    outputs_to_keras,
)
from rnn_jax.interop.options import with_options
from rnn_jax.interop.torch import carry_from_torch, carry_to_torch, from_torch, to_torch

__all__ = [
    "KerasLayer",
    "carry_from_keras",
    "carry_from_torch",
    "carry_to_keras",
    "carry_to_torch",
    "final_output_to_keras",
    "from_keras",
    "from_torch",
    "load_arrays",
    "outputs_to_keras",
    "save_arrays",
    "to_keras",
    "to_torch",
    "with_options",
]
