"""Folders that earlier versions wrote stay readable: they open, predict, evaluate and continue."""

import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest

import rnn_jax
from rnn_jax import tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.runs import checkpoints, identity
from rnn_jax.train.evaluate import evaluate_test
from rnn_jax.train.opened import open_run, with_changes

# Version 0.1: two runs of the data beside them, finished and stopped after three of five batches of
# their second epoch. Their configs have train.pack and train.pool, classes stand in the place of
# facts, and no task is named.
RECORDED = pathlib.Path(__file__).parent / "references" / "runs_0_1.zip"
TEXTS = ["the cat and the dog", "rain again over the hills", ""]
FIGURES = ("loss", "accuracy", "examples", "tokens", "gradient_norm", "skipped")


@pytest.fixture
def recorded(tmp_path):
    with zipfile.ZipFile(RECORDED) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("update", ["touched", "delayed"])
def test_a_finished_run_is_used_as_if_written_today(recorded, update):
    folder = recorded / f"{update}_finished"
    predictor = rnn_jax.load(folder)
    found = [list(each.probabilities.values()) for each in predictor.predict(TEXTS)]
    expected = json.loads((folder / "predictions.json").read_text())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    run = with_changes(open_run(folder), {"data.data_dir": str(recorded / "data")})
    record, _ = evaluate_test(run)
    for name in ("loss", "accuracy", "examples", "tokens"):
        assert record[name] == pytest.approx(history(folder)[-1][name], abs=1e-5)


def test_the_program_evaluates_and_uses_it(recorded, launch):
    folder = recorded / "touched_finished"
    where = f"--workdir={folder}"
    code, out, err = launch("--mode=evaluate", where, f"--config.data.data_dir={recorded / 'data'}")
    assert code == 0, err
    assert f"test accuracy {history(folder)[-1]['accuracy']:.4f}" in out
    code, out, err = launch("--mode=predict", where, f"--text={TEXTS[0]}")
    assert (code, sorted(json.loads(out))) == (0, ["label", "probabilities"]), err


@pytest.mark.parametrize("update", ["touched", "delayed"])
def test_an_unfinished_run_goes_on_to_the_end_of_the_undisturbed_one(recorded, update):
    folder = recorded / f"{update}_unfinished"
    before = identity.read_identity(folder, tasks.reader())
    assert before.facts == {"classes": ("animals", "weather")}
    assert before.config.data.pack is (update == "touched")
    config = replace(before.config, {"data.data_dir": str(recorded / "data")})
    result = train.run(config, folder)
    expected = history(recorded / f"{update}_finished")
    assert len(result.history) == len(expected) == 7
    for one, other in zip(result.history, expected, strict=True):
        assert [one[name] for name in ("step", "epoch", "split")] == [
            other[name] for name in ("step", "epoch", "split")
        ]
        for name in FIGURES:
            if name in other:
                assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), name


def test_a_run_whose_checkpoint_goes_while_it_is_read_is_read_from_the_next(recorded, monkeypatch):
    folder = recorded / "touched_finished" / "checkpoints"
    (old,) = folder.iterdir()
    restore, new = checkpoints.restore, folder / "000009"

    def removed_meanwhile(path, *arguments):
        if path == old:
            shutil.copytree(old, new)
            shutil.rmtree(old)  # as a run that trains there does
        return restore(path, *arguments)

    monkeypatch.setattr(checkpoints, "restore", removed_meanwhile)
    assert open_run(folder.parent).epoch > 0
    assert new.exists()
    assert not old.exists()
    shutil.rmtree(new / "best")
    with pytest.raises(InputError):  # and what is damaged stays damaged
        open_run(folder.parent)
