"""A study: how gradients shrink or grow over time, and how far back each cell learns.

    python launch.py --experiment=vanishing_gradients

trains 169 small runs and writes a page, in 8 minutes on two cores that did other work, too. What it
shows: docs/vanishing_gradients.md.
"""

from rnn_jax.studies import VanishingConfig
from rnn_jax.studies.vanishing_gradients import CELLS

__all__ = ["CELLS", "get_config"]


def get_config() -> VanishingConfig:
    return VanishingConfig("vanishing_gradients")
