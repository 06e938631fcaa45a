"""Folders that are mirrored to an object store: whole or not there, restored, at no cost to who
trains."""

import json
import shutil
import signal
import sys
import threading
import time

import jax
import numpy as np
import pytest
from memory_store import Killed, Memory, kill_at, store

import rnn_jax
from rnn_jax import sweeps, tasks, train
from rnn_jax.config import InputError, replace
from rnn_jax.runs import checkpoints, copies, folder, mirror, restored
from rnn_jax.runs.mirror import Mirror
from rnn_jax.runs.progress import Progress
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.watch import Watch
from rnn_jax.system import store as store_lib
from rnn_jax.system.display import Display
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.system.store import StoreError

LAYOUT = folder.layout(tasks.reader())


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(mirror, "LOOKS", 0.01)
    monkeypatch.setattr(mirror, "LAST_PAUSE", 0.01)
    monkeypatch.setattr(mirror, "PAUSES", (0.01,))


class Lines(Display):
    """Keeps what is printed."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def line(self, text):
        self.lines.append(text)


# Runs that nobody trained: what their checkpoints hold is of no matter to a mirror.


def saved(run, epoch, number=None):
    """One more checkpoint in a run's folder, and the files that are made from it."""
    number = number or checkpoints.next_number(run / "checkpoints")
    part = run / "checkpoints" / f"{number:06d}.part"
    (part / "state").mkdir(parents=True)
    for name in ("state/a", "state/b"):
        (part / name).write_text(f"{name} of {epoch}")
    for name, text in (
        ("config.json", "{}"),
        ("progress.json", Progress(epoch=epoch).to_json()),
    ):
        (part / name).write_text(text)
    (part / "digests.json").write_text(json.dumps(checkpoints._digests(part)))
    part.rename(part.with_suffix(""))
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text(f"{epoch}")


def send(memory, run, has):
    copies.send(store(memory), run, LAYOUT, [""], [""], has)


def fetch(memory, run):
    """What a fresh machine gets."""
    return restored.fetch(store(memory), store(memory).sizes(), run, LAYOUT)


def epoch_of(run):
    found = checkpoints.newest(run / "checkpoints")
    return found and found.progress.epoch


def test_a_kill_at_any_moment_of_an_upload_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    run, memory, has = tmp_path / "run", Memory(), {}
    for epoch in (1, 2):
        saved(run, epoch)
        send(memory, run, has)
    saved(run, 3)
    before, ends = dict(memory.objects), []
    for moment in range(1, 100):
        disturbed = Memory(kill_at(moment))
        disturbed.objects = dict(before)
        known = copies.there(store(disturbed).sizes())
        known[""].number = 2
        killed = False
        try:
            send(disturbed, run, known)
        except Killed:
            killed = True
        disturbed.before = lambda what, path: None
        fresh = tmp_path / f"fresh{moment}"
        fetch(disturbed, fresh)
        assert (fresh / "config.json").exists()
        ends.append(epoch_of(fresh))
        # Another machine goes on, and nothing of what was cut short stays.
        saved(fresh, 4)
        send(disturbed, fresh, fetch(disturbed, fresh)[0])
        left = copies.there(store(disturbed).sizes())[""]
        assert len(left.whole) == copies.KEEP
        assert set(left.objects) == left.whole
        last = tmp_path / f"last{moment}"
        fetch(disturbed, last)
        assert epoch_of(last) == 4
        if not killed:
            break
    assert not killed
    assert ends == sorted(ends)
    assert set(ends) == {2, 3}
    assert len(ends) > 10


def test_any_damage_to_any_object_is_found_and_costs_one_checkpoint(tmp_path, caplog):
    run, memory, has = tmp_path / "run", Memory(), {}
    for epoch in (1, 2):
        saved(run, epoch)
        send(memory, run, has)
    newest = [path for path in memory.objects if "checkpoints/000002" in path]
    assert len(newest) == 5
    for n, path in enumerate(newest):
        damaged = Memory()
        content = memory.objects[path]
        damaged.objects = memory.objects | {path: content[:-1] + bytes([content[-1] ^ 1])}
        fetch(damaged, tmp_path / f"flipped{n}")
        assert epoch_of(tmp_path / f"flipped{n}") == 1
        damaged.objects.pop(path)
        fetch(damaged, tmp_path / f"lost{n}")
        assert epoch_of(tmp_path / f"lost{n}") == 1
    assert "checkpoint 000002 in s3://bucket/run is not used: damaged files:" in caplog.text
    memory.objects = {
        path: b"" if path.endswith("state/a") else content
        for path, content in memory.objects.items()
    }
    with pytest.raises(InputError, match=r"every checkpoint in s3://bucket/run is damaged"):
        fetch(memory, tmp_path / "none")
    assert not (tmp_path / "none" / "checkpoints").exists()
    # A disk that has a good one needs none of these.
    fetch(memory, run)
    assert epoch_of(run) == 2


def test_of_two_machines_the_one_that_is_farther_counts(tmp_path):
    one, other, memory, has = tmp_path / "one", tmp_path / "other", Memory(), {}
    saved(one, 1)
    send(memory, one, has)
    saved(one, 2)  # never sent: the machine went away
    known, _ = fetch(memory, other)
    for epoch in (2, 3, 4):
        saved(other, epoch)
    send(memory, other, known)
    known, fetched = fetch(memory, one)  # and is back
    assert fetched[""].epoch == epoch_of(one) == 4
    assert checkpoints.names(one / "checkpoints") == ("000001", "000002", "000004")
    puts = []
    memory.before = lambda what, path: puts.append(path)
    send(memory, one, known)
    assert [path for path in puts if "checkpoints" in path] == []  # it has that one
    saved(one, 5)
    known, fetched = fetch(memory, one)
    assert (fetched, epoch_of(one)) == ({}, 5)
    send(memory, one, known)
    fetch(memory, tmp_path / "fresh")
    assert epoch_of(tmp_path / "fresh") == 5


def test_files_go_with_checkpoints_and_what_no_run_wrote_stays(tmp_path):
    run, memory, has = tmp_path / "run", Memory(), {}
    saved(run, 1)
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.1").write_text("1")
    (run / "notes.txt").write_text("mine")
    send(memory, run, has)
    names = set(store(memory).sizes())
    assert {"config.json", "metrics.jsonl", "tensorboard/events.1"} <= names
    assert not [name for name in names if "notes" in name or ".mirror" in name]
    memory.objects["bucket/run/notes.txt"] = b"theirs"
    memory.objects["bucket/run/tensorboard/../../../escape"] = b"hostile"
    memory.objects["bucket/run/tensorboard//tmp/escape"] = b"hostile"
    fresh = tmp_path / "fresh"
    known, _ = fetch(memory, fresh)
    found = {path.name for path in fresh.iterdir()}
    assert found == {"checkpoints", "config.json", "metrics.jsonl", "tensorboard"}
    assert not list(tmp_path.rglob("escape"))
    # As the start of a run does it: another file of events in the place of the old one.
    (fresh / "tensorboard" / "events.1").unlink()
    (fresh / "tensorboard" / "events.2").write_text("2")
    copies.send(store(memory), fresh, LAYOUT, [""], [], known)  # not without a checkpoint
    assert "tensorboard/events.2" not in store(memory).sizes()
    saved(fresh, 2)
    copies.send(store(memory), fresh, LAYOUT, [""], [], known)
    names = set(store(memory).sizes())
    assert "tensorboard/events.2" in names
    assert "tensorboard/events.1" not in names
    assert "notes.txt" in names


def test_a_checkpoint_that_the_run_removes_meanwhile_is_sent_whole(tmp_path):
    run, has = tmp_path / "run", {}
    saved(run, 1)

    def remove(what, path):
        shutil.rmtree(run / "checkpoints" / "000001", ignore_errors=True)

    memory = Memory(remove)
    send(memory, run, has)
    fetch(memory, tmp_path / "fresh")
    assert epoch_of(tmp_path / "fresh") == 1
    assert not (run / ".mirror").exists()


# The mirror of a folder in a process.


def opened(memory, run, say=lambda line: None):
    made = Mirror(store(memory), say)
    run.mkdir(exist_ok=True)
    made.restore(run, LAYOUT, lambda url, text: None)
    return made


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_store_that_fails_for_a_while_is_said_and_made_up_for(tmp_path):
    run, memory, lines = tmp_path / "run", Memory(), []
    made = opened(memory, run, lines.append)

    def refuse(what, path):
        raise PermissionError("who are you?\nsee the manual")

    with made.following(Request()):
        memory.before = refuse
        saved(run, 1)
        wait_for(lambda: lines)
        memory.before = lambda what, path: None
        wait_for(lambda: len(lines) == 2)
        assert len(copies.there(store(memory).sizes())[""].whole) == 1
    assert lines == [
        "the mirror is behind (who are you?): it will be tried again",
        "the mirror is up to date again",
    ]

    def fail(epoch, *errors):
        memory.before = lambda what, path: None
        with made.following(Request()):
            memory.before = refuse
            saved(run, epoch)
            for error in errors:
                raise error

    behind = r"everything is saved in .*run, but its mirror s3://bucket/run is behind \(who are"
    with pytest.raises(train.RunError, match=behind):
        fail(2)
    with pytest.raises(Interrupted):
        fail(3, Interrupted(signal.SIGTERM))  # stays what it is
    assert "is behind (who are you?); the same command tries again" in lines[-1]
    memory.before = lambda what, path: None
    with made.following(Request()):
        pass
    fetch(memory, tmp_path / "fresh")
    assert epoch_of(tmp_path / "fresh") == 3


def test_of_two_processes_on_one_mirror_the_first_stops(tmp_path):
    memory, request = Memory(), Request()
    one, run = opened(memory, tmp_path / "one"), tmp_path / "one"
    other = tmp_path / "other"

    def trained():
        with one.following(request):
            saved(run, 1)
            wait_for(lambda: copies.there(store(memory).sizes()))
            made = opened(memory, other)
            saved(run, 2)  # looking takes nothing away
            wait_for(lambda: copies.there(store(memory).sizes())[""].whole == {1, 2})
            with made.following(Request()):
                saved(run, 3)
                wait_for(lambda: request.signal is not None)
                saved(other, 2)
                wait_for(lambda: copies.there(store(memory).sizes())[""].whole == {2, 3})
            raise Interrupted(request.signal)  # as the loop does, after saving

    with pytest.raises(train.RunError, match=r"mirror s3://bucket/run belongs to another process"):
        trained()
    fetch(memory, tmp_path / "fresh")
    assert epoch_of(tmp_path / "fresh") == 2  # what the other one saved last


def test_what_no_mirror_wrote_is_refused_and_never_removed(tmp_path):
    for objects, message in (
        ({"bucket/run/notes.txt": b""}, "holds notes.txt but no mirror.json, so it is no mirror"),
        ({"bucket/run/mirror.json": b'{"format": 9}'}, "is not what this version of rnn_jax"),
        ({"bucket/run/mirror.json": b"["}, "is not what this version of rnn_jax"),
        ({"bucket/run/mirror.json": b'{"format": 1, "of": "sweep"}'}, "is the mirror of a sweep"),
    ):
        memory = Memory()
        memory.objects = dict(objects)
        for act in (
            lambda memory=memory: opened(memory, tmp_path / "run"),
            lambda memory=memory: Mirror(store(memory)).clear(LAYOUT),
        ):
            with pytest.raises(InputError, match=message):
                act()
        assert memory.objects == objects


# Addresses, and stores that do not answer.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with gs://, s3://, file://, not ''"),
        ("runs/x", "must begin with"),
        ("ftp://x/y", "must begin with"),
        ("s4://b", "did you mean 's3://'?"),
        ("s3://", "names no bucket"),
        ("gs:///", "names no bucket"),
        ("file:///", "names no folder"),
        ("file://here", "must name a folder from the root"),
        ("file:///a/../b", "must have no . and no .."),
        ("s3://b/\n", "must begin with"),
    ],
)
def test_a_wrong_address_is_one_line(url, message):
    assert message in store_lib.problem(url)
    with pytest.raises(InputError, match=r"^--mirror "):
        store_lib.open_store(url)


def test_without_the_extra_the_line_says_how_to_install_it(monkeypatch):
    for module, url in (("fsspec", "file:///x"), ("s3fs", "s3://b/x"), ("gcsfs", "gs://b/x")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(InputError, match=r"needs \w+: pip install 'rnn_jax\[mirror\]'"):
                store_lib.open_store(url)


def test_no_call_waits_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(store_lib, "LIMIT", 0.05)
    memory, gate = Memory(), threading.Event()
    memory.info = lambda path: gate.wait(20)
    with pytest.raises(StoreError, match=r"no answer within \d"):
        store(memory).read("x", 1)
    with pytest.raises(InputError, match=r"^--mirror=s3://bucket/run cannot be used \(no answer"):
        opened(memory, tmp_path / "run")
    gate.set()


def test_a_store_on_a_disk_has_objects_that_are_whole(tmp_path, monkeypatch):
    disk = store_lib.open_store(f"file://{tmp_path}/m")
    assert disk.sizes() == {}
    disk.write("a", b"1")
    (tmp_path / "x").write_bytes(b"22")
    disk.put({"b/c": tmp_path / "x"})
    (tmp_path / "m" / "half.part").write_bytes(b"")  # what a kill leaves
    assert disk.sizes() == {"a": 1, "b/c": 2}
    assert disk.read("b/c", 2) == b"22"
    assert disk.read("b/d", 2) is None
    with pytest.raises(StoreError, match="more than 1 bytes"):
        disk.read("b/c", 1)
    disk.get({"b/c": tmp_path / "y" / "z"}, 2)
    assert (tmp_path / "y" / "z").read_bytes() == b"22"
    disk.remove(["b/c", "nothing"])
    assert disk.sizes() == {"a": 1}
    assert not (tmp_path / "m" / "b").exists()
    assert disk.lies_in(tmp_path)
    assert not disk.lies_in(tmp_path / "other")


# Runs and sweeps.


@pytest.fixture(scope="module")
def short(config):
    return replace(config, {"train.epochs": 2, "train.checkpoint_steps": 4, "model.kernel": "scan"})


@pytest.fixture(scope="module")
def undisturbed(short, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    return path, train.run(short, path)


def same(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_a_run_goes_on_bit_for_bit_on_a_fresh_machine(
    short, undisturbed, tmp_path, without_times, monkeypatch, signal_at
):
    path, found = undisturbed
    address = f"file://{tmp_path}/mirror"
    run = tmp_path / "run"
    signal_at(7)
    with pytest.raises(Interrupted):
        train.run(short, run, mirror=address)
    monkeypatch.undo()
    shutil.rmtree(run)  # the machine is gone
    display = Lines()
    other = train.run(short, run, mirror=address, display=display)
    assert display.lines[0].startswith(f"restored from {address}: 1 epochs and 2 batches")
    assert without_times(run) == without_times(path)
    assert same(other.params, found.params)
    # A finished one gives its result on a third machine, and its report.
    shutil.rmtree(run)
    assert train.run(short, run, mirror=address).line == found.line
    assert (run / "report.html").exists()
    # What is mirrored is a run's folder.
    assert rnn_jax.load(tmp_path / "mirror")("the cat") == rnn_jax.load(path)("the cat")
    # Another run is refused before anything is touched, and may begin anew.
    changed = replace(short, {"train.seed": 1})
    shutil.rmtree(run)
    with pytest.raises(InputError, match=r"mirror holds a run with another config .*--mirror"):
        train.run(changed, run, mirror=address)
    assert not run.exists()
    train.run(changed, run, mirror=address, overwrite=True)
    shutil.rmtree(run)
    train.run(changed, run, mirror=address)
    with pytest.raises(InputError, match="holds a run with another config"):
        train.run(short, run, mirror=address)


def test_training_does_not_wait_for_the_store_and_its_end_does(short, tmp_path, monkeypatch):
    gate, seen = threading.Event(), []

    def slow(what, path):
        if "checkpoints" in path and not gate.is_set():
            gate.wait(110)

    memory, run = Memory(slow), tmp_path / "run"
    monkeypatch.setattr(store_lib, "open_store", lambda url: store(memory, url))
    display = Lines()

    def look():
        wait_for((run / "report.html").exists, 100)  # it may compile first
        time.sleep(0.1)
        seen.append(copies.there(store(memory, "s3://b/x").sizes()))
        gate.set()

    looker = threading.Thread(target=look)
    looker.start()
    train.run(short, run, mirror="s3://b/x", display=display)
    looker.join()
    assert seen == [{}]  # trained to the end while the first upload hung
    (copied,) = copies.there(store(memory, "s3://b/x").sizes()).values()
    restored.fetch(
        store(memory, "s3://b/x"), store(memory, "s3://b/x").sizes(), tmp_path / "f", LAYOUT
    )
    assert checkpoints.newest(tmp_path / "f" / "checkpoints").progress.finished
    assert copied.whole


def swept(config, path, address, request=None, watch=None):
    return sweeps.run(
        sweeps.Sweep("optimizer.learning_rate=[0.01,0.02,0.03]"), config, path,
        engine=local.make(Options(jobs=1)), watch=watch or Watch(), request=request,
        mirror=address,
    )  # fmt: skip


def test_a_sweep_goes_on_on_a_fresh_machine(short, tmp_path, without_times):
    short = replace(short, {"train.epochs": 1})
    address, request = f"file://{tmp_path}/mirror", Request()

    class StopAfterTheFirst(Watch):
        said = ()

        def ended(self, book, trial):
            request.signal = signal.SIGTERM

        def line(self, text):
            self.said = (*self.said, text)

    with pytest.raises(Interrupted):
        swept(short, tmp_path / "sweep", address, request, StopAfterTheFirst())
    (first,) = (tmp_path / "sweep" / "trials").iterdir()
    metrics = (first / "metrics.jsonl").read_text()
    shutil.rmtree(tmp_path / "sweep")
    watch = StopAfterTheFirst()
    watch.ended = lambda book, trial: None
    found = swept(short, tmp_path / "sweep", address, watch=watch)
    assert watch.said == (f"restored from {address}: 1 trials",)
    assert (first / "metrics.jsonl").read_text() == metrics  # its times too: not trained again
    assert [entry.outcome.status for entry in found.entries] == ["finished"] * 3
    # All of it is in the mirror, for a third machine.
    shutil.rmtree(tmp_path / "sweep")
    again = swept(short, tmp_path / "sweep", address)
    assert again.line == found.line
    assert (tmp_path / "sweep" / "report.html").exists()
    # A mirror that is given later gets what there is.
    later = f"file://{tmp_path}/later"
    swept(short, tmp_path / "sweep", later)
    assert len(list((tmp_path / "later" / "trials").glob("*/checkpoints/*/digests.json"))) >= 3
    with pytest.raises(InputError, match="is the mirror of a sweep, not of a run"):
        train.run(short, tmp_path / "run", mirror=later)
    assert not (tmp_path / "run").exists()
    other = replace(short, {"train.epochs": 1})
    with pytest.raises(InputError, match="holds a sweep of experiment 'test', not 'other'"):
        swept(type(other)("other", *list(vars(other).values())[1:]), tmp_path / "s", later)


def test_bad_input_is_one_line(launch, small, tmp_path):
    for address in ("ftp://x", f"file://{tmp_path}/run/inside"):
        code, _, err = launch("--experiment=masked_rnn", *small, f"--mirror={address}")
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("launch.py: --mirror")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    code, _, err = launch("--experiment=masked_rnn", *small, f"--mirror=file://{tmp_path}/file/x")
    assert (code, err.count("\n")) == (2, 1), err
    assert "cannot be used (" in err
    code, _, err = launch("--mode=evaluate", "--workdir=x", "--mirror=s3://b")
    assert (code, err.count("\n")) == (2, 1), err
