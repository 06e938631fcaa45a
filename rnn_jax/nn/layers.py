"""flax.linen layers: they own parameters, and nothing else.

Every layer has the call

    carry, outputs = layer.apply(
        variables, inputs, lengths=None, mask=None, resets=None, initial=None, deterministic=True
    )

with the arguments of `rnn_jax.unrolling.unroll`; with `deterministic=False` noise comes from the
flax rng collection "dropout". The carries: RNN, its cell's; Bidirectional, (forward, backward);
Stacked, a tuple with one entry for each layer. `layer.final_output(carry)` turns a final carry into
the features at the end of each row: float[batch, features].

What a kernel tells of its work (`unroll(..., report=True)`) stands in the collection "reports" of
`layer.apply(..., mutable="reports")`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from rnn_jax import kernels
from rnn_jax.kernels import Kernel
from rnn_jax.nn.noise import KEPT, RATES, dropout, locked_dropout, module_rate
from rnn_jax.types import Array, Carry, Cell, Direction, NoiseKey, Params
from rnn_jax.unrolling import unroll_directions

MERGES = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mean": lambda forward, backward: (forward + backward) / 2,
    "mul": lambda forward, backward: forward * backward,
}


class Part(NamedTuple):
    """A layer's outputs of one direction.

    name: "forward" or "backward" where the layer has both, "" where there is no more to tell apart.
    outputs: float[batch, time, features].
    reverse: whether they come from a run backwards in time.
    """

    name: str
    outputs: Array
    reverse: bool


class Layer(nn.Module):
    """What all layers here have in common."""

    @nn.nowrap
    def final_output(self, carry: Any) -> Array:
        """The features at the end of each row: float[batch, features]."""
        raise NotImplementedError

    @nn.nowrap
    def members(self) -> list[RNN]:
        """The RNN layers in here."""
        raise NotImplementedError

    @nn.nowrap
    def parts(self, carry: Any, outputs: Array) -> list[Part]:
        """The outputs of each direction, of what a call returned.

        One after the other along their features they are `outputs` again. A layer that merges its
        directions otherwise, and a stack, has one part.
        """
        del carry
        return [Part("", outputs, False)]


class RNN(Layer):
    """A cell over time.

    cell: the cell; the layer owns its parameters, under the names that `cell.init` gives them.
    reverse: whether it runs backwards in time.
    kernel: how it is computed: a name in `rnn_jax.kernels.KERNELS`, a record such as
      `rnn_jax.kernels.scan(remat_chunk=128)`, or "auto" for the fastest that can run the cell here.
    remat_chunk: short for `kernel=rnn_jax.kernels.scan(remat_chunk)`.

    >>> import jax
    >>> from rnn_jax.cells import lstm
    >>> layer, inputs = RNN(lstm(hidden=8)), jnp.ones((2, 5, 64))
    >>> variables = layer.init(jax.random.key(0), inputs)
    >>> carry, outputs = layer.apply(variables, inputs, lengths=jnp.array([5, 3]))
    >>> outputs.shape, layer.final_output(carry).shape
    ((2, 5, 8), (2, 8))
    """

    cell: Cell
    reverse: bool = False
    kernel: str | Kernel = "scan"
    remat_chunk: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.cell, Cell):
            raise ValueError(f"cell must be a Cell, got {self.cell!r}")
        self.chosen_kernel()
        super().__post_init__()

    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        initial: Carry = None,
        deterministic: bool = True,
    ) -> tuple[Carry, Array]:
        direction = Direction(self.cell, self.parameters(inputs.shape[-1]), self.reverse, initial)
        (result,), report = unroll_directions(
            [direction], inputs, lengths, mask, resets,
            keys=[self.noise_key(deterministic)], kernel=self.chosen_kernel(), report=True,
        )  # fmt: skip
        _keep_report(self, report)
        return result

    @nn.compact
    def parameters(self, in_features: int) -> Params:
        """The cell's parameters, drawn if the layer is being initialised."""
        known = self.variables.get("params")
        if known or not self.is_initializing():
            return dict(known or {})
        params = self.cell.init(self.make_rng("params"), in_features)
        if not isinstance(params, Mapping):
            raise ValueError(
                f"cell.init must return a dictionary of arrays, got {type(params).__name__}"
            )
        return {name: self.param(name, lambda _, leaf=leaf: leaf) for name, leaf in params.items()}

    def noise_key(self, deterministic: bool) -> Array | NoiseKey | None:
        """A key for the cell's noise, where it has any and it is wanted."""
        if deterministic or self.cell.noise is None:
            return None
        key = self.make_rng("dropout")
        kept: Array | None = self.get_variable(RATES, KEPT, None)
        return NoiseKey(key, kept) if kept is not None else key

    @nn.nowrap
    def chosen_kernel(self) -> str | Kernel:
        """The record that `kernel` and `remat_chunk` name, or "auto"."""
        return kernels.named(self.kernel, self.remat_chunk) or kernels.AUTO

    @nn.nowrap
    def final_output(self, carry: Carry) -> Array:
        """The output after each row's last step: float[batch, features]."""
        return self.cell.output(carry)

    @nn.nowrap
    def members(self) -> list[RNN]:
        """The RNN layers in here."""
        return [self]

    @nn.nowrap
    def parts(self, carry: Carry, outputs: Array) -> list[Part]:
        """The outputs, with the direction in which they were computed."""
        del carry
        return [Part("", outputs, self.reverse)]


class Bidirectional(Layer):
    """Two layers over the same inputs, one forwards and one backwards (Schuster and Paliwal 1997).

    forward: an RNN.
    backward: an RNN of its own; it runs backwards in time, whether its `reverse` says so or not.
    merge: what becomes of the two outputs at each step: "concat", "sum", "mean" or "mul".

    >>> import jax
    >>> from rnn_jax.cells import gru
    >>> layer = Bidirectional(RNN(gru(hidden=3)), RNN(gru(hidden=3)), merge="concat")
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 5, 4)))
    >>> outputs.shape, sorted(variables["params"])
    ((2, 5, 6), ['backward', 'forward'])
    """

    forward: RNN
    backward: RNN
    merge: str = "concat"

    def __post_init__(self) -> None:
        for name in ("forward", "backward"):
            if not isinstance(getattr(self, name), RNN):
                raise ValueError(f"{name} must be an RNN, got {getattr(self, name)!r}")
        if self.forward.reverse:
            raise ValueError("forward must have reverse=False, got reverse=True")
        one, other = self.forward.chosen_kernel(), self.backward.chosen_kernel()
        if one != other:
            raise ValueError(f"kernel must be the same in both directions, got {one} and {other}")
        if self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {self.merge!r}")
        _check_distinct("Bidirectional", [self.forward, self.backward])
        super().__post_init__()

    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        initial: tuple[Carry, Carry] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, Carry], Array]:
        layers = (self.forward, self.backward)
        carries = _entries("initial", initial, len(layers))
        directions = [
            Direction(layer.cell, layer.parameters(inputs.shape[-1]), reverse, carry)
            for layer, reverse, carry in zip(layers, (False, True), carries, strict=True)
        ]
        ((forward, ahead), (backward, behind)), report = unroll_directions(
            directions, inputs, lengths, mask, resets,
            keys=[layer.noise_key(deterministic) for layer in layers],
            kernel=self.forward.chosen_kernel(), report=True,
        )  # fmt: skip
        _keep_report(self, report)
        return (forward, backward), MERGES[self.merge](ahead, behind)

    @nn.nowrap
    def final_output(self, carry: tuple[Carry, Carry]) -> Array:
        """The last output forwards merged with the last one backwards."""
        forward, backward = carry
        return MERGES[self.merge](
            self.forward.final_output(forward), self.backward.final_output(backward)
        )

    @nn.nowrap
    def members(self) -> list[RNN]:
        """The RNN layers in here."""
        return [*self.forward.members(), *self.backward.members()]

    @nn.nowrap
    def parts(self, carry: tuple[Carry, Carry], outputs: Array) -> list[Part]:
        """Forwards and backwards, where `merge` leaves them side by side."""
        if self.merge != "concat":
            return super().parts(carry, outputs)
        width = self.forward.final_output(carry[0]).shape[-1]
        return [
            Part("forward", outputs[..., :width], False),
            Part("backward", outputs[..., width:], True),
        ]


class Stacked(Layer):
    """Layers one on the other: each reads the outputs of the one below.

    layers: RNN, Bidirectional or Stacked, of any widths.
    residual: each layer but the first adds its inputs to its outputs (the widths must agree).
    skip: each layer but the first reads the stack's inputs beside the outputs below, and the
      outputs of all layers together are the stack's (Graves 2013, https://arxiv.org/abs/1308.0850).
    dropout: share of the features dropped between layers. The collection "rates" may have another
      in its place (`rnn_jax.nn.noise.module_rate`).
    locked: whether all steps of a row drop the same features; otherwise each step by itself.

    >>> import jax
    >>> from rnn_jax.cells import lstm
    >>> layer = Stacked([RNN(lstm(hidden=8)), RNN(lstm(hidden=5))])
    >>> (carry, outputs), variables = layer.init_with_output(jax.random.key(0), jnp.ones((2, 7, 4)))
    >>> outputs.shape, len(carry), sorted(variables["params"])
    ((2, 7, 5), 2, ['layers_0', 'layers_1'])
    """

    layers: Sequence[Layer]
    residual: bool = False
    skip: bool = False
    dropout: float = 0.0
    locked: bool = False

    def __post_init__(self) -> None:
        self.layers = tuple(self.layers)
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ValueError(f"layers must be RNN, Bidirectional or Stacked, got {layer!r}")
        if self.residual and self.skip:
            raise ValueError("residual and skip: got both, expected one of them at most")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a number in [0, 1), got {self.dropout!r}")
        _check_distinct("Stacked", self.layers)
        super().__post_init__()

    def __call__(
        self,
        inputs: Array,
        lengths: Array | None = None,
        mask: Array | None = None,
        resets: Array | None = None,
        initial: tuple[Carry, ...] | None = None,
        deterministic: bool = True,
    ) -> tuple[tuple[Carry, ...], Array]:
        carries: list[Carry] = []
        outputs: list[Array] = []
        for layer, carry in zip(
            self.layers, _entries("initial", initial, len(self.layers)), strict=True
        ):
            below = outputs[-1] if outputs else None
            seen = inputs if below is None else self._dropped(below, deterministic)
            if self.skip and below is not None:
                seen = jnp.concatenate([inputs.astype(seen.dtype), seen], axis=-1)
            carry, above = layer(seen, lengths, mask, resets, carry, deterministic)
            carries.append(carry)
            outputs.append(self._joined(below, above))
        return tuple(carries), self._result(outputs)

    @nn.nowrap
    def final_output(self, carry: tuple[Carry, ...]) -> Array:
        """The features at the end of each row: float[batch, features]."""
        outputs: list[Array] = []
        for layer, layer_carry in zip(self.layers, carry, strict=True):
            below = outputs[-1] if outputs else None
            outputs.append(self._joined(below, layer.final_output(layer_carry)))
        return self._result(outputs)

    @nn.nowrap
    def members(self) -> list[RNN]:
        """The RNN layers in here."""
        return [member for layer in self.layers for member in layer.members()]

    @nn.nowrap
    def _joined(self, below: Array | None, above: Array) -> Array:
        if not self.residual or below is None:
            return above
        if below.shape != above.shape:
            raise ValueError(
                f"residual=True needs layers of the same width, got {below.shape[-1]} "
                f"and {above.shape[-1]} features"
            )
        return below + above

    @nn.nowrap
    def _result(self, outputs: list[Array]) -> Array:
        return jnp.concatenate(outputs, axis=-1) if self.skip else outputs[-1]

    def _dropped(self, values: Array, deterministic: bool) -> Array:
        rate = None if deterministic else module_rate(self, "dropout")
        drop = locked_dropout if self.locked else dropout
        return values if rate is None else drop(self.make_rng("dropout"), values, rate)


def _keep_report(layer: nn.Module, report: Any) -> None:
    """Leaves a kernel's report in the collection "reports", for who makes that mutable."""
    if report is not None and not layer.is_initializing():
        layer.sow("reports", "kernel", report)


def _entries(name: str, carry: Any, count: int) -> Sequence[Any]:
    """A carry's entries, one for each layer; None for each where it is None."""
    if carry is None:
        return (None,) * count
    if not isinstance(carry, tuple | list) or len(carry) != count:
        got = f"{len(carry)} entries" if isinstance(carry, tuple | list) else type(carry).__name__
        raise ValueError(
            f"{name} must be a tuple with {count} entries, one for each layer, got {got}"
        )
    return carry


def _check_distinct(owner: str, layers: Sequence[Any]) -> None:
    members = [member for layer in layers for member in layer.members()]
    if len({id(member) for member in members}) < len(members):
        raise ValueError(
            f"{owner}: got the same layer instance twice, which would share its parameters; "
            "expected an instance for each place"
        )
