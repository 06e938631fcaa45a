"""Stories prepared on the disk: each in one split, found again, made anew if damaged."""

import os
import shutil
import threading

import faults
import numpy as np
import pytest

from rnn_jax.config import InputError, replace
from rnn_jax.data import preparation, sources, streaming
from rnn_jax.data.stories import Stories


def entries(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}


def texts(data, examples):
    words = data.vectorizer.words
    return [" ".join(words[i] for i in examples.tokens[row]) for row in range(len(examples))]


def test_streamed_stories_are_those_of_the_file_each_in_one_split(streamed, story_folder):
    data = preparation.prepare(replace(streamed, {"data.vocab_texts": 0}).data)
    trained = texts(data, data.train.gather(np.arange(len(data.train))))
    validated = texts(data, data.validation)
    alone = preparation.prepare(
        replace(streamed, {"data.stream": False, "data.validation": "test"}).data, data.vectorizer
    )
    assert data.classes == alone.classes
    assert set(validated).isdisjoint(trained)
    assert 2 <= len(validated) <= 14
    assert sorted(trained + validated) == sorted(texts(alone, alone.train))
    assert [text for text in texts(alone, alone.train) if text in trained] == trained  # in order
    assert data.test_texts == alone.test_texts
    assert data.test.labels.tolist() == alone.test.labels.tolist()


def test_without_a_cut_the_vocabulary_and_the_stories_are_those_that_memory_would_hold(streamed):
    for changes in ({}, {"data.take": 7, "data.vocab_texts": 5}, {"data.field": "title"}):
        options = replace(streamed, {"data.validation": "test"} | changes)
        prepared = preparation.prepare(options.data)
        alone = preparation.prepare(replace(options, {"data.stream": False}).data)
        whole = prepared.train.gather(np.arange(len(prepared.train)))
        assert prepared.vectorizer == alone.vectorizer
        np.testing.assert_array_equal(whole.tokens.ids, alone.train.tokens.ids)
        np.testing.assert_array_equal(whole.tokens.offsets, alone.train.tokens.offsets)
        np.testing.assert_array_equal(whole.labels, alone.train.labels)
        assert len(prepared.test) == len(alone.test) == len(prepared.validation)


def test_versions_of_a_story_stay_on_one_side_and_empty_ones_do_not_go_together():
    stories = Stories.collect(
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


def test_preparing_reads_no_further_than_a_chunk_ahead(streamed, tmp_path, monkeypatch):
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
        replace(streamed, {"data.cache_dir": str(tmp_path), "data.vocab_texts": 0}).data, ("a", "b")
    )
    assert 10 <= most <= 40


def test_a_second_preparation_finds_the_first_and_a_damaged_one_is_made_anew(streamed, tmp_path):
    options = replace(streamed, {"data.cache_dir": str(tmp_path / "cache")})
    said = []
    first = preparation.digest(preparation.prepare(options.data, say=said.append))
    (folder,) = entries(tmp_path / "cache")
    assert len(said) == 2
    for name in ("train.tokens", "train.index", "validation.index", "meta.json", "vocabulary.json"):
        for damage in (faults.flip, lambda raw: raw[:-1], None):
            said.clear()
            assert preparation.digest(preparation.prepare(options.data, say=said.append)) == first
            assert said == []
            file = tmp_path / "cache" / folder / name
            if damage:
                file.write_bytes(damage(file.read_bytes()))
            else:
                file.unlink()
            assert preparation.digest(preparation.prepare(options.data, say=said.append)) == first
            assert "made anew" in said[0]
    # What a kill left behind is in nobody's way.
    shutil.rmtree(tmp_path / "cache" / folder)
    (tmp_path / "cache" / f"{folder}.part").mkdir()
    assert preparation.digest(preparation.prepare(options.data)) == first
    assert list(entries(tmp_path / "cache")) == [folder]


def test_other_options_or_stories_are_prepared_apart(streamed, tmp_path, story_folder):
    moved = shutil.copytree(story_folder, tmp_path / "moved")
    options = replace(
        streamed, {"data.cache_dir": str(tmp_path / "cache"), "data.data_dir": str(moved)}
    )
    for count, changes in enumerate(
        ({}, {"data.max_length": 5}, {"data.field": "title"}, {"data.vocab_size": 9}), 1
    ):
        preparation.prepare(replace(options, changes).data)
        preparation.prepare(replace(options, changes | {"data.window": 8}).data)
        assert len(entries(tmp_path / "cache")) == count
    (moved / "train.csv").write_text((moved / "train.csv").read_text() + '1,"a","b"\n')
    preparation.prepare(options.data)
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
    streamed, tmp_path, monkeypatch, changes, bounds, message
):
    for name, value in bounds.items():
        monkeypatch.setattr(streaming, name, value)
    options = replace(streamed, {"data.cache_dir": str(tmp_path)} | changes)
    with pytest.raises(InputError, match=message) as error:
        preparation.prepare(options.data)
    assert "\n" not in str(error.value)
    assert entries(tmp_path) == {}  # nor is half of anything left


def test_a_training_file_that_is_missing_a_pipe_or_being_written(streamed, tmp_path, monkeypatch):
    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(streamed.data.data_dir, data)
    options = replace(streamed, {"data.data_dir": str(data), "data.cache_dir": str(cache)})
    digest = streaming.file_digest

    def grow(path):
        found = digest(path)
        with open(path, "a") as file:
            file.write('1,"one","more"\n')
        return found

    with monkeypatch.context() as patch:
        patch.setattr(streaming, "file_digest", grow)
        with pytest.raises(InputError, match="changed while they were read"):
            preparation.prepare(options.data)
    assert entries(cache) == {}
    preparation.prepare(options.data)
    kept = entries(cache)
    with monkeypatch.context() as patch:  # what another run may be reading stays
        patch.setattr(streaming, "file_digest", grow)
        with pytest.raises(InputError, match="changed while they were read"):
            preparation.prepare(replace(options, {"data.vocab_size": 50}).data)
        assert entries(cache) == kept
        patch.setattr(streaming, "file_digest", lambda path: path.unlink() or "gone")
        with pytest.raises(InputError, match=r"train\.csv is missing"):
            preparation.prepare(options.data)
    assert entries(cache) == kept
    with pytest.raises(InputError, match=r"train\.csv is missing"):
        preparation.prepare(options.data)
    os.mkfifo(data / "train.csv")
    with pytest.raises(InputError, match=r"train\.csv is no regular file"):
        preparation.prepare(options.data)


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
