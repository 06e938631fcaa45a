"""`--mode=evaluate`: a run's figures on the test split."""

from __future__ import annotations

import sys
from typing import Any

from rnn_jax.commands.base import Command, Mode
from rnn_jax.tasks.base import Trained
from rnn_jax.train import evaluate


def _run(command: Command, run: Trained) -> int:
    del command
    record, lines = evaluate.evaluate_test(
        run, warn=lambda line: print(f"warning: {line}", file=sys.stderr)
    )
    print("\n".join([*lines, run.task.result(record)]))
    return 0


def _settable(name: str, field: Any) -> bool:
    """Where the data is may be said anew."""
    return name.startswith("data.") and not field.metadata["fixed"]


MODE = Mode(name="evaluate", needs="run", run=_run, settable=_settable)
