"""Checkpoints are whole or do not count: every damage, and a kill between any two system calls."""

import json
import shutil
from typing import NamedTuple

import faults
import jax
import numpy as np
import pytest

from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints
from rnn_jax.runs.checkpoints import CheckpointError, Checkpoints, Progress

RECORD = {"step": 3, "epoch": 1, "split": "train", "loss": 0.1 + 0.2, "skipped": 0}


def arrays(seed):
    random = np.random.default_rng(seed)
    table = random.normal(size=(40, 8)).astype(np.float32)
    table[0] = [np.nan, np.inf, -np.inf, -0.0, 1e-42, 3, 4, 5]
    return {"table": table, "inner": (np.int32(seed), {"bias": table[1].copy()})}


def write(folder, *epochs, keep=3):
    written = Checkpoints(folder, {"config.json": '{"a": 1}'}, keep=keep)
    for epoch in epochs:
        best = arrays(100 + epoch)["inner"] if epoch > 1 else None
        written.save(arrays(epoch), best, Progress(epoch=epoch, history=(RECORD,)))
    written.wait()
    return written


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with checkpoints of epochs 1 and 2. Tests copy it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write(folder, 1, 2)
    return folder


@pytest.fixture
def copy(two, tmp_path):
    return shutil.copytree(two, tmp_path / "copy")


def test_what_is_restored_is_what_was_saved(two):
    found = checkpoints.newest(two)
    assert found.progress == Progress(epoch=2, history=(RECORD,))
    assert_same_bits(checkpoints.restore(found.path, "state", arrays(0)), arrays(2))
    best = checkpoints.restore(found.path, "best", arrays(0)["inner"])
    assert_same_bits(best, arrays(102)["inner"])
    assert (found.path / "config.json").read_text() == '{"a": 1}'
    assert not checkpoints.holds(two / "000001", "best")


class Without(NamedTuple):
    table: np.ndarray


class With(NamedTuple):
    more: None
    table: np.ndarray


def test_a_field_that_is_none_changes_no_checkpoint(tmp_path):
    table = arrays(0)["table"]
    for number, (saved, like) in enumerate(
        [(With(None, table), Without(table)), (Without(table), With(None, table))]
    ):
        written = Checkpoints(tmp_path / str(number))
        written.save(saved, None, Progress())
        written.wait()
        path = checkpoints.newest(written.folder).path
        assert_same_bits(checkpoints.restore(path, "state", like), like)


def test_the_last_few_stay_and_numbers_go_on(tmp_path):
    write(tmp_path, 1, 2, 3, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000003"]
    write(tmp_path, 4, keep=2)
    assert checkpoints.newest(tmp_path).progress.epoch == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]


def test_saving_does_not_wait_for_the_training_loop_s_next_buffers(tmp_path):
    # Training donates its buffers, so that they hold other numbers by the time they are written.
    state = arrays(1)
    written = Checkpoints(tmp_path)
    written.save(state, None, Progress())
    state["table"][:] = 7
    written.wait()
    path = checkpoints.newest(tmp_path).path
    assert_same_bits(checkpoints.restore(path, "state", state), arrays(1))


DAMAGE = {
    "truncated": lambda raw: raw[: len(raw) // 2],
    "emptied": lambda raw: b"",
    "lengthened": lambda raw: raw + b"\0",
    "one bit flipped": lambda raw: raw[:-1] + bytes([raw[-1] ^ 4]),
    "deleted": lambda raw: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_any_damage_to_any_file_is_found(copy, damage):
    path = copy / "000002"
    files = [file for file in path.rglob("*") if file.is_file()]
    assert {"digests.json", "progress.json", "config.json", "_METADATA"} <= {
        file.name for file in files
    }
    tried = 0
    for file in files:
        raw = file.read_bytes()
        if not raw and damage != "deleted":
            continue  # orbax leaves an empty marker
        tried += 1
        damaged = DAMAGE[damage](raw)
        file.unlink() if damaged is None else file.write_bytes(damaged)
        assert checkpoints.verify(path), f"{file} {damage}"
        file.write_bytes(raw)
        assert not checkpoints.verify(path)
    assert tried >= 6


def test_every_flipped_bit_is_found(copy):
    path = copy / "000002"
    files = (file for file in (path / "state").rglob("*") if file.is_file())
    data = max(files, key=lambda file: file.stat().st_size)
    raw = data.read_bytes()
    random = np.random.default_rng(0)
    for position in random.choice(8 * len(raw), 200, replace=False):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        data.write_bytes(flipped)
        assert "damaged files" in checkpoints.verify(path)


def test_a_file_too_many_or_a_link_is_found(copy):
    path = copy / "000002"
    (path / "state" / "more").write_text("")
    assert "state/more" in checkpoints.verify(path)
    (path / "state" / "more").unlink()
    moved = (path / "progress.json").rename(copy / "elsewhere.json")
    (path / "progress.json").symlink_to(moved)
    assert "link" in checkpoints.verify(path)


def test_the_newest_good_one_is_used_and_the_damaged_one_is_kept(copy, caplog):
    (copy / "000002" / "progress.json").write_text("{}")
    assert checkpoints.newest(copy).progress.epoch == 1
    assert (copy / "000002").is_dir()  # a reader changes nothing
    assert checkpoints.newest(copy, set_aside=True).progress.epoch == 1
    assert "000002 is not used: damaged files: progress.json" in caplog.text
    assert (copy / "000002.damaged" / "progress.json").read_text() == "{}"
    write(copy, 3, 4, 5, 6)
    assert sorted(path.name for path in copy.iterdir()) == [
        "000002.damaged", "000004", "000005", "000006",
    ]  # fmt: skip


def test_without_digests_a_checkpoint_is_damaged_and_is_kept_too(copy):
    (copy / "000002" / "digests.json").unlink()
    write(copy, 3, 4, 5, 6)
    assert (copy / "000002" / "state").is_dir()
    assert checkpoints.newest(copy).progress.epoch == 6


def test_where_all_are_damaged_nothing_is_used_and_nothing_deleted(copy):
    for number in ("000001", "000002"):
        (copy / number / "digests.json").write_text("[]")
    for _ in range(2):  # set aside the first time, still there the second
        with pytest.raises(InputError, match=r"every checkpoint .* is damaged"):
            checkpoints.newest(copy, set_aside=True)
    assert sorted(path.name for path in copy.iterdir()) == ["000001.damaged", "000002.damaged"]


def resign(path):
    """Digests as whoever made the files on purpose would write them."""
    (path / "digests.json").write_text(json.dumps(checkpoints._digests(path)))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"epoch": -1}, {"epoch": 1.0}, {"epoch": True}, {"batch": 10**30},
        {"seconds": "1"}, {"seconds": float("nan")}, {"best_loss": "x"}, {"finished": 1},
        {"history": {}}, {"history": [1]}, {"history": [{"step": 1}]}, {"more": 1},
        {"history": [RECORD | {"loss": [1]}]},
    ],
    ids=str,
)  # fmt: skip
def test_progress_of_another_version_or_hand_is_refused(copy, change):
    path = copy / "000002"
    fields = json.loads((path / "progress.json").read_text())
    (path / "progress.json").write_text(json.dumps(fields | change))
    resign(path)
    with pytest.raises(InputError, match="000002 was not written by this version"):
        checkpoints.newest(copy, set_aside=True)
    assert path.is_dir()


def test_other_shapes_types_or_names_are_refused(two):
    path = two / "000002"
    good = arrays(0)
    for bad in (
        good | {"table": good["table"][:-1]},
        good | {"table": good["table"].astype(np.float16)},
        good | {"more": good["table"]},
        {"table": good["table"]},
        good | {"table": jax.ShapeDtypeStruct((2**40, 8), np.float32)},  # refused unallocated
    ):
        with pytest.raises(InputError, match="does not hold the arrays"):
            checkpoints.restore(path, "state", bad)


def test_a_kill_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    folder = tmp_path / "checkpoints"
    write(folder, 1, 2, keep=2)
    seen = []

    def look():
        whole = [path for path in folder.iterdir() if path.suffix != ".part"]
        assert not any(map(checkpoints.verify, whole))  # not the newest alone
        seen.append(checkpoints.newest(folder))

    with faults.at_every_moment(folder, look):
        write(folder, 3, keep=2)
    epochs = [found.progress.epoch for found in seen]
    assert len(epochs) > 30
    assert set(epochs) == {2, 3}  # while the oldest one is being removed, too
    assert epochs == sorted(epochs)


def test_what_a_kill_left_is_cleared_away_and_never_taken_for_a_checkpoint(copy):
    shutil.copytree(copy / "000002", copy / "000003.part")
    assert checkpoints.newest(copy).progress.epoch == 2
    write(copy, 4)
    assert sorted(path.name for path in copy.iterdir()) == ["000001", "000002", "000003"]
    assert checkpoints.newest(copy).progress.epoch == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax' event loop
@pytest.mark.parametrize("size", [0, 1000])
def test_a_full_disk_costs_the_checkpoint_that_does_not_fit_and_no_other(copy, size):
    with faults.full_disk(size), pytest.raises(CheckpointError):
        write(copy, 3)
    assert checkpoints.newest(copy).progress.epoch == 2
    write(copy, 4)
    assert checkpoints.newest(copy).progress.epoch == 4
