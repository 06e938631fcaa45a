"""A batch in parts: the gradient of a large one in the memory of a small one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.tasks.base import Task
from rnn_jax.types import Array, Params, PRNGKey


def in_parts(task: Task, parts: int) -> Task:
    """The task whose loss looks at a batch's rows in so many parts, one after the other.

    Loss, sums and gradient are the whole batch's, within rounding: each part's mean counts by what
    it is a mean over (`Task.weight`); what else a loss adds, such as a language model's penalties,
    counts by the same weights. Gradients are added up while the loss is computed, so that
    the values that a backward pass needs are those of one part at a time. Noise is drawn for each
    part by itself.

    Args:
      task: what to learn; every array of its batches and carries has the batch as its first axis.
      parts: how many, a divisor of the batch; 1 is the task itself.

    Raises:
      ValueError: when the loss is traced, for a batch that cannot be split.
    """
    if parts == 1:
        return task
    key = None if task.key is None else ("in parts", parts, task.key)
    return task._replace(loss=_loss(task, parts), key=key)


def _loss(task: Task, parts: int) -> Callable[..., tuple[Array, Any]]:
    """`Task.loss` in parts."""
    gradient = jax.value_and_grad(task.loss, has_aux=True)

    def added(
        params: Params, carry: Any, batch: Any, key: PRNGKey, rates: Any
    ) -> tuple[tuple[Array, Any], Params]:
        rows = batch.weights.shape[0]
        split = jax.tree.map(lambda leaf: _split(leaf, rows, parts), (carry, batch))

        def of_part(number: Array, part: Any) -> tuple[Any, Any]:
            carry, batch = part
            own = jax.random.fold_in(key, number)
            (loss, (carry, sums)), grads = gradient(params, carry, batch, own, rates)
            weight = jnp.asarray(task.weight(batch), loss.dtype)
            weighted = jax.tree.map(lambda leaf: leaf * weight.astype(leaf.dtype), (loss, grads))
            return (weight, weighted, sums), carry

        def add(total: Any, numbered: Any) -> tuple[Any, Any]:
            more, carry = of_part(*numbered)
            return jax.tree.map(jnp.add, total, more), carry

        numbered = jnp.arange(parts, dtype=jnp.int32), split
        shapes, _ = jax.eval_shape(of_part, *jax.tree.map(lambda leaf: leaf[0], numbered))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (weight, weighted, sums), carries = jax.lax.scan(add, zeros, numbered)
        weight = jnp.where(weight > 0, weight, 1)
        loss, grads = jax.tree.map(lambda leaf: leaf / weight.astype(leaf.dtype), weighted)
        carry = jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), carries)
        return (loss, (carry, sums)), grads

    @jax.custom_vjp
    def loss(params: Params, carry: Any, batch: Any, key: PRNGKey, rates: Any) -> tuple[Array, Any]:
        return added(params, carry, batch, key, rates)[0]

    def backward(grads: Params, cotangents: tuple[Array, Any]) -> tuple[Any, ...]:
        scaled = jax.tree.map(lambda leaf: leaf * cotangents[0].astype(leaf.dtype), grads)
        return scaled, None, None, None, None

    loss.defvjp(added, backward)
    return loss


def _split(leaf: Any, rows: int, parts: int) -> Array:
    """[batch, ...] -> [parts, batch / parts, ...]."""
    leaf = jnp.asarray(leaf)
    if not leaf.ndim or leaf.shape[0] != rows or rows % parts:
        raise ValueError(
            f"train.accumulate={parts} splits the {rows} rows of a batch, and an array of shape "
            f"{leaf.shape} has no such rows"
        )
    return leaf.reshape(parts, rows // parts, *leaf.shape[1:])
