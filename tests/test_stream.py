"""Training stories that stay on the disk: every one once an epoch, the same bits after a kill."""

import csv
import functools
import json
import os
import shutil
import threading

import jax
import numpy as np
import pytest

import rnn_jax
from rnn_jax import checkpoint, preparation, train
from rnn_jax.config import DataConfig, InputError, replace
from rnn_jax.data import csv_folder as csv_source
from rnn_jax.data import flat, labelled_folder, sources, streaming, windows
from rnn_jax.data.batching import Examples
from rnn_jax.data.csv_folder import records
from rnn_jax.data.text import Ragged, Vectorizer
from rnn_jax.evaluate import evaluate_test, open_run
from rnn_jax.interrupts import Interrupted, Request


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(csv_folder, tmp_path_factory):
    """As in other tests, but no two stories open alike."""
    folder = shutil.copytree(csv_folder, tmp_path_factory.mktemp("stories") / "csv")
    rows = [row for _, *row in stories_of(folder)]
    with open(folder / "train.csv", "w", newline="") as file:
        for index, (label, title, description) in enumerate(rows):
            csv.writer(file).writerow((label, title, f"s{index % 9} {index} {description}"))
    return folder


def stories_of(folder, split="train"):
    return list(records(folder / f"{split}.csv"))


@pytest.fixture(scope="module")
def config(config, cache, folder):
    """Windows of three batches; 40 stories less those that are validated on."""
    changes = {"data.stream": True, "data.window": 12, "data.cache_dir": str(cache)}
    changes["data.data_dir"] = str(folder)
    return replace(config, changes | {"data.validation_share": 0.2, "train.epochs": 2})


def without_times(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def entries(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}


# Windows


@pytest.mark.parametrize("stories", [1, 15, 16, 17, 160, 1003])
def test_an_epoch_has_every_story_once(stories):
    for size in (1, 8, 24, 100, 2000):
        parts = [
            windows.numbers(stories, 7, 1, start, min(start + size, stories))
            for start in range(0, stories, size)
        ]
        assert sorted(np.concatenate(parts).tolist()) == list(range(stories))
        assert all((np.diff(part) > 0).all() for part in parts)


def test_another_epoch_or_seed_has_another_order_and_the_same_one_the_same():
    first = windows.numbers(10**9, 0, 0, 0, 64)
    assert np.array_equal(first, windows.numbers(10**9, 0, 0, 0, 64))
    for seed, epoch in ((0, 1), (1, 0), (2**32 - 1, 3)):
        assert not np.isin(windows.numbers(10**9, seed, epoch, 0, 64), first).any()
    # A run goes on under another version of grain: these are the blocks that it has to find.
    assert (first[::16] // 16).tolist() == [7023814, 37433206, 53690092, 56835550]


def test_a_window_is_whole_batches_and_small_where_stories_are_long():
    assert windows.size(100, 32, 200) == 96
    assert windows.size(5, 32, 200) == 32
    assert windows.size(2**20, 4, 2**20) == 16
    assert windows.size(16_384, 16, 0) == 16_384


def test_reading_ahead_keeps_the_order_and_hands_errors_on():
    def load(index):
        if index == 40:
            raise InputError("forty")
        return index

    assert list(windows.read_ahead(load, 3, 20)) == list(range(3, 20))
    assert list(windows.read_ahead(load, 3, 4)) == [3]
    assert list(windows.read_ahead(load, 4, 4)) == []
    with pytest.raises(InputError, match="forty"):
        list(windows.read_ahead(load, 30, 50))


# Files


def numbered(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(offsets[-1], dtype=np.int32) % 60_000
    return Examples(Ragged(ids, offsets), np.arange(len(lengths), dtype=np.int32) % 5)


@pytest.mark.parametrize("vocab_size", [2**16, 2**16 + 1])
def test_what_is_written_in_chunks_is_found_by_number(tmp_path, vocab_size):
    whole = numbered([3, 0, 7, 1, 0, 0, 40_000, 2, 60_000, 5])
    writer = flat.Writer(tmp_path, "x", vocab_size)
    for start, stop in ((0, 4), (4, 4), (4, 10)):
        ids = whole.tokens.ids[whole.tokens.offsets[start] : whole.tokens.offsets[stop]]
        offsets = whole.tokens.offsets[start : stop + 1] - whole.tokens.offsets[start]
        writer.add(Examples(Ragged(ids, offsets), whole.labels[start:stop]))
    stories = flat.Flat(tmp_path, "x", **writer.close())
    stories.verify()
    assert (len(stories), stories.longest) == (10, 60_000)
    assert stories.sample_lengths().tolist() == whole.lengths.tolist()
    for numbers in ([], [0], [9], [1, 4, 5], [0, 1, 2, 6, 8, 9], range(10)):
        numbers = np.array(numbers, np.int64)
        found = stories.gather(numbers)
        assert found.labels.tolist() == whole.labels[numbers].tolist()
        assert len(found) == len(found.tokens) == len(numbers)
        for row, number in enumerate(numbers):
            np.testing.assert_array_equal(found.tokens[row], whole.tokens[number])
        assert found.tokens.ids.dtype == np.int32
    with open(tmp_path / "x.tokens", "r+b") as file:
        file.truncate(50)
    with pytest.raises(InputError, match=r"cannot be read .*the same command prepares them again"):
        stories.gather(np.arange(10))


@pytest.fixture
def stories(tmp_path):
    """100 stories of 0 to 49 tokens, the short ones first."""
    writer = flat.Writer(tmp_path, "x", 100)
    writer.add(numbered(np.arange(100) // 2))
    return flat.Flat(tmp_path, "x", **writer.close())


def test_lengths_are_sampled_from_the_whole_file(stories, monkeypatch):
    monkeypatch.setattr(flat, "SAMPLE", 32)
    assert stories.sample_lengths().tolist() == [n // 2 for n in (*range(16), *range(48, 64))]


def test_an_index_that_was_changed_is_noticed_before_it_is_followed(stories):
    index = np.fromfile(stories.folder / "x.index", flat.INDEX)
    for field, value in (
        ("length", 0), ("length", 49), ("length", -1), ("length", 2**31 - 1),
        ("offset", 0), ("offset", -8), ("offset", 2**62),
    ):  # fmt: skip
        changed = index.copy()
        changed[field][60] = value
        changed.tofile(stories.folder / "x.index")
        with pytest.raises(InputError, match=r"cannot be read .*the same command prepares them"):
            stories.gather(np.arange(50, 70))
    index.tofile(stories.folder / "x.index")
    assert len(stories.gather(np.arange(50, 70))) == 20


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_the_system_is_told_of_no_more_than_is_read(stories, monkeypatch):
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, _: told.append(length))
    stories.gather(np.array([0, 1, 10, 20]))  # the first two have no tokens
    assert told == [32, 16, 16, 10, 20]


# Preparation


def texts(data, examples):
    words = data.vectorizer.words
    return [" ".join(words[i] for i in examples.tokens[row]) for row in range(len(examples))]


def test_streamed_stories_are_those_of_the_file_each_in_one_split(config, folder):
    data = preparation.prepare(replace(config, {"data.vocab_texts": 0}))
    trained = texts(data, data.train.gather(np.arange(len(data.train))))
    validated = texts(data, data.validation)
    alone = preparation.prepare(
        replace(config, {"data.stream": False, "data.validation": "test"}), data.vectorizer
    )
    assert data.classes == alone.classes
    assert set(validated).isdisjoint(trained)
    assert 2 <= len(validated) <= 14
    assert sorted(trained + validated) == sorted(texts(alone, alone.train))
    assert [text for text in texts(alone, alone.train) if text in trained] == trained  # in order
    assert data.test_texts == alone.test_texts
    assert data.test.labels.tolist() == alone.test.labels.tolist()


def test_without_a_cut_the_vocabulary_and_the_stories_are_those_that_memory_would_hold(config):
    for changes in ({}, {"data.take": 7, "data.vocab_texts": 5}, {"data.field": "title"}):
        options = replace(config, {"data.validation": "test"} | changes)
        streamed = preparation.prepare(options)
        alone = preparation.prepare(replace(options, {"data.stream": False}))
        whole = streamed.train.gather(np.arange(len(streamed.train)))
        assert streamed.vectorizer == alone.vectorizer
        np.testing.assert_array_equal(whole.tokens.ids, alone.train.tokens.ids)
        np.testing.assert_array_equal(whole.tokens.offsets, alone.train.tokens.offsets)
        np.testing.assert_array_equal(whole.labels, alone.train.labels)
        assert len(streamed.test) == len(alone.test) == len(streamed.validation)


def test_versions_of_a_story_stay_on_one_side_and_empty_ones_do_not_go_together():
    stories = streaming._as_stories(
        [(str(i), f"A b c d e f g h {i}", 0) for i in range(20)]
        + [(f"title {i}", "", 1) for i in range(400)]
    )
    trained, held = streaming._cut(stories, 2**63)
    assert sorted(trained.titles + held.titles) == sorted(stories.titles)
    assert np.bincount(held.labels, minlength=2)[0] in (0, 20)
    assert 150 < np.bincount(held.labels, minlength=2)[1] < 250


def test_chunks_hold_so_many_stories_and_characters(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_STORIES", 3)
    monkeypatch.setattr(streaming, "CHUNK_CHARACTERS", 100)
    lengths = [1] * 7 + [101] + [60] * 3 + [1]
    chunks = list(streaming._chunks(("x" * length, "", 0) for length in lengths))
    assert [[len(title) for title in chunk.titles] for chunk in chunks] == [
        [1, 1, 1], [1, 1, 1], [1, 101], [60, 60], [60, 1],
    ]  # fmt: skip


def test_preparing_reads_no_further_than_a_chunk_ahead(config, tmp_path, monkeypatch):
    """However many stories there are, only a chunk of them is alive at a time."""
    monkeypatch.setattr(streaming, "CHUNK_STORIES", 10)
    alive, most = set(), 0

    class Title(str):
        def __del__(self):
            alive.discard(id(self))

    def stories(config, split, count):
        nonlocal most
        for index in range(500):
            title = Title(f"word{index % 20} {index}")
            alive.add(id(title))
            most = max(most, len(alive))
            yield title, "", index % 2

    monkeypatch.setattr(sources, "stories", stories)
    streaming.prepare(
        replace(config, {"data.cache_dir": str(tmp_path), "data.vocab_texts": 0}).data, ("a", "b")
    )
    assert 10 <= most <= 40


def test_a_vocabulary_in_bounded_memory_keeps_the_common_words():
    rng = np.random.default_rng(0)
    lines = [" ".join(f"w{i}" for i in rng.zipf(1.5, 30)) for _ in range(300)]
    exact = Vectorizer.fit(lines, vocab_size=22)
    assert Vectorizer.fit(lines, vocab_size=22, max_words=10**6) == exact
    assert set(Vectorizer.fit(lines, vocab_size=22, max_words=200).words[:12]) <= set(exact.words)
    assert Vectorizer.fit(["a " + "b" * 101], max_words=9).words[2:] == ("a",)
    # Of words that come as often, those stay that would rank first.
    assert Vectorizer.fit(list("bkadcfeihgj"), max_words=10).words[2:] == tuple("kjihg")
    assert Vectorizer.fit(list("bakadcfeihgj"), max_words=10).words[2:] == tuple("akjih")


def test_a_second_preparation_finds_the_first_and_a_damaged_one_is_made_anew(config, tmp_path):
    options = replace(config, {"data.cache_dir": str(tmp_path / "cache")})
    said = []
    first = preparation.digest(preparation.prepare(options, say=said.append))
    (folder,) = entries(tmp_path / "cache")
    assert len(said) == 2
    for name in ("train.tokens", "train.index", "validation.index", "meta.json", "vocabulary.json"):
        for damage in (flip, lambda raw: raw[:-1], None):
            said.clear()
            assert preparation.digest(preparation.prepare(options, say=said.append)) == first
            assert said == []
            file = tmp_path / "cache" / folder / name
            if damage:
                file.write_bytes(damage(file.read_bytes()))
            else:
                file.unlink()
            assert preparation.digest(preparation.prepare(options, say=said.append)) == first
            assert "made anew" in said[0]
    # What a kill left behind is in nobody's way.
    shutil.rmtree(tmp_path / "cache" / folder)
    (tmp_path / "cache" / f"{folder}.part").mkdir()
    assert preparation.digest(preparation.prepare(options)) == first
    assert list(entries(tmp_path / "cache")) == [folder]


def flip(raw):
    raw = bytearray(raw)
    raw[len(raw) // 2] ^= 4
    return bytes(raw)


def test_other_options_or_stories_are_prepared_apart(config, tmp_path, folder):
    moved = shutil.copytree(folder, tmp_path / "moved")
    options = replace(
        config, {"data.cache_dir": str(tmp_path / "cache"), "data.data_dir": str(moved)}
    )
    for count, changes in enumerate(
        ({}, {"data.max_length": 5}, {"data.field": "title"}, {"data.vocab_size": 9}), 1
    ):
        preparation.prepare(replace(options, changes))
        preparation.prepare(replace(options, changes | {"data.window": 8}))
        assert len(entries(tmp_path / "cache")) == count
    (moved / "train.csv").write_text((moved / "train.csv").read_text() + '1,"a","b"\n')
    preparation.prepare(options)
    assert len(entries(tmp_path / "cache")) == 5


@pytest.mark.parametrize(
    ("changes", "bounds", "message"),
    [
        ({"data.source": "bbc_news"}, {}, r"stream needs .*source=csv or array_record, not bbc"),
        ({"data.data_dir": ""}, {}, r"csv needs --config\.data\.data_dir=DIR"),
        (
            {"data.validation_share": 0.0},
            {},
            r"validation split .* no story.*data\.validation=test",
        ),
        ({"data.cache_dir": "/dev/null/x"}, {}, r"cannot keep .* --config\.data\.cache_dir"),
        ({}, {"MAX_TEST": 300}, r"test stories have more than 300 characters.*data\.take"),
        ({}, {"MAX_HELD": 10}, r"more than 10 characters .*data\.validation=test"),
        ({}, {"HELD": 0}, r"validation split .* no story.*data\.validation=test"),
    ],
)
def test_what_cannot_be_streamed_is_refused_in_one_line(
    config, tmp_path, monkeypatch, changes, bounds, message
):
    for name, value in bounds.items():
        monkeypatch.setattr(streaming, name, value)
    options = replace(config, {"data.cache_dir": str(tmp_path)} | changes)
    with pytest.raises(InputError, match=message) as error:
        preparation.prepare(options)
    assert "\n" not in str(error.value)
    assert entries(tmp_path) == {}  # nor is half of anything left


def test_a_training_file_that_is_missing_a_pipe_or_being_written(config, tmp_path, monkeypatch):
    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(config.data.data_dir, data)
    options = replace(config, {"data.data_dir": str(data), "data.cache_dir": str(cache)})
    digest = streaming.file_digest

    def grow(path):
        found = digest(path)
        with open(path, "a") as file:
            file.write('1,"one","more"\n')
        return found

    with monkeypatch.context() as patch:
        patch.setattr(streaming, "file_digest", grow)
        with pytest.raises(InputError, match="changed while they were read"):
            preparation.prepare(options)
    assert entries(cache) == {}
    preparation.prepare(options)
    kept = entries(cache)
    with monkeypatch.context() as patch:  # what another run may be reading stays
        patch.setattr(streaming, "file_digest", grow)
        with pytest.raises(InputError, match="changed while they were read"):
            preparation.prepare(replace(options, {"data.vocab_size": 50}))
        assert entries(cache) == kept
        patch.setattr(streaming, "file_digest", lambda path: path.unlink() or "gone")
        with pytest.raises(InputError, match=r"train\.csv is missing"):
            preparation.prepare(options)
    assert entries(cache) == kept
    with pytest.raises(InputError, match=r"train\.csv is missing"):
        preparation.prepare(options)
    os.mkfifo(data / "train.csv")
    with pytest.raises(InputError, match=r"train\.csv is no regular file"):
        preparation.prepare(options)


def test_a_second_process_says_that_it_waits(tmp_path):
    said, told = [], threading.Event()
    say = lambda line: (said.append(line), told.set())

    def second():
        with streaming._locked(tmp_path / "lock", say):
            say("in")

    with streaming._locked(tmp_path / "lock", say):
        assert said == []
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(30)
        assert said == ["waiting for another process that prepares the same stories"]
    thread.join()
    assert said[1:] == ["in"]


# array_record


def write_records(path, contents):
    module = pytest.importorskip("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in contents:
        writer.write(record if isinstance(record, bytes) else json.dumps(record).encode())
    writer.close()


def as_records(folder, split):
    return [
        {"label": label, "title": title, "description": description}
        for _, label, title, description in stories_of(folder, split)
    ]


def test_array_record_gives_what_csv_gives(config, folder, tmp_path):
    stories = as_records(folder, "train")
    write_records(tmp_path / "train-1.array_record", stories[:25])
    write_records(tmp_path / "train-2.array_record", stories[25:])
    write_records(tmp_path / "test.array_record-00000-of-00001", as_records(folder, "test"))
    shutil.copy(folder / "classes.txt", tmp_path)
    changes = {"data.source": "array_record", "data.data_dir": str(tmp_path)}
    for streamed in ({"data.stream": False}, {"data.stream": True}):
        options = replace(config, streamed)
        found = preparation.prepare(replace(options, changes))
        assert preparation.digest(found) == preparation.digest(preparation.prepare(options))
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
        ({"label": 0, "title": "a", "description": ""}, r"2: a label is a whole number"),
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
    for content in (b"", b"abc", raw[: len(raw) // 2], flip(raw)):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"cannot read .*train|train.* has no stories"
        ) as error:
            load()
        assert "\n" not in str(error.value)


# Runs


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return folder, train.run(config, folder)


def test_a_run_counts_every_story_once_an_epoch_and_is_used_like_any_other(
    config, undisturbed, tmp_path
):
    folder, result = undisturbed
    data = preparation.prepare(config)
    assert len(data.train) > 24  # several windows, the last one not full
    trained = [record for record in result.history if record["split"] == "train"]
    assert [record["examples"] for record in trained] == [len(data.train)] * 2
    assert result.history[-1]["examples"] == 10
    tested = evaluate_test(open_run(folder))
    assert tested["loss"] == result.history[-1]["loss"]
    assert rnn_jax.load(folder)("the cat").label in ("animals", "weather")
    page = (folder / "report.html").read_bytes()
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "report.html").unlink()
    train.run(config, copy)
    assert (copy / "report.html").read_bytes() == page


def test_a_streamed_run_that_is_interrupted_again_and_again_gives_the_same_bits(
    config, undisturbed, tmp_path, signal_at
):
    folder, result = undisturbed
    stops = []
    for number in [1, 2, 3, 4, 6, 1, 5, 2, 10**6]:
        signal_at(number)
        try:
            again = train.run(config, tmp_path / "run")
        except Interrupted:
            stops.append(checkpoint.newest(tmp_path / "run/checkpoints").progress)
    assert len({(stop.epoch, stop.batch) for stop in stops}) >= 5
    assert any(stop.batch % 3 for stop in stops)  # in the middle of a window
    assert without_times(tmp_path / "run") == without_times(folder)
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)


def test_a_streamed_run_with_packed_batches_goes_on_in_the_middle_of_a_window(
    config, tmp_path, monkeypatch
):
    changes = {"train.pack": True, "model.pooling": "mean", "data.window": 24, "train.epochs": 1}
    changes |= {"model.cell": "simple_rnn", "model.kernel": "scan"}  # the quickest to compile
    options = replace(config, changes)
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
    progress = checkpoint.newest(tmp_path / "run/checkpoints").progress
    assert progress.epoch == 0
    assert 0 < progress.batch < 6
    again = train.run(options, tmp_path / "run")
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)


def test_checking_numerics_reads_each_window_once(config, tmp_path, monkeypatch):
    read, numbers = [], windows.numbers

    def counted(stories, seed, epoch, start, stop):
        read.append(start)
        return numbers(stories, seed, epoch, start, stop)

    monkeypatch.setattr(windows, "numbers", counted)
    train.run(replace(config, {"train.check_numerics": True, "train.epochs": 1}), tmp_path)
    assert read == [0, 12, 24]


def test_a_start_reads_the_training_file_once_for_the_names_of_the_classes(
    config, folder, tmp_path, monkeypatch
):
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "classes.txt").unlink()
    options = replace(config, {"data.data_dir": str(moved), "data.cache_dir": str(tmp_path / "c")})
    preparation.prepare(options)
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


def test_a_streamed_run_refuses_stories_that_changed(config, folder, tmp_path, monkeypatch):
    stopped = property(lambda self: 2, lambda self, value: None)
    monkeypatch.setattr(Request, "signal", stopped, raising=False)
    moved = shutil.copytree(folder, tmp_path / "moved")
    options = replace(config, {"data.data_dir": str(moved)})
    with pytest.raises(Interrupted):
        train.run(options, tmp_path / "run")
    content = (moved / "train.csv").read_text()
    (moved / "train.csv").write_text(content.replace("dog", "cat", 1))
    with pytest.raises(InputError, match="the data is no longer what the run"):
        train.run(options, tmp_path / "run")
    (moved / "train.csv").write_text(content)
    shutil.rmtree(config.data.cache_dir)  # it is only a cache
    with pytest.raises(Interrupted):
        train.run(options, tmp_path / "run")


def test_a_failure_names_the_stories_by_their_place_in_the_split(config, tmp_path):
    changes = {"optimizer.learning_rate": 1e38, "optimizer.clip_norm": 0.0}
    with pytest.raises(train.RunError, match=r"step \d+ has a loss or gradient"):
        train.run(replace(config, changes), tmp_path)
    found = json.loads((tmp_path / "failure.json").read_text())
    data = preparation.prepare(config)
    numbers = sorted(found["examples"])
    again = data.train.gather(np.array(numbers))
    words = [data.vectorizer.words[i] for i in again.tokens[0]]
    assert found["tokens"][found["examples"].index(numbers[0])] == words
