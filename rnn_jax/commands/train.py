"""`--mode=train`: trains, evaluates, reports; with `--sweep` many times."""

from __future__ import annotations

import pathlib
import sys

from rnn_jax import train
from rnn_jax.commands import sweep, team
from rnn_jax.commands.base import Command, Flag, Mode
from rnn_jax.system import interrupts, store


def _run(command: Command) -> int:
    if sweep.asked(command):
        return sweep.run(command)
    with team.placed(command) as place:
        return _train(command, place)


def _train(command: Command, place: team.Place) -> int:
    try:
        result = train.run(
            command.config,
            place.folder,
            overwrite=command.values.overwrite,
            mirror=command.values.mirror if place.leads else None,
            display=team.display(command, place.leads),
            deferred=interrupts.deferred_or_exit,
            company=place.company,
            command=command.line,
            **command.extras._asdict(),
        )
    except interrupts.Interrupted as interrupted:
        # stdout's last line is the result's; this is none.
        print(
            f"{interrupted}; everything is saved in {command.workdir}: "
            "the same command (without --overwrite) continues from here",
            file=sys.stderr,
        )
        return 128 + interrupted.signal
    if not place.leads:
        return 0
    report = pathlib.Path(command.workdir) / "report.html"
    if report.exists():  # a finished run's cannot be made anew without its data
        print(f"report: {report}")
    print(result.line)
    return 0


MODE = Mode(
    name="train",
    needs="experiment",
    run=_run,
    flags=(
        Flag("overwrite", bool, False, "begin anew in a folder that holds a run"),
        *team.FLAGS,
        Flag(
            "mirror",
            str,
            None,
            "mirrors the folder to gs://BUCKET/FOLDER, s3://BUCKET/FOLDER or file:///FOLDER after "
            "each checkpoint; on a fresh machine the same command goes on from there",
            check=store.problem,
        ),
        *sweep.FLAGS,
    ),
    saves=True,
    before=team.prepare,
)
