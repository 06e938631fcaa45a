"""Ways to compute an unroll: one table, the same numbers from each.

A kernel is a function

    kernel(directions, inputs, *, lengths, mask, resets, remat_chunk) -> ((carry, outputs), ...)

- directions: tuple of `Direction`, at least one, all over the same inputs; `initial` is filled in
  and fits the cell.
- inputs: float[batch, time, in_features], zeros at masked steps.
- lengths: int32[batch] within [0, time] where rows are right-padded, else None.
- mask: bool[batch, time], or None where every step is valid; with `lengths` it says the same as
  they do.
- resets: bool[batch, time] or None, true at a sequence's first step (`masking.starts` turns it into
  the steps before which a walk restarts from the cell's initial carry).
- remat_chunk: an int within [1, time], or None.

It returns one (final carry, outputs float[batch, time, features]) for each direction, outputs zero
at masked steps. What it does not support it refuses with a ValueError that names it; it never
switches to another one; `quickest` chooses for a program before it computes anything.
"""

from __future__ import annotations

from collections.abc import Callable

from rnn_jax.kernels import fused, native, scan
from rnn_jax.types import Cell

KERNELS: dict[str, Callable] = {"scan": scan.unroll, "fused": fused.unroll, "native": native.unroll}

# Those that cannot run everything, the fastest first.
_PROBLEMS = {"native": native.problem, "fused": fused.problem}


def get(name: str) -> Callable:
    """The kernel of this name.

    Raises:
      ValueError: there is none.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(sorted(KERNELS))}, got {name!r}")
    return KERNELS[name]


def problem(name: str, cell: Cell) -> str | None:
    """Why the kernel of this name cannot run a cell on this machine, in a line; None if it can."""
    return _PROBLEMS[name](cell) if name in _PROBLEMS else None


def quickest(cell: Cell) -> tuple[str, str]:
    """The fastest kernel that can train a cell on this machine.

    Returns:
      Its name, and in a line why no faster one can; nothing if it is the fastest of all.
    """
    reasons = []
    for name in _PROBLEMS:
        found = problem(name, cell)
        if found is None:
            return name, "; ".join(reasons)
        reasons.append(f"{name} {found}")
    return "scan", "; ".join(reasons)
