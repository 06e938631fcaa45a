"""`--mode=predict`, as JSON: what a run says of a text, or of lines on standard input; or what is
next after the end of its data, or of a file."""

from __future__ import annotations

import json
import sys

from rnn_jax.commands.base import Command, Flag, Mode
from rnn_jax.config import InputError
from rnn_jax.data.text import plain
from rnn_jax.system.files import bounded_lines
from rnn_jax.tasks.base import Trained

MAX_LINE = 2**24  # bytes of a line on standard input

TEXT = Flag(
    "text",
    str,
    None,
    "the text (predict: otherwise lines on standard input)",
    check=lambda text: None if plain(text) else "is empty; give it some words",
)
FILE = Flag(
    "file",
    str,
    None,
    "for runs on data that goes on: the file after whose end it goes on (otherwise the run's data)",
    check=lambda path: None if path else "is empty; name a file",
)


def _run(command: Command, run: Trained) -> int:
    predictor, answer = run.task.predictor(run), run.task.answer
    text, file = command.values.text, command.values.file
    if run.task.onwards is None and file is not None:
        raise InputError("--file is for runs on data that goes on; this one is asked with --text")
    if run.task.onwards is not None and text is None:
        for row in run.task.onwards(predictor, file):
            print(json.dumps(row, ensure_ascii=False))
        return 0
    if text is not None:
        print(json.dumps(answer(predictor, text), ensure_ascii=False))
        return 0
    if sys.stdin.isatty():
        print("one text a line; end with Ctrl-D", file=sys.stderr)
    for line in bounded_lines(sys.stdin.buffer, MAX_LINE):
        if line is None:
            answered = {"error": f"a line of more than {MAX_LINE} bytes"}
        else:
            text = line.decode("utf-8", errors="replace")
            answered = answer(predictor, text) if plain(text) else {"error": "empty line"}
        print(json.dumps(answered, ensure_ascii=False), flush=True)
    return 0


MODE = Mode(
    name="predict",
    needs="run",
    run=_run,
    flags=(TEXT, FILE),
)
