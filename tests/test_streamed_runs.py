"""Runs whose stories stay on the disk: the same bits after a kill."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import train
from rnn_jax.config import InputError, replace
from rnn_jax.data import csv_folder as csv_source
from rnn_jax.data import labelled_folder, preparation, windows
from rnn_jax.data.csv_folder import records
from rnn_jax.runs import checkpoints
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.train.evaluate import evaluate_test
from rnn_jax.train.opened import open_run


@pytest.fixture(scope="module")
def undisturbed(streamed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return folder, train.run(streamed, folder)


def test_a_run_counts_every_story_once_an_epoch_and_is_used_like_any_other(
    streamed, undisturbed, tmp_path
):
    folder, result = undisturbed
    data = preparation.prepare(streamed.data)
    assert len(data.train) > 24  # several windows, the last one not full
    trained = [record for record in result.history if record["split"] == "train"]
    assert [record["examples"] for record in trained] == [len(data.train)] * 2
    assert result.history[-1]["examples"] == 10
    tested, _ = evaluate_test(open_run(folder))
    assert tested["loss"] == result.history[-1]["loss"]
    assert rnn_jax.load(folder)("the cat").label in ("animals", "weather")
    page = (folder / "report.html").read_bytes()
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "report.html").unlink()
    train.run(streamed, copy)
    assert (copy / "report.html").read_bytes() == page


def test_a_streamed_run_that_is_interrupted_again_and_again_gives_the_same_bits(
    streamed, undisturbed, tmp_path, signal_at, without_times
):
    folder, result = undisturbed
    stops = []
    for number in [1, 2, 3, 4, 6, 1, 5, 2, 10**6]:
        signal_at(number)
        try:
            again = train.run(streamed, tmp_path / "run")
        except Interrupted:
            stops.append(checkpoints.newest(tmp_path / "run/checkpoints").progress)
    assert len({(stop.epoch, stop.batch) for stop in stops}) >= 5
    assert any(stop.batch % 3 for stop in stops)  # in the middle of a window
    assert without_times(tmp_path / "run") == without_times(folder)
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)


def test_a_streamed_run_with_packed_batches_goes_on_in_the_middle_of_a_window(
    streamed, tmp_path, monkeypatch, without_times
):
    changes = {"data.pack": True, "model.pooling": "mean", "data.window": 24, "train.epochs": 1}
    changes |= {"model.cell": "simple_rnn", "model.kernel": "scan"}  # the quickest to compile
    options = replace(streamed, changes)
    result = train.run(options, tmp_path / "whole")
    asked, closed, read_ahead = 0, [], windows.read_ahead

    def signal(self):
        nonlocal asked
        asked += 1
        return 2 if asked >= 2 else None

    def watched(*arguments):
        try:
            yield from read_ahead(*arguments)
        finally:
            closed.append(True)

    with monkeypatch.context() as patch:
        patch.setattr(Request, "signal", property(signal, lambda self, value: None), raising=False)
        patch.setattr(windows, "read_ahead", watched)
        with pytest.raises(Interrupted) as stopped:
            train.run(options, tmp_path / "run")
        assert closed == [True], stopped  # nothing is read ahead of a run that has ended
    progress = checkpoints.newest(tmp_path / "run/checkpoints").progress
    assert progress.epoch == 0
    assert 0 < progress.batch < 6
    again = train.run(options, tmp_path / "run")
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)


def test_checking_numerics_reads_each_window_once(streamed, tmp_path, monkeypatch):
    read, numbers = [], windows.numbers

    def counted(stories, seed, epoch, start, stop):
        read.append(start)
        return numbers(stories, seed, epoch, start, stop)

    monkeypatch.setattr(windows, "numbers", counted)
    train.run(replace(streamed, {"train.check_numerics": True, "train.epochs": 1}), tmp_path)
    assert read == [0, 12, 24]


def test_a_start_reads_the_training_file_once_for_the_names_of_the_classes(
    streamed, story_folder, tmp_path, monkeypatch
):
    moved = shutil.copytree(story_folder, tmp_path / "moved")
    (moved / "classes.txt").unlink()
    options = replace(
        streamed, {"data.data_dir": str(moved), "data.cache_dir": str(tmp_path / "c")}
    )
    preparation.prepare(options.data)
    read, form = [], csv_source.FORMAT

    def counted(path):
        read.append(path.name)
        return records(path)

    monkeypatch.setattr(
        csv_source, "classes",
        functools.partial(labelled_folder.classes, form=form._replace(records=counted)),
    )  # fmt: skip
    stopped = property(lambda self: 2, lambda self, value: None)
    monkeypatch.setattr(Request, "signal", stopped, raising=False)
    with pytest.raises(Interrupted):
        train.run(options, tmp_path / "run")
    assert read == ["train.csv"]


def test_a_streamed_run_refuses_stories_that_changed(streamed, story_folder, tmp_path, monkeypatch):
    stopped = property(lambda self: 2, lambda self, value: None)
    monkeypatch.setattr(Request, "signal", stopped, raising=False)
    moved = shutil.copytree(story_folder, tmp_path / "moved")
    changes = {"data.data_dir": str(moved), "data.cache_dir": str(tmp_path / "cache")}
    options = replace(streamed, changes)
    with pytest.raises(Interrupted):
        train.run(options, tmp_path / "run")
    content = (moved / "train.csv").read_text()
    (moved / "train.csv").write_text(content.replace("dog", "cat", 1))
    with pytest.raises(InputError, match="the data is no longer what the run"):
        train.run(options, tmp_path / "run")
    (moved / "train.csv").write_text(content)
    shutil.rmtree(tmp_path / "cache")  # it is only a cache
    with pytest.raises(Interrupted):
        train.run(options, tmp_path / "run")


def test_a_failure_names_the_stories_by_their_place_in_the_split(streamed, tmp_path):
    changes = {"optimizer.learning_rate": 1e38, "optimizer.clip_norm": 0.0}
    with pytest.raises(train.RunError, match=r"step \d+ has a loss or gradient"):
        train.run(replace(streamed, changes), tmp_path)
    found = json.loads((tmp_path / "failure.json").read_text())
    data = preparation.prepare(streamed.data)
    numbers = sorted(found["examples"])
    again = data.train.gather(np.array(numbers))
    words = [data.vectorizer.words[i] for i in again.tokens[0]]
    assert found["tokens"][found["examples"].index(numbers[0])] == words
