"""Why gradients vanish or explode over time, and how far back each cell learns."""

from rnn_jax.studies.vanishing_gradients.cells import CELLS
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.studies.vanishing_gradients.study import STUDY

__all__ = ["CELLS", "STUDY", "VanishingConfig"]
