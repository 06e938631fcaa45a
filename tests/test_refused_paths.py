"""Paths that the system refuses, and what stands in a file's place: one line, and nothing lost."""

import contextlib
import os
import pathlib
import shutil

import faults
import pytest

from rnn_jax.commands import experiments
from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints
from rnn_jax.system import files

EXPERIMENT = "--experiment=masked_rnn"
LONG = ("a" * 300, "/".join(["a" * 200] * 30))


@pytest.fixture(scope="module")
def options(csv_folder):
    return [
        EXPERIMENT, "--config.data.source=csv", f"--config.data.data_dir={csv_folder}",
        "--config.data.vocab_size=100", "--config.data.max_length=16", "--config.train.epochs=2",
        "--config.train.batch_size=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    import launch

    folder = tmp_path_factory.mktemp("trained") / "run"
    assert launch.main(["launch.py", *options, f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture
def finished(trained, tmp_path):
    """The folder of a run that has ended."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def refused(launch):
    """`refused(*arguments, words=...)`: the program ends with one line about its input."""

    def check(*arguments, words):
        code, _, err = launch(*arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert words in err
        assert len(err) < 1000
        assert err[:-1].isprintable()

    return check


@contextlib.contextmanager
def closed(path, mode=0):
    """What stands at a path may not be used for a while."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        with faults.permissions_bind():
            yield
    finally:
        path.chmod(before)


def contents(folder):
    """Each file of a folder, but for those that every start writes anew."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def newest_checkpoint(folder):
    """How many there are depends on how long writing takes."""
    return max((folder / "checkpoints").iterdir())


@pytest.mark.parametrize("mode", ["evaluate", "predict", "train"])
@pytest.mark.parametrize(
    ("what", "bits"),
    [
        (".", 0),
        (".", 0o400),
        ("checkpoints", 0),
        ("checkpoints", 0o400),
        ("checkpoints/NEWEST", 0),
        ("checkpoints/NEWEST/digests.json", 0),
        ("checkpoints/NEWEST/best", 0),
        ("checkpoints/NEWEST/best", 0o400),
    ],
)
def test_a_run_that_may_not_be_read_is_one_line(refused, options, finished, what, bits, mode):
    before = contents(finished)
    what = what.replace("NEWEST", newest_checkpoint(finished).name)
    flags = {"train": options, "predict": ["--text=a cat"]}.get(mode, [])
    with closed(finished / what, bits):
        refused(f"--mode={mode}", *flags, f"--workdir={finished}", words="(Permission denied")
    assert contents(finished) == before


@pytest.mark.parametrize("what", [".", ".lock"])
def test_a_run_that_may_not_be_written_is_read_all_the_same(
    launch, refused, options, finished, what
):
    before = contents(finished)
    with closed(finished / what, 0o500 if what == "." else 0o400):
        for more in ([], ["--overwrite"], ["--config.train.epochs=3"]):
            words = f"cannot write to the run folder {finished} (Permission denied"
            refused(*options, *more, f"--workdir={finished}", words=words)
        assert launch("--mode=evaluate", f"--workdir={finished}")[0] == 0
    assert contents(finished) == before


def test_an_overwrite_that_cannot_clear_the_folder_leaves_it_whole(refused, options, finished):
    before = contents(finished)
    with closed(finished / "tensorboard", 0o500):
        refused(*options, "--overwrite", f"--workdir={finished}", words="(Permission denied")
    assert contents(finished) == before


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", [".", "train.csv", "test.csv", "classes.txt"])
def test_data_that_may_not_be_read_is_one_line(
    refused, options, csv_folder, tmp_path, what, stream
):
    data = shutil.copytree(csv_folder, tmp_path / "data")
    flags = [
        f"--config.data.data_dir={data}", f"--config.data.stream={stream}",
        f"--config.data.cache_dir={tmp_path / 'cache'}", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    with closed(data / what):
        refused(*options, *flags, words="Permission denied")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize(
    "flag", ["workdir", "config.data.data_dir", "config.data.cache_dir", "config.model.vectors"]
)
def test_a_path_that_is_too_long_is_one_short_line(refused, options, tmp_path, flag, name):
    stream = ["--config.data.stream=true"] * (flag == "config.data.cache_dir")
    workdir = [f"--workdir={tmp_path / 'run'}"]
    refused(*options, *workdir, *stream, f"--{flag}={tmp_path / name}", words="File name too long")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("character", ["\0", "\udcff", "\x1b[31m", "\n"])
@pytest.mark.parametrize("sweep", [[], ["--sweep=train.seed=0..1"]])
def test_paths_are_text_that_can_be_shown(refused, options, tmp_path, character, sweep):
    name = tmp_path / f"a{character}b"
    refused(*options, *sweep, f"--workdir={name}", words="is no valid UTF-8 or has control")
    flags = [f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={name}"]
    refused(*options, *sweep, *flags, words="--config.data.cache_dir must be text in UTF-8")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["train", "sweep"])
def test_a_pipe_in_the_lock_s_place_does_not_hang(refused, options, tmp_path, mode):
    os.mkfifo(tmp_path / (".sweep_lock" if mode == "sweep" else ".lock"))
    sweep = ["--sweep=train.seed=0..1"] if mode == "sweep" else []
    refused(*options, *sweep, f"--workdir={tmp_path}", words="it is no regular file")


@pytest.mark.parametrize("what", ["pipe", "link", "file"])
def test_what_a_write_finds_in_its_way_is_removed(tmp_path, what):
    other, part = tmp_path / "other", tmp_path / "metrics.jsonl.part"
    other.write_text("mine")
    if what == "pipe":
        os.mkfifo(part)
    elif what == "link":
        part.symlink_to(other)
    else:
        part.write_text("half")
    files.write_atomically(tmp_path / "metrics.jsonl", "whole")
    assert (tmp_path / "metrics.jsonl").read_text() == "whole"
    assert other.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "other"]


def test_a_file_goes_and_so_does_a_link_but_not_what_it_leads_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "folder")
    (tmp_path / "file").touch()
    for name in ("link", "folder", "file", "nothing"):
        files.remove(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(finished):
    newest = newest_checkpoint(finished)
    with closed(newest), pytest.raises(PermissionError):
        checkpoints.newest(finished / "checkpoints", set_aside=True)
    assert newest.is_dir()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder of experiments that is imported from."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "experiments"


def test_a_pipe_among_the_experiments_stops_nobody(written):
    (written / "good.py").write_text("")
    os.mkfifo(written / "pipe.py")
    known = experiments.names(written.parent)
    assert list(known) == ["good", "pipe"]
    assert "no regular file" in known["pipe"]
    with pytest.raises(InputError, match=r"experiments/pipe.py: .*no regular file"):
        experiments.load("pipe", written.parent)


def test_experiments_that_may_not_be_read_are_not_called_unknown(written):
    (written / "good.py").write_text("")
    with closed(written), pytest.raises(PermissionError):
        experiments.load("good", written.parent)
    experiments._names.cache_clear()
    with closed(written / "good.py"), pytest.raises(InputError, match="Permission denied"):
        experiments.load("good", written.parent)


def test_a_trial_that_may_not_be_read_has_failed(finished):
    from rnn_jax.sweeps import outcomes

    trial = finished
    assert outcomes.read(trial).status == outcomes.FINISHED
    with closed(trial):
        found = outcomes.read(trial)
    assert (found.status, found.history) == (outcomes.FAILED, ())
    assert "Permission denied" in found.reason


def test_a_pipe_in_the_place_of_failure_json_does_not_hang(tmp_path):
    from rnn_jax.sweeps import outcomes

    os.mkfifo(tmp_path / "failure.json")
    assert outcomes.read(tmp_path).reason == "failure.json cannot be read"
