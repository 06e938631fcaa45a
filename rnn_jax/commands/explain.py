"""`--mode=explain`: what a run makes of a text, and how, as a page in the run's folder."""

from __future__ import annotations

from rnn_jax import report
from rnn_jax.commands.base import Command, Mode
from rnn_jax.commands.predict import TEXT
from rnn_jax.config import InputError
from rnn_jax.runs import sweep_folder
from rnn_jax.system import files
from rnn_jax.tasks.base import Trained

PAGE = "explain.html"


def _run(command: Command, run: Trained) -> int:
    text, explain = command.values.text, run.task.explain
    if text is None:
        raise InputError("--text is missing: give the text to explain")
    if explain is None:
        raise InputError(f"{command.workdir}: the run's task says nothing of how it reads a text")
    try:
        found = explain(run.task.predictor(run), text)
    except ValueError as error:  # the text is none that this can be asked of
        raise InputError(f"--text: {error}") from error
    page = report.draw(
        title=run.config.experiment,
        what="explanation",
        story=found.story,
        tiles=found.tiles,
        sections=found.sections,
        warnings=found.warnings,
    )
    path = sweep_folder.chosen(command.workdir) / PAGE
    files.write_atomically(path, page)
    print("\n".join([*found.said, *found.warnings, f"explanation: {path}"]))
    return 0


MODE = Mode(name="explain", needs="run", run=_run, flags=(TEXT,))
