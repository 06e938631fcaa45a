"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from rnn_jax.optim import optimizer
from rnn_jax.optim import tables as tables_lib
from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.optim.tables import NO_TABLES, Learned, Marks, Tables, TableUpdate, Values
from rnn_jax.system import compilation, programs
from rnn_jax.tasks import metrics
from rnn_jax.tasks.base import Held, Task, TaskBatch
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import Array, Params, PRNGKey

_TALL = 48  # arrays of parameters: more are drawn one by one, as soon as by one program


class TrainState(NamedTuple):
    """All that a step changes.

    step: int32[]; updates so far. Keys are folded with it.
    params: the model's parameters.
    opt_state: optax' state.
    settled: int32[rows]; the optimizer's count up to which each row of the tables stands, if rows
      make up for missed updates when they are read; otherwise None: all are up to date.
    sums: what the task measured since the epoch began, with `gradient_norm` and `updates` (the
      sum of the norms before clipping and their number) and `skipped` (steps whose numbers were
      not finite).
    carry: what the next batch begins with, for a task that has such.
    """

    step: Array
    params: Params
    opt_state: Any
    settled: Array | None
    sums: Sums
    carry: Any = None


# (state, batch, the run's key, numbers, idle=False) -> state
TrainStep = Callable[..., TrainState]
# The same with several batches, and how many of them count, in the batch's place.
TrainSteps = Callable[[TrainState, TaskBatch, ArrayLike, PRNGKey, Hyperparameters], TrainState]


def init_state(
    task: Task,
    update: TableUpdate,
    numbers: Hyperparameters,
    seed: int,
    start: Callable[[Params], Params] = lambda params: params,
) -> TrainState:
    """The state before the first step; a pure function of the seed.

    Args:
      task: what to learn.
      update: as for `make_train_step`.
      numbers: as for the step; which of them are off says what optax keeps.
      seed: of the parameters.
      start: what else is known of them, see `rnn_jax.tasks.base.Data`.
    """
    params = start(_drawn(task)(np.uint32(seed)))
    opt_state = _started(numbers, params)
    settled = None if task.tables is None else update.init(task.tables)
    return TrainState(
        jnp.int32(0), params, opt_state, settled, zero_sums(task), task.initial_carry()
    )


@programs.shared
def _drawn(task: Task) -> Callable[[np.uint32], Params]:
    """`(seed) -> params`: one program with the bits of its many parts, compiled far sooner; but of
    a tall network, where the time goes with the square of the layers, its parts, all alike."""

    def parameters(seed: np.uint32) -> Params:
        return task.init(jax.random.key(seed))

    if len(jax.tree.leaves(jax.eval_shape(parameters, np.uint32(0)))) > _TALL:
        return parameters
    return jax.jit(parameters, compiler_options=compilation.options(compilation.QUICK))


@jax.jit
def _started(numbers: Hyperparameters, params: Params) -> Any:
    return optimizer.make(numbers).init(params)


def begin_epoch(task: Task, state: TrainState) -> TrainState:
    """The state before an epoch's first batch, from that after the last one's."""
    return state._replace(sums=zero_sums(task), carry=task.initial_carry())


def zero_sums(task: Task) -> Sums:
    """The sums at an epoch's start."""
    step_sums = {
        "gradient_norm": jnp.float32(0),
        "updates": jnp.int32(0),
        "skipped": jnp.int32(0),
    }
    return metrics.zeros_like(dict(task.sums) | step_sums)


def before_rounds(state: TrainState) -> TrainState:
    """The state as version 0.1 saved it, when counts had one word."""
    return state._replace(sums=metrics.without_rounds(state.sums))


def run_key(seed: int) -> PRNGKey:
    """The key of all noise of a run."""
    return jax.random.key(seed)


def step_key(key: PRNGKey, step: Array) -> PRNGKey:
    """The key of a step's noise, given the run's: it depends on nothing else, so that any step can
    be computed again."""
    return jax.random.fold_in(key, step)


def make_train_step(
    task: Task, update: TableUpdate, *, stop_at_non_finite: bool = True
) -> TrainStep:
    """Returns `(state, batch, key, numbers, idle=False) -> state`: one update by the gradient of
    the batch's mean loss; none at all where it is idle, bool[].

    The key is the run's. It and the numbers are arguments, so that runs that differ in nothing else
    share a compiled step. What a task carries from batch to batch is a constant for the gradient.

    A step whose loss, gradient or carry is not finite changes nothing but `sums["skipped"]`. With
    `stop_at_non_finite` every later step changes nothing either, so that the caller, who looks at
    the sums only now and then, finds the state just as it was before the first bad step.

    Args:
      task: what to learn.
      update: what becomes of the task's tables; where it has none, there is no difference.
      stop_at_non_finite: see above.
    """
    tables, update = _tables(task, update)

    def train_step(
        state: TrainState,
        batch: TaskBatch,
        key: PRNGKey,
        numbers: Hyperparameters,
        idle: Array | bool = False,
    ) -> TrainState:
        transformation = optimizer.make(numbers)
        key = step_key(key, state.step)
        whole = _learned(state)
        marks = _marks(task, transformation, whole)
        rows, stored, batch = update.read(tables, marks, whole, batch)
        params, opt_state, settled = update.catch_up(numbers, marks, stored)

        (loss, (carry, sums)), grads = jax.value_and_grad(task.loss, has_aux=True)(
            params, jax.lax.stop_gradient(state.carry), batch, key, numbers.rates
        )
        grads = _learned_only(task.held, update.gradient(tables, rows, grads))
        norm = optax.tree.norm(grads)
        updates, opt_state = transformation.update(grads, opt_state, params)
        params, settled = optax.apply_updates(params, updates), update.mark(settled, opt_state)
        params = _put_back(task.held, state.step, numbers, stored.params, params)
        new = Learned(params, opt_state, settled)

        halted = (state.sums["skipped"] > 0) & stop_at_non_finite | idle
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        for leaf in jax.tree.leaves(carry):  # the next step could not go on with it
            finite &= jnp.isfinite(leaf).all()
        good, bad = finite & ~halted, ~finite & ~halted
        # A select rides on the update's own pass over memory; a branch around it would copy tables.
        new = jax.tree.map(lambda after, before: jnp.where(good, after, before), new, stored)
        new = update.write(marks, rows, whole, new)
        carry = jax.tree.map(
            lambda after, before: jnp.where(good, after, before), carry, state.carry
        )
        measured = sums | {"gradient_norm": norm, "updates": jnp.int32(1), "skipped": jnp.int32(0)}
        total = metrics.accumulate(
            state.sums, jax.tree.map(lambda more: jnp.where(good, more, 0), measured)
        )
        total["skipped"] += bad.astype(jnp.int32)
        forward = good if stop_at_non_finite else good | bad
        return TrainState(state.step + forward.astype(jnp.int32), *new, total, carry)

    return train_step


def make_train_steps(train_step: TrainStep) -> TrainSteps:
    """Returns `(state, batches, count, key, numbers) -> state`: the first `count` of several
    batches, in order.

    One call costs one dispatch, however many steps it takes; a small model's step is shorter than
    that. The leaves of `batches` are a batch's with one more axis in front; `count` is int32[],
    and another count does not compile anew.
    """

    def train_steps(
        state: TrainState,
        batches: TaskBatch,
        count: ArrayLike,
        key: PRNGKey,
        numbers: Hyperparameters,
    ) -> TrainState:
        def body(index: Array, state: TrainState) -> TrainState:
            batch = jax.tree.map(lambda leaf: leaf[index], batches)
            return train_step(state, batch, key, numbers)

        return jax.lax.fori_loop(0, count, body, state)

    return train_steps


def make_settle(
    task: Task, update: TableUpdate
) -> Callable[[TrainState, Hyperparameters], TrainState]:
    """Returns `(state, numbers) -> state`: the same state with every row up to date, to be looked
    at.

    A run that looks at other times is another run, by rounding.

    Args:
      task, update: as for `make_train_step`.
    """
    _, update = _tables(task, update)

    def settle(state: TrainState, numbers: Hyperparameters) -> TrainState:
        learned = _learned(state)
        marks = _marks(task, optimizer.make(numbers), learned)
        learned = update.catch_up(numbers, marks, learned)
        settled = update.mark(learned.settled, learned.opt_state)
        return state._replace(**learned._replace(settled=settled)._asdict())

    return settle


class Compiled(NamedTuple):
    """A task's training, compiled.

    train_steps: as `make_train_steps` returns it, but with the step it arrives at, int32[], beside
      the state. The state that it is given is used up, so the step is what can be waited for.
    settle: as `make_settle` returns it.
    sums: `(state) -> sums`, of what `train_steps` returned.
    whole: `(state) -> TrainState`, of what `train_steps` returned: that may be a stand-in for a
      state that is kept together with others.
    """

    train_steps: Callable[..., tuple[Any, Array]]
    settle: Callable[[Any, Hyperparameters], TrainState]
    sums: Callable[[Any], Sums] = lambda state: state.sums
    whole: Callable[[Any], TrainState] = lambda state: state


@programs.shared
def compiled(
    task: Task, update: TableUpdate, stop_at_non_finite: bool, manner: str = compilation.THOROUGH
) -> Compiled:
    """What a run calls: the same for all tasks of one key, so that it is compiled once.

    Args:
      task, update, stop_at_non_finite: as for `make_train_step`.
      manner: how it is compiled, see `rnn_jax.system.compilation`.
    """
    options = compilation.options(manner)
    several = make_train_steps(make_train_step(task, update, stop_at_non_finite=stop_at_non_finite))

    def train_steps(state: TrainState, *arguments: Any) -> tuple[TrainState, Array]:
        state = several(state, *arguments)
        return state, state.step

    return Compiled(
        train_steps=jax.jit(train_steps, donate_argnums=0, compiler_options=options),
        settle=jax.jit(make_settle(task, update), compiler_options=options),
    )


def _tables(task: Task, update: TableUpdate) -> tuple[Tables, TableUpdate]:
    """The task's tables with their update; where it has none, what leaves all to the optimizer."""
    return (NO_TABLES, tables_lib.dense()) if task.tables is None else (task.tables, update)


def _learned_only(held: Held | None, grads: Params) -> Params:
    """A gradient, 0 at what is never learned."""
    if held is None or held.epochs is not None:
        return grads
    return tables_lib.where_marked(held.marks, jnp.zeros_like, grads)


def _put_back(
    held: Held | None, step: Array, numbers: Hyperparameters, before: Params, after: Params
) -> Params:
    """The parameters after a step, but those that are held as they were before it."""
    if held is None:
        return after
    if held.epochs is None:
        return tables_lib.where_marked(held.marks, lambda old, _: old, before, after)
    assert numbers.held_steps is not None  # the plan knows how many steps an epoch has
    moves = step >= numbers.held_steps
    return tables_lib.where_marked(
        held.marks, lambda old, new: jnp.where(moves, new, old), before, after
    )


def _learned(state: TrainState) -> Values:
    return Learned(state.params, state.opt_state, state.settled)


def _marks(task: Task, transformation: optax.GradientTransformation, learned: Values) -> Marks:
    """Where the tables are in what is learned; of nothing if there are none."""
    if task.tables is None:
        return Learned(None, None, None)
    return tables_lib.marks_of(task.tables, transformation, learned)
