"""Training in a narrower type: products in bfloat16, parameters and their updates in float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.tasks.base import Task
from rnn_jax.types import Array, Params, PRNGKey


def in_type(task: Task, name: str) -> Task:
    """The task whose loss is computed with the parameters rounded to a type (Micikevicius et al.
    2018, https://arxiv.org/abs/1710.03740).

    The parameters that are learned, the optimizer's state, and what a batch hands on to the next
    stay as they are; sums, states of cells and the loss itself are float32 (cells and heads see to
    that). bfloat16 has float32's range, so the loss needs no scaling. Measuring is left as it is.

    Args:
      task: what to learn.
      name: "float32" for the task itself, or "bfloat16".
    """
    if name == "float32":
        return task
    dtype = jnp.dtype(name)

    def loss(
        params: Params, carry: Any, batch: Any, key: PRNGKey, rates: Any
    ) -> tuple[Array, tuple[Any, Any]]:
        value, (after, sums) = task.loss(rounded(params, dtype), carry, batch, key, rates)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry)
        return value.astype(jnp.float32), (after, sums)

    return task._replace(loss=loss, key=None if task.key is None else (name, task.key))


def rounded(params: Params, dtype: Any) -> Params:
    """float32 parameters in another type; the others as they are."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, params
    )
