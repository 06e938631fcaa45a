"""An experiment's configuration: frozen dataclasses, one per concern.

Every field carries its help text and its bounds, so that flags, checks and documentation are made
from the same place. What every task has stands here; each task adds sections of its own. A
`Config` is all there is to say about a run; `rnn_jax.runs.identity` writes it into config.json,
with what else tells runs apart.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says what to change.

    `launch.py` prints it without a traceback and ends with exit code 2.

    Attributes:
      pointer: lines below it that point at the place in what was given, if any.
    """

    def __init__(self, message: str, pointer: tuple[str, ...] = ()):
        super().__init__("\n".join((message, *pointer)))
        self.message, self.pointer = message, pointer


def option(
    default: Any,
    meaning: str,
    *,
    minimum: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    fixed: bool = True,
) -> Any:
    """A config field: its default, its meaning, and what values it takes.

    Args:
      default: the default value; its type (bool, int, float or str) is the field's type.
      meaning: one line for `--help`.
      minimum: the smallest legal number.
      below: the number that every legal value is smaller than; for integers 2^31 if not given.
      choices: the legal strings.
      fixed: False for an option that changes no number of a run, or only its rounding, so that a
        run may go on with another value.
    """
    if below is None and type(default) is int:
        below = 2**31
    metadata = {
        "help": meaning, "minimum": minimum, "below": below, "choices": choices, "fixed": fixed,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


class Section:
    """A group of options; a frozen dataclass whose fields are made by `option`."""

    def check(self) -> None:
        """Raises InputError where options of the section do not go together."""


@dataclasses.dataclass(frozen=True)
class AdamConfig(Section):
    """How parameters follow gradients."""

    learning_rate: float = option(1e-3, "Adam's step size", minimum=0.0)
    b1: float = option(0.9, "Adam's decay of the gradient's mean", minimum=0.0, below=1.0)
    b2: float = option(0.999, "Adam's decay of the squared gradient's mean", minimum=0.0, below=1.0)
    epsilon: float = option(1e-7, "Adam's denominator offset (Keras' value)", minimum=0.0)
    weight_decay: float = option(0.0, "decoupled weight decay, as in AdamW", minimum=0.0)
    schedule: str = option(
        "constant",
        "how the learning rate goes on: constant or cosine",
        choices=("constant", "cosine"),
    )
    warmup_steps: int = option(
        0, "steps over which the learning rate rises to its value", minimum=0
    )
    clip_norm: float = option(
        10.0,
        "largest global norm of the gradient; a longer one is scaled to it (0: never)",
        minimum=0.0,
    )

    def tied_to_length(self) -> str | None:
        """The option by which a step depends on how many are to come, with its value; None where a
        long run begins as a short one does."""
        return None if self.schedule == "constant" else f"schedule={self.schedule}"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(AdamConfig):
    """The same, for models with a table of which a batch reads few rows."""

    embedding_update: str = option(
        "touched",
        "which rows of the embedding a step updates: touched (the words that the batch reads, each "
        "with its own Adam means; the padding row never), dense (all) or delayed (by the rule of "
        "dense, but what a row misses is made up for when it is next read: a little slower than "
        "touched; without weight decay)",
        choices=("touched", "dense", "delayed"),
    )

    def check(self) -> None:
        if self.embedding_update != "delayed":
            return
        # What the closed form of delayed updates leaves out, and rounding, must stay small.
        least = 1 - 0.11 * (1 - self.b1)
        if self.weight_decay:
            need = f"weight_decay=0, not {self.weight_decay!r}"
        elif self.b1 > 0.999:
            need = f"b1 of at most 0.999, not {self.b1!r}"
        elif self.b2 < least:
            need = f"b2 of at least {least:.6g} with b1={self.b1!r}, not {self.b2!r}"
        else:
            return
        raise InputError(
            f"--config.optimizer.embedding_update=delayed needs --config.optimizer.{need}; give "
            "--config.optimizer.embedding_update=dense to keep it"
        )

    def tied_to_length(self) -> str | None:
        # `rnn_jax.optim.delayed` looks ahead so far; rates that change later end with the run.
        far = self.warmup_steps + 19 / (1 - self.b2) > 2**16
        if self.embedding_update == "delayed" and far:
            return "embedding_update=delayed, with rates that change for so long,"
        return super().tied_to_length()


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """How long and in which steps."""

    epochs: int = option(10, "passes over the training examples, at most", minimum=1, below=2**31)
    batch_size: int = option(32, "examples in a step", minimum=1, below=2**20)
    accumulate: int = option(
        1,
        "parts of a batch that are computed one after the other, their gradients added up: less "
        "memory for the same step",
        minimum=1,
        below=2**20,
    )
    dtype: str = option(
        "float32",
        "type of the training step's products: float32, or bfloat16 (parameters, states and sums "
        "stay float32); for accelerators",
        choices=("float32", "bfloat16"),
    )
    steps_per_call: int = option(
        8,
        "steps that the device takes before it reports back (several cost one dispatch)",
        minimum=1,
        below=2**16,
    )
    compilation: str = option(
        "auto",
        "how steps are compiled on a CPU: quick (in a third to two thirds of the time), thorough "
        "(steps take up to two fifths less time), or auto: quick for fewer than 10,000 steps",
        choices=("auto", "quick", "thorough"),
    )
    patience: int = option(
        3,
        "epochs without a better validation loss before training stops early (0: never)",
        minimum=0,
    )
    seed: int = option(0, "seed of initialisation, shuffling and dropout", minimum=0, below=2**32)
    non_finite: str = option(
        "stop",
        "a step whose loss or gradient is not finite: stop the run, or skip the update and "
        "count it",
        choices=("stop", "skip"),
    )
    checkpoint_minutes: float = option(
        5.0,
        "minutes between checkpoints (0: none by the clock); epochs end with one as well, unless "
        "that would take more than a hundredth of the time",
        minimum=0.0,
        fixed=False,
    )
    checkpoint_steps: int = option(
        0, "steps between checkpoints (0: none by the step)", minimum=0, fixed=False
    )
    check_numerics: bool = option(
        False,
        "look at every layer's outputs at every step, and stop at the first that are not "
        "finite (slow)",
        fixed=False,
    )

    def check(self) -> None:
        if self.batch_size % self.accumulate:
            raise InputError(
                f"--config.train.accumulate={self.accumulate} does not divide "
                f"--config.train.batch_size={self.batch_size}"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment, whole; each kind of task has a subclass with the sections that it needs.

    experiment: the name.
    data, model: sections of the task's own.
    optimizer, train: what every task has.
    task: the name of the kind of task, a row of `rnn_jax.tasks.TASKS` or one that the experiment
      brings with it.
    moved: options of earlier versions and where they are now, so that old runs stay readable.
    """

    task: ClassVar[str] = ""
    moved: ClassVar[Mapping[str, str]] = types.MappingProxyType({})

    experiment: str = ""
    data: Any = None
    model: Any = None
    optimizer: AdamConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()

    def check(self) -> None:
        """Raises InputError where options of different sections do not go together."""


def options(config: Config) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yields `("data.source", field, value)` for every option of `config`."""
    for name, group in sections(config).items():
        for field in dataclasses.fields(group):
            yield f"{name}.{field.name}", field, getattr(group, field.name)


def sections(config: Config) -> dict[str, Any]:
    """The sections of `config`, by name."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: group for name, group in values.items() if isinstance(group, Section)}


C = TypeVar("C", bound=Config)


def replace(config: C, changes: Mapping[str, Any]) -> C:
    """`config` with the dotted names in `changes` set anew, checked.

    Args:
      config: where to start.
      changes: for instance `{"train.epochs": 3, "model.cell": "gru"}`.

    Raises:
      InputError: an unknown name (the message has the nearest one), a wrong type, or a value that
        is out of bounds.
    """
    known = {name for name, _, _ in options(config)}
    for name in changes:
        if name not in known:
            raise InputError(f"unknown option {name!r}{nearest(name, known)}")
    for section in {name.split(".")[0] for name in changes}:
        group = {
            name.split(".")[1]: value
            for name, value in changes.items()
            if name.startswith(section + ".")
        }
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(getattr(config, section), **group)}
        )
    check(config)
    return config


def check(config: Config) -> None:
    """Raises InputError, naming the option, if a value has the wrong type or is out of bounds."""
    for name, field, value in options(config):
        check_value(name, field, value)
    for group in sections(config).values():
        group.check()
    config.check()


def check_value(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raises InputError if an option cannot have a value, whatever the others are.

    Args:
      name: the option, such as "train.epochs".
      field: its field, made by `option`.
      value: perhaps its value.
    """
    kind, bounds = type(field.default), field.metadata
    given: Any = value
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise InputError(f"--config.{name} must be of type {kind.__name__}, not {value!r}")
    number: Any = _single(given) if kind is float else given
    if kind is float and not math.isfinite(number):
        raise InputError(f"--config.{name} must be a finite number in float32, not {value!r:.40}")
    if type(value) is str and not is_text(value):
        raise InputError(
            f"--config.{name} must be text in UTF-8 without control characters, not {value!r}"
        )
    if bounds["choices"] and value not in bounds["choices"]:
        raise InputError(
            f"--config.{name} must be one of {', '.join(bounds['choices'])}, not {value!r}"
            f"{nearest(str(value), bounds['choices'])}"
        )
    if bounds["minimum"] is not None and not number >= bounds["minimum"]:
        raise InputError(f"--config.{name} must be at least {bounds['minimum']}, not {value!r:.40}")
    if bounds["below"] is not None and not number < bounds["below"]:
        raise InputError(f"--config.{name} must be below {bounds['below']}, not {value!r:.40}")


def _single(value: float) -> float:
    """A number as float32 has it, in which it is computed with: 1 - 1e-9 is 1 there."""
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def is_text(value: str) -> bool:
    """Whether a text can be written to files and terminals as it is: it has no control characters
    (NUL, line feeds, escapes) and no half of a character.

    >>> [is_text(each) for each in ("Börse", "a\\0b", "\\x1b[31m", "\\udcff")]
    [True, False, False, False]
    """
    return not any(unicodedata.category(each) in ("Cc", "Cs") for each in value)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the known word nearest to `word`, or nothing."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested plain dictionaries, ready for JSON."""
    groups = {name: dataclasses.asdict(group) for name, group in sections(config).items()}
    return {"task": config.task, "experiment": config.experiment, **groups}


def from_dict(kind: type[C], values: Any) -> C:
    """The config that `to_dict` wrote.

    Args:
      kind: the class of the task that `values` names.
      values: nested dictionaries.

    Raises:
      InputError: a section, option or type that this version does not know.
    """
    if not isinstance(values, dict) or not isinstance(values.get("experiment", ""), str):
        raise InputError("a config must be a JSON object with the experiment's name")
    config = kind(experiment=values.get("experiment", ""))
    known = sections(config)
    changes: dict[str, Any] = {}
    for section, group in values.items():
        if section in ("task", "experiment"):
            continue
        if section not in known:
            raise InputError(f"unknown config section {section!r}{nearest(section, known)}")
        if not isinstance(group, dict):
            raise InputError(f"config section {section!r} must be a JSON object")
        changes |= {f"{section}.{name}": value for name, value in group.items()}
    return replace(config, {kind.moved.get(name, name): changes[name] for name in changes})


def differences(one: Config, other: Config, fixed_only: bool = False) -> list[str]:
    """One readable line for each option in which the two configs differ.

    Args:
      one: a config.
      other: another.
      fixed_only: pass over options that change no number of a run.
    """
    return [
        f"{name}: {before!r} -> {after!r}"
        for (name, field, before), (_, _, after) in zip(options(one), options(other), strict=True)
        if before != after and (field.metadata["fixed"] or not fixed_only)
    ]
