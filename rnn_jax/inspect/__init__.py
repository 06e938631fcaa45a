"""What can be asked of a trained network: what its gates do over the words of a text, and how much
each word counts for a class. Pure functions of parameters and tokens; the answers are small records
of NumPy arrays with named axes, which can be plotted.
"""

from rnn_jax.inspect.gates import Gates, Held, LayerGates, NoGates, gates_of
from rnn_jax.inspect.importance import Importance, Scorer, importance_of
from rnn_jax.inspect.walk import Walk, walk, walks

__all__ = [
    "Gates",
    "Held",
    "Importance",
    "LayerGates",
    "NoGates",
    "Scorer",
    "Walk",
    "gates_of",
    "importance_of",
    "walk",
    "walks",
]
