"""`--mode=summary`: the layers and their parameters, without training."""

from __future__ import annotations

import jax

from rnn_jax import tasks
from rnn_jax.commands.base import Command, Mode
from rnn_jax.report import summary


def _run(command: Command) -> int:
    extras = command.extras
    resolved = tasks.resolve(command.config, extras, strict=False)
    facts = tasks.kind_of(command.config, extras).facts(command.config)
    task = tasks.make(resolved.config, facts, extras)
    print(summary.table(jax.eval_shape(lambda: task.init(jax.random.key(0))), task.flow))
    return 0


MODE = Mode(name="summary", needs="experiment", run=_run, compiles=False)
