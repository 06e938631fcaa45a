"""What tasks with a recurrent network and a vocabulary have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax import kernels
from rnn_jax.config import Config, InputError
from rnn_jax.models import recurrent
from rnn_jax.tasks.base import Cells, Resolved
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import Array

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


REPORTS = "reports"  # the collection of what kernels tell of their work
# Names of sums: how many rows it was told of, and the beginning of what was told.
ROWS, PREFIX = "rows of kernels", "kernel's "


def reports(config: Any) -> bool:
    """Whether a resolved model section's kernel tells something of its work."""
    kernel = kernels.named(getattr(config, "kernel", kernels.AUTO))
    return kernel is not None and kernel.figures is not None


def report_sums(config: Any, collection: Any, rows: Array) -> Sums:
    """What the kernel of all layers told, the largest of them, summed over rows.

    Args:
      config: the model section, of which `reports` holds.
      collection: "reports" of an apply.
      rows: bool[rows], those that hold an example.
    """
    kernel = kernels.named(config.kernel)
    figures = None if kernel is None else kernel.figures
    assert figures is not None
    told: list[dict[str, Array]] = []

    def visit(tree: Any) -> None:
        for name, below in tree.items():
            if name == "kernel" and isinstance(below, tuple):
                told.extend(map(figures, below))
            else:
                visit(below)

    visit(collection)
    sums: Sums = {ROWS: jnp.sum(rows, dtype=jnp.int32)}
    for name in told[0]:
        largest = jnp.max(jnp.stack([each[name] for each in told]), axis=0)
        sums[PREFIX + name] = jnp.sum(jnp.where(rows, largest, 0))
    return sums


def report_means(sums: Mapping[str, Any]) -> dict[str, float]:
    """The means of `report_sums` among a task's sums; none where there are none."""
    count = max(int(sums.get(ROWS, 0)), 1)
    names = [name for name in sums if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): float(sums[name]) / count for name in names}


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
