"""A run that is asked for more epochs goes on to them, as if they had been asked for at first."""

import json
import shutil

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.runs import checkpoints, identity
from rnn_jax.system.display import Display
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.train.opened import open_run

EPOCHS = 2


class Lines(Display):
    """Keeps what is printed."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def config(config):
    changes = {"train.epochs": EPOCHS, "optimizer.warmup_steps": 15, "train.patience": 0}
    return replace(config, changes)


@pytest.fixture(scope="module")
def longer(config):
    return replace(config, {"train.epochs": EPOCHS + 1})


@pytest.fixture(scope="module")
def short(config, tmp_path_factory):
    """The folder of a finished run. Tests copy it."""
    folder = tmp_path_factory.mktemp("short") / "run"
    train.run(config, folder)
    return folder


@pytest.fixture(scope="module")
def whole(longer, tmp_path_factory):
    """The folder of a run that was to have one epoch more from the beginning."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train.run(longer, folder)
    return folder


@pytest.fixture
def run(short, tmp_path):
    return shutil.copytree(short, tmp_path / "run")


def state_of(folder):
    """What is saved last of a run, as bytes, and its best parameters."""
    found = checkpoints.newest(folder / checkpoints.FOLDER)
    files = sorted((found.path / "state").rglob("*"))
    assert files
    best = jax.tree.leaves(open_run(folder).params)
    return found.progress._replace(history=()), [np.asarray(leaf).tobytes() for leaf in best]


def assert_alike(folder, other, without_times):
    assert without_times(folder) == without_times(other)
    assert state_of(folder) == state_of(other)
    said, expected = (identity.read_identity(each, tasks.reader()) for each in (folder, other))
    assert said == expected  # config, data, and no other environment
    assert "Stopped early" not in (folder / "report.html").read_text()


def test_more_epochs_are_the_rest_of_the_longer_run(run, whole, longer, without_times):
    display = Lines()
    found = train.run(longer, run, display=display)
    assert f"from {EPOCHS} to {EPOCHS + 1} epochs: {EPOCHS} epochs and 0" in display.lines[1]
    assert len([line for line in display.lines if line.startswith("epoch ")]) == 1
    assert [record["split"] for record in found.history].count("test") == 1
    assert_alike(run, whole, without_times)
    again = train.run(longer, run)
    assert again.line == found.line


@pytest.mark.parametrize("at", [1, 4])
def test_an_extension_that_is_stopped_goes_on(
    run, whole, config, longer, at, signal_at, monkeypatch, without_times
):
    best = state_of(run)[1]
    with monkeypatch.context() as patch:
        signal_at(at)
        with pytest.raises(Interrupted):
            train.run(longer, run)
        patch.undo()
    found = checkpoints.newest(run / checkpoints.FOLDER).progress
    assert (found.finished, found.epoch, found.batch > 0) == (False, EPOCHS, True)
    assert state_of(run)[1] == best  # what the shorter run had found is still there
    with pytest.raises(InputError, match=r"train\.epochs: 3 -> 2"):
        train.run(config, run)
    monkeypatch.undo()
    train.run(longer, run)
    assert_alike(run, whole, without_times)


def test_an_extension_that_cannot_begin_costs_nothing(run, config, longer, tmp_path, monkeypatch):
    metrics = (run / "metrics.jsonl").read_bytes()
    missing = replace(longer, {"data.data_dir": str(tmp_path / "none")})
    with pytest.raises(InputError, match="is no folder"):
        train.run(missing, run)
    assert (run / "metrics.jsonl").read_bytes() == metrics

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    # After all that comes before the first step.
    monkeypatch.setattr("rnn_jax.train.epoch.train", killed)
    with pytest.raises(KeyboardInterrupt):
        train.run(longer, run)
    assert b'"test"' not in (run / "metrics.jsonl").read_bytes()
    train.run(config, run)  # still finished
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert identity.read_identity(run, tasks.reader()).config == config


def test_what_early_stopping_has_ended_stays_ended(config, tmp_path, without_times):
    # Nothing is learned, so no epoch is better than the first.
    changes = {"train.patience": 1, "optimizer.learning_rate": 0.0, "train.epochs": 3}
    stopped = replace(config, changes)
    first = train.run(stopped, tmp_path / "run")
    assert first.history[-2]["epoch"] == 2
    display = Lines()
    more = train.run(replace(stopped, {"train.epochs": 9}), tmp_path / "run", display=display)
    assert more.line == first.line
    assert any(
        "was stopped early after epoch 2 (--config.train.patience=1), so that 9 epochs instead of 3"
        in line
        for line in display.lines
    )
    assert "Stopped early" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_without_a_best_epoch_is_extended_without_one(config, tmp_path, monkeypatch):
    """Its test took the last parameters; they are not the best from then on."""
    from rnn_jax.train import epoch

    measure = epoch.measure

    def without_loss(plan, session, standing, split):
        record, outputs = measure(plan, session, standing, split)
        return record | ({"loss": float("nan")} if split == "validation" else {}), outputs

    monkeypatch.setattr(epoch, "measure", without_loss)
    skipping = replace(config, {"train.non_finite": "skip", "train.epochs": 1})
    first = train.run(skipping, tmp_path / "run")
    second = train.run(replace(skipping, {"train.epochs": 2}), tmp_path / "run")
    other = train.run(replace(skipping, {"train.epochs": 2}), tmp_path / "other")
    same = lambda a, b: all(
        (x == y).all() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )
    assert not same(first.params, second.params)
    assert same(second.params, other.params)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.epochs": 1}, r"another config \(train.epochs: 2 -> 1\)"),
        ({"train.epochs": 3, "train.seed": 4}, "another config .*train.seed: 0 -> 4"),
    ],
)
def test_only_more_of_the_same_is_an_extension(run, config, changes, words):
    with pytest.raises(InputError, match=words):
        train.run(replace(config, changes), run)
    assert train.run(config, run).history[-1]["split"] == "test"


def test_a_schedule_over_all_epochs_cannot_be_extended(launch, small, tmp_path):
    cosine = [*small, "--config.optimizer.schedule=cosine", "--config.train.epochs=1"]
    assert launch("--experiment=masked_rnn", *cosine)[0] == 0
    code, out, err = launch("--experiment=masked_rnn", *cosine, "--config.train.epochs=2")
    assert (code, out) == (2, "")
    assert err == (
        f"launch.py: {tmp_path / 'run'} holds a run of 1 epochs that cannot be extended to 2: "
        "--config.optimizer.schedule=cosine depends on how many there are; choose another "
        "--workdir, or --overwrite\n"
    )


def test_a_trial_keeps_the_epochs_that_its_name_stands_for(run, config, longer, tmp_path):
    (tmp_path / "sweep" / "trials").mkdir(parents=True)
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"format": 1}))
    trial = shutil.copytree(run, tmp_path / "sweep" / "trials" / "0123")
    with pytest.raises(InputError, match="it is a sweep's trial, named by its config"):
        train.run(longer, trial)
    assert train.run(config, trial).history[-1]["split"] == "test"


def test_the_command_line_extends(launch, small, tmp_path):
    code, _, err = launch("--experiment=masked_rnn", *small, "--config.train.epochs=1")
    assert code == 0, err
    code, out, err = launch("--experiment=masked_rnn", *small)  # two epochs
    assert code == 0, err
    assert f"extending the run in {tmp_path / 'run'} from 1 to 2 epochs" in out
    assert "epoch 2/2" in out
    assert "epoch 1/2" not in out
    assert rnn_jax.load(tmp_path / "run").run.config.train.epochs == 2


@pytest.mark.parametrize(
    ("changes", "tied"),
    [
        ({}, None),
        ({"optimizer.warmup_steps": 10**6}, None),
        ({"optimizer.schedule": "cosine"}, "schedule=cosine"),
        ({"optimizer.embedding_update": "delayed"}, None),
        ({"optimizer.embedding_update": "delayed", "optimizer.warmup_steps": 10**5}, "delayed"),
        ({"optimizer.embedding_update": "delayed", "optimizer.b2": 0.9999}, "delayed"),
    ],
)
def test_what_depends_on_the_length_of_a_run(changes, tied):
    """The optimizer's numbers are those of a longer run, but where it says that they are not."""
    from rnn_jax.optim import updates

    optimizer = replace(rnn_jax.Config(), changes).optimizer
    said = optimizer.tied_to_length()
    assert (said is None) == (tied is None)
    assert tied is None or tied in said
    short, long = (updates.hyperparameters(optimizer, steps) for steps in (70_000, 140_000))
    alike = jax.tree.structure(short) == jax.tree.structure(long) and all(
        np.array_equal(one, other)
        for one, other in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True)
    )
    assert alike == (tied is None)
