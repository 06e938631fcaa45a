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
from rnn_jax.tasks import (
    adding_problem,
    classification,
    copy_memory,
    forecasting,
    language_model,
    translation,
)
from rnn_jax.tasks.adding_problem import AddingConfig
from rnn_jax.tasks.base import NOTHING, Cells, Data, Facts, Kind, Resolved, Task, Trained
from rnn_jax.tasks.classification import ClassificationConfig
from rnn_jax.tasks.copy_memory import CopyConfig
from rnn_jax.tasks.forecasting import ForecastingConfig
from rnn_jax.tasks.language_model import LanguageConfig
from rnn_jax.tasks.translation import TranslationConfig

__all__ = [
    "DEFAULT", "NO_EXTRAS", "TASKS", "AddingConfig", "ClassificationConfig", "CopyConfig", "Data",
    "Extras", "Facts", "ForecastingConfig", "Kind", "LanguageConfig",
    "Resolved", "Task", "Trained", "TranslationConfig", "default_config", "kind_of", "make",
    "reader", "resolve",
]  # fmt: skip

TASKS: dict[str, Kind] = {
    "classification": classification.kind(),
    "language_model": language_model.kind(),
    "adding_problem": adding_problem.kind(),
    "copy_memory": copy_memory.kind(),
    "translation": translation.kind(),
    "forecasting": forecasting.kind(),
}
DEFAULT = "classification"  # the task of configs that do not name one: those of 0.1


class Extras(NamedTuple):
    """What an experiment brings with it.

    cells: name -> `(model section) -> Cell`, for `--config.model.cell`.
    tasks: name -> kind of task, for configs whose `task` it is.
    """

    cells: Cells = NOTHING
    tasks: Mapping[str, Kind] = NOTHING


NO_EXTRAS = Extras()


def kind_of(config: Config, extras: Extras = NO_EXTRAS) -> Kind:
    """The kind of task that a config is of.

    Raises:
      InputError: there is none, or the config is of another class than it has.
    """
    kind = _named(config.task, extras)
    if type(config) is not kind.config:
        raise InputError(
            f"{type(config).__name__} says that its task is {config.task!r}, whose configs are "
            f"{kind.config.__name__}: give it a `task` of its own, and a row in TASKS"
        )
    return kind


def default_config() -> Config:
    """A config of the default task."""
    return TASKS[DEFAULT].config()


def _named(name: str, extras: Extras) -> Kind:
    for row, kind in extras.tasks.items():
        if row in TASKS or row != kind.config.task:
            raise InputError(
                f"the row {row!r} of TASKS must have the name of its configs' task, "
                f"{kind.config.task!r}, and none that is taken ({', '.join(TASKS)})"
            )
    known = TASKS | dict(extras.tasks)
    if name not in known:
        raise InputError(
            f"unknown task {name!r}{nearest(name, known)}; one of your own is found by naming its "
            f"--experiment, or in Python with tasks={{{name!r}: ...}}"
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
    if not isinstance(config, Config):
        raise InputError(f"config must be a Config, such as an experiment's, got {config!r:.60}")
    config_lib.check(config)
    return kind_of(config, extras).resolve(config, extras.cells, environment, strict)


def make(config: Config, facts: Facts, extras: Extras = NO_EXTRAS) -> Task:
    """The task that a config describes.

    Args:
      config: what `resolve` returned.
      facts: what of the data it must know.
      extras: what the experiment brings with it.
    """
    kind = kind_of(config, extras)
    task = kind.make(config, facts, extras.cells)
    # Two kinds may have keys that are equal by chance.
    return task if task.key is None else task._replace(key=(kind.make, task.key))


def reader(extras: Extras = NO_EXTRAS) -> Reader:
    """What tells a run's folder of all tasks that there are.

    Its `read` raises InputError for a task, section or option that is not known here, and
    ValueError for facts that are none.
    """

    def read(values: Any, facts: Any) -> tuple[Config, Facts]:
        name = values.get("task", DEFAULT) if isinstance(values, dict) else None
        if not isinstance(name, str):
            raise InputError("a config must be a JSON object with the name of its task")
        kind = _named(name, extras)
        return config_lib.from_dict(kind.config, values), kind.read_facts(facts)

    known = TASKS | dict(extras.tasks)
    names = dict.fromkeys(name for kind in known.values() for name in kind.remembers)
    return Reader(read, tuple(names))
