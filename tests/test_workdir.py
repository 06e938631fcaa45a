"""The run folder: who may write there, and what is made of what stands in it."""

import json
import os
import shutil
import subprocess
import sys

import faults
import pytest

from rnn_jax import Config, tasks
from rnn_jax.config import InputError, replace
from rnn_jax.runs import folder as folder_lib
from rnn_jax.runs import identity as identity_lib
from rnn_jax.runs import records
from rnn_jax.runs.identity import Identity
from rnn_jax.system import files

CONFIG = replace(Config(experiment="test"), {"data.take": 7})
FACTS = {"classes": ("a", "b")}
READER = tasks.reader()
RECORD = {"step": 3, "epoch": 1, "split": "train", "loss": 0.5, "gradient_norm": 1.0, "skipped": 0}


def claim(path, config=CONFIG, **options):
    with folder_lib.claim(path, config, FACTS, READER, {"kernel": "scan"}, **options) as claimed:
        return claimed


def names(path):
    return sorted(file.name for file in path.iterdir() if file.name != ".lock")


@pytest.fixture
def run(tmp_path):
    """A folder with all that a run writes, but for real checkpoints."""
    folder = tmp_path / "run"
    claim(folder)
    for name in ("metrics.jsonl", "vocabulary.json", "report.html", "failure.json"):
        (folder / name).write_text("old")
    for name in ("tensorboard", "checkpoints/000001.part/state"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("old")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_a_failed_start_leaves_no_folder_that_was_not_there(launch, tmp_path):
    missing = (
        "--experiment=masked_rnn", "--config.data.source=csv",
        f"--config.data.data_dir={tmp_path / 'none'}",
    )  # fmt: skip
    for more in ([], ["--sweep=train.seed=0..1"]):
        assert launch(*missing, *more, f"--workdir={tmp_path / 'new' / 'run'}")[0] == 2
        assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("mine")
    assert launch(*missing, f"--workdir={tmp_path / 'old'}")[0] == 2
    assert (tmp_path / "old" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("", "--workdir is empty"),
        ("file", "/file is a file, not a folder"),
        ("file/run", "/file is a file, not a folder"),
        ("dangling", "/dangling is a link that leads nowhere"),
        ("dangling/run", "/dangling is a link that leads nowhere"),
        ("circle", "/circle is a link that leads nowhere"),
        ("run\udcff", "is no valid UTF-8"),
        ("run\0", "is no valid UTF-8"),
        ("a" * 300, "File name too long"),
    ],
)
def test_a_workdir_that_can_be_no_folder_is_one_line(launch, tmp_path, small, mode, where, words):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = sorted(tmp_path.rglob("*"))
    options = small[:-1] if mode == "train" else []
    workdir = f"{tmp_path}/{where}" if where else ""
    code, out, err = launch(
        "--experiment=masked_rnn", f"--mode={mode}", *options, f"--workdir={workdir}"
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_a_start_that_fails_later_leaves_nothing_unless_something_was_learned(tmp_path, error):
    path = tmp_path / "above" / "run"

    def fail(metrics):
        with folder_lib.claim(path, CONFIG, FACTS, READER, {"kernel": "scan"}) as claimed:
            (claimed.folder / "metrics.jsonl").write_text(metrics)
            raise error("no")

    for metrics in ("", "{}"):
        with pytest.raises(error):
            fail(metrics)
        assert path.exists() == path.parent.exists() == bool(metrics)


def test_a_folder_that_was_there_stays(tmp_path):
    def fail(path):
        with files.made(path, lambda: False):
            (tmp_path / "a" / "other").mkdir(exist_ok=True)
            raise InputError("no")

    for path in (tmp_path / "a" / "b", tmp_path / "a"):
        with pytest.raises(InputError):
            fail(path)
        assert names(tmp_path / "a") == ["other"]


def test_config_json_says_it_all(tmp_path):
    claim(tmp_path)
    identity = identity_lib.read_identity(tmp_path, READER)
    assert (identity.config, identity.facts) == (CONFIG, FACTS)
    assert identity.environment["threads"] == len(os.sched_getaffinity(0))
    assert {"jax", "python", "device", "rnn_jax", "kernel"} <= set(identity.environment)
    assert Identity.from_json(identity.to_json(), READER) == identity


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Config(experiment="other"), "experiment 'test', not 'other'"),
        (replace(CONFIG, {"train.seed": 1, "model.hidden": 5}), "train.seed: 0 -> 1"),
    ],
)
def test_another_experiment_or_config_is_refused(run, other, words):
    with pytest.raises(InputError, match=words):
        claim(run, other)
    assert (run / "metrics.jsonl").read_text() == "old"


def test_options_that_change_no_number_may_be_others(run):
    changes = {"train.checkpoint_steps": 5, "train.check_numerics": True, "data.data_dir": "/x"}
    claim(run, replace(CONFIG, changes))
    assert identity_lib.read_identity(run, READER).config.train.checkpoint_steps == 5


def test_a_config_of_another_version_is_refused(run):
    content = json.loads((run / "config.json").read_text())
    content["config"]["model"]["heads"] = 3
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"does not fit this version.*'model.heads'.*--overwrite"):
        claim(run)


@pytest.mark.parametrize("keep", [0, 1, 100, -3])
def test_half_a_config_without_checkpoints_is_refused_but_may_be_overwritten(run, keep):
    raw = (run / "config.json").read_bytes()
    (run / "config.json").write_bytes(raw[:keep])
    with pytest.raises(InputError, match=r"config.json is not what .* --overwrite"):
        claim(run)
    assert claim(run, overwrite=True).found is None
    assert (run / "config.json").read_bytes() == raw


def test_a_pipe_or_a_giant_in_the_place_of_config_json_is_refused(run, monkeypatch):
    monkeypatch.setattr(identity_lib, "MAX_CONFIG", 100)
    with pytest.raises(InputError, match=r"config\.json"):
        claim(run)
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    with pytest.raises(InputError, match=r"config\.json"):
        claim(run)


def test_overwrite_removes_what_a_run_writes_and_nothing_else(run):
    claimed = claim(run, replace(CONFIG, {"train.seed": 1}), overwrite=True)
    assert names(run) == ["config.json", "notes.txt"]
    assert claimed.found is None


def test_files_that_no_run_wrote_are_left_alone(run):
    (run / "config.json").unlink()
    before = names(run)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="no run wrote it"):
            claim(run, overwrite=overwrite)
    (run / "config.json").write_text('{"architectures": ["another program\'s"]}')
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"config\.json"):
            claim(run, overwrite=overwrite)
    (run / "config.json").unlink()
    assert names(run) == before


def test_a_kill_at_any_moment_of_an_overwrite_leaves_no_mixture(run, tmp_path):
    moments = []

    def look():
        moments.append(tmp_path / str(len(moments)))
        shutil.copytree(run, moments[-1])

    other = replace(CONFIG, {"train.seed": 1})
    before = set(names(run))
    with faults.at_every_moment(run, look):
        claim(run, other, overwrite=True)
    assert len(moments) > 15
    for copy in moments:
        left = set(names(copy))
        if (copy / "checkpoints").exists():
            assert left == before  # nothing has happened yet
        else:  # nothing to continue from by mistake, and never files without a config
            rest = left - {"notes.txt", ".overwritten", "config.json.part"}
            assert "config.json" in rest or not rest
        assert claim(copy, other, overwrite=True).found is None
        assert names(copy) == ["config.json", "notes.txt"]


HOLDER = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_write_to_one_folder(run):
    program = [sys.executable, "-c", HOLDER, str(run / ".lock")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        for overwrite in (False, True):
            with pytest.raises(InputError, match="another process is training"):
                claim(run, overwrite=overwrite)
        assert (run / "metrics.jsonl").read_text() == "old"
        holder.kill()  # a lock does not outlive its process
    claim(run)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch):
    # Root may write to any folder, so the fault is injected where files are written.
    claim(tmp_path / "run")

    def replace(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(InputError, match=r"cannot write .* \(Read-only file system\)"):
        claim(tmp_path / "run")


def test_a_read_only_folder_is_refused_in_one_line(run):
    run.chmod(0o500)
    (run / ".lock").unlink(missing_ok=True)
    with (
        faults.permissions_bind(),
        pytest.raises(InputError, match="cannot write to the run folder"),
    ):
        claim(run)
    run.chmod(0o700)


def test_metrics_are_json_for_every_reader(tmp_path):
    history = [RECORD, RECORD | {"loss": float("nan"), "gradient_norm": float("inf")}]
    records.write_history(tmp_path, history[:1])
    records.append_record(tmp_path, history[1])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()

    def refuse(word):
        raise AssertionError(word)

    one, other = (json.loads(line, parse_constant=refuse) for line in lines)
    assert one == RECORD
    assert other == RECORD | {"loss": None, "gradient_norm": None}


def test_a_half_written_line_is_gone_when_the_run_goes_on(tmp_path):
    records.write_history(tmp_path, [RECORD])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "ep')
    records.write_history(tmp_path, [RECORD])
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == RECORD


def test_tensorboard_has_every_scalar_once(tmp_path):
    for _ in range(2):  # the second time in place of an interrupted run's
        scalars = records.Scalars(tmp_path, [RECORD])
        scalars.add(RECORD | {"split": "validation", "step": 4})
        scalars.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    raw = file.read_bytes()
    assert raw.count(b"train/loss") == raw.count(b"validation/loss") == 1


def test_a_full_disk_stops_tensorboard_s_scalars_with_an_error_and_no_hang(tmp_path):
    scalars = records.Scalars(tmp_path, [])
    with faults.full_disk(100):
        with pytest.raises(OSError, match="File too large"):  # noqa: PT012
            for _ in range(30):
                scalars.add(RECORD)
        with pytest.raises(OSError, match="File too large"):
            records.write_history(tmp_path, [RECORD] * 5)
    assert names(tmp_path) == ["tensorboard"]  # no half file is left to fill the disk


def test_files_are_read_only_up_to_their_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        files.read_bounded(tmp_path / "file", 4)
    with pytest.raises(ValueError, match="no regular file"):
        files.read_bounded("/dev/zero", 4)
