"""A study: when a network learns its training stories by heart, and what helps.

    python launch.py --experiment=overfitting

trains 48 small runs and writes a page, in 5 minutes of processor time: what `time` in front of
the command prints as `user` and `sys`, added up. What it shows: docs/overfitting.md.
"""

from rnn_jax.studies import OverfittingConfig

__all__ = ["get_config"]


def get_config() -> OverfittingConfig:
    return OverfittingConfig("overfitting")
