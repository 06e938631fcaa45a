"""What a run is: what its config.json says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError
from rnn_jax.system import files, machine
from rnn_jax.version import __version__

CONFIG = "config.json"
MAX_CONFIG = 2**22  # bytes of a config.json

_USUAL = {
    "jax_enable_x64": False,
    "jax_disable_jit": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}
# XLA's flags that change no number: how many devices a CPU plays, what is written down.
_HARMLESS = ("--xla_force_host_platform_device_count", "--xla_dump", "--xla_hlo_profile")


class Reader(NamedTuple):
    """What tells a run's folder of the tasks that there are; `rnn_jax.tasks.reader` makes one.

    read: `(config, facts) -> (config, facts)`, from what JSON gave to what was written.
    remembered: names of files in which tasks keep what they need to know of the data.
    """

    read: Callable[[Any, Any], tuple[Config, Mapping[str, Any]]]
    remembered: tuple[str, ...]


class Identity(NamedTuple):
    """What config.json says of a run.

    config: the whole config, as it was asked for.
    facts: what the task must know of the data to make its model; the task's own.
    environment: versions, device, thread count and the choices made where the run began.
    data: SHA-256 of the data as the model reads it, "" before it was read.
    continued: (epoch, environment) of each time that it went on in another environment.
    """

    config: Config
    facts: Mapping[str, Any]
    environment: dict[str, Any]
    data: str = ""
    continued: tuple[dict[str, Any], ...] = ()

    @property
    def last_environment(self) -> dict[str, Any]:
        """That in which the run last went on."""
        return self.continued[-1]["environment"] if self.continued else self.environment

    def to_json(self) -> str:
        fields = self._asdict() | {
            "config": config_lib.to_dict(self.config),
            "facts": dict(self.facts),
        }
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, reader: Reader) -> Identity:
        """What `to_json` wrote.

        Args:
          text: the JSON.
          reader: turns its config and facts into what they were.

        Raises:
          InputError: an option or task that is not known, or a value out of bounds.
          ValueError: the text is something else altogether.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if isinstance(fields, dict) and "classes" in fields and "facts" not in fields:
            # As 0.1 wrote it, when all runs were of one task.
            fields["facts"] = {"classes": fields.pop("classes")}
        if not isinstance(fields, dict) or set(fields) != set(cls._fields):
            raise ValueError(f"expected a JSON object with {', '.join(cls._fields)}")
        data, continued = fields["data"], fields["continued"]
        if not isinstance(fields["environment"], dict) or not isinstance(data, str):
            raise ValueError("environment is no JSON object, or data no digest")
        if not isinstance(continued, list) or not all(map(_is_continuation, continued)):
            raise ValueError("continued is no list of epochs and environments")
        config, facts = reader.read(fields["config"], fields["facts"])
        return cls(config, facts, fields["environment"], data, tuple(continued))


def read_identity(path: str | os.PathLike, reader: Reader) -> Identity:
    """What the config.json in a run's folder, or in one of its checkpoints, says.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    file = pathlib.Path(path) / CONFIG
    try:
        return Identity.from_json(files.read_bounded(file, MAX_CONFIG), reader)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{path} holds no run: there is no {CONFIG}; name another --workdir"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"{file} does not fit this version of rnn_jax: {error}") from error
    except ValueError as error:
        raise InputError(f"{file} is not what this version of rnn_jax writes there") from error


def experiment_name(path: str | os.PathLike) -> str | None:
    """The name of the experiment of the run in a folder; None where config.json does not say."""
    try:
        file = pathlib.Path(os.path.expanduser(path)) / CONFIG
        fields = json.loads(files.read_bounded(file, MAX_CONFIG))
        return str(fields["config"]["experiment"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def environment(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's numbers depend on besides its config: versions, device, thread count, and what
    was chosen for this machine."""
    import jax

    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "rnn_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "threads": machine.threads(),
        **chosen,
        **_unusual(),
    }


def _unusual() -> dict[str, Any]:
    """Settings of JAX and XLA that change numbers, where they are not the usual ones."""
    import jax

    found: dict[str, Any] = {
        name: getattr(jax.config, name)
        for name, usual in _USUAL.items()
        if getattr(jax.config, name) != usual
    }
    given = os.environ.get("XLA_FLAGS", "").split()
    flags = sorted(flag for flag in given if not flag.startswith(_HARMLESS))
    return found | ({"xla_flags": " ".join(flags)} if flags else {})


def _is_continuation(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("environment"), dict)
