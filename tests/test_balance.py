"""Classes of unequal size: what their stories count in the loss, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from classifiers import task_of
from test_population import after, plan_of, together

from rnn_jax import train
from rnn_jax.config import replace
from rnn_jax.data import balance, batching, shapes
from rnn_jax.data.batching import Examples
from rnn_jax.data.text import Ragged
from rnn_jax.train import accumulation

SIZES = {"birds": 24, "cats": 9, "dogs": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stories with names as labels and one text, by far the most of one class."""
    folder = tmp_path_factory.mktemp("unequal")
    for name in ("train", "test"):
        rows = [f"{label},{label} {name} {n}" for label in SIZES for n in range(SIZES[label])]
        (folder / f"{name}.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(config, folder):
    changes = {
        "data.data_dir": str(folder), "data.validation": "test", "model.dropout": 0.0,
        "data.max_length": 4, "data.class_weights": "balanced", "train.epochs": 1,
        "train.batch_size": 8,
    }  # fmt: skip
    return replace(config, changes)


def test_all_classes_count_the_same():
    counts = np.array([24, 9, 0, 3])
    weights = balance.class_weights(counts)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [0.5, 4 / 3, 0, 4], rtol=1e-6)  # 36 / (3 * count)
    assert (weights * counts).sum() == pytest.approx(36)


def examples(labels, weights=None):
    """Texts of one to three tokens."""
    lengths = np.arange(len(labels)) % 3 + 1
    ids = np.arange(lengths.sum(), dtype=np.int32) % 7 + 2
    tokens = Ragged(ids, np.concatenate([[0], np.cumsum(lengths)]))
    return Examples(tokens, np.array(labels, np.int32), weights)


def batch_of(labels, weights, packed):
    stories = examples(labels, None if weights is None else np.float32(weights)[labels])
    shape = shapes.Shape(4, 8) if packed else shapes.Shape(8, 4)
    return batching.assemble(stories, shape, np.arange(len(labels)), 8)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_is_that_weighted_by_hand(config, packed):
    """And what is measured counts every story once."""
    changes = {"data.pack": True, "model.pooling": "mean"} if packed else {}
    config = replace(config, changes)
    task = task_of(config, tuple(SIZES))
    plain = task_of(replace(config, {"data.class_weights": "none"}), tuple(SIZES))
    assert task.key != plain.key
    params, key = task.init(jax.random.key(0)), jax.random.key(1)
    labels, weights = [0, 0, 2, 1, 0], [0.5, 4 / 3, 4]
    batch = batch_of(labels, weights, packed)
    assert (batch.segments is not None) == packed
    loss, (_, sums) = task.loss(params, None, batch, key, task.rates)
    _, _, outputs = task.evaluate(params, None, batch)
    losses = -np.log(np.asarray(outputs, np.float64)[np.arange(5), labels])
    each = np.array(weights)[labels]
    assert loss == pytest.approx((losses * each).sum() / each.sum(), rel=1e-5)
    assert sums["loss"] == pytest.approx(losses.sum(), rel=1e-5)
    assert sums["examples"] == 5
    # Where all count the same it is the plain loss, and so it is without a story.
    even = plain.loss(params, None, batch_of(labels, None, packed), key, plain.rates)[0]
    assert even == pytest.approx(losses.mean(), rel=1e-5)
    alike = batch_of(labels, [2.0, 2.0, 2.0], packed)
    assert task.loss(params, None, alike, key, task.rates)[0] == pytest.approx(
        float(even), rel=1e-6
    )
    empty = jax.tree.map(np.zeros_like, batch)
    assert task.loss(params, None, empty, key, task.rates)[0] == 0


def test_it_is_pytorch_s_weighted_loss():
    torch = pytest.importorskip("torch")
    from rnn_jax.tasks import metrics

    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 3)).astype(np.float32), np.array([0, 1, 2, 0, 0, 1])
    weights = np.array([0.5, 2.0, 3.0], np.float32)
    theirs = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights))
    expected = theirs(torch.tensor(logits), torch.tensor(labels)).item()
    found = metrics.weighted_loss(jnp.asarray(logits), labels, weights[labels])
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 0, 1, 0, 0], [0] * 4])
def test_parts_of_a_batch_make_the_same_gradient(config, labels):
    """Four stories of the largest class count less than one together."""
    task = task_of(config, tuple(SIZES))
    params, key = task.init(jax.random.key(0)), jax.random.key(1)
    batch = batch_of(labels, [0.1, 4 / 3, 4], packed=False)
    whole, parts = (
        jax.value_and_grad(each.loss, has_aux=True)(params, None, batch, key, task.rates)
        for each in (task, accumulation.in_parts(task, 4))
    )
    assert parts[0][0] == pytest.approx(float(whole[0][0]), rel=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (whole[1], parts[1])), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_learns_by_the_weights_alone_and_among_others(config, folder):
    balanced = after(plan_of(config), 9)
    plain = after(plan_of(replace(config, {"data.class_weights": "none"})), 9)
    leaves = lambda state: jax.tree.leaves(state.params)
    assert any((a != b).any() for a, b in zip(leaves(balanced), leaves(plain), strict=True))
    for found in together([config, replace(config, {"optimizer.learning_rate": 0.5})], 9)[:1]:
        for one, other in zip(leaves(found), leaves(balanced), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_stories_on_the_disk_count_the_same(config, folder, tmp_path):
    streamed = {"data.stream": True, "data.cache_dir": str(tmp_path), "data.window": 16}
    memory, disk = plan_of(config), plan_of(replace(config, streamed))
    np.testing.assert_array_equal(memory.data.epochs.class_weights, disk.data.epochs.class_weights)
    np.testing.assert_allclose(disk.data.epochs.class_weights, [0.5, 4 / 3, 4], rtol=1e-6)
    seen = []
    for window in disk.data.epochs.windows(0, 0):
        for position in range(window.start, window.start + len(window.plan)):
            batch = window.batch(position)
            real = batch.weights > 0
            seen += zip(batch.labels[real].tolist(), batch.weights[real].tolist(), strict=True)
    assert sorted(dict(seen).items()) == [
        (0, 0.5), (1, pytest.approx(4 / 3)), (2, 4.0),
    ]  # fmt: skip
    assert len(seen) == sum(SIZES.values())


@pytest.mark.parametrize(
    ("counts", "balanced", "said"),
    [
        ([20, 20], False, []),
        ([30, 10], False, []),
        ([31, 10], False, ["76% of the training stories are of class 'a'"]),
        ([31, 10], True, ["76% of the training stories are of class 'a'"]),
        ([20, 10, 10], False, []),
        ([21, 10, 10], False, ["51% of"]),
        ([9, 4, 0], False, ["fewer than 5 training stories: class 'b' (4), 'c' (0)", "69% of"]),
        ([9] + 8 * [1], False, ["'f' (1) and 3 more", "53% of"]),
    ],
)
def test_what_is_hard_to_learn_from_is_said(counts, balanced, said):
    lines = balance.warnings(np.array(counts), "abcdefghi"[: len(counts)], balanced)
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert words in line
        assert "\n" not in line
    hinted = any("class_weights=balanced" in line for line in lines)
    assert hinted == (any("% of" in line for line in lines) and not balanced)


def test_a_class_that_is_never_recognised_is_said():
    outputs = np.eye(3)[[0, 0, 1, 1]]
    classes = ("a", "b", "c")
    assert balance.unrecognised(outputs, np.array([0, 0, 1, 1]), classes) == []  # no story of c
    assert balance.unrecognised(outputs, np.array([0, 1, 1, 2]), classes) == [
        "recall 0: no test story was recognised of class 'c'"
    ]
    assert "'b', 'c'" in balance.unrecognised(outputs, np.array([0, 1, 2, 2]), classes)[0]


def test_the_terminal_has_the_warnings(launch, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(balance, "unrecognised", lambda *found: ["recall 0: of 'dogs'"])
    flags = [
        "--config.data.source=csv", f"--config.data.data_dir={folder}", "--config.train.epochs=1",
        "--config.data.validation=test", "--config.data.max_length=4",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    code, out, err = launch("--experiment=masked_rnn", *flags)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert [line.split()[1] for line in lines] == ["fewer", "67%", "recall"]
    last = out.splitlines()[-1]
    expected = (0, f"{last}\n", f"{lines[-1]}\n")  # standard output has the figures alone
    assert launch("--mode=evaluate", f"--workdir={tmp_path / 'run'}") == expected


def test_runs_of_other_weights_are_other_runs(config, tmp_path):
    train.run(config, tmp_path / "run")
    with pytest.raises(ValueError, match=r"data\.class_weights: 'balanced' -> 'none'"):
        train.run(replace(config, {"data.class_weights": "none"}), tmp_path / "run")
