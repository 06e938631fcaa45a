"""The loop on real, if few, stories: it learns, stops early, resumes as if nothing had happened."""

import json

import jax
import numpy as np
import pytest
from classifiers import task_of

import rnn_jax
from rnn_jax import tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.data import epochs, preparation
from rnn_jax.runs import checkpoints
from rnn_jax.runs import folder as folder_lib
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.tasks import metrics, recurrent
from rnn_jax.train import numerics
from rnn_jax.train.evaluate import evaluate_split


def test_it_learns_and_counts_every_example_once(config, tmp_path):
    result = train.run(replace(config, {"train.epochs": 8}), tmp_path)
    trained = [record for record in result.history if record["split"] == "train"]
    assert [record["examples"] for record in trained] == [36] * len(trained)
    assert trained[-1]["loss"] < 0.5 * trained[0]["loss"]
    assert result.history[-1]["split"] == "test"
    assert result.history[-1]["accuracy"] == 1.0
    assert result.history[-1]["examples"] == 10


def test_the_parameters_that_stay_are_those_of_the_lowest_validation_loss(config, tmp_path):
    # A huge step size: the loss leaps about, so that the best epoch is not the last.
    changes = {"optimizer.learning_rate": 0.5, "train.epochs": 12, "train.patience": 2}
    result = train.run(replace(config, changes), tmp_path)
    losses = [record["loss"] for record in result.history if record["split"] == "validation"]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 12
    assert result.history[-1]["epoch"] == best
    found = checkpoints.newest(tmp_path / folder_lib.CHECKPOINTS)
    assert (found.progress.best_epoch, found.progress.finished) == (best, True)
    params = rnn_jax.load(tmp_path).run.params
    jax.tree.map(np.testing.assert_array_equal, params, result.params)


@pytest.mark.parametrize("embedding_update", ["touched", "delayed"])
def test_a_run_that_is_interrupted_again_and_again_gives_the_same_bits(
    config, tmp_path, signal_at, without_times, embedding_update
):
    config = replace(config, {"optimizer.embedding_update": embedding_update})
    undisturbed = train.run(config, tmp_path / "a")
    stops = 0
    for number in [1, 2, 3, 4, 6, 9, 5, 7, 8, 10**6]:
        signal_at(number)
        try:
            result = train.run(config, tmp_path / "b")
        except Interrupted:
            stops += 1
            before = without_times(tmp_path / "b")
            assert before == without_times(tmp_path / "a")[: len(before)]
    assert stops >= 5
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, undisturbed.params, result.params)


def test_an_epoch_of_more_tokens_than_32_bits_count(
    config, tmp_path, monkeypatch, signal_at, without_times
):
    true, each = metrics.classification, 2**28  # a batch of 4 stays below 2^31, an epoch does not

    def many(logits, labels, weights, tokens):
        return true(logits, labels, weights, tokens + each)

    expected = train.run(config, tmp_path / "few").history
    monkeypatch.setattr(metrics, "classification", many)
    monkeypatch.setattr(recurrent, "key_of", lambda *parts: None)  # shares no program with others
    undisturbed = train.run(config, tmp_path / "many").history
    for one, other in zip(undisturbed, expected, strict=True):
        assert one["tokens"] == other["tokens"] + each * other["examples"]
    assert undisturbed[0]["tokens"] > 2**33
    signal_at(5)  # four of the epoch's nine batches are done, and 2^32 passed
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "stopped")
    signal_at(10**6)
    train.run(config, tmp_path / "stopped")
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "many")


def test_a_loss_that_is_not_finite_stops_the_run_and_is_recorded(config, tmp_path):
    config = replace(config, {"optimizer.learning_rate": 1e38, "optimizer.clip_norm": 0.0})
    with pytest.raises(train.RunError, match=r"step \d+ has a loss or gradient"):
        train.run(config, tmp_path / "stop")
    failure = json.loads((tmp_path / "stop" / "failure.json").read_text())
    assert failure["epoch"] == 1
    assert 1 <= len(failure["examples"]) <= 4
    result = train.run(replace(config, {"train.non_finite": "skip"}), tmp_path / "skip")
    skipped = [record["skipped"] for record in result.history if record["split"] == "train"]
    assert skipped[-1] > 0


def test_two_runs_cannot_share_a_folder(config, tmp_path):
    with (
        folder_lib.claim(tmp_path, config, {"classes": ("a", "b")}, tasks.reader(), {}),
        pytest.raises(InputError, match="another process"),
    ):
        train.run(config, tmp_path)


def test_the_epoch_s_loss_is_the_mean_over_examples(config, tmp_path):
    # Without updates the loss of an epoch is that of the initial parameters on all examples.
    config = replace(
        config, {"optimizer.learning_rate": 0.0, "model.dropout": 0.0, "train.epochs": 1}
    )
    record = train.run(config, tmp_path).history[0]
    data = preparation.prepare(config.data)
    job = task_of(config, data.classes)
    params = job.init(jax.random.key(0))
    split = epochs.single_pass(config.data, 36, data.train, data.vectorizer.words)
    alone, _ = evaluate_split(job, params, split)
    assert record["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    assert record["accuracy"] == alone["accuracy"]


def test_an_examined_step_is_the_one_that_is_taken(config, tmp_path, monkeypatch):
    # Rows that are not up to date must be where it looks, and must not be where it goes on.
    config = replace(config, {"optimizer.embedding_update": "delayed", "train.epochs": 1})
    unseen = train.run(config, tmp_path / "unseen")
    losses, examiner = [], numerics.examiner

    def listening(task):
        examine = examiner(task)

        def listen(*step):
            found = examine(*step)
            losses.append(float(found[1].loss))
            return found

        return listen

    monkeypatch.setattr(numerics, "examiner", listening)
    seen = train.run(replace(config, {"train.check_numerics": True}), tmp_path / "seen")
    assert len(losses) == 9
    assert np.mean(losses) == pytest.approx(seen.history[0]["loss"], rel=1e-6)
    jax.tree.map(np.testing.assert_array_equal, seen.params, unseen.params)


def test_a_finished_run_can_be_asked(config, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    run = train.run(replace(config, {"train.epochs": 2}), tmp_path)
    validation = run.columns()
    assert validation["epoch"].tolist() == [1, 2]
    losses = [line["loss"] for line in run.history if line["split"] == "validation"]
    assert validation["loss"].tolist() == losses
    assert "gradient_norm" in run.columns("train")
    assert "split" not in run.columns("test")
    with pytest.raises(ValueError, match="split must be one of train, validation, test, not 'dev'"):
        run.columns("dev")
    # Of the same shape: batches of other sizes are other programs, which may round differently.
    (prediction,) = run.predict(["rain again"])
    assert prediction == rnn_jax.load(tmp_path).predict(["rain again"])[0]
    assert run.predictor("rain again").label == prediction.label
    figure = run.plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["training", "validation"]
    assert list(lines[1].get_ydata()) == losses
    pyplot.close(figure)
