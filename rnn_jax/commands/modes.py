"""The table of modes."""

from __future__ import annotations

from rnn_jax.commands import evaluate, explain, generate, predict, summary, train
from rnn_jax.commands.base import Flag, Mode

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (train.MODE, summary.MODE, evaluate.MODE, predict.MODE, generate.MODE, explain.MODE)
}


def _flags() -> dict[str, Flag]:
    found: dict[str, Flag] = {}
    for mode in MODES.values():
        for flag in mode.flags:
            if found.setdefault(flag.name, flag) is not flag:
                raise ValueError(f"two modes mean different things by --{flag.name}")
    return found


FLAGS = _flags()  # those that belong to modes, by name


def owners(flag: str) -> list[str]:
    """The names of the modes that a flag belongs to."""
    return [mode.name for mode in MODES.values() if any(own.name == flag for own in mode.flags)]
