"""Training: the loop, and what it needs. `run` trains an experiment in a folder."""

from rnn_jax.runs.failure import RunError
from rnn_jax.train.loop import Result, run

__all__ = ["Result", "RunError", "run"]
