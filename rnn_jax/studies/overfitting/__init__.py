"""When a network learns its training texts by heart, and what helps: data, width and dropout."""

from rnn_jax.studies.overfitting.options import OverfittingConfig
from rnn_jax.studies.overfitting.study import STUDY

__all__ = ["STUDY", "OverfittingConfig"]
