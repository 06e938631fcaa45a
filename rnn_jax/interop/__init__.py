"""Weights and carries of PyTorch and Keras, in and out, bit for bit.

    module, variables = interop.from_torch(torch_lstm.state_dict(), kind="lstm")
    module, variables = interop.from_keras(keras_layer.get_weights(), kind="lstm")

Neither library is needed: arrays come and go as NumPy arrays, or come as anything that NumPy takes.
`docs/equations.md` says where the frameworks' conventions differ from ours.
"""

from rnn_jax.interop.files import load_arrays, save_arrays
from rnn_jax.interop.keras import from_keras, to_keras
from rnn_jax.interop.torch import carry_from_torch, carry_to_torch, from_torch, to_torch

__all__ = [
    "carry_from_torch",
    "carry_to_torch",
    "from_keras",
    "from_torch",
    "load_arrays",
    "save_arrays",
    "to_keras",
    "to_torch",
]
