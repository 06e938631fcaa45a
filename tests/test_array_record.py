"""array_record files give what csv gives: all of a split, or none."""

import json
import shutil

import faults
import pytest

from rnn_jax import DataConfig
from rnn_jax.config import InputError, replace
from rnn_jax.data import csv_folder, preparation, sources


def write_records(path, contents):
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in contents:
        writer.write(record if isinstance(record, bytes) else json.dumps(record).encode())
    writer.close()


def as_records(folder, split):
    return [
        {"label": label, "title": title, "description": description}
        for _, label, title, description in csv_folder.records(folder / f"{split}.csv")
    ]


def test_array_record_gives_what_csv_gives(streamed, story_folder, tmp_path):
    stories = as_records(story_folder, "train")
    write_records(tmp_path / "train-1.array_record", stories[:25])
    write_records(tmp_path / "train-2.array_record", stories[25:])
    write_records(tmp_path / "test.array_record-00000-of-00001", as_records(story_folder, "test"))
    shutil.copy(story_folder / "classes.txt", tmp_path)
    changes = {"data.source": "array_record", "data.data_dir": str(tmp_path)}
    for stream in (False, True):
        options = replace(streamed, {"data.stream": stream})
        found = preparation.prepare(replace(options, changes).data)
        assert preparation.digest(found) == preparation.digest(preparation.prepare(options.data))
    (tmp_path / "classes.txt").unlink()
    assert sources.classes(replace(options, changes).data) == ("1", "2")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xff", r"2: the record is no JSON in UTF-8"),
        (b"[" * 100_000, r"2: the record is no JSON"),
        (b" " * (2**20 + 1), r"2: a record of more than 1048576 bytes"),
        (
            b'{"label": 1, "title": "a", "description": "", "label": 2}',
            r"2: a record is a JSON object with label, title and description, each once",
        ),
        (b'[["label", 1], ["title", "a"], ["description", ""]]', r"2: a record is a JSON object"),
        (b'{"label": 1, "title": "a", "description": {}}', r"2: title and description are texts"),
        (b"[]", r"2: a record is a JSON object"),
        ({"label": 1, "title": "a"}, r"2: a record is a JSON object with label, title"),
        ({"label": True, "title": "a", "description": ""}, r"2: a label is a whole number"),
        ({"label": 0, "title": "a", "description": ""}, r"2: label 0 is out of range"),
        ({"label": 1.5, "title": "a", "description": ""}, r"2: a label is a whole number"),
        ({"label": "z", "title": "a", "description": ""}, r"2: label 'z' is none of the classes"),
        ({"label": 1001, "title": "a", "description": ""}, r"2: label 1001 is above 1000"),
        ({"label": 3, "title": "a", "description": ""}, r"2: label 3 is out of range: there are 2"),
        ({"label": 1, "title": "a", "description": 5}, r"2: title and description are texts"),
        ({"label": 1, "title": "a\0", "description": ""}, r"2: title and description are texts"),
        ({"label": 1, "title": "\ud800", "description": ""}, r"2: title and description are texts"),
    ],
)
def test_array_record_refuses_what_it_would_have_to_guess(tmp_path, record, message):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    good = {"label": 1, "title": "a", "description": "b"}
    write_records(tmp_path / "train.array_record", [good, record])
    with pytest.raises(InputError, match=rf"train\.array_record:{message}"):
        sources.load(DataConfig(source="array_record", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train.array_record"], 1),
        (["train-b.array_record", "train_a.array_record", "train.1.array_record"], 3),
        (["train.array_record-00000-of-00002", "train.array_record-00001-of-00002"], 2),
        (["train-a.array_record-00000-of-00001", "train-b.array_record"], 2),
        (["train.array_record-00000-of-00002"], "or all shards"),
        (["train.array_record-00001-of-00002", "train.array_record-00002-of-00002"], "or all"),
        (["train.array_record-00000-of-00001", "train.array_record"], "train.array_record alone"),
        ([f"train.array_record-0000{n}-of-0000{k}" for n, k in ((0, 1), (0, 2), (1, 2))], "or all"),
        (["train.array_record-00000-of-00000"], "or all shards"),
        ([], "has no train"),
    ],
)
def test_array_record_takes_the_files_of_a_split_all_of_them_and_no_others(tmp_path, names, found):
    others = ("train.array_record.bak", "train.array_record.md5", "training-notes.array_record")
    for name in (*names, *others, "train.array_record-00000-of-00002.bak", "test.array_record"):
        (tmp_path / name).touch()
    config = DataConfig(source="array_record", data_dir=str(tmp_path))
    if isinstance(found, int):
        assert [path.name for path in sources.files(config, "train")] == sorted(names)
        return
    with pytest.raises(InputError, match=found):
        sources.files(config, "train")


def test_array_record_files_that_are_missing_or_damaged(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    load = lambda: sources.load(DataConfig(source="array_record", data_dir=str(tmp_path)))
    with pytest.raises(InputError, match=r"has no train\*\.array_record"):
        load()
    path = tmp_path / "train.array_record"
    good = {"label": 1, "title": "a", "description": "b" * 300}
    write_records(path, [good] * 3000)
    raw = path.read_bytes()
    for content in (b"", b"abc", raw[: len(raw) // 2], faults.flip(raw)):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"cannot read .*train|train.* has no stories"
        ) as error:
            load()
        assert "\n" not in str(error.value)
