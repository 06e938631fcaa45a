"""Recurrent cells whose step is linear in the carry, `h_t = a_t * h_{t-1} + b_t`, where `a_t` and
`b_t` depend on the inputs alone: all steps can be computed at once (`rnn_jax.kernels.associative`
and `blocked`), and `scan` runs them like any other cell.

The letters are those of `rnn_jax.cells.cells`; here the gates see no hidden state, so that there is
no recurrent kernel. The carry is `h_t`, float32 at least, and so is the output but for its type.

Options of every cell here, by keyword: use_bias, input_dropout, dtype and param_dtype, as in the
other cells.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import jax
import jax.numpy as jnp

from rnn_jax.cells import affine
from rnn_jax.cells.affine import Activation, Spec, activation, cast, specify, takes
from rnn_jax.cells.initializers import INITIALIZERS
from rnn_jax.types import Array, Cell, Linear, Params, PRNGKey

S = TypeVar("S", bound=Spec)
EXPONENT = 8.0  # what RG-LRU's paper calls c


class LinearOptions(TypedDict, total=False):
    """The keywords that every linear cell's factory takes."""

    use_bias: bool
    input_dropout: float
    dtype: Any
    param_dtype: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinGRUSpec(Spec):
    """Options of `min_gru`."""

    kind = "min_gru"
    gates = 2

    activation: Activation = "identity"
    initializer: str = "gatewise"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinLSTMSpec(MinGRUSpec):
    """Options of `min_lstm`."""

    kind = "min_lstm"
    gates = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRUSpec(Spec):
    """Options of `lru`."""

    kind = "lru"
    gates = 2

    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r_min >= self.r_max:
            raise ValueError(f"lru: r_min must be below r_max {self.r_max}, got {self.r_min}")

    @property
    def features(self) -> int:
        return 2 * self.hidden


@dataclasses.dataclass(frozen=True, kw_only=True)
class RGLRUSpec(Spec):
    """Options of `rg_lru`."""

    kind = "rg_lru"
    gates = 2


class MinOptions(LinearOptions, total=False):
    """Keywords of `min_gru` and `min_lstm`."""

    activation: Activation
    initializer: str


class LRUOptions(LinearOptions, total=False):
    """Keywords of `lru`."""

    r_min: float
    r_max: float
    max_phase: float


class Projected(NamedTuple):
    """What the inputs give to each step.

    gates: `x_t W + b`, [batch, time, gates * hidden].
    inputs: of `rg_lru`, `x_t` (or its projection), [batch, time, hidden]; else None.
    """

    gates: Array
    inputs: Array | None = None


class Noise(NamedTuple):
    """inputs: bool[batch, 1, in_features], true where a feature is kept."""

    inputs: Array


@takes(MinGRUSpec)
def min_gru(hidden: int, **options: Unpack[MinOptions]) -> Cell:
    """The minimal GRU of Feng et al. (2024), https://arxiv.org/abs/2410.01201.

        z, n = x_t @ W + b
        h_t = (1 - sigmoid(z)) * h_{t-1} + sigmoid(z) * activation(n)

    Args:
      hidden: units.
      options: by keyword, `activation`, the candidate's function (the paper has none in the plain
        recurrence), `initializer` (as in the other cells), and what every linear cell has.

    >>> cell = min_gru(hidden=16)
    >>> params = cell.init(jax.random.key(0), 64)
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (64, 32), 'bias': (32,)}
    """
    spec = specify(MinGRUSpec, hidden, options)
    return _cell(spec, partial(_min_init, spec), partial(_min_gru, spec))


def _min_gru(spec: MinGRUSpec, params: Params, projected: Projected) -> tuple[Array, Array]:
    z, n = jnp.split(_gates(spec, params, projected), 2, axis=-1)
    # 1 - sigmoid(z) without the cancellation.
    return jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * activation(spec.activation)(n)


@takes(MinLSTMSpec)
def min_lstm(hidden: int, **options: Unpack[MinOptions]) -> Cell:
    """The minimal LSTM of Feng et al. (2024), https://arxiv.org/abs/2410.01201, whose gates are
    made to sum to 1.

        f, i, n = x_t @ W + b
        f', i' = sigmoid(f) / (sigmoid(f) + sigmoid(i)), sigmoid(i) / (sigmoid(f) + sigmoid(i))
        h_t = f' * h_{t-1} + i' * activation(n)

    Args:
      hidden: units.
      options: as for `min_gru`.

    >>> params = min_lstm(hidden=16).init(jax.random.key(0), 64)
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (64, 48), 'bias': (48,)}
    """
    spec = specify(MinLSTMSpec, hidden, options)
    return _cell(spec, partial(_min_init, spec), partial(_min_lstm, spec))


def _min_lstm(spec: MinLSTMSpec, params: Params, projected: Projected) -> tuple[Array, Array]:
    f, i, n = jnp.split(_gates(spec, params, projected), 3, axis=-1)
    # sigmoid(f) / (sigmoid(f) + sigmoid(i)) = sigmoid(log sigmoid(f) - log sigmoid(i)), which holds
    # where both are too small to be divided.
    share = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
    return jax.nn.sigmoid(share), jax.nn.sigmoid(-share) * activation(spec.activation)(n)


def _min_init(spec: MinGRUSpec, key: PRNGKey, in_features: int) -> dict[str, Array]:
    draw, shape = INITIALIZERS[spec.initializer], (spec.hidden, spec.gates, spec.param_dtype)
    keys = jax.random.split(key)
    params = {"kernel": draw.kernel(keys[0], in_features, *shape)}
    return params | ({"bias": draw.bias(keys[1], *shape)} if spec.use_bias else {})


@takes(LRUSpec)
def lru(hidden: int, **options: Unpack[LRUOptions]) -> Cell:
    """The linear recurrent unit of Orvieto et al. (2023), https://arxiv.org/abs/2303.06349.

        lambda = exp(-exp(nu) + i * exp(theta))
        h_t = lambda * h_{t-1} + exp(gamma) * (x_t @ B + b)

    with complex `h_t`, `B` and `b`, kept as real and imaginary parts: the carry and the output are
    [real, imaginary], [batch, 2 * hidden], the parameters `kernel` [in_features, 2 * hidden] and
    `bias` [2 * hidden] likewise. The paper's output, `Re(C h_t) + D x_t`, is a linear layer on it.

    `lambda` starts evenly in the ring `r_min <= |lambda| < r_max` with a phase below `max_phase`,
    `exp(gamma)` as `sqrt(1 - |lambda|**2)`, `B` normal with variance 1 / (2 * in_features), and
    there is no bias (the paper has none) unless `use_bias` asks for it.

    Args:
      hidden: complex units.
      r_min, r_max: bounds of `|lambda|` at the start; close to 1 for long memories.
      max_phase: of `lambda` at the start, radians.
      options: these by keyword, and what every linear cell has.

    >>> cell = lru(hidden=8, r_min=0.9, r_max=0.999)
    >>> {name: array.shape for name, array in cell.init(jax.random.key(0), 64).items()}
    {'kernel': (64, 16), 'nu': (8,), 'theta': (8,), 'gamma': (8,)}
    """
    options.setdefault("use_bias", False)
    spec = specify(LRUSpec, hidden, options)
    return _cell(spec, partial(_lru_init, spec), partial(_lru, spec), is_complex=True)


def _lru(spec: LRUSpec, params: Params, projected: Projected) -> tuple[Array, Array]:
    gates = _gates(spec, params, projected)
    nu, theta = (cast(params[name], gates) for name in ("nu", "theta"))
    size, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
    decay = jnp.concatenate([size * jnp.cos(phase), size * jnp.sin(phase)], axis=-1)
    gamma = jnp.exp(cast(params["gamma"], gates))
    return decay, gates * jnp.concatenate([gamma, gamma], axis=-1)


def _lru_init(spec: LRUSpec, key: PRNGKey, in_features: int) -> dict[str, Array]:
    hidden, keys = spec.hidden, jax.random.split(key, 3)
    real = jnp.promote_types(spec.param_dtype, jnp.float32)
    # Not the ends, at which lambda would be 0 or stay on the unit circle for ever.
    even = jax.random.uniform(keys[0], (hidden,), real, 1e-4, 1 - 1e-4)
    square = even * (spec.r_max**2 - spec.r_min**2) + spec.r_min**2  # |lambda|**2
    phase = jax.random.uniform(keys[1], (hidden,), real, 1e-4, 1) * spec.max_phase
    normal = jax.random.normal(keys[2], (in_features, 2 * hidden), real)
    params = {
        "kernel": normal / math.sqrt(2 * in_features),
        "nu": jnp.log(-0.5 * jnp.log(square)),
        "theta": jnp.log(phase),
        "gamma": 0.5 * jnp.log1p(-square),
    }
    return _typed(spec, params)


@takes(RGLRUSpec)
def rg_lru(hidden: int, **options: Unpack[LinearOptions]) -> Cell:
    """The real-gated linear recurrent unit of De et al. (2024), https://arxiv.org/abs/2402.19427.

        r, i = x_t @ W + b
        a_t = sigmoid(decay) ** (8 * sigmoid(r))
        h_t = a_t * h_{t-1} + sqrt(1 - a_t**2) * sigmoid(i) * x_t

    It gates the inputs themselves, which so have `hidden` features; others are brought to as many
    by `input_kernel` [in_features, hidden] first, and `x_t` above is their product. `W` is normal
    with variance 1 / hidden (the paper's is block-diagonal), and `sigmoid(decay) ** 8` starts
    evenly between 0.9 and 0.999. The gradient of the square root has no bound at `a_t = 1`; it is
    cut off at 500.

    Args:
      hidden: units.
      options: what every linear cell has, by keyword.

    >>> params = rg_lru(hidden=16).init(jax.random.key(0), 16)
    >>> {name: array.shape for name, array in params.items()}
    {'kernel': (16, 32), 'decay': (16,), 'bias': (32,)}
    """
    spec = specify(RGLRUSpec, hidden, options)
    cell = _cell(spec, partial(_rg_lru_init, spec), partial(_rg_lru, spec))
    return dataclasses.replace(cell, project=partial(_rg_lru_project, spec))


def _rg_lru(spec: RGLRUSpec, params: Params, projected: Projected) -> tuple[Array, Array]:
    gates = _gates(spec, params, projected)
    r, i = jnp.split(gates, 2, axis=-1)
    rate = EXPONENT * jax.nn.log_sigmoid(cast(params["decay"], gates))
    log_a = rate * jax.nn.sigmoid(r)
    drive = _bounded_sqrt(-jnp.expm1(2 * log_a)) * jax.nn.sigmoid(i)
    assert projected.inputs is not None
    return jnp.exp(log_a), drive * projected.inputs.astype(gates.dtype)


def _rg_lru_init(spec: RGLRUSpec, key: PRNGKey, in_features: int) -> dict[str, Array]:
    hidden, keys = spec.hidden, jax.random.split(key, 3)
    real = jnp.promote_types(spec.param_dtype, jnp.float32)
    normal = jax.nn.initializers.lecun_normal()
    start = jax.random.uniform(keys[1], (hidden,), real, 0.9, 0.999) ** (1 / EXPONENT)
    params = {
        "kernel": normal(keys[0], (hidden, 2 * hidden), real),
        "decay": jnp.log(start) - jnp.log1p(-start),
    }
    if in_features != hidden:
        params["input_kernel"] = normal(keys[2], (in_features, hidden), real)
    return _typed(spec, params)


def _rg_lru_project(
    spec: RGLRUSpec, params: Params, inputs: Array, noise: Noise | None = None
) -> Projected:
    inputs = _dropped(spec, inputs, noise)
    if "input_kernel" in params:
        inputs = affine.product(spec, inputs, params, "input_kernel")
    return _project(spec, params, inputs)._replace(inputs=inputs)


@jax.custom_jvp
def _bounded_sqrt(x: Array) -> Array:
    """The square root, whose derivative is taken as 500 where it is larger."""
    return jnp.sqrt(x)


@_bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = jnp.sqrt(primals[0])
    return root, tangents[0] / (2 * jnp.maximum(root, 1e-3))


def _gates(spec: Spec, params: Params, projected: Projected) -> Array:
    """The gates before their functions, in the type of the state."""
    return projected.gates.astype(affine.state_dtype(spec, params))


def _project(spec: Spec, params: Params, inputs: Array, noise: Noise | None = None) -> Projected:
    gates = affine.product(spec, _dropped(spec, inputs, noise), params, "kernel")
    if spec.use_bias:
        gates = gates + cast(params["bias"], gates)
    return Projected(gates)


def _dropped(spec: Spec, inputs: Array, noise: Noise | None) -> Array:
    return affine.drop(inputs, noise.inputs, spec.input_dropout) if noise else inputs


def _typed(spec: Spec, params: dict[str, Array]) -> dict[str, Array]:
    """The parameters in their type, with a bias if there is one."""
    if spec.use_bias:
        params["bias"] = jnp.zeros(spec.gates * spec.hidden)
    return {name: value.astype(spec.param_dtype) for name, value in params.items()}


def _noise(spec: Spec) -> Callable[..., Noise] | None:
    if not spec.input_dropout:
        return None

    def draw(key: PRNGKey, batch: int, time: int, in_features: int) -> Noise:
        del time  # one mask a row
        return Noise(jax.random.bernoulli(key, 1 - spec.input_dropout, (batch, 1, in_features)))

    return draw


def _cell(
    spec: S,
    init: Callable[[PRNGKey, int], Params],
    coefficients: Callable[[Params, Projected], tuple[Array, Array]],
    is_complex: bool = False,
) -> Cell:
    linear = Linear(coefficients, is_complex)

    def step(params: Params, h: Array, projected: Projected) -> tuple[Array, Array]:
        a, b = coefficients(params, projected)
        h = multiply(a, h, is_complex) + b
        return h, h.astype(affine.compute_dtype(spec, params))

    def initial_carry(params: Params, batch: int) -> Array:
        return jnp.zeros((batch, spec.features), affine.state_dtype(spec, params))

    return Cell(
        init=init,
        project=partial(_project, spec),
        step=step,
        initial_carry=initial_carry,
        noise=_noise(spec),
        spec=spec,
        linear=linear,
    )


def multiply(a: Array, h: Array, is_complex: bool) -> Array:
    """`a * h` by entries; of halves that are real and imaginary parts, the complex product."""
    if not is_complex:
        return a * h
    (a_real, a_imaginary), (real, imaginary) = jnp.split(a, 2, -1), jnp.split(h, 2, -1)
    return jnp.concatenate(
        [a_real * real - a_imaginary * imaginary, a_real * imaginary + a_imaginary * real], -1
    )
