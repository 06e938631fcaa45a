"""Rows that make up for missed updates stand where dense Adam would have them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from classifiers import task_of

from rnn_jax import Config, DataConfig, ModelConfig
from rnn_jax.config import OptimizerConfig
from rnn_jax.optim import delayed, optimizer, updates
from rnn_jax.optim.tables import Learned
from rnn_jax.train import steps
from rnn_jax.types import Batch

ROWS, STEPS = 60, 120
SCHEDULES = {
    "constant": {},
    "cosine after a rise": {"schedule": "cosine", "warmup_steps": 20},
    "no mean": {"b1": 0.0},
}


def adam_state(opt_state):
    return optax.tree_utils.tree_get(opt_state, "ScaleByAdamState")


def caught_up(config, table, opt_state, settled):
    numbers = delayed.prepare(optimizer.hyperparameters(config, STEPS), STEPS)
    marks = Learned(True, None, True)
    found = delayed.catch_up(numbers, marks, Learned(table, opt_state, settled))
    return found.params, found.opt_state


def rows_behind(config, gradients, now):
    """A table whose row s had its only gradient in update s, and stands there: as updates without
    gradients, one by one, take it to update `now`, and before them.

    Returns (settled, (table, opt_state) before, (table, opt_state) after).
    """
    transformation = optimizer.make(optimizer.hyperparameters(config, STEPS))
    update = jax.jit(transformation.update)
    settled = jnp.arange(now + 1)
    table = jnp.ones((now + 1, gradients.shape[1]))
    state = transformation.init(table)
    before = after = table, state
    for count in range(1, now + 1):
        own = (settled == count)[:, None]
        table, state = after
        updates, state = update(jnp.where(own, gradients, 0), state, table)
        after = table + updates, state
        keep = lambda new, old, own=own: jnp.where(own, new, old) if new.ndim == 2 else new
        before = jax.tree.map(keep, after, before)
    return settled, before, after


@pytest.mark.parametrize(
    ("schedule", "now"),
    [
        ("constant", 3),
        ("constant", 100),
        ("cosine after a rise", 100),
        ("cosine after a rise", 140),  # beyond the schedule's end
        ("no mean", 100),
    ],
)
def test_the_sum_over_a_gap_is_that_of_its_updates(schedule, now):
    config = OptimizerConfig(learning_rate=0.1, clip_norm=0.0, **SCHEDULES[schedule])
    gradients = np.random.default_rng(0).normal(size=(now + 1, 5)).astype(np.float32)
    settled, before, after = rows_behind(config, gradients, now)
    found = caught_up(config, *before, settled)
    moves = [np.asarray(table - before[0]) for table in (found[0], after[0])]
    assert now < 10 or config.b1 == 0 or np.abs(moves[1]).max() > 0.1
    np.testing.assert_allclose(*moves, rtol=0, atol=3e-6)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-12),
        found[1],
        after[1],
    )
    # Without a gradient so far (row 0), or without a gap (the last row), no bit changes.
    tables = (found[0], *adam_state(found[1])[1:]), (before[0], *adam_state(before[1])[1:])
    for one, other in zip(*tables, strict=True):
        np.testing.assert_array_equal(one[jnp.array([0, now])], other[jnp.array([0, now])])


@pytest.mark.parametrize("b2", [0.999, 0.99])
def test_how_near_the_approximation_of_epsilon_is(b2):
    sizes = {1e-3: 1e-5, 1e-5: 3e-4, 1e-6: 2e-2}  # of gradients: the error of a row's move
    config = OptimizerConfig(learning_rate=1.0, b2=b2, clip_norm=0.0, epsilon=1e-7)
    now = 2000  # far beyond the updates that bias correction changes
    gradients = np.tile(np.array(list(sizes), np.float32), (now + 1, 1))
    settled, before, after = rows_behind(config, gradients, now)
    table, _ = caught_up(config, *before, settled)
    moves = [np.asarray(rows - before[0])[1:-1] for rows in (table, after[0])]
    assert np.abs(moves[1]).min() > 0.1
    for column, error in enumerate(sizes.values()):
        np.testing.assert_allclose(*(move[:, column] for move in moves), rtol=error)


def trained(embedding_update, schedule, masked):
    """The state after training on batches that read most rows seldom, brought up to date."""
    config = Config(
        experiment="test",
        data=DataConfig(vocab_size=ROWS),
        model=ModelConfig(cell="simple_rnn", hidden=3, embedding_size=4, masked=masked),
        optimizer=OptimizerConfig(
            learning_rate=0.003,
            clip_norm=0.5,
            embedding_update=embedding_update,
            **SCHEDULES[schedule],
        ),
    )
    task = task_of(config)
    update = updates.make(config.optimizer)
    numbers = updates.hyperparameters(config.optimizer, STEPS)
    step = steps.make_train_step(task, update)
    random = np.random.default_rng(1)
    tokens = (ROWS ** random.random((STEPS, 2, 3))).astype(np.int32)  # 1 often, 59 seldom
    lengths = random.integers(1, 4, (STEPS, 2)).astype(np.int32)
    batches = Batch(
        tokens=np.where(np.arange(3) < lengths[..., None], tokens, 0),
        lengths=lengths,
        labels=random.integers(0, 2, (STEPS, 2)).astype(np.int32),
        weights=np.ones((STEPS, 2), np.float32),
    )
    state = steps.init_state(task, update, numbers, seed=0)
    run = jax.jit(steps.make_train_steps(step))
    state = run(state, batches, STEPS, steps.run_key(0), numbers)
    return jax.jit(steps.make_settle(task, update))(state, numbers)


@pytest.mark.parametrize(
    ("schedule", "masked"), [("constant", True), ("cosine after a rise", False)]
)
def test_training_is_dense_adam_s(schedule, masked):
    late, dense, lazy = (
        trained(choice, schedule, masked) for choice in ("delayed", "dense", "touched")
    )
    assert (late.settled == STEPS).all()
    assert dense.settled is None

    def distance(one, other):
        """The greatest of all entries' differences, by the tree's largest entry."""
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)

    assert distance(late.params, dense.params) < 5e-5
    assert distance(late.opt_state, dense.opt_state) < 5e-5
    assert distance(lazy.params, dense.params) > 0.1  # what this test would not overlook
    padding = [np.asarray(state.params["embedding"]["embedding"][0]) for state in (late, dense)]
    start = np.asarray(lazy.params["embedding"]["embedding"][0])
    assert (np.abs(padding[1] - start).max() > 0.01) != masked  # lazy Adam leaves it where it was
    np.testing.assert_allclose(*padding, rtol=0, atol=1e-5)


def test_runs_of_other_lengths_have_tables_of_the_same_shape():
    tails = {}
    for name, changes in SCHEDULES.items():
        for total in (50, 5000):
            config = OptimizerConfig(learning_rate=0.1, **changes)
            numbers = delayed.prepare(optimizer.hyperparameters(config, total), total)
            tails[name, total] = numbers.missed.tails
    assert len({array.shape for array in tails.values()}) == 1
    # What lies beyond the last update repeats it, and it is that of the length itself.
    cosine = tails["cosine after a rise", 50]
    np.testing.assert_array_equal(cosine[50:], np.tile(cosine[50], (len(cosine) - 50, 1)))
    assert (cosine[49] != cosine[50]).any()
    assert (cosine[:50] != tails["cosine after a rise", 5000][:50]).any()
