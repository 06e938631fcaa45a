"""What the cells have in common: their options, and the affine half of a step, `x W + h U + b`.

A product's operands have the compute type; sums, gates and state have `state_dtype` of it, at least
float32, since a state that adds up over many steps in bfloat16 soon stops moving.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypedDict, TypeVar

import jax
import jax.numpy as jnp

from rnn_jax.cells.initializers import INITIALIZERS
from rnn_jax.types import Array, Params, PRNGKey

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound="Spec")

# A name in ACTIVATIONS, or any function of an array.
Activation = str | Callable[[Array], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}


def activation(choice: Activation) -> Callable[[Array], Array]:
    """The function of this name, or the function itself."""
    return ACTIVATIONS[choice] if isinstance(choice, str) else choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """The options that every cell has; a hashable value, so that equal cells are equal.

    hidden: units.
    use_bias: whether there is a bias at all.
    input_dropout: share of the inputs' features dropped, the same at each step of a row.
    dtype: the compute type; None takes that of the parameters.
    param_dtype: the type in which `init` makes the parameters.
    """

    kind: ClassVar[str]
    gates: ClassVar[int]

    hidden: int
    use_bias: bool = True
    input_dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            expected, holds = _LEGAL[field.name]
            value = getattr(self, field.name)
            if not holds(value):
                raise ValueError(f"{self.kind}: {field.name} must be {expected}, got {value!r}")
        for name in ("dtype", "param_dtype"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else jnp.dtype(value))

    @property
    def features(self) -> int:
        """Features of the hidden state, which are those of the output."""
        return self.hidden


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSpec(Spec):
    """The options that every cell with a recurrent product has.

    activation: the function of the new state, by name or itself.
    recurrent_bias: whether the carry's product has a bias of its own, as in PyTorch.
    layer_norm: whether the pre-activations are normalised (Ba et al. 2016).
    recurrent_dropout: share of the hidden state's features dropped where it enters the product.
    initializer: a name in `rnn_jax.cells.initializers.INITIALIZERS`.
    """

    norm_groups: ClassVar[tuple[int, ...]]  # how many gates at a time layer_norm takes together

    activation: Activation = "tanh"
    recurrent_bias: bool = False
    layer_norm: bool = False
    recurrent_dropout: float = 0.0
    initializer: str = "gatewise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recurrent_bias and not self.use_bias:
            raise ValueError(f"{self.kind}: recurrent_bias=True needs use_bias=True, got False")


class CellOptions(TypedDict, total=False):
    """The keywords that every cell's factory takes; `CellSpec` has their meaning and defaults."""

    activation: Activation
    use_bias: bool
    layer_norm: bool
    input_dropout: float
    recurrent_dropout: float
    initializer: str
    dtype: Any
    param_dtype: Any


def takes(spec: type[Spec], **defaults: Any) -> Callable[[F], F]:
    """A decorator: `help` and editors show a factory's `**options` one by one, as `spec` has them,
    with these defaults in the place of the spec's."""

    def mark(factory: F) -> F:
        parameters = [inspect.Parameter("hidden", inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                        annotation="int")]  # fmt: skip
        for field in dataclasses.fields(spec):
            if field.name != "hidden":
                default = defaults.get(field.name, field.default)
                parameters.append(
                    inspect.Parameter(
                        field.name,
                        inspect.Parameter.KEYWORD_ONLY,
                        default=default,
                        annotation=field.type if default is not None else f"{field.type} | None",
                    )
                )
        signature = inspect.Signature(parameters, return_annotation="Cell")
        vars(factory)["__signature__"] = signature
        return factory

    return mark


def specify(spec: type[S], hidden: int, options: Mapping[str, Any]) -> S:
    """A spec of these options.

    Raises:
      TypeError: there is no such option.
      ValueError: a value that makes no sense.
    """
    known = [field.name for field in dataclasses.fields(spec)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f", expected {', '.join(known)}"
            raise TypeError(f"{spec.kind}() got an unexpected keyword argument {name!r}{hint}")
    return spec(hidden=hidden, **options)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_float_dtype(value: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        return False


_BOOL = ("True or False", lambda value: isinstance(value, bool))
_RATE = ("a number in [0, 1)", _is_rate)
_FUNCTION = (
    f"a function or one of {', '.join(ACTIVATIONS)}",
    lambda value: value in ACTIVATIONS if isinstance(value, str) else callable(value),
)
_LEGAL: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "hidden": ("an int of at least 1", _is_size),
    "projection": ("None or an int of at least 1", lambda value: value is None or _is_size(value)),
    "activation": _FUNCTION,
    "recurrent_activation": _FUNCTION,
    "use_bias": _BOOL,
    "recurrent_bias": _BOOL,
    "layer_norm": _BOOL,
    "peepholes": _BOOL,
    "reset_after": _BOOL,
    "r_min": ("a number in [0, 1)", _is_rate),
    "r_max": ("a number in (0, 1]", lambda value: _is_rate(1 - value)),
    "max_phase": ("a positive number", lambda value: isinstance(value, int | float) and value > 0),
    "forget_bias": ("a number", lambda value: isinstance(value, int | float)),
    "input_dropout": _RATE,
    "recurrent_dropout": _RATE,
    "initializer": (
        f"one of {', '.join(INITIALIZERS)}",
        lambda value: isinstance(value, str) and value in INITIALIZERS,
    ),
    "dtype": ("None or a floating type", lambda value: value is None or _is_float_dtype(value)),
    "param_dtype": ("a floating type", lambda value: value is not None and _is_float_dtype(value)),
}


class Projected(NamedTuple):
    """What the inputs give to each step.

    gates: `x_t W + b`, [batch, time, gates * hidden].
    keep: float[batch, 1, features], recurrent dropout's factors of the hidden state; or None.
    """

    gates: Array
    keep: Array | None = None


class Noise(NamedTuple):
    """Dropout, the same for all steps of a row.

    inputs: bool[batch, 1, in_features], true where a feature is kept; or None.
    recurrent: float[batch, 1, features], the hidden state's factors: 0, or 1 over the share that is
      kept; or None.
    """

    inputs: Array | None
    recurrent: Array | None


def compute_dtype(spec: Spec, params: Params) -> Any:
    """The type of products and outputs: the spec's, or else that of the parameters."""
    return spec.dtype or params["kernel"].dtype


def state_dtype(spec: Spec, params: Params) -> Any:
    """The type of sums, gates and states: the compute type, but at least float32."""
    compute = compute_dtype(spec, params)
    return compute if jnp.finfo(compute).bits >= 32 else jnp.dtype(jnp.float32)


def init(spec: CellSpec, key: PRNGKey, in_features: int) -> dict[str, Array]:
    """The parameters of the affine half: kernels, biases, layer-norm scales."""
    draw, shape = INITIALIZERS[spec.initializer], (spec.hidden, spec.gates, spec.param_dtype)
    keys = jax.random.split(key, 4)
    params = {
        "kernel": draw.kernel(keys[0], in_features, *shape),
        "recurrent_kernel": draw.recurrent_kernel(keys[1], spec.features, *shape),
    }
    if spec.use_bias:
        params["bias"] = draw.bias(keys[2], *shape)
    if spec.recurrent_bias:
        params["recurrent_bias"] = draw.bias(keys[3], *shape)
    if spec.layer_norm:
        params["input_scale"] = jnp.ones(spec.gates * spec.hidden, spec.param_dtype)
        params["recurrent_scale"] = jnp.ones(spec.gates * spec.hidden, spec.param_dtype)
    return params


def noise(spec: CellSpec) -> Callable[..., Noise] | None:
    """The `noise` of a cell with these options; None where nothing is dropped.

    Its last argument, which may be left out, is the share of the hidden state that is kept in the
    place of what the options say, float[]; it may be traced.
    """
    if not (spec.input_dropout or spec.recurrent_dropout):
        return None

    def draw(
        key: PRNGKey, batch: int, time: int, in_features: int, kept: float | Array | None = None
    ) -> Noise:
        del time  # variational dropout: one mask a row (Gal and Ghahramani 2016)
        of_inputs, of_hidden = jax.random.split(key)
        inputs = recurrent = None
        if spec.input_dropout:
            shape = (batch, 1, in_features)
            inputs = jax.random.bernoulli(of_inputs, 1 - spec.input_dropout, shape)
        if spec.recurrent_dropout:
            kept = 1 - spec.recurrent_dropout if kept is None else kept
            shape = (batch, 1, spec.features)  # drawn in float32, given as a constant or not
            mask = jax.random.bernoulli(of_hidden, jnp.float32(kept), shape)
            dtype = jnp.promote_types(spec.dtype or spec.param_dtype, jnp.float32)
            recurrent = mask.astype(dtype) / kept
        return Noise(inputs, recurrent)

    return draw


def project(spec: CellSpec, params: Params, inputs: Array, noise: Noise | None = None) -> Projected:
    """`x_t W + b` for all steps: inputs float[batch, time, in_features].

    A recurrent bias joins it where the sum is the same.
    """
    keep, recurrent_keep = noise if noise is not None else (None, None)
    gates = product(spec, drop(inputs, keep, spec.input_dropout), params, "kernel")
    if spec.layer_norm:
        gates = normalise(spec, gates, spec.norm_groups) * cast(params["input_scale"], gates)
    if spec.use_bias:
        gates = gates + cast(params["bias"], gates)
    return Projected(gates.astype(compute_dtype(spec, params)), recurrent_keep)


def recur(
    spec: CellSpec, params: Params, hidden: Array, keep: Array | None, groups: slice = slice(None)
) -> Array:
    """`h_{t-1} U + b_h` for one step: hidden [batch, features] -> [batch, gates * hidden].

    `groups` picks from `spec.norm_groups`, for a cell whose gates do not all read the same hidden
    state.
    """
    counts = spec.norm_groups
    first = sum(counts[: groups.start or 0]) * spec.hidden
    columns = slice(first, first + sum(counts[groups]) * spec.hidden)
    fed = hidden if keep is None else hidden * keep.astype(hidden.dtype)
    sums = product(spec, fed, params, "recurrent_kernel", columns)
    if spec.layer_norm:
        sums = normalise(spec, sums, counts[groups]) * cast(
            params["recurrent_scale"][columns], sums
        )
    if spec.recurrent_bias:
        sums = sums + cast(params["recurrent_bias"][columns], sums)
    return sums


def product(
    spec: Spec, inputs: Array, params: Params, name: str, columns: slice = slice(None)
) -> Array:
    """`inputs @ params[name]`: operands in the compute type, sums in the state type."""
    dtype = compute_dtype(spec, params)
    return jnp.matmul(
        inputs.astype(dtype),
        params[name][:, columns].astype(dtype),
        preferred_element_type=state_dtype(spec, params),
    )


def drop(values: Array, keep: Array | None, rate: float) -> Array:
    """Inverted dropout: kept features divided by the share that is kept, the others 0."""
    if keep is None:
        return values
    return jnp.where(keep, values / (1 - rate), jnp.zeros((), values.dtype))


def normalise(
    spec: CellSpec, values: Array, groups: tuple[int, ...], epsilon: float = 1e-5
) -> Array:
    """Mean 0 and variance 1 over the last axis, the gates of each group taken together."""
    ends = [sum(groups[: n + 1]) * spec.hidden for n in range(len(groups) - 1)]

    def one(piece: Array) -> Array:
        mean = jnp.mean(piece, axis=-1, keepdims=True)
        variance = jnp.var(piece, axis=-1, keepdims=True)
        return (piece - mean) * jax.lax.rsqrt(variance + epsilon)

    return jnp.concatenate([one(piece) for piece in jnp.split(values, ends, axis=-1)], axis=-1)


def cast(parameter: Array, like: Array) -> Array:
    """The parameter in the type and the rank of what it meets."""
    axes = (1,) * (like.ndim - parameter.ndim)
    return parameter.astype(like.dtype).reshape(axes + parameter.shape)
