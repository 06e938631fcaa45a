"""What can be learned: one table of kinds of tasks, and the one way from a config to a task.

A task is one file with a `Kind`, and one row of `TASKS`. An experiment can bring kinds and cells of
its own: `Extras`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError, nearest
from rnn_jax.runs.identity import Reader
from rnn_jax.tasks import classification
from rnn_jax.tasks.base import NOTHING, Cells, Data, Facts, Kind, Resolved, Task, Trained
from rnn_jax.tasks.classification import ClassificationConfig

__all__ = [
    "DEFAULT", "NO_EXTRAS", "TASKS", "ClassificationConfig", "Data", "Extras", "Facts", "Kind",
    "Resolved", "Task", "Trained", "kind_of", "make", "reader", "resolve",
]  # fmt: skip

TASKS: dict[str, Kind] = {"classification": classification.kind()}
DEFAULT = "classification"  # the task of configs that do not name one: those of 0.1


class Extras(NamedTuple):
    """What an experiment brings with it.

    cells: name -> `(model section) -> Cell`, for `--config.model.cell`.
    tasks: name -> kind of task, for configs whose `task` it is.
    """

    cells: Cells = NOTHING
    tasks: Mapping[str, Kind] = NOTHING


NO_EXTRAS = Extras()


def kind_of(name: str, extras: Extras = NO_EXTRAS) -> Kind:
    """The kind of task of this name.

    Raises:
      InputError: there is none.
    """
    known = TASKS | dict(extras.tasks)
    if name not in known:
        raise InputError(
            f"unknown task {name!r}{nearest(name, known)}; a task of one's own is found by naming "
            "its --experiment, or handed over where the run is opened"
        )
    return known[name]


def resolve(
    config: Config,
    extras: Extras = NO_EXTRAS,
    environment: Mapping[str, Any] = NOTHING,
    strict: bool = True,
) -> Resolved:
    """The config, checked, with all choices made that depend on this machine.

    Args:
      config: what was asked for.
      extras: what the experiment brings with it.
      environment: what was chosen when the run began; stays chosen where that can run.
      strict: refuse a choice of the config's that cannot run here; otherwise, for a run that is
        only used, another one takes its place.

    Raises:
      InputError: it cannot be run.
    """
    config_lib.check(config)
    return kind_of(config.task, extras).resolve(config, extras.cells, environment, strict)


def make(config: Config, facts: Facts, extras: Extras = NO_EXTRAS) -> Task:
    """The task that a config describes.

    Args:
      config: what `resolve` returned.
      facts: what of the data it must know.
      extras: what the experiment brings with it.
    """
    return kind_of(config.task, extras).make(config, facts, extras.cells)


def reader(extras: Extras = NO_EXTRAS) -> Reader:
    """What tells a run's folder of all tasks that there are.

    Its `read` raises InputError for a task, section or option that is not known here, and
    ValueError for facts that are none.
    """

    def read(values: Any, facts: Any) -> tuple[Config, Facts]:
        name = values.get("task", DEFAULT) if isinstance(values, dict) else None
        if not isinstance(name, str):
            raise InputError("a config must be a JSON object with the name of its task")
        kind = kind_of(name, extras)
        return config_lib.from_dict(kind.config, values), kind.read_facts(facts)

    known = TASKS | dict(extras.tasks)
    names = dict.fromkeys(name for kind in known.values() for name in kind.remembers)
    return Reader(read, tuple(names))
