"""A study: when a network learns its training stories by heart, and what helps.

python launch.py --experiment=overfitting
"""

from rnn_jax.studies import OverfittingConfig


def get_config() -> OverfittingConfig:
    return OverfittingConfig("overfitting")
