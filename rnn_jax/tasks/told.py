"""What kernels tell of their work, such as Newton's rounds, as figures of a task.

A task with recurrent layers makes a `Teller` of its model section, lets it call the network
(`apply`), adds what it heard to its sums (`sums`), and passes itself through `reporting`. Then the
means over rows stand in metrics.jsonl, the log and report.html, as every figure does. With a kernel
that tells nothing all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax import kernels
from rnn_jax.tasks.base import Task
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import AnyArray, Array

COLLECTION = "reports"  # where layers leave the reports of their kernels
# Names of sums: how many rows were told of, and the beginning of what was told.
ROWS, PREFIX = "rows of kernels", "kernel's "

Told = dict[str, Array]  # float32[batch] by name; empty if nothing was told


class Teller(NamedTuple):
    """What a network's kernel tells.

    figures: as in `rnn_jax.kernels.Kernel`.
    """

    figures: tuple[tuple[str, Callable[[Any], Array]], ...]

    def apply(self, module: nn.Module, variables: Any, *arrays: Any, **how: Any) -> Any:
        """(what `module.apply` returns, what was told: of all layers the largest)."""
        if not self.figures:
            return module.apply(variables, *arrays, **how), {}
        found, kept = module.apply(variables, *arrays, mutable=COLLECTION, **how)
        told = ({name: of(each) for name, of in self.figures} for each in _reports(kept))
        return found, largest(*told)

    def sums(self, told: Told, rows: AnyArray) -> Sums:
        """Sums over rows.

        Args:
          told: by `apply`.
          rows: bool[batch], those that hold an example.
        """
        if not self.figures:
            return {}
        rows = jnp.asarray(rows)
        count = jnp.sum(rows, dtype=jnp.int32) if told else jnp.int32(0)
        zero = jnp.zeros(rows.shape, jnp.float32)
        added = {
            PREFIX + name: jnp.sum(jnp.where(rows, told.get(name, zero), 0))
            for name, _ in self.figures
        }
        return {ROWS: count} | added

    def reporting(self, task: Task) -> Task:
        """The task, whose `loss` and `evaluate` already give `sums`, with the means of what is told
        among its figures, and in a line below an epoch's."""
        if not self.figures:
            return task
        names = [name for name, _ in self.figures]
        like = {PREFIX + name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}
        like |= {ROWS: jax.ShapeDtypeStruct((), jnp.int32)}

        def means(sums: dict[str, Any]) -> dict[str, float]:
            return task.means(sums) | told_means(sums)

        return task._replace(sums=dict(task.sums) | like, means=means, told=tuple(names))


def teller(model: Any) -> Teller:
    """What the kernel of a resolved model section tells; nothing for a section without one."""
    kernel = kernels.named(getattr(model, "kernel", kernels.AUTO))
    return Teller(() if kernel is None else kernel.figures)


def _reports(tree: Any) -> Iterator[Any]:
    """The reports in a collection: a layer keeps a tuple of them, one for each of its calls."""
    for name, below in tree.items():
        if isinstance(below, Mapping):
            yield from _reports(below)
        elif name == "kernel":
            yield from below


def largest(*told: Told) -> Told:
    """The largest of what several calls told of the same rows."""
    if not told:
        return {}
    return {name: jnp.max(jnp.stack([each[name] for each in told]), axis=0) for name in told[0]}


def told_means(sums: Mapping[str, Any]) -> dict[str, float]:
    """The means over rows of `Teller.sums` among a task's sums; none where nothing was told."""
    count = int(sums.get(ROWS, 0))
    names = [name for name in sums if name.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): float(sums[name]) / count for name in names if count}
