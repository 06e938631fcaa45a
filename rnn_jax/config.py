"""An experiment's configuration: frozen dataclasses, one per concern.

Every field carries its help text and its bounds, so that flags, checks and documentation are made
from the same place: `Config` is all there is to say about a run, and `config.json` holds it whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from typing import Any


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says what to change.

    `launch.py` prints it without a traceback and ends with exit code 2.
    """


def option(
    default: Any, meaning: str, *, minimum=None, below=None, choices=None, fixed: bool = True
) -> Any:
    """A config field: its default, its meaning, and what values it takes.

    Args:
      default: the default value; its type (bool, int, float or str) is the field's type.
      meaning: one line for `--help`.
      minimum: the smallest legal number.
      below: the number that every legal value is smaller than.
      choices: the legal strings.
      fixed: False for an option that changes no number of a run, or only its rounding, so that a
        run may go on with another value.
    """
    metadata = {
        "help": meaning, "minimum": minimum, "below": below, "choices": choices, "fixed": fixed,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the model reads."""

    source: str = option(
        "bbc_news",
        "the data set: bbc_news comes with the installation, ag_news_subset from TensorFlow "
        "Datasets, csv from a folder with train.csv and test.csv, array_record from one with "
        "train*.array_record and test*.array_record",
        choices=("bbc_news", "ag_news_subset", "csv", "array_record"),
    )
    data_dir: str = option(
        "",
        "folder of the data: for ag_news_subset TFDS' own (empty: its default), for csv and "
        "array_record the folder with the files",
        fixed=False,  # what is in it counts, and a run knows that by its digest
    )
    field: str = option(
        "text",
        "what of a story is read: title, or text (title + description)",
        choices=("title", "text"),
    )
    tokens: str = option(
        "words", "what a token is: words or characters", choices=("words", "characters")
    )
    vocab_size: int = option(
        20_000,
        "tokens in the vocabulary, the padding and unknown ones among them",
        minimum=3,
        below=2**24 + 1,
    )
    vocab_field: str = option(
        "title",
        "the field that the vocabulary is fitted on: title or text",
        choices=("title", "text"),
    )
    vocab_texts: int = option(
        2_000, "how many training texts the vocabulary is fitted on (0: all of them)", minimum=0
    )
    max_length: int = option(
        200, "tokens of a text that are read; the rest is cut off", minimum=1, below=2**24
    )
    take: int = option(0, "stories of each split that are used (0: all of them)", minimum=0)
    validation: str = option(
        "split",
        "what is validated on: split (a share cut from the training stories) or test (the test "
        "stories themselves: optimistic, but how many tutorials report)",
        choices=("split", "test"),
    )
    validation_share: float = option(
        0.1,
        "share of the training stories that --config.data.validation=split cuts off",
        minimum=0.0,
        below=1.0,
    )
    stream: bool = option(
        False,
        "leave the training stories (csv or array_record, of any number) on the disk and hold a "
        "window of them in memory; they are vectorized once into data.cache_dir",
    )
    window: int = option(
        16_384, "with data.stream: stories of a window; the next one is read meanwhile", minimum=1
    )
    cache_dir: str = option(
        "",
        "with data.stream: folder of the vectorized stories (empty: in the user's cache folder)",
        fixed=False,
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network."""

    cell: str = option("lstm", "the recurrent cell", choices=("simple_rnn", "lstm", "gru"))
    hidden: int = option(64, "units of each layer and direction", minimum=1, below=2**20)
    layers: int = option(1, "recurrent layers, one on the other", minimum=1, below=1000)
    bidirectional: bool = option(False, "read each text in both directions")
    embedding_size: int = option(
        64,
        "features of a token's learned vector (0: one-hot tokens go straight into the cell)",
        minimum=0,
        below=2**20,
    )
    masked: bool = option(True, "skip padding; otherwise the cell reads it like any token")
    pooling: str = option(
        "last",
        "what the classifier sees of the steps' outputs: the last, their mean or their maximum",
        choices=("last", "mean", "max"),
    )
    initializer: str = option(
        "keras",
        "how the cell's parameters start: keras (one orthogonal recurrent kernel for all gates), "
        "gatewise (one for each, a larger start) or torch (all uniform)",
        choices=("gatewise", "keras", "torch"),
    )
    kernel: str = option(
        "auto",
        "how the recurrence is computed: scan (the reference), fused (the same numbers within "
        "rounding, with a gradient rule of its own), native (for LSTMs on CPUs, in C++; needs a "
        "compiler) or auto (native where it can run, else fused)",
        choices=("auto", "scan", "fused", "native"),
        fixed=False,  # a run may go on where another one is there; its environment names it
    )
    dropout: float = option(
        0.0,
        "share of features dropped: of the tokens' vectors, between layers, before the classifier",
        minimum=0.0,
        below=1.0,
    )
    token_dropout: float = option(
        0.0,
        "share of tokens whose whole vector is dropped, each on its own",
        minimum=0.0,
        below=1.0,
    )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
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
    embedding_update: str = option(
        "touched",
        "which rows of the embedding a step updates: touched (the words that the batch reads, each "
        "with its own Adam means; the padding row never), dense (all) or delayed (by the rule of "
        "dense, but what a row misses is made up for when it is next read: a little slower than "
        "touched; without weight decay)",
        choices=("touched", "dense", "delayed"),
    )
    clip_norm: float = option(
        10.0,
        "largest global norm of the gradient; a longer one is scaled to it (0: never)",
        minimum=0.0,
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and in which steps."""

    epochs: int = option(10, "passes over the training stories, at most", minimum=1, below=2**31)
    batch_size: int = option(32, "stories in a step", minimum=1, below=2**20)
    pool: int = option(
        1,
        "batches whose texts are sorted by length together: more leave less padding, but make "
        "batches of texts that are alike",
        minimum=1,
    )
    pack: bool = option(
        False,
        "put several short texts into one row of a batch, which leaves little padding (masked "
        "models that pool the mean or max of their outputs)",
    )
    steps_per_call: int = option(
        8,
        "steps that the device takes before it reports back (several cost one dispatch)",
        minimum=1,
        below=2**16,
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


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment, whole."""

    experiment: str = ""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()


def options(config: Config) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yields `("data.source", field, value)` for every option of `config`."""
    for section in dataclasses.fields(config):
        group = getattr(config, section.name)
        if dataclasses.is_dataclass(group):
            for field in dataclasses.fields(group):
                yield f"{section.name}.{field.name}", field, getattr(group, field.name)


def replace(config: Config, changes: dict[str, Any]) -> Config:
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
        kind = type(field.default)
        if kind is float and type(value) is int:
            continue
        if type(value) is not kind:
            raise InputError(f"--config.{name} must be of type {kind.__name__}, not {value!r}")
    for name, field, value in options(config):
        bounds = field.metadata
        if type(value) is float and not math.isfinite(value):
            raise InputError(f"--config.{name} must be a finite number, not {value!r}")
        if bounds["choices"] and value not in bounds["choices"]:
            raise InputError(
                f"--config.{name} must be one of {', '.join(bounds['choices'])}, not {value!r}"
            )
        if bounds["minimum"] is not None and not value >= bounds["minimum"]:
            raise InputError(f"--config.{name} must be at least {bounds['minimum']}, not {value!r}")
        if bounds["below"] is not None and not value < bounds["below"]:
            raise InputError(f"--config.{name} must be below {bounds['below']}, not {value!r}")
    if config.optimizer.embedding_update == "delayed":
        _check_delayed(config.optimizer)
    model = config.model
    if config.train.pack and not (model.masked and model.pooling in ("mean", "max")):
        raise InputError(
            "--config.train.pack needs --config.model.masked and --config.model.pooling=mean or "
            f"max, not {'masked' if model.masked else 'nomasked'} and {model.pooling}; give "
            "--noconfig.train.pack to put each text into a row of its own"
        )


def _check_delayed(optimizer: OptimizerConfig) -> None:
    """What the closed form of `rnn_jax.delayed` leaves out, and rounding, must stay small."""
    least = 1 - 0.11 * (1 - optimizer.b1)
    if optimizer.weight_decay:
        need = f"weight_decay=0, not {optimizer.weight_decay!r}"
    elif optimizer.b1 > 0.999:
        need = f"b1 of at most 0.999, not {optimizer.b1!r}"
    elif optimizer.b2 < least:
        need = f"b2 of at least {least:.6g} with b1={optimizer.b1!r}, not {optimizer.b2!r}"
    else:
        return
    raise InputError(
        f"--config.optimizer.embedding_update=delayed needs --config.optimizer.{need}; give "
        "--config.optimizer.embedding_update=dense to keep it"
    )


def nearest(word: str, known) -> str:
    """`; did you mean 'x'?` with the known word nearest to `word`, or nothing."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote.

    Raises:
      InputError: a section, option or type that this version does not know.
    """
    if not isinstance(values, dict) or not isinstance(values.get("experiment", ""), str):
        raise InputError("a config must be a JSON object with the experiment's name")
    known = [field.name for field in dataclasses.fields(Config)]
    changes = {}
    for section, group in values.items():
        if section == "experiment":
            continue
        if section not in known:
            raise InputError(f"unknown config section {section!r}{nearest(section, known)}")
        if not isinstance(group, dict):
            raise InputError(f"config section {section!r} must be a JSON object")
        changes |= {f"{section}.{name}": value for name, value in group.items()}
    return replace(Config(experiment=values.get("experiment", "")), changes)


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
