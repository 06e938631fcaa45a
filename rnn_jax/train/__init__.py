"""Training: the loop, and what it needs. `run` trains an experiment in a folder."""

from rnn_jax.runs.failure import RunError
from rnn_jax.train.finished import Run
from rnn_jax.train.loop import run

__all__ = ["Run", "RunError", "run"]
