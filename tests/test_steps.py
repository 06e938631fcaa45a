"""A training step: what it changes, what it must not, and the rule of touched rows."""

import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from classifiers import task_of

from rnn_jax import Config, DataConfig, ModelConfig, train
from rnn_jax.config import replace
from rnn_jax.optim import optimizer, updates
from rnn_jax.runs import checkpoints
from rnn_jax.tasks.base import Task
from rnn_jax.train import steps
from rnn_jax.types import Batch, LSTMState

VOCABULARY = 12
CONFIG = Config(
    experiment="test",
    data=DataConfig(vocab_size=VOCABULARY),
    model=ModelConfig(cell="gru", hidden=3, embedding_size=4),
)
BATCH = Batch(
    tokens=jnp.array([[3, 5, 3, 0], [7, 3, 0, 0], [0, 0, 0, 0]], jnp.int32),
    lengths=jnp.array([3, 2, 0], jnp.int32),
    labels=jnp.array([1, 0, 0], jnp.int32),
    weights=jnp.array([1, 1, 0], jnp.float32),
)
TOUCHED = [3, 5, 7]
FILES = sorted((pathlib.Path(__file__).parent.parent / "experiments").glob("*.py"))
# The classifiers among them; tests/test_language_model.py has the others.
EXPERIMENTS = [
    file.stem
    for file in FILES
    if importlib.import_module(f"experiments.{file.stem}").get_config().task == "classification"
]


def make_step(task, config=CONFIG, *, embedding_update, **options):
    """A step of that task, and the state before it."""
    config = replace(config, {"optimizer.embedding_update": embedding_update})
    update = updates.make(config.optimizer)
    numbers = updates.hyperparameters(config.optimizer, total_steps=10, rates=task.rates)
    step = steps.make_train_step(task, update, **options)
    state = steps.init_state(task, update, numbers, seed=0)
    return functools.partial(jax.jit(step), key=steps.run_key(0), numbers=numbers), state


def setup(config=CONFIG, embedding_update="dense"):
    task = task_of(config)
    return task, *make_step(task, config, embedding_update=embedding_update)


def table(params):
    return np.asarray(params["embedding"]["embedding"])


def reference_touched(task, config, state, batch):
    """The rule of `rnn_jax.optim.touched`, on whole arrays: the dense gradient without the padding
    row, the dense optimizer, then every row that no token reads put back, running means too."""
    loss = lambda params: task.loss(params, None, batch, jax.random.key(0), None)[0]
    grads = jax.grad(loss)(state.params)
    grads["embedding"]["embedding"] = grads["embedding"]["embedding"].at[0].set(0)
    numbers = optimizer.hyperparameters(config.optimizer, total_steps=10)
    changes, opt_state = optimizer.make(numbers).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, changes)
    is_touched = np.isin(np.arange(VOCABULARY), np.asarray(batch.tokens)) & (
        np.arange(VOCABULARY) > 0
    )
    put_back = lambda after, before: (
        jnp.where(is_touched[:, None], after, before) if after.shape == (VOCABULARY, 4) else after
    )
    new = jax.tree.map(put_back, (params, opt_state), (state.params, state.opt_state))
    return *new, optax.tree.norm(grads)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("clip_norm", [0.0, 1e-3])
def test_touched_rows_follow_their_rule(masked, clip_norm):
    config = replace(
        CONFIG,
        {
            "model.masked": masked,
            "optimizer.clip_norm": clip_norm,
            "optimizer.weight_decay": 0.1,
            "optimizer.learning_rate": 0.1,
        },
    )
    task, step, state = setup(config, embedding_update="touched")
    second = BATCH._replace(
        tokens=jnp.array([[9, 3, 1, 11], [2, 2, 2, 2], [0, 0, 0, 0]], jnp.int32)
    )
    second = second._replace(lengths=jnp.array([4, 4, 0], jnp.int32))
    for batch in (BATCH, second, BATCH):
        params, opt_state, norm = reference_touched(task, config, state, batch)
        before, state = state, step(state, batch)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7),
            (state.params, state.opt_state),
            (params, opt_state),
        )
        measured = state.sums["gradient_norm"] - before.sums["gradient_norm"]
        np.testing.assert_allclose(measured, norm, rtol=1e-4)


def test_a_touched_step_leaves_all_other_rows_alone():
    _, step, state = setup(embedding_update="touched")
    before, after = table(state.params), table(step(state, BATCH).params)
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == TOUCHED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_step_changes_every_parameter_of_an_experiment_s_model(name):
    config = importlib.import_module(f"experiments.{name}").get_config()
    small = {"data.vocab_size": VOCABULARY, "data.max_length": 4, "model.hidden": 3}
    if config.model.embedding_size:
        small["model.embedding_size"] = 4
    # Without dropout, which may leave nothing of a batch of five tokens.
    config = replace(config, small | {"model.dropout": 0.0, "model.token_dropout": 0.0})
    _, step, state = setup(config, embedding_update=config.optimizer.embedding_update)
    after = step(state, BATCH).params
    before = jax.tree_util.tree_leaves_with_path(state.params)
    for (path, old), new in zip(before, jax.tree.leaves(after), strict=True):
        assert (old != new).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("embedding_update", ["dense", "touched", "delayed"])
def test_rows_of_weight_zero_change_nothing(embedding_update):
    _, step, state = setup(embedding_update=embedding_update)
    after = step(state, BATCH)
    filler = BATCH._replace(labels=BATCH.labels.at[2].set(1))
    jax.tree.map(np.testing.assert_array_equal, after, step(state, filler))
    assert (int(after.sums["examples"]), int(after.sums["tokens"])) == (2, 5)


def poisoned(task):
    """The task, with a loss that is NaN for batches whose first label is 1."""

    def loss(params, carry, batch, key, rates):
        value, more = task.loss(params, carry, batch, key, rates)
        return jnp.where(batch.labels[0] == 1, jnp.nan, value), more

    return task._replace(key=None, loss=loss)


@pytest.mark.parametrize("embedding_update", ["dense", "touched", "delayed"])
def test_a_step_that_is_not_finite_is_skipped_or_ends_all_further_steps(embedding_update):
    task = poisoned(task_of(CONFIG))
    # The bad batch, unlike the good one before it, reads a row that the first one read.
    good = BATCH._replace(labels=jnp.array([0, 1, 0], jnp.int32))
    other = good._replace(tokens=jnp.array([[9, 5, 8, 0], [8, 9, 0, 0], [0, 0, 0, 0]], jnp.int32))
    (stop, start), (skip, _) = (
        make_step(task, embedding_update=embedding_update, stop_at_non_finite=stops)
        for stops in (True, False)
    )
    twice = stop(stop(start, good), other)

    stopped = stop(stop(twice, BATCH), good)
    assert (int(stopped.sums["skipped"]), int(stopped.step)) == (1, 2)
    skipped = skip(twice, BATCH)
    for state in (stopped, skipped):
        for name in ("params", "opt_state", "settled"):
            jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(twice, name))
    assert (int(skipped.sums["skipped"]), int(skipped.sums["updates"]), int(skipped.step)) == (
        1,
        2,
        3,
    )
    assert np.isfinite(skipped.sums["loss"])
    after = skip(skipped, good)
    assert (table(after.params) != table(twice.params)).any()
    if embedding_update == "delayed":  # a skipped step is no update
        assert after.settled[jnp.array([3, 9, 1])].tolist() == [3, 2, 0]


def test_several_steps_in_one_call_are_the_same_steps():
    config = replace(CONFIG, {"model.dropout": 0.5})
    step, state = make_step(task_of(config), config, embedding_update="dense")
    other = BATCH._replace(labels=jnp.array([0, 0, 0], jnp.int32))
    one_by_one = state
    for batch in (BATCH, other, BATCH):
        one_by_one = step(one_by_one, batch)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), BATCH, other, BATCH, other)
    together = jax.jit(steps.make_train_steps(step.func))(
        state, stacked, jnp.int32(3), **step.keywords
    )
    assert int(together.step) == 3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), together, one_by_one
    )


def test_all_seeds_share_a_compiled_step():
    config = replace(CONFIG, {"model.dropout": 0.5})
    step, state = make_step(task_of(config), config, embedding_update="dense")
    one, other = (step(state, BATCH, key=steps.run_key(seed)) for seed in (1, 2))
    assert step.func._cache_size() == 1
    assert (table(one.params) != table(other.params)).any()  # and yet their noise differs


def running_mean():
    """A task with a carry: h <- w h + x over the batches' one number x, whose loss is h^2 / 2."""

    def loss(params, carry, batch, key, rates):
        hidden = params["w"] * carry.hidden + batch.weights[0]
        value = 0.5 * hidden**2
        return value, (LSTMState(hidden, carry.cell + 1), {"loss": value})

    unused = dict.fromkeys(
        ("evaluate", "means", "prepare", "test", "result", "predictor", "answer")
    )
    return Task(
        key=None,
        init=lambda key: {"w": jnp.float32(0.5)},
        initial_carry=lambda: LSTMState(jnp.float32(2), jnp.float32(0)),
        loss=loss,
        sums={"loss": jnp.float32(0)},
        **unused,
    )


def test_a_carry_travels_from_batch_to_batch_and_no_gradient_goes_back_through_it():
    config = replace(CONFIG, {"optimizer.learning_rate": 0.0, "optimizer.clip_norm": 0.0})
    task = running_mean()
    step, state = make_step(task, config, embedding_update="touched")
    after = step(step(state, BATCH), BATCH)
    # By hand, w = 0.5: h is 2, then 2, then 2. With the carry a constant, dL/dw = h_t h_{t-1} = 4
    # each time; through the first batch the second would be h (h + w h) = 6.
    np.testing.assert_allclose(after.carry, (2, 2))
    np.testing.assert_allclose(after.sums["gradient_norm"], 4 + 4)
    np.testing.assert_allclose(after.sums["loss"], 2 + 2)

    def weight(carry):
        return step.func(state._replace(carry=carry), BATCH, **step.keywords).sums["gradient_norm"]

    np.testing.assert_array_equal(jax.grad(weight)(state.carry), (0, 0))
    begun = steps.begin_epoch(task, after)
    np.testing.assert_array_equal(begun.carry, (2, 0))
    assert begun.sums["loss"] == 0
    assert begun.step == 2


@pytest.mark.parametrize("stops", [True, False])
def test_a_step_that_is_not_finite_leaves_the_carry(stops):
    step, state = make_step(running_mean(), embedding_update="dense", stop_at_non_finite=stops)
    good, bad = (BATCH._replace(weights=jnp.full(1, x)) for x in (1.0, jnp.nan))
    once = step(state, good)
    after = step(once, bad)
    jax.tree.map(np.testing.assert_array_equal, after.carry, once.carry)
    assert after.sums["skipped"] == 1
    again = step(after, good)
    assert int(again.carry.cell) == (1 if stops else 2)


def test_a_carry_is_in_the_checkpoint_and_none_is_no_part_of_it(tmp_path):
    step, state = make_step(running_mean(), embedding_update="dense")
    after = step(state, BATCH)
    _, plain = setup()[1:]
    for name, saved in (("carry", after), ("none", plain)):
        written = checkpoints.Checkpoints(tmp_path / name)
        written.save(saved, None, checkpoints.Progress())
        written.wait()
        path = checkpoints.newest(tmp_path / name).path
        like = jax.tree.map(jnp.zeros_like, saved)
        restored = checkpoints.restore(path, "state", like)
        jax.tree.map(np.testing.assert_array_equal, restored, saved)
        assert ("carry" in (path / "state" / "_METADATA").read_text()) == (name == "carry")


@pytest.mark.parametrize("embedding_update", ["touched", "delayed"])
def test_runs_that_differ_in_numbers_alone_compile_nothing_anew(config, tmp_path, embedding_update):
    changes = {
        "optimizer.embedding_update": embedding_update,
        "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": 2,
        "train.epochs": 1,
    }
    if embedding_update == "touched":
        changes["optimizer.weight_decay"] = 0.01
    config = replace(config, changes | {"model.recurrent_dropout": 0.1})
    other = {
        "model.dropout": 0.4,
        "model.recurrent_dropout": 0.6,
        "optimizer.learning_rate": 0.03,
        "optimizer.clip_norm": 0.5,
        "optimizer.warmup_steps": 5,
        "optimizer.epsilon": 1e-6,
        "train.epochs": 2,
        "train.seed": 3,
    }
    if embedding_update == "touched":
        other["optimizer.weight_decay"] = 0.02
    compilations = []
    event = "/jax/core/compile/backend_compile_duration"
    listen = lambda name, seconds, **_: compilations.append(name) if name == event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        results = [train.run(config, tmp_path / "one")]
        before = len(compilations)
        results.append(train.run(replace(config, other), tmp_path / "other"))
        between = len(compilations) - before
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert before > 0
    assert between == 0
    assert (table(results[0].params) != table(results[1].params)).any()


@pytest.mark.parametrize("embedding_update", ["touched", "delayed"])
def test_members_of_a_population_train_as_if_alone(embedding_update):
    members = [
        {"optimizer.learning_rate": 0.1, "model.dropout": 0.2, "optimizer.clip_norm": 0.1},
        {"optimizer.learning_rate": 0.01, "model.dropout": 0.6, "optimizer.clip_norm": 9.0},
    ]
    made = []
    for seed, changes in enumerate(members):
        config = replace(CONFIG, changes | {"optimizer.embedding_update": embedding_update})
        task = task_of(config)
        update = updates.make(config.optimizer)
        numbers = updates.hyperparameters(config.optimizer, total_steps=10, rates=task.rates)
        state = steps.init_state(task, update, numbers, seed)
        made.append((state, steps.run_key(seed), numbers))
    step = steps.make_train_step(task, update)
    other = BATCH._replace(tokens=BATCH.tokens.at[0].set(jnp.array([9, 8, 2, 0])))

    def run(state, key, numbers):
        for batch in (BATCH, other, BATCH):
            state = step(state, batch, key, numbers)
        return state

    run_alone = jax.jit(run)
    together = jax.jit(jax.vmap(run))(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *made))
    for index, member in enumerate(made):
        alone = run_alone(*member)
        own = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        jax.tree.map(
            lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6), own, alone
        )
    assert run_alone._cache_size() == 1
    assert (table(together.params)[0] != table(together.params)[1]).any()
