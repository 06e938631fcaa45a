"""`--mode=generate`: a text that a run writes, shown while it is written."""

from __future__ import annotations

import sys

from rnn_jax.commands.base import Command, Flag, Mode
from rnn_jax.data.text import plain
from rnn_jax.tasks.base import Trained
from rnn_jax.tasks.writer import TEMPERATURE


def _run(command: Command, run: Trained) -> int:
    values = command.values
    writer, prompt, samples = run.task.predictor(run), values.prompt or "", values.samples
    _, unknown = writer.read(prompt)
    if unknown:
        # Standard output is the text's.
        print(
            f"the vocabulary has no {', '.join(map(repr, unknown))}: read as unknown",
            file=sys.stderr,
        )
    whole = [prompt] * samples
    if samples == 1:
        print(prompt, end="", flush=True)
    pieces = writer.pieces(
        prompt, values.tokens, temperature=values.temperature, top_k=values.top_k,
        top_p=values.top_p, seed=values.seed, stop=values.stop or "", samples=samples,
    )  # fmt: skip
    for gained in pieces:
        if samples == 1:
            print(gained[0], end="", flush=True)
        whole = [text + more for text, more in zip(whole, gained, strict=True)]
    if samples == 1:
        print()
    else:
        print("\n\n".join(f"[{number}]\n{text}" for number, text in enumerate(whole, 1)))
    return 0


MODE = Mode(
    name="generate",
    needs="run",
    run=_run,
    flags=(
        Flag(
            "prompt", str, None, "how the text begins (otherwise a new story)",
            check=lambda text: None if plain(text) else "is empty; leave it out for a new story",
        ),
        Flag("tokens", int, 100, "tokens written at most; a story may end before",
             minimum=0, below=2**31),
        Flag("temperature", float, TEMPERATURE,
             "below 1 the likely becomes likelier; at 0 it is all that comes",
             minimum=0.0, below=1e6),
        Flag("top_k", int, 0, "only so many of the likeliest tokens may come (0: all)",
             minimum=0, below=2**31),
        Flag(
            "top_p", float, 1.0,
            "only the likeliest tokens may come that have this probability together (1: all)",
            check=lambda share: None if 0 < share <= 1 else f"must be in (0, 1], not {share!r}",
        ),
        Flag("samples", int, 1, "how many texts, written together", minimum=1, below=2**16),
        Flag("seed", int, 0, "the same one gives the same text", minimum=0, below=2**32),
        Flag("stop", str, None, "the text ends before this string",
             check=lambda text: None if text else "is empty; leave it out"),
    ),
)  # fmt: skip
