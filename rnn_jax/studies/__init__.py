"""Studies: questions that several runs and measurements answer, with a page that says what they
show.

A study is a `Study`, and one row of `STUDIES`; an experiment whose config names it starts it. What
it trains are ordinary runs, in sweeps of its folder.
"""

from rnn_jax.studies import overfitting, vanishing_gradients
from rnn_jax.studies.base import Found, Study
from rnn_jax.studies.overfitting import OverfittingConfig
from rnn_jax.studies.vanishing_gradients import VanishingConfig

__all__ = ["STUDIES", "Found", "OverfittingConfig", "Study", "VanishingConfig"]

STUDIES: dict[str, Study] = {
    "vanishing_gradients": vanishing_gradients.STUDY,
    "overfitting": overfitting.STUDY,
}
