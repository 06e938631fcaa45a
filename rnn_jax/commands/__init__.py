"""What `launch.py` does: it reads the command line, and hands it to a mode.

A mode is one file with a `Mode`, and one row of `modes.MODES`. Nothing of the package imports this
folder.
"""

from rnn_jax.commands.command_line import parse
from rnn_jax.commands.dispatch import run
from rnn_jax.commands.errors import EXIT_BAD_INPUT, EXIT_FAILED, explain

__all__ = ["EXIT_BAD_INPUT", "EXIT_FAILED", "explain", "parse", "run"]
