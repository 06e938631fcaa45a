"""Sweeps: many runs of one experiment, by one command.

`grammar` reads which options take which values, `trials` makes a config of each combination,
`search` decides which come next (all, drawn at random, or proposed by Optuna), an engine of
`engines` trains them, and `book` keeps what they found. Every trial is an
ordinary run in a folder of its own: what continues, resumes and answers there is a run.
"""

from rnn_jax.sweeps.sweep import Sweep, run

__all__ = ["Sweep", "run"]
