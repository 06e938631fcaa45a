"""`--sweep`: trains an experiment many times, with other settings each."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Callable

from rnn_jax import sweeps
from rnn_jax.commands.base import Command, Flag
from rnn_jax.config import InputError, nearest
from rnn_jax.runs.folder import REPORT
from rnn_jax.sweeps import book
from rnn_jax.sweeps.engines import ENGINES, Options
from rnn_jax.sweeps.proposals import PRUNERS
from rnn_jax.sweeps.search import SEARCHES
from rnn_jax.sweeps.watch import Lines, Table
from rnn_jax.system import display, interrupts

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def _one_of(words: tuple[str, ...]) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        if value in words:
            return None
        return f"must be one of {', '.join(words)}, not {value!r}{nearest(value, words)}"

    return check


def _budget(value: str) -> str | None:
    return None if _BUDGET.fullmatch(value) else f"must be like 90s, 30m or 2h, not {value!r}"


SWEEP = Flag(
    "sweep", str, None,
    'trains many times, over "OPTION=[VALUE,...]; OPTION=FIRST..LAST; OPTION=log(LOW,HIGH)" '
    "(also uniform, int); see docs/sweeps.md",
    check=lambda value: None if value.strip() else "is empty; name an option and its values",
)  # fmt: skip
_OTHERS = (
    Flag("trials", int, None, "how many trials a sweep with draws makes", minimum=1, below=10**6),
    Flag(
        "search", str, None,
        "how a sweep finds its trials: grid (all combinations), random, or tpe (Optuna proposes)",
        check=_one_of(SEARCHES),
    ),
    Flag(
        "prune", str, "none",
        "which trials of a sweep are stopped early: none, median (worse than half of the others at "
        "that epoch) or halving (by 1, 2, 4, ... epochs)",
        check=_one_of(PRUNERS),
    ),
    Flag("budget", str, None, "time after which a sweep begins no trial (30m, 2h)", check=_budget),
    Flag(
        "engine", str, "local", f"who trains a sweep's trials: {', '.join(ENGINES)}",
        check=_one_of(tuple(ENGINES)),
    ),
    Flag(
        "jobs", int, 0,
        "trials of a sweep at a time (0: one a core, on an accelerator one, on a cluster all that "
        "fit)",
        minimum=0, below=1024,
    ),
    Flag(
        "population", int, 0,
        "trials of a sweep whose steps are computed by one program (0: 1 on CPUs, else 64)",
        minimum=0, below=4096,
    ),
    Flag(
        "ray_address", str, "",
        "with --engine=ray: the cluster, such as auto or HOST:6379 (default: Ray on this machine)",
    ),
    Flag(
        "trial_cpus", float, 1.0, "with --engine=ray: processors that a trial takes",
        minimum=0.0, below=10**4,
    ),
    Flag(
        "trial_gpus", float, 0.0, "with --engine=ray: GPUs that a trial takes, such as 0.25",
        minimum=0.0, below=10**3,
    ),
)  # fmt: skip
_RAY = ("ray_address", "trial_cpus", "trial_gpus")
FLAGS = (SWEEP, *_OTHERS)


def asked(command: Command) -> bool:
    """Whether the command line asks for a sweep.

    Raises:
      InputError: it has flags of a sweep, but no sweep.
    """
    if command.values.sweep is not None:
        if command.values.overwrite:
            raise InputError(
                "--overwrite is for one run: a sweep keeps trials that have ended; remove its "
                "folder to begin anew"
            )
        for name in _RAY:
            if command.values[name].present and command.values.engine != "ray":
                raise InputError(f"--{name} is for --engine=ray")
        return True
    for flag in _OTHERS:
        if command.values[flag.name].present:
            raise InputError(f"--{flag.name} is for a sweep: give --sweep, too")
    return False


def run(command: Command) -> int:
    """Sweeps; returns the exit code."""
    values = command.values
    path = pathlib.Path(command.workdir)
    wanted = sweeps.Sweep(
        axes=values.sweep,
        trials=values.trials,
        search=values.search,
        prune=values.prune,
        budget=values.budget and _seconds(values.budget),
    )
    default = command.experiment.get_config() if command.experiment else command.config
    terminal = sys.stderr.isatty()
    options = Options(
        values.jobs, values.population, values.ray_address, values.trial_cpus, values.trial_gpus
    )
    try:
        with interrupts.deferred_or_exit() as request:
            found = sweeps.run(
                wanted,
                command.config,
                path,
                engine=ENGINES[values.engine](options),
                watch=Table() if terminal else Lines(display.Display().line),
                default=default,
                extras=command.extras,
                request=request,
                mirror=values.mirror,
            )
    except interrupts.Interrupted as interrupted:
        print(
            f"{interrupted}; everything is saved in {path}: the same command continues from here",
            file=sys.stderr,
        )
        return 128 + interrupted.signal
    print(f"report: {path / REPORT}")
    if found.best is not None:
        print(f"best trial: {found.folder}")
        print(f"  {book.command(found.best.trial.config, default)}")
    print(found.line)
    return 0


def _seconds(text: str) -> float:
    match = _BUDGET.fullmatch(text)
    assert match is not None  # the flag's check has seen to it
    return float(match[1]) * _UNITS[match[2]]
