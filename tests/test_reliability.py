"""A run loses nothing and never lies: damage, full disks, changed data, bad numbers, kills."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import faults
import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.runs import checkpoints
from rnn_jax.runs import identity as identity_lib
from rnn_jax.system.display import Display
from rnn_jax.train import loop
from rnn_jax.train.evaluate import evaluate_test
from rnn_jax.train.opened import open_run

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def compile_once():
    """Runs of one config share their compiled programs, as they do for users."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 0.0)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="module")
def config(config):
    return replace(config, {"train.checkpoint_steps": 4})


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The folder of a finished run. Tests copy it."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train.run(config, folder)
    return folder


@pytest.fixture
def run(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


class Lines(Display):
    """Keeps what is printed."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def bits(folder):
    """A digest of the parameters that the run found."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(rnn_jax.load(folder).run.params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def newest(folder):
    return checkpoints.newest(folder / "checkpoints")


def damage(folder, keep=0):
    """Flips a bit in each checkpoint but the oldest `keep`."""
    for path in sorted((folder / "checkpoints").iterdir())[keep:]:
        file = max(path.rglob("*"), key=lambda file: file.is_file() and file.stat().st_size)
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 16
        file.write_bytes(raw)


def test_a_damaged_checkpoint_costs_the_time_since_the_one_before(
    config, run, undisturbed, tmp_path, csv_folder, monkeypatch, caplog
):
    damage(run, keep=1)
    # Meanwhile the data has moved, and the run goes on elsewhere: neither changes a number here.
    moved = shutil.copytree(csv_folder, tmp_path / "moved")
    elsewhere = identity_lib.environment({"kernel": "fused"}) | {"threads": 96}
    monkeypatch.setattr(loop, "environment", lambda chosen: elsewhere)
    display = Lines()
    train.run(replace(config, {"data.data_dir": str(moved)}), run, display=display)
    assert caplog.text.count("is not used: damaged files: state/") == 2
    assert "continuing the run" in display.lines[2]
    assert f"threads {len(os.sched_getaffinity(0))} -> 96" in display.lines[0]
    (continued,) = identity_lib.read_identity(run, tasks.reader()).continued
    assert continued["environment"] == elsewhere
    assert records(run) == records(undisturbed)
    assert bits(run) == bits(undisturbed)
    left = {path.name for path in (run / "checkpoints").iterdir()}
    assert len([name for name in left if name.endswith(".damaged")]) == 2


def test_every_other_file_is_made_anew_from_the_checkpoint(config, run, undisturbed, caplog):
    raw = (run / "config.json").read_bytes()
    (run / "config.json").write_bytes(raw[: len(raw) // 2])
    (run / "vocabulary.json").write_text((run / "vocabulary.json").read_text().replace("c", "k"))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "ep')
    assert rnn_jax.load(run)("the cat") == rnn_jax.load(undisturbed)("the cat")  # as they are
    train.run(config, run)
    assert "it is written anew from checkpoint" in caplog.text
    for name in ("config.json", "vocabulary.json", "metrics.jsonl"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes()


def test_where_no_checkpoint_is_good_nothing_is_done(config, run):
    damage(run)
    (run / "checkpoints" / "000001.part").mkdir()
    metrics = (run / "metrics.jsonl").read_bytes()
    for use in (lambda: train.run(config, run), lambda: rnn_jax.load(run)):
        with pytest.raises(InputError, match=r"every checkpoint .* is damaged"):
            use()
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_checkpoints_of_another_run_are_refused(config, run):
    # config.json says one thing, the checkpoints another: they were copied from elsewhere.
    other = replace(config, {"train.seed": 1})
    content = json.loads((run / "config.json").read_text())
    content["config"]["train"]["seed"] = 1
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"train\.seed: 0 -> 1"):
        train.run(other, run)


def test_data_that_changed_is_refused(config, run, tmp_path, csv_folder):
    damage(run, keep=2)
    moved = shutil.copytree(csv_folder, tmp_path / "moved")
    edited = (moved / "test.csv").read_text().replace("rain", "snow", 1)
    (moved / "test.csv").write_text(edited)
    before = newest(run)
    with pytest.raises(InputError, match="the data is no longer what the run"):
        train.run(replace(config, {"data.data_dir": str(moved)}), run)
    assert newest(run) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax' event loop
def test_a_full_disk_stops_the_run_with_one_line_and_costs_nothing_saved(config, run):
    damage(run, keep=1)
    before = newest(run)
    largest = max(file.stat().st_size for file in before.path.rglob("*"))
    with (
        faults.full_disk(largest - 1),
        pytest.raises(train.RunError, match=r"cannot write .*checkpoints .*too large"),
    ):
        train.run(replace(config, {"train.checkpoint_steps": 1}), run)
    assert newest(run) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_line_for_who_reads(launch, small, tmp_path):
    flags = ["--experiment=masked_rnn", *small, "--config.train.checkpoint_steps=1"]
    with faults.full_disk(4000):  # room for the texts, none for the arrays
        code, _, err = launch(*flags)
    assert code == 1
    assert err.count("\n") == 1, err
    assert err.startswith(f"launch.py: cannot write {tmp_path / 'run' / 'checkpoints'} (File too")


def test_evaluation_and_prediction_write_nothing(run):
    damage(run, keep=2)
    files = lambda: {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}
    before = files()
    rnn_jax.load(run)("the cat")
    assert evaluate_test(open_run(run))[0]["examples"] == 10
    assert files() == before  # the folders' times too: they change with every name in them


def test_a_finished_run_s_report_and_scalars_are_made_anew(config, run, tmp_path):
    page, config_file = (run / "report.html").read_bytes(), (run / "config.json").read_bytes()
    (run / "report.html").unlink()
    shutil.rmtree(run / "tensorboard")
    train.run(config, run)
    assert (run / "report.html").read_bytes() == page
    assert (run / "config.json").read_bytes() == config_file
    (events,) = (run / "tensorboard").iterdir()
    assert events.stat().st_size > 0
    # Without its data the run has its result still, and says what it lacks.
    (run / "report.html").unlink()
    moved = shutil.copytree(config.data.data_dir, tmp_path / "moved")
    (moved / "test.csv").write_text((moved / "test.csv").read_text().replace("rain", "snow"))
    display = Lines()
    result = train.run(replace(config, {"data.data_dir": str(moved)}), run, display=display)
    assert result.history[-1]["split"] == "test"
    assert "report.html is missing and cannot be made anew: the data is" in display.lines[-1]
    assert not (run / "report.html").exists()


def test_a_step_that_is_not_finite_can_be_seen_again(config, tmp_path):
    config = replace(config, {"optimizer.learning_rate": 1e38, "optimizer.clip_norm": 0.0})
    with pytest.raises(train.RunError, match=r"step \d+ has a loss or gradient .*first .*example"):
        train.run(config, tmp_path)
    first = json.loads((tmp_path / "failure.json").read_text())
    assert first["split"] == "train"
    assert first["loss"] in ("nan", "inf")
    assert first["parameter_norms"]["head/kernel"] == "inf"
    assert set(first["gradient_norms"]) == set(first["parameter_norms"])
    assert len(first["examples"]) == len(first["labels"]) == len(first["tokens"]) > 0
    assert all(isinstance(word, str) for words in first["tokens"] for word in words)
    assert first["first"]["example"] in first["examples"]
    # The checkpoint stands right before that step: the next start fails there again, and adds none.
    progress = newest(tmp_path).progress
    assert (progress.epoch, progress.batch) == (0, first["batch"])
    before = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(train.RunError):
        train.run(replace(config, {"train.check_numerics": True}), tmp_path)
    assert json.loads((tmp_path / "failure.json").read_text()) == first
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


def test_a_validation_loss_that_is_not_finite_stops_the_run(config, tmp_path, monkeypatch):
    from rnn_jax.train import epoch

    evaluate = epoch.evaluate_split

    def overflow(*arguments, **options):
        figures, outputs = evaluate(*arguments, **options)
        return figures | {"loss": float("nan")}, outputs * [[1], [np.nan], [1], [1]]

    monkeypatch.setattr(epoch, "evaluate_split", overflow)
    with pytest.raises(train.RunError, match="validation loss of epoch 1 is not finite"):
        train.run(config, tmp_path)
    assert json.loads((tmp_path / "failure.json").read_text())["examples"] == [1]


def test_looking_at_every_step_changes_no_number(config, undisturbed, tmp_path):
    changes = {"train.check_numerics": True, "train.epochs": 1}
    train.run(replace(config, changes), tmp_path / "run")
    assert records(tmp_path / "run")[:2] == records(undisturbed)[:2]


def start(arguments, cache):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    program = [sys.executable, str(ROOT / "launch.py"), *arguments]
    return subprocess.Popen(
        program, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_run_that_is_killed_in_its_writes_and_terminated_ends_as_one_that_was_not(
    csv_folder, tmp_path
):
    """The program itself, in processes of its own: same seed, same bits, whatever happens to it."""
    flags = [
        "--experiment=masked_rnn",
        "--config.data.source=csv",
        f"--config.data.data_dir={csv_folder}",
        "--config.data.vocab_size=100",
        "--config.data.max_length=16",
        "--config.train.batch_size=4",
        "--config.train.epochs=40",
        "--config.train.patience=0",
        "--config.train.checkpoint_steps=16",
    ]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    calm = start([*flags, f"--workdir={alone}"], tmp_path / "cache")
    process = start([*flags, f"--workdir={killed}"], tmp_path / "cache")

    def writing():
        return any(killed.glob("checkpoints/*2.part"))

    wait_for(writing, process)
    process.kill()
    process.communicate()
    assert writing()  # it was killed in the middle of a write
    out, err = calm.communicate(timeout=60)
    assert calm.returncode == 0, err
    assert out.splitlines()[-1].startswith("test accuracy")

    process = start([*flags, f"--workdir={killed}"], tmp_path / "cache")
    wait_for(lambda: any(killed.glob("checkpoints/*4")), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    assert "continuing the run" in out
    assert err.splitlines()[-1].startswith("stopped by SIGTERM; everything is saved in")

    process = start([*flags, f"--workdir={killed}"], tmp_path / "cache")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert records(killed) == records(alone)
    assert bits(killed) == bits(alone)


def test_sigterm_before_the_training_begins_ends_like_ctrl_c(launch, monkeypatch):
    from rnn_jax import commands

    # In a script's background SIGINT is ignored; here it is not, whoever runs the tests.
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            monkeypatch.setattr(
                commands,
                "run",
                lambda *parsed, number=number, **options: os.kill(os.getpid(), number),
            )
            before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
            assert launch()[::2] == (code, "launch.py: stopped; whatever was saved before stays\n")
            assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    finally:
        signal.signal(signal.SIGINT, found)
