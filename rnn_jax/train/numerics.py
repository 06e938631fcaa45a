"""Where numbers stop being finite: the first layer, the first time step, the example.

A step is walked through once more with the layers' outputs laid open: forwards for the values,
backwards for the gradients. It costs about what the step itself costs, and is done where a step
went wrong, or at every step with `--config.train.check_numerics`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.nn.layers import Layer
from rnn_jax.system import programs
from rnn_jax.tasks.base import Task, TaskBatch
from rnn_jax.types import AnyArray, Array, Carry, Params, PRNGKey


class Stage(NamedTuple):
    """What was found at one place of the network.

    name: the layer, such as `recurrent/layers_0 (forward)`.
    backwards: whether the layer walks time backwards.
    """

    name: str
    backwards: bool


class Examination(NamedTuple):
    """A step, laid open; `stages` in the order of computation.

    loss: float32[].
    gradient: the global norm of the gradient.
    gradients: the norm of each parameter's gradient, by its path.
    parameters: the norm of each parameter, by its path.
    values: for each stage bool[batch, time] (or [batch, 1]), true where its values are not finite;
      packed sequences, too, have a row each here.
    cotangents: the same of the loss' gradient with respect to its values.
    """

    loss: AnyArray
    gradient: AnyArray
    gradients: Mapping[str, AnyArray]
    parameters: Mapping[str, AnyArray]
    values: Sequence[AnyArray]
    cotangents: Sequence[AnyArray]


class Wrong(NamedTuple):
    """The first place that is not finite.

    what: "values" or "gradient".
    layer: the layer whose outputs (or the gradient with respect to them) they are; "inputs" are
      the first layer's.
    time_step: counted from 0, in the order in which that layer or gradient is computed; None
      without time.
    row: of the batch.
    """

    what: str
    layer: str
    time_step: int | None
    row: int


@programs.shared
def examiner(
    task: Task,
) -> Callable[[Params, Carry, TaskBatch, PRNGKey, Any], tuple[list[Stage], Examination]]:
    """Returns `(params, carry, batch, key, rates) -> (stages, examination)` for a task's loss.

    The arguments are the loss', the key is the step's. Rows of weight 0 are never found wrong.
    """
    stages: dict[Any, list[Stage]] = {}

    def run(
        params: Params, carry: Carry, batch: TaskBatch, key: PRNGKey, rates: Any
    ) -> Examination:
        walk = functools.partial(_walk, task, (carry, batch, key, rates))
        seen: list[tuple[Stage, Array]] = []

        def look() -> int:
            seen.extend(walk(params)[1])
            return 0

        jax.eval_shape(look)
        probes = [jnp.zeros(values.shape, values.dtype) for _, values in seen]
        stages[_shapes(batch)] = [stage for stage, _ in seen]

        def loss(params: Params, probes: list[Array]) -> tuple[Array, list[Array]]:
            value, seen = walk(params, probes)
            return value, [values for _, values in seen]

        (value, values), (grads, cotangents) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(params, probes)
        return Examination(
            loss=value,
            gradient=optax.tree.norm(grads),
            gradients=_norms(grads),
            parameters=_norms(params),
            values=[_not_finite(array, batch) for array in values],
            cotangents=[_not_finite(array, batch) for array in cotangents],
        )

    compiled = jax.jit(run)

    def examine(
        params: Params, carry: Carry, batch: TaskBatch, key: PRNGKey, rates: Any
    ) -> tuple[list[Stage], Examination]:
        found = jax.device_get(compiled(params, carry, batch, key, rates))
        if batch.segments is not None:
            split = functools.partial(_by_sequence, segments=np.asarray(batch.segments))
            found = found._replace(
                values=[split(np.asarray(flags)) for flags in found.values],
                cotangents=[split(np.asarray(flags)) for flags in found.cotangents],
            )
        return stages[_shapes(batch)], found

    return examine


def first_wrong(stages: list[Stage], examination: Examination) -> Wrong | None:
    """The first place of a step that is not finite: in its values, or else in its gradient."""
    for stage, flags in zip(stages, examination.values, strict=True):
        if flags.any():
            return _place("values", stage.name, flags, last=stage.backwards)
    for stage, flags in zip(reversed(stages), reversed(examination.cotangents), strict=True):
        if flags.any():  # a gradient goes through a layer's steps from the other end
            return _place("gradient", stage.name, flags, last=not stage.backwards)
    return None


def norms(examination: Examination) -> dict[str, Any]:
    """Loss and norms as plain numbers for failure.json; what is not finite as a word."""
    return {
        "loss": _plain(examination.loss),
        "gradient_norm": _plain(examination.gradient),
        "gradient_norms": {name: _plain(norm) for name, norm in examination.gradients.items()},
        "parameter_norms": {name: _plain(norm) for name, norm in examination.parameters.items()},
    }


def _walk(
    task: Task,
    arguments: tuple[Carry, TaskBatch, PRNGKey, Any],
    params: Params,
    probes: list[Array] | None = None,
) -> tuple[Array, list[tuple[Stage, Array]]]:
    """The loss, and what each layer put out on the way; with `probes` (zeros) added to it, so that
    the loss can be differentiated with respect to it.

    Args:
      task: the task.
      arguments: the loss', from the second on.
      params: the first.
      probes: see above.
    """
    seen: list[tuple[Stage, Array]] = []
    batch = arguments[1]
    rows = {len(batch.weights)} | (set() if batch.segments is None else {len(batch.segments)})

    def shown(values: Any) -> bool:
        """Whether it is an array of numbers, with a row for each of the batch's."""
        is_array = isinstance(values, jax.Array) and values.ndim > 0 and len(values) in rows
        return is_array and jnp.issubdtype(values.dtype, jnp.floating)

    def note(name: str, values: Array, backwards: bool = False) -> Array:
        if probes is not None:
            values = values + probes[len(seen)]
        seen.append((Stage(name, backwards), values))
        return values

    def intercept(
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module, name = context.module, "/".join(context.module.path)
        if context.method_name != "__call__" or not name:
            return call(*args, **kwargs)
        if not seen and shown(args[0]):
            args = (note("inputs", args[0]), *args[1:])
        result = call(*args, **kwargs)
        if not isinstance(module, Layer):
            return note(name, result) if shown(result) else result
        carry, outputs = result
        noted = [  # each direction goes wrong by itself
            note(f"{name} ({part.name})" if part.name else name, part.outputs, part.reverse)
            for part in module.parts(carry, outputs)
        ]
        return carry, jnp.concatenate(noted, axis=-1)

    with nn.intercept_methods(intercept):
        loss, _ = task.loss(params, *arguments)
    return loss, seen


def _shapes(batch: TaskBatch) -> tuple[tuple[int, ...], ...]:
    return tuple(leaf.shape for leaf in jax.tree.leaves(batch))


def _not_finite(values: Array, batch: TaskBatch) -> Array:
    flags = ~jnp.isfinite(values if values.ndim > 1 else values[:, None]).all(axis=-1)
    if batch.segments is not None and flags.ndim == 2:
        return flags & (batch.segments > 0)
    return flags.reshape(flags.shape[0], -1) & (batch.weights > 0)[:, None]


def _by_sequence(flags: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """bool[rows, time] packed -> bool[batch, time]; what has no time stays as it is."""
    if flags.shape != segments.shape:
        return flags
    found = np.zeros((segments.max(), segments.shape[1]), bool)
    for place, row in enumerate(found, start=1):
        row[: np.count_nonzero(segments == place)] = flags[segments == place]
    return found


def _place(what: str, layer: str, flags: AnyArray, last: bool) -> Wrong:
    times = np.flatnonzero(flags.any(axis=0))
    time = int(times[-1] if last else times[0])
    row = int(np.flatnonzero(flags[:, time])[0])
    return Wrong(what, layer, time if flags.shape[1] > 1 else None, row)


def _norms(tree: Params) -> dict[str, Array]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.linalg.norm(leaf.ravel())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _plain(value: Any) -> float | str:
    value = float(value)
    return value if math.isfinite(value) else str(value)
