"""The flags there are: the program's own, those of the modes, one for each option of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from rnn_jax.commands.modes import FLAGS, MODES, owners
from rnn_jax.config import Config, options

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class _FromTheCommandLine(flags.FlagValues):
    """Flags without absl's --flagfile, whose file may be a pipe or a device that never ends."""

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        del force_gnu
        return list(argv)


def base_flags() -> flags.FlagValues:
    """The flags that every experiment has."""
    values = _FromTheCommandLine()
    add: dict[str, Any] = {"flag_values": values, "module_name": "launch.py"}
    flags.DEFINE_string("experiment", None, "which experiment; see --list_experiments", **add)
    flags.DEFINE_enum("mode", "train", tuple(MODES), "what to do", **add)
    flags.DEFINE_string(
        "workdir", None, "the run's folder (default: runs/ and the experiment's name)", **add
    )
    for flag in FLAGS.values():
        meaning = f"for {' and '.join(owners(flag.name))}: {flag.meaning}"
        _DEFINE[flag.type](flag.name, flag.default, meaning, **add)
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
            flags.DEFINE_enum(flag, value, field.metadata["choices"], meaning, **add)
        else:
            _DEFINE[type(field.default)](flag, value, meaning, **add)
