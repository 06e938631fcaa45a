"""The flags there are: the program's own, those of the modes, one for each option of a config."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from rnn_jax.commands.modes import FLAGS, MODES, owners
from rnn_jax.config import Config, nearest, options


class _FromTheCommandLine(flags.FlagValues):
    """Flags without absl's --flagfile, whose file may be a pipe or a device that never ends."""

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        del force_gnu
        return list(argv)


class _Choice(flags.ArgumentParser[str]):
    """One of a few words, of which a misspelt one is said."""

    def __init__(self, words: Iterable[str]):
        super().__init__()
        self._words = tuple(words)

    def parse(self, argument: str) -> str:
        if argument not in self._words:
            known = ", ".join(self._words)
            raise ValueError(f"must be one of {known}{nearest(argument, self._words)}")
        return argument


class _Whole(flags.IntegerParser):
    """A whole number; what is none is said in words of our own."""

    def convert(self, argument: Any) -> int:
        try:
            return super().convert(argument)
        except (TypeError, ValueError) as error:
            raise ValueError("must be a whole number") from error


class _Number(flags.FloatParser):
    """A number, likewise."""

    def convert(self, argument: Any) -> float:
        try:
            return super().convert(argument)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError("must be a number") from error


class _TrueOrFalse(flags.BooleanParser):
    """True or false, likewise."""

    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except (TypeError, ValueError) as error:
            raise ValueError("must be true or false") from error


def _define(kind: type, name: str, default: Any, meaning: str, **add: Any) -> None:
    """Defines a flag of one of the types that options have."""
    if kind is bool:  # absl's own class, since it has the form --noNAME
        flag = flags.BooleanFlag(name, default, meaning)
        flag.parser = _TrueOrFalse()
        flags.DEFINE_flag(flag, **add)
    elif kind is str:
        flags.DEFINE_string(name, default, meaning, **add)
    else:
        parser = _Whole() if kind is int else _Number()
        flags.DEFINE(parser, name, default, meaning, serializer=flags.ArgumentSerializer(), **add)


def _define_choice(name: str, default: str, words: Iterable[str], meaning: str, **add: Any) -> None:
    meaning = f"<{'|'.join(words)}>: {meaning}"
    flags.DEFINE(_Choice(words), name, default, meaning, **add)


def base_flags() -> flags.FlagValues:
    """The flags that every experiment has."""
    values = _FromTheCommandLine()
    add: dict[str, Any] = {"flag_values": values, "module_name": "launch.py"}
    flags.DEFINE_string("experiment", None, "which experiment; see --list_experiments", **add)
    _define_choice("mode", "train", MODES, "what to do", **add)
    flags.DEFINE_string(
        "workdir",
        None,
        "the run's folder (default: runs/ and the experiment's name, and _sweep of a sweep)",
        **add,
    )
    for flag in FLAGS.values():
        meaning = f"for {' and '.join(owners(flag.name))}: {flag.meaning}"
        _define(flag.type, flag.name, flag.default, meaning, **add)
    flags.DEFINE_bool("verbose", False, "say more, such as why a kernel was chosen", **add)
    flags.DEFINE_bool("list_experiments", False, "name the experiments, and exit", **add)
    flags.DEFINE_bool("help", False, "show all flags, and exit", short_name="h", **add)
    return values


def add_config_flags(values: flags.FlagValues, config: Config) -> None:
    """A flag `--config.<section>.<field>` for each option, with the experiment's value as
    default."""
    for name, field, value in options(config):
        add: dict[str, Any] = {"flag_values": values, "module_name": "config"}
        flag, meaning = f"config.{name}", field.metadata["help"]
        if field.metadata["choices"]:
            _define_choice(flag, value, field.metadata["choices"], meaning, **add)
        else:
            _define(type(field.default), flag, value, meaning, **add)
