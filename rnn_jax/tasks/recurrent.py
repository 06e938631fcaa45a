"""What tasks with a recurrent network and a vocabulary have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import flax.linen as nn

from rnn_jax.config import Config, InputError
from rnn_jax.models import recurrent
from rnn_jax.tasks.base import Cells, Resolved

VOCABULARY = "vocabulary.json"

V = TypeVar("V")


def resolve_kernel(
    config: Config, cells: Cells, environment: Mapping[str, Any], strict: bool
) -> Resolved:
    """`Kind.resolve` of a network of recurrent layers: its kernel is chosen."""
    before = environment.get("kernel")
    kernel, reason = recurrent.choose_kernel(
        config.model, cells, before, strict, config.train.dtype
    )
    model = dataclasses.replace(config.model, kernel=kernel.name)
    return Resolved(
        dataclasses.replace(config, model=model),
        {"kernel": kernel.name},
        said=(f"kernel: {kernel.name}",),
        reasons=(f"why no faster kernel: {reason}",) if reason else (),
    )


def key_of(module: nn.Module, *rest: Hashable) -> Hashable:
    """What two tasks have in common that compute the same; None for a network without a hash."""
    try:
        hash(module)
    except TypeError:
        return None
    return module, *rest


def vocabulary(remembered: Mapping[str, str], read: Callable[[str], V]) -> V:
    """The vocabulary that a run remembers.

    Args:
      remembered: see `rnn_jax.tasks.base.Data`.
      read: makes a vocabulary of its file's text, or raises InputError.

    Raises:
      InputError: there is none, or it is damaged.
    """
    if VOCABULARY not in remembered:
        raise InputError(f"the run's {VOCABULARY} is missing")
    try:
        return read(remembered[VOCABULARY])
    except InputError as error:
        raise InputError(f"the run's {VOCABULARY} cannot be used: {error}") from error
