"""Whether the run that a folder holds is the one that is asked for, or the beginning of it."""

from __future__ import annotations

import os
import pathlib

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError

SWEEP = "sweep.json"  # beside the folder of trials, in a sweep's
TRIALS = "trials"


def compare(
    path: str | os.PathLike,
    other: Config,
    config: Config,
    flag: str = "--workdir",
    any_epochs: bool = False,
) -> None:
    """Raises InputError where the run that is there is not the one that is asked for, which may be
    the same with more epochs.

    Args:
      path: where it is.
      other: its config.
      config: what is asked for.
      flag: the option that said where.
      any_epochs: it may be the same with fewer epochs, too.
    """
    if other.experiment != config.experiment:
        raise InputError(
            f"{path} holds a run of experiment {other.experiment!r}, not {config.experiment!r}; "
            f"choose another {flag}, or --overwrite"
        )
    before, now = other.train.epochs, config.train.epochs
    different = config_lib.differences(other, config, fixed_only=True)
    if len(different) == 1 and before != now:
        if any_epochs:
            return
        if before < now:
            _refuse_to_extend(path, config, before, flag)
            return
    if different:
        raise InputError(
            f"{path} holds a run with another config ({'; '.join(different)}); "
            f"choose another {flag}, or --overwrite"
        )


def _refuse_to_extend(path: str | os.PathLike, config: Config, epochs: int, flag: str) -> None:
    """Raises InputError where a run of `epochs` epochs cannot go on as one of the config's."""
    if tied := config.optimizer.tied_to_length():
        why = f"--config.optimizer.{tied} depends on how many there are"
    elif _is_trial(path):
        why = "it is a sweep's trial, named by its config"
    else:
        return
    raise InputError(
        f"{path} holds a run of {epochs} epochs that cannot be extended to {config.train.epochs}: "
        f"{why}; choose another {flag}, or --overwrite"
    )


def _is_trial(path: str | os.PathLike) -> bool:
    trials = pathlib.Path(path).absolute().parent
    return trials.name == TRIALS and (trials.parent / SWEEP).exists()
