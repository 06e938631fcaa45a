"""The adding and the copying problem: what is drawn, what is measured, what a network learns."""

import json
import math

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import AdamConfig, AddingConfig, CopyConfig, InputError, TrainConfig, tasks, train
from rnn_jax.config import replace
from rnn_jax.data.arrays import ArrayBatch
from rnn_jax.models import ReaderConfig
from rnn_jax.tasks import adding_problem, copy_memory, synthetic
from rnn_jax.tasks.copy_memory import CopyData
from rnn_jax.tasks.synthetic import DrawnConfig

ADDING = AddingConfig(
    "test",
    data=DrawnConfig(lag=6, train=300, held_out=40),
    model=ReaderConfig(cell="gru", hidden=8),
    optimizer=AdamConfig(learning_rate=0.02),
    train=TrainConfig(epochs=2, batch_size=16),
)
COPY = CopyConfig(
    "test",
    data=CopyData(lag=3, symbols=2, alphabet=3, train=300, held_out=40),
    model=ReaderConfig(cell="gru", hidden=8),
    optimizer=AdamConfig(learning_rate=0.02),
    train=TrainConfig(epochs=2, batch_size=16),
)


def splits(config):
    problem = {AddingConfig: adding_problem, CopyConfig: copy_memory}[type(config)].problem(config)
    return synthetic.drawn(config.data, problem)


def made(config):
    resolved = tasks.resolve(config)
    return tasks.make(resolved.config, {})


@pytest.mark.parametrize("vary", [0.0, 0.5])
def test_numbers_to_add_stand_one_in_each_half(vary):
    examples = splits(replace(ADDING, {"data.vary": vary, "data.lag": 10, "data.train": 2000}))[0]
    longest = 15 if vary else 10
    assert examples.inputs.shape == (2000, longest, 2)
    assert set(examples.lengths.tolist()) == set(range(10, longest + 1))
    numbers, marks = examples.inputs[..., 0], examples.inputs[..., 1]
    for row, length in enumerate(examples.lengths):
        first, second = np.flatnonzero(marks[row])
        assert 0 <= first < length // 2 <= second < length
        assert not numbers[row, length:].any()
        assert numbers[row, :length].all()
    np.testing.assert_allclose(examples.targets[:, 0], (numbers * marks).sum(axis=1), rtol=1e-6)
    assert (examples.at[:, 0] == examples.lengths - 1).all()
    # Who always says 1 has the variance of the sum, a sixth.
    assert np.mean(np.square(examples.targets - 1)) == pytest.approx(1 / 6, abs=0.01)


def test_symbols_to_copy_stand_lag_steps_before_the_first_answer():
    config = replace(COPY, {"data.vary": 1.0, "data.train": 500})
    examples = splits(config)[0]
    lags = examples.lengths - 4
    assert set(lags.tolist()) == {3, 4, 5, 6}
    for row, lag in enumerate(lags):
        told = examples.targets[row].tolist()
        assert set(told) <= {0, 1, 2}
        padding = [3] * (6 - lag)
        assert examples.inputs[row].tolist() == [*told, *[3] * (lag - 1), 4, 3, 3, *padding]
        assert examples.at[row].tolist() == [2 + lag, 3 + lag]
    counts = np.bincount(examples.targets.reshape(-1), minlength=3) / 1000
    np.testing.assert_allclose(counts, 1 / 3, atol=0.06)


def test_splits_are_drawn_from_the_seed_and_from_nothing_else():
    one, more = splits(ADDING), splits(replace(ADDING, {"data.train": 400}))
    again = splits(replace(ADDING, {"train.seed": 5}))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    jax.tree.map(np.testing.assert_array_equal, one[1:], more[1:])
    assert not np.array_equal(one[1].inputs, one[2].inputs)
    other = splits(replace(ADDING, {"data.seed": 1}))
    assert not np.array_equal(one[0].inputs, other[0].inputs)


def test_measures_by_hand():
    problem = adding_problem.problem(ADDING)
    answers = np.array([[[1.0]], [[0.5]]], np.float32)
    losses = problem.measure(answers, np.array([[1.5], [0.5]], np.float32))["loss"]
    np.testing.assert_allclose(losses, [0.25, 0])
    problem = copy_memory.problem(COPY)
    logits = np.zeros((1, 2, 3), np.float32)
    logits[0, 0, 1] = 50.0  # sure and right, then a guess
    found = problem.measure(logits, np.array([[1, 2]]))
    assert float(found["loss"][0]) == pytest.approx(math.log(3) / 2, rel=1e-6)
    assert float(found["hits"][0]) == 0.5
    assert problem.means({"loss": 3.0, "hits": 2.0}, 4) == {"loss": 0.75, "accuracy": 0.5}


@pytest.mark.parametrize("config", [ADDING, COPY], ids=["adding", "copy"])
def test_padding_changes_no_bit(config):
    """What stands beyond a row's length, NaN for numbers, changes neither loss nor gradient."""
    task = made(replace(config, {"data.vary": 1.0}))
    examples = splits(replace(config, {"data.vary": 1.0, "data.train": 8}))[0]
    beyond = np.arange(examples.inputs.shape[1]) >= examples.lengths[:, None]
    assert beyond.any()
    filled = examples.inputs.copy()
    filled[beyond] = np.nan if filled.ndim == 3 else 0
    params = task.init(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(lambda p, b: task.loss(p, None, b, None, None)[0]))
    weights = np.ones(8, np.float32)
    plain = step(params, ArrayBatch(examples, weights))
    jax.tree.map(
        np.testing.assert_array_equal,
        plain, step(params, ArrayBatch(examples._replace(inputs=filled), weights)),
    )  # fmt: skip
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(plain[1]["recurrent"]))


def test_rows_that_only_fill_a_batch_count_for_nothing():
    task, examples = made(COPY), jax.tree.map(lambda leaf: leaf[:4], splits(COPY)[0])
    params, weights = task.init(jax.random.key(0)), np.array([1, 1, 0, 0], np.float32)
    loss = jax.jit(lambda batch: task.loss(params, None, batch, None, None))
    half, (_, sums) = loss(ArrayBatch(examples, weights))
    alone = jax.tree.map(lambda leaf: leaf[:2], examples)
    whole = loss(ArrayBatch(alone, weights[:2]))[0]
    assert int(sums["examples"]) == 2
    np.testing.assert_allclose(half, whole, rtol=1e-6)


@pytest.mark.parametrize(("cell", "other"), [("gru", "fused"), ("min_gru", "associative")])
def test_kernels_agree(cell, other):
    examples = jax.tree.map(lambda leaf: leaf[:4], splits(COPY)[0])
    batch, found = ArrayBatch(examples, np.ones(4, np.float32)), {}
    for kernel in ("scan", other):
        task = made(replace(COPY, {"model.cell": cell, "model.kernel": kernel}))
        params = task.init(jax.random.key(0))
        found[kernel] = jax.jit(jax.grad(lambda p, t=task: t.loss(p, None, batch, None, None)[0]))(
            params
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6),
        found["scan"], found[other],
    )  # fmt: skip


def test_a_trained_network_beats_the_baseline_and_can_be_asked(tmp_path):
    config = replace(
        ADDING, {"train.epochs": 12, "data.train": 600, "optimizer.learning_rate": 0.03}
    )
    run = train.run(config, tmp_path / "run")
    error = run.history[-1]["loss"]
    assert error < 0.04 < adding_problem.BASELINE
    assert run.line == f"test error {error:.4f}  (adding, lag 6, 40 examples)"
    test = splits(config)[2]
    answers = rnn_jax.load(tmp_path / "run").predict(test)
    assert answers.shape == (40, 1, 1)
    mean = np.mean(np.square(answers[:, 0, 0] - test.targets[:, 0]))
    assert mean == pytest.approx(error, rel=1e-4)
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"The mean squared error is {error:.4f}. Who always says 1" in page
    assert "0.1667" in page


def test_copying_from_the_command_line(launch, tmp_path):
    flags = [
        "--experiment=copy", "--config.data.lag=2", "--config.data.symbols=2",
        "--config.data.alphabet=4", "--config.data.train=640", "--config.data.held_out=50",
        "--config.data.vary=0.5", "--config.train.epochs=4", "--config.train.batch_size=16",
        "--config.model.cell=gru", "--config.model.hidden=16",
        "--config.optimizer.learning_rate=0.03",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    code, out, err = launch(*flags)
    assert code == 0, err
    last = out.splitlines()[-1]
    accuracy = float(last.split()[2])
    assert accuracy > 0.6  # chance is a quarter
    assert last.startswith(f"test accuracy {accuracy:.4f}  cross-entropy ")
    assert last.endswith("  (copy, lag 2 to 3, 50 examples)")
    assert launch("--mode=evaluate", flags[-1])[:2] == (0, last + "\n")
    page = (tmp_path / "run" / "report.html").read_text()
    # 2 log(4) / 6, the literature's mean over all steps
    assert "Who guesses is right in 25.00% and has a cross-entropy of 1.3863" in page
    assert "0.4621" in page
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    again = [json.loads(line) for line in lines]
    assert [record["split"] for record in again][-1] == "test"
    assert again[-1]["accuracy"] == pytest.approx(accuracy, abs=1e-4)
    code, _, err = launch("--mode=predict", flags[-1], "--text=1 2")
    assert (code, err.count("\n")) == (2, 1)
    assert "a network that copies, for which there is no --mode=predict" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.lag": 1}, "--config.data.lag must be at least 2"),
        ({"data.vary": -0.1}, "--config.data.vary must be at least 0"),
        ({"data.train": 10**7, "data.lag": 1000}, "examples of lag 1000 have more than"),
        ({"model.cell": "min_gru", "model.recurrent_scale": 2.0}, "which the cell min_gru has not"),
        ({"model.cell": "gur"}, "did you mean 'gru'"),
    ],
)
def test_bad_options_cost_nothing(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        train.run(replace(ADDING, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_can_be_scaled():
    plain, scaled = (
        made(replace(ADDING, {"model.recurrent_scale": scale})).init(jax.random.key(0))
        for scale in (1.0, 0.5)
    )
    (one,), (half,) = plain["recurrent"].values(), scaled["recurrent"].values()
    np.testing.assert_allclose(half["recurrent_kernel"], one["recurrent_kernel"] / 2)
    np.testing.assert_array_equal(half["kernel"], one["kernel"])
