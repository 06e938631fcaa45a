"""What a kernel is: a record of a function, its options, and what it cannot run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from rnn_jax.types import Array, Carry, Cell, Direction, Params


class Unrolled(NamedTuple):
    """What a kernel returns.

    results: (final carry, outputs float[batch, time, features]) of each direction.
    report: what the kernel did, such as iterations or residuals: a pytree of arrays, or None for a
      kernel that has nothing to tell. Gradients do not pass through it.
    """

    results: tuple[tuple[Carry, Array], ...]
    report: Any = None


def runs_everything(cell: Cell, params: Params = None, inputs: Array | None = None) -> None:
    """`Kernel.problem` of a kernel that can run every cell."""
    del cell, params, inputs


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A way to compute an unroll, with its options; `rnn_jax.kernels.KERNELS` has the factories.

    Records with the same functions and equal options are equal and hash alike, so that a program
    compiled for one serves the other.

    name: as in `rnn_jax.kernels.KERNELS`.
    run: `(directions, inputs, *, lengths, mask, resets, **options) -> Unrolled`; the arguments are
      described in `rnn_jax.kernels`.
    problem: `(cell, params=None, inputs=None) -> str | None`, why it cannot run a cell here, in a
      few words that follow its name ("supports ..., got ..."); None if it can. The parameters and
      the inputs are given where they are known.
    options: (name, value) of each option that `run` takes.
    forward_mode: whether it can be differentiated forwards.
    figures: (name, `(report) -> float32[batch]`) of what a run's log shows of a report, all finite.
    slower: `(cell) -> str | None`, why "auto" passes it over although it can run a cell here: where
      another one was measured to be faster.

    >>> from rnn_jax import kernels
    >>> kernels.scan(remat_chunk=128)
    scan(remat_chunk=128)
    >>> kernels.scan(remat_chunk=128) == kernels.scan(128) != kernels.scan()
    True
    """

    name: str
    run: Callable[..., Unrolled]
    problem: Callable[..., str | None] = runs_everything
    options: tuple[tuple[str, Hashable], ...] = ()
    forward_mode: bool = True
    figures: tuple[tuple[str, Callable[[Any], Array]], ...] = ()
    slower: Callable[[Cell], str | None] = runs_everything

    def __repr__(self) -> str:
        options = (f"{name}={value!r}" for name, value in self.options if value is not None)
        return f"{self.name}({', '.join(options)})"

    def __call__(
        self,
        directions: tuple[Direction, ...],
        inputs: Array,
        *,
        lengths: Array | None,
        mask: Array | None,
        resets: Array | None,
    ) -> Unrolled:
        """`run` with the options."""
        return self.run(
            directions, inputs, lengths=lengths, mask=mask, resets=resets, **dict(self.options)
        )
