"""Recurrent cells: each factory closes over its static options and returns a `Cell`.

In the equations `x_t` is the input, `h_t` the hidden state and output, `W` the kernel, `U` the
recurrent kernel, `b` the bias, `b_h` the recurrent bias, `*` the product of matching entries, `@`
that of matrices and `sigmoid` the recurrent activation, by default the logistic function.
Parameters are named arrays: `kernel` [in_features, gates * hidden], `recurrent_kernel`
[features, gates * hidden], `bias` and `recurrent_bias` [gates * hidden], the gates one after the
other in the order in which the equations name them.

Options of every cell, by keyword (`help` shows them with their defaults):

- activation: "tanh", "relu", "sigmoid", "identity", or a function of an array.
- use_bias: with `b` (and `b_h`); otherwise none at all.
- recurrent_bias: with `b_h`, the second bias that PyTorch and cuDNN have.
- layer_norm: `LN(x_t W) * input_scale` in the place of `x_t W`, `LN(h_{t-1} U) * recurrent_scale`
  in that of `h_{t-1} U`, where LN brings all gates together to mean 0 and variance 1 (epsilon
  1e-5); the shift is `b` (Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450).
- input_dropout, recurrent_dropout: the shares of the features of `x_t` and of `h_{t-1}` that are
  dropped where they enter their products, one mask for all steps and gates of a row (Gal and
  Ghahramani 2016, https://arxiv.org/abs/1512.05287); only where an unroll has a key.
- initializer: "gatewise" (glorot uniform kernel, an orthogonal recurrent kernel for each gate,
  biases 0), "keras" (the same, but one orthogonal recurrent kernel for all gates together; for a
  cell with one gate there is no difference) or "torch" (everything uniform in ±1/√hidden).
- dtype: the type of products and outputs, by default that of the parameters. Sums, gates and states
  are float32 at least.
- param_dtype: the type of the parameters that `init` makes.

All factories raise ValueError for an option that makes no sense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, Unpack

import jax
import jax.numpy as jnp

from rnn_jax.cells import affine
from rnn_jax.cells.affine import (
    Activation,
    CellOptions,
    CellSpec,
    Projected,
    activation,
    cast,
    specify,
    takes,
)
from rnn_jax.cells.initializers import INITIALIZERS
from rnn_jax.types import Array, Carry, Cell, LSTMState, Params, PRNGKey

S = TypeVar("S", bound=CellSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimpleRNNSpec(CellSpec):
    """Options of `simple_rnn`."""

    kind = "simple_rnn"
    gates = 1
    norm_groups = (1,)


class SimpleRNNOptions(CellOptions, total=False):
    """Keywords of `simple_rnn`."""

    recurrent_bias: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMSpec(CellSpec):
    """Options of `lstm`."""

    kind = "lstm"
    gates = 4
    norm_groups = (4,)

    recurrent_activation: Activation = "sigmoid"
    forget_bias: float = 1.0
    projection: int | None = None
    peepholes: bool = False

    @property
    def features(self) -> int:
        return self.projection or self.hidden


class LSTMOptions(CellOptions, total=False):
    """Keywords of `lstm`."""

    recurrent_activation: Activation
    recurrent_bias: bool
    forget_bias: float | None
    projection: int | None
    peepholes: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRUSpec(CellSpec):
    """Options of `gru`."""

    kind = "gru"
    gates = 3
    norm_groups = (2, 1)

    recurrent_activation: Activation = "sigmoid"
    reset_after: bool = True


class GRUOptions(CellOptions, total=False):
    """Keywords of `gru`."""

    recurrent_activation: Activation
    recurrent_bias: bool | None
    reset_after: bool


@takes(SimpleRNNSpec)
def simple_rnn(hidden: int, **options: Unpack[SimpleRNNOptions]) -> Cell:
    """The simple recurrent network of Elman (1990), https://doi.org/10.1207/s15516709cog1402_1.

        h_t = activation(x_t @ W + b + h_{t-1} @ U + b_h)

    The carry is `h_t`, [batch, hidden]. One bias, starting at 0, as in Keras; `recurrent_bias` adds
    `b_h`.

    Args:
      hidden: units.
      options: by keyword, `activation`, the function of the sum ("relu" with an identity recurrent
        kernel is the IRNN), and what every cell has (see the module): use_bias, recurrent_bias,
        layer_norm, input_dropout, recurrent_dropout, initializer, dtype, param_dtype.

    >>> cell = simple_rnn(hidden=16)
    >>> params = cell.init(jax.random.key(0), 64)
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (64, 16), 'recurrent_kernel': (16, 16), 'bias': (16,)}
    """
    spec = specify(SimpleRNNSpec, hidden, options)
    return _cell(spec, partial(affine.init, spec), partial(_simple_rnn_step, spec), _hidden_carry)


def _simple_rnn_step(
    spec: SimpleRNNSpec, params: Params, h: Array, projected: Projected
) -> tuple[Array, Array]:
    gates = cast(projected.gates, h) + affine.recur(spec, params, h, projected.keep)
    h = activation(spec.activation)(gates)
    return h, _output(spec, params, h)


@takes(LSTMSpec, forget_bias=None)
def lstm(hidden: int, **options: Unpack[LSTMOptions]) -> Cell:
    """Long short-term memory (Hochreiter and Schmidhuber 1997,
    https://doi.org/10.1162/neco.1997.9.8.1735) with forget gates (Gers, Schmidhuber and Cummins
    2000, https://doi.org/10.1162/089976600300015015).

        i, f, g, o = x_t @ W + b + h_{t-1} @ U + b_h
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * activation(g)
        h_t = sigmoid(o) * activation(c_t)

    The carry is `LSTMState(hidden=h_t, cell=c_t)`. One bias, 0 but for the forget gate's, which
    starts at 1 (Jozefowicz, Zaremba and Sutskever 2015); `recurrent_bias` adds `b_h`.

    Args:
      hidden: units.
      activation: the function of `g` and of `c_t`.
      recurrent_activation: the function that the equations call `sigmoid`.
      forget_bias: what initialisation adds to the forget gate's bias; None means 1, and 0 with
        initializer="torch".
      projection: if given, `h_t = (sigmoid(o) * activation(c_t)) @ projection_kernel` with that
        many features (Sak, Senior and Beaufays 2014, https://arxiv.org/abs/1402.1128; PyTorch's
        `proj_size`).
      peepholes: `c_{t-1}` times `peephole[0]` and `peephole[1]` joins `i` and `f`, `c_t` times
        `peephole[2]` joins `o` (Gers, Schraudolph and Schmidhuber 2002); `peephole` is [3, hidden],
        at first 0.
      layer_norm: as the module says, and `h_t = sigmoid(o) * activation(LN(c_t) * cell_scale +
        cell_bias)`.
      options: these by keyword, and what every cell has (see the module): use_bias,
        recurrent_bias, input_dropout, recurrent_dropout, initializer, dtype, param_dtype.

    >>> cell = lstm(hidden=8)
    >>> params = cell.init(jax.random.key(0), 64)
    >>> sum(array.size for array in params.values())
    2336
    >>> params["bias"].reshape(4, 8)[:, 0].tolist()  # i, f, g, o
    [0.0, 1.0, 0.0, 0.0]
    """
    if options.get("forget_bias") is None:
        convention = INITIALIZERS.get(str(options.get("initializer", LSTMSpec.initializer)))
        options["forget_bias"] = convention.forget_bias if convention else 0.0
    spec = specify(LSTMSpec, hidden, options)
    return _cell(spec, partial(_lstm_init, spec), partial(_lstm_step, spec), _lstm_carry)


def _lstm_init(spec: LSTMSpec, key: PRNGKey, in_features: int) -> dict[str, Array]:
    draw, hidden, dtype = INITIALIZERS[spec.initializer], spec.hidden, spec.param_dtype
    affine_key, projection_key, peephole_key = jax.random.split(key, 3)
    params = affine.init(spec, affine_key, in_features)
    if spec.use_bias:
        params["bias"] = params["bias"].at[hidden : 2 * hidden].add(spec.forget_bias)
    if spec.projection:
        limit = (projection_key, hidden, spec.projection, 1, dtype)
        params["projection_kernel"] = draw.kernel(*limit)
    if spec.peepholes:
        params["peephole"] = draw.bias(peephole_key, hidden, 3, dtype).reshape(3, hidden)
    if spec.layer_norm:
        params["cell_scale"], params["cell_bias"] = (
            jnp.ones(hidden, dtype),
            jnp.zeros(hidden, dtype),
        )
    return params


def _lstm_step(
    spec: LSTMSpec, params: Params, carry: LSTMState, projected: Projected
) -> tuple[LSTMState, Array]:
    sigmoid, function = activation(spec.recurrent_activation), activation(spec.activation)
    h, c = carry
    gates = cast(projected.gates, h) + affine.recur(spec, params, h, projected.keep)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f = _peep(spec, params, i, c, 0), _peep(spec, params, f, c, 1)
    c = sigmoid(f) * c + sigmoid(i) * function(g)
    o = _peep(spec, params, o, c, 2)
    h = sigmoid(o) * function(_normalised_cell(spec, params, c))
    h = _project_hidden(spec, params, h)
    return LSTMState(h, c), _output(spec, params, h)


def _peep(spec: LSTMSpec, params: Params, gate: Array, c: Array, n: int) -> Array:
    """The gate with its peephole, `gate + peephole[n] * c`; itself where there are none."""
    return gate + cast(params["peephole"][n], c) * c if spec.peepholes else gate


def _normalised_cell(spec: LSTMSpec, params: Params, c: Array) -> Array:
    """`LN(c) * cell_scale + cell_bias` with layer_norm, otherwise `c`."""
    if not spec.layer_norm:
        return c
    scaled = affine.normalise(spec, c, (1,)) * cast(params["cell_scale"], c)
    return scaled + cast(params["cell_bias"], c)


def _project_hidden(spec: LSTMSpec, params: Params, h: Array) -> Array:
    """`h @ projection_kernel` with a projection, otherwise `h`."""
    return affine.product(spec, h, params, "projection_kernel") if spec.projection else h


def _lstm_carry(spec: LSTMSpec, params: Params, batch: int) -> LSTMState:
    dtype = affine.state_dtype(spec, params)
    return LSTMState(
        hidden=jnp.zeros((batch, spec.features), dtype), cell=jnp.zeros((batch, spec.hidden), dtype)
    )


@takes(GRUSpec, recurrent_bias=None)
def gru(hidden: int, **options: Unpack[GRUOptions]) -> Cell:
    """The gated recurrent unit (Cho et al. 2014, https://arxiv.org/abs/1406.1078).

    With the reset after the product (the default; PyTorch's, cuDNN's and Keras' default too):

        r, z = the first two thirds of x_t @ W + b + h_{t-1} @ U + b_h
        n = activation(x_t @ W_n + b_n + sigmoid(r) * (h_{t-1} @ U_n + b_hn))
        h_t = (1 - sigmoid(z)) * n + sigmoid(z) * h_{t-1}

    With `reset_after=False`, version 3 of the paper:

        n = activation(x_t @ W_n + b_n + (sigmoid(r) * h_{t-1}) @ U_n + b_hn)

    The carry is `h_t`, [batch, hidden]. Biases start at 0.

    Args:
      hidden: units.
      reset_after: whether the reset gate acts after the product.
      activation: the function of the new state `n`.
      recurrent_activation: the function that the equations call `sigmoid`.
      recurrent_bias: with `b_h`; None means: with `reset_after`, where the two biases differ, if
        there are biases at all.
      layer_norm: as the module says, with `r` and `z` normalised together and `n` apart.
      options: these by keyword, and what every cell has (see the module): use_bias, input_dropout,
        recurrent_dropout, initializer, dtype, param_dtype.

    >>> params = gru(hidden=8).init(jax.random.key(0), 64)
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (64, 24), 'recurrent_kernel': (8, 24), 'bias': (24,), 'recurrent_bias': (24,)}
    """
    if options.get("recurrent_bias") is None:
        reset_after = options.get("reset_after", GRUSpec.reset_after)
        options["recurrent_bias"] = reset_after and options.get("use_bias", GRUSpec.use_bias)
    spec = specify(GRUSpec, hidden, options)
    return _cell(spec, partial(affine.init, spec), partial(_gru_step, spec), _hidden_carry)


def _gru_step(spec: GRUSpec, params: Params, h: Array, projected: Projected) -> tuple[Array, Array]:
    sigmoid, function = activation(spec.recurrent_activation), activation(spec.activation)
    r, z, n = jnp.split(cast(projected.gates, h), 3, axis=-1)
    if spec.reset_after:
        h_r, h_z, h_n = jnp.split(affine.recur(spec, params, h, projected.keep), 3, axis=-1)
        n = function(n + sigmoid(r + h_r) * h_n)
    else:
        gates = affine.recur(spec, params, h, projected.keep, groups=slice(0, 1))
        h_r, h_z = jnp.split(gates, 2, axis=-1)
        reset = sigmoid(r + h_r) * h
        n = function(n + affine.recur(spec, params, reset, projected.keep, groups=slice(1, 2)))
    z = sigmoid(z + h_z)
    h = (1 - z) * n + z * h
    return h, _output(spec, params, h)


def _hidden_carry(spec: CellSpec, params: Params, batch: int) -> Array:
    return jnp.zeros((batch, spec.hidden), affine.state_dtype(spec, params))


def _output(spec: CellSpec, params: Params, h: Array) -> Array:
    return h.astype(affine.compute_dtype(spec, params))


def _cell(
    spec: S,
    init: Callable[[PRNGKey, int], Params],
    step: Callable[[Params, Any, Projected], tuple[Carry, Array]],
    initial_carry: Callable[[S, Params, int], Carry],
) -> Cell:
    return Cell(
        init=init,
        project=partial(affine.project, spec),
        step=step,
        initial_carry=partial(initial_carry, spec),
        noise=affine.noise(spec),
        spec=spec,
    )
