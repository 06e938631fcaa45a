"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax import delayed, metrics, touched
from rnn_jax.delayed import Missed
from rnn_jax.metrics import Sums
from rnn_jax.tasks import Task
from rnn_jax.types import Array, Batch, Params, PRNGKey


class TrainState(NamedTuple):
    """All that a step changes.

    step: int32[]; updates so far. Keys are folded with it.
    params: the model's parameters.
    opt_state: optax' state.
    settled: int32[vocab_size]; the update up to which each row of the tables stands, if rows make
      up for missed updates when they are read ("delayed"); otherwise None: all are up to date.
    sums: what the task measured since the epoch began, with `gradient_norm` and `updates` (the
      sum of the norms before clipping and their number) and `skipped` (steps whose numbers were
      not finite).
    """

    step: Array
    params: Params
    opt_state: Any
    settled: Array | None
    sums: Sums


def init_state(
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    embedding_update: str = "dense",
) -> TrainState:
    """The state before the first step; a pure function of the seed.

    Args:
      task: what to learn.
      optimizer: as for `make_train_step`.
      seed: of the parameters.
      embedding_update: as for `make_train_step`.
    """
    params = task.init(jax.random.key(seed))
    is_delayed = embedding_update == "delayed" and task.is_table is not None
    settled = jnp.zeros(task.vocab_size, jnp.int32) if is_delayed else None
    return TrainState(jnp.int32(0), params, optimizer.init(params), settled, zero_sums(task))


def zero_sums(task: Task) -> Sums:
    """The sums at an epoch's start."""
    step_sums = {
        "gradient_norm": jnp.float32(0),
        "updates": jnp.int32(0),
        "skipped": jnp.int32(0),
    }
    return metrics.zeros_like(task.sums) | step_sums


def run_key(seed: int) -> PRNGKey:
    """The key of all noise of a run."""
    return jax.random.key(seed)


def step_key(key: PRNGKey, step: Array) -> PRNGKey:
    """The key of a step's noise, given the run's: it depends on nothing else, so that any step can
    be computed again."""
    return jax.random.fold_in(key, step)


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    stop_at_non_finite: bool = True,
    embedding_update: str = "dense",
    missed: Missed | None = None,
) -> Callable[[TrainState, Batch, PRNGKey], TrainState]:
    """Returns `(state, batch, key) -> state`: one update by the gradient of the batch's mean loss.

    The key is the run's. It is an argument, so that all seeds share a compiled step.

    A step whose loss or gradient is not finite changes nothing but `sums["skipped"]`. With
    `stop_at_non_finite` every later step changes nothing either, so that the caller, who looks at
    the sums only now and then, finds the state just as it was before the first bad step.

    Args:
      task: what to learn.
      optimizer: from gradients to updates.
      stop_at_non_finite: see above.
      embedding_update: "dense" hands the optimizer the whole embedding; "touched" the rows that the
        batch reads, by the rule that `rnn_jax.touched` states; "delayed" likewise, but each after
        the updates that it missed, as `rnn_jax.delayed` says, so that the rule is the dense one.
      missed: those updates, for "delayed".
    """
    in_part = embedding_update in ("touched", "delayed") and task.is_table is not None
    is_delayed = in_part and embedding_update == "delayed"
    if is_delayed and missed is None:
        raise ValueError("missed must be given with embedding_update='delayed', not None")

    def train_step(state: TrainState, batch: Batch, key: PRNGKey) -> TrainState:
        key = step_key(key, state.step)
        whole = stored = state.params, state.opt_state, state.settled
        if in_part:
            tables = _table_marks(task, optimizer, state)
            reads = touched.touched(batch.tokens, task.vocab_size, padding=is_delayed)
            batch = batch._replace(tokens=reads.tokens)
            stored = _where_marked(tables, lambda table: touched.gather(table, reads.rows), whole)
        params, opt_state, settled = stored
        if is_delayed:
            params, opt_state = delayed.catch_up(missed, task.is_table, *stored)

        (loss, sums), grads = jax.value_and_grad(task.loss, has_aux=True)(params, batch, key)
        if in_part:
            real = (reads.rows < task.vocab_size)[:, None]
            grads = _where_marked(task.is_table, lambda grad: jnp.where(real, grad, 0), grads)
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        settled = delayed.mark(settled, opt_state) if is_delayed else None
        new = optax.apply_updates(params, updates), opt_state, settled

        halted = (state.sums["skipped"] > 0) & stop_at_non_finite
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        good, bad = finite & ~halted, ~finite & ~halted
        # A select rides on the update's own pass over memory; a branch around it would copy tables.
        new = jax.tree.map(lambda after, before: jnp.where(good, after, before), new, stored)
        if in_part:
            new = _where_marked(
                tables, lambda table, rows: touched.scatter(table, reads.rows, rows), whole, new
            )
        measured = sums | {"gradient_norm": norm, "updates": jnp.int32(1), "skipped": jnp.int32(0)}
        total = jax.tree.map(
            lambda before, more: before + jnp.where(good, more, 0).astype(before.dtype),
            state.sums,
            measured,
        )
        total["skipped"] += bad.astype(jnp.int32)
        forward = good if stop_at_non_finite else good | bad
        return TrainState(state.step + forward.astype(jnp.int32), *new, total)

    return train_step


def make_train_steps(
    train_step: Callable[[TrainState, Batch, PRNGKey], TrainState],
) -> Callable[[TrainState, Batch, Array, PRNGKey], TrainState]:
    """Returns `(state, batches, count, key) -> state`: the first `count` of several batches, in
    order.

    One call costs one dispatch, however many steps it takes; a small model's step is shorter than
    that. The leaves of `batches` are a batch's with one more axis in front; `count` is int32[],
    and another count does not compile anew.
    """

    def train_steps(state: TrainState, batches: Batch, count: Array, key: PRNGKey) -> TrainState:
        def body(index: Array, state: TrainState) -> TrainState:
            return train_step(state, jax.tree.map(lambda leaf: leaf[index], batches), key)

        return jax.lax.fori_loop(0, count, body, state)

    return train_steps


def make_settle(task: Task, missed: Missed | None) -> Callable[[TrainState], TrainState]:
    """Returns `state -> state`: the same state with every row up to date, to be looked at.

    A run that looks at other times is another run, by rounding.

    Args:
      task: what is learned.
      missed: as for `make_train_step`; a state that keeps all rows up to date needs none.
    """

    def settle(state: TrainState) -> TrainState:
        if state.settled is None:
            return state
        params, opt_state = delayed.catch_up(
            missed, task.is_table, state.params, state.opt_state, state.settled
        )
        settled = delayed.mark(state.settled, opt_state)
        return state._replace(params=params, opt_state=opt_state, settled=settled)

    return settle


def _table_marks(task: Task, optimizer: optax.GradientTransformation, state: TrainState) -> Any:
    """For every leaf of (params, opt_state, settled) whether it has a row for each token."""
    in_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, is_table: is_table,
        state.opt_state,
        task.is_table,
        transform_non_params=lambda _: False,
    )
    return task.is_table, in_state, None if state.settled is None else True


def _where_marked(marks: Any, function: Callable[..., Array], tree: Any, *rest: Any) -> Any:
    """`function` of the marked leaves; of the others the last tree's."""
    return jax.tree.map(
        lambda mark, *leaves: function(*leaves) if mark else leaves[-1], marks, tree, *rest
    )
