"""The vectorizer against what Keras' TextVectorization made of the same texts."""

import json
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rnn_jax import DataConfig
from rnn_jax.config import InputError
from rnn_jax.data import text
from rnn_jax.data.stories import Stories
from rnn_jax.data.text import Vectorizer, fit_vectorizer, read_vectorizer

RECORD = pathlib.Path(__file__).parent / "references" / "text.json"
CASES = json.loads(RECORD.read_text())["cases"]


def name(case):
    return f"{case['tokens']}-{case['vocab_size']}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_vocabulary_and_ids_are_those_of_keras(case):
    vectorizer = Vectorizer.fit(case["fit"], case["tokens"], case["vocab_size"])
    assert list(vectorizer.words) == case["vocabulary"]
    encoded = vectorizer.encode(case["texts"], max_length=10_000)
    assert [row.tolist() for row in encoded] == case["ids"]


def test_words_by_falling_frequency_then_falling_order():
    vectorizer = Vectorizer.fit(["b a é B. a? c", "É"])
    assert vectorizer.words == ("", "[UNK]", "b", "a", "é", "É", "c")  # é and É: bytes above c
    encoded = vectorizer.encode(["A b", "", "!?", "nobody knows a"], max_length=2)
    assert [row.tolist() for row in encoded] == [[3, 2], [], [], [1, 1]]
    assert (encoded.ids.dtype, encoded.offsets.dtype) == (np.int32, np.int64)
    assert encoded.lengths.tolist() == [2, 0, 0, 2]
    assert len(vectorizer) == 7


def test_the_vocabulary_is_bounded():
    vectorizer = Vectorizer.fit(["a a a b b c"], vocab_size=4)
    assert vectorizer.words == ("", "[UNK]", "a", "b")
    assert vectorizer.encode(["c b a"], 9)[0].tolist() == [1, 3, 2]


def test_no_text_at_all():
    encoded = Vectorizer.fit(["a"]).encode([], 5)
    assert len(encoded) == 0
    assert encoded.ids.dtype == np.int32


def test_arguments_out_of_bounds_are_named():
    with pytest.raises(ValueError, match="tokens must be one of words, characters, not 'bytes'"):
        Vectorizer.fit(["a"], "bytes")
    with pytest.raises(ValueError, match="vocab_size must be at least 3, not 2"):
        Vectorizer.fit(["a"], vocab_size=2)
    with pytest.raises(ValueError, match="max_length must be at least 1, not 0"):
        Vectorizer.fit(["a"]).encode(["a"], 0)


def test_rows_by_index():
    encoded = Vectorizer.fit(["a b"]).encode(["a", "b a"], 5)
    assert encoded[-1].tolist() == encoded[1].tolist() == [2, 3]
    with pytest.raises(IndexError):
        encoded[2]


def test_characters_are_those_of_the_standardized_text():
    vectorizer = Vectorizer.fit(["Ab, b"], "characters")
    assert vectorizer.words == ("", "[UNK]", "b", "a", " ")
    assert vectorizer.encode(["BA-b é"], 5)[0].tolist() == [2, 3, 2, 4, 1]


def test_surrogates_are_unknown_words_and_survive_the_file():
    """A lone surrogate is what Python makes of a byte that is no UTF-8, on standard input say."""
    for tokens in text.SPLITTERS:
        vectorizer = Vectorizer.fit(["a"], tokens)
        assert vectorizer.encode(["\udce9 a"], 9)[0].tolist()[0] == text.UNKNOWN
        fitted = Vectorizer.fit(["\udce9 a"], tokens)
        assert Vectorizer.from_json(fitted.to_json()) == fitted


@hypothesis.given(st.lists(st.text(), min_size=1), st.sampled_from(["words", "characters"]))
@hypothesis.settings(max_examples=100, deadline=None)
def test_json_keeps_everything(texts, tokens):
    try:
        vectorizer = Vectorizer.fit(texts, tokens)
    except InputError:
        return
    again = Vectorizer.from_json(vectorizer.to_json())
    assert again == vectorizer
    np.testing.assert_array_equal(again.encode(texts, 99).ids, vectorizer.encode(texts, 99).ids)
    assert vectorizer.encode(texts, 10**6).ids.min() > text.UNKNOWN


GOOD = {"tokens": "words", "vocab_size": 5, "words": ["", "[UNK]", "a", "b"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("1" * 10_000, "no JSON"),
        (b"\xff\xfe\xff", "no JSON"),
        ("[]", "must be a JSON object"),
        (json.dumps(GOOD | {"more": 1}), "must be a JSON object with tokens, vocab_size and words"),
        (json.dumps(GOOD | {"tokens": "bytes"}), "must be one of words, characters"),
        (json.dumps(GOOD | {"tokens": []}), "must be one of words, characters"),
        (json.dumps(GOOD | {"vocab_size": True}), "vocab_size"),
        (json.dumps(GOOD | {"vocab_size": 1e3}), "vocab_size"),
        (json.dumps(GOOD | {"vocab_size": 10**12}), "vocab_size"),
        (json.dumps(GOOD | {"vocab_size": 3}), "at most vocab_size words"),
        (json.dumps(GOOD | {"words": "ab"}), "must be strings"),
        (json.dumps(GOOD | {"words": ["", "[UNK]", 1]}), "must be strings"),
        (json.dumps(GOOD | {"words": ["a", "b", "c"]}), "starts with"),
        (json.dumps(GOOD | {"words": ["", "[UNK]"]}), "starts with"),
        (json.dumps(GOOD | {"words": ["", "[UNK]", "a", "a"]}), "must differ"),
    ],
)
def test_a_vocabulary_file_is_checked(tmp_path, content, message):
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as error:
        read_vectorizer(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_vocabulary_file_is_read_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    with pytest.raises(InputError, match="is missing"):
        read_vectorizer(path)
    vectorizer = Vectorizer(tuple(GOOD["words"]), "words", 5)
    path.write_text(vectorizer.to_json())
    assert read_vectorizer(path) == vectorizer
    monkeypatch.setattr(text, "MAX_FILE", 20)
    with pytest.raises(InputError, match="more than 20 bytes"):
        read_vectorizer(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("a", "b")),
        ({"vocab_texts": 1}, ("a",)),
        ({"vocab_field": "text", "vocab_texts": 0}, ("c", "b", "a", "d")),
        ({"vocab_field": "text", "vocab_texts": 1}, ("a", "d", "c")),
        ({"vocab_field": "text", "tokens": "characters"}, (" ", "c", "b", "a", "d")),
        ({"vocab_field": "text", "vocab_size": 3}, ("c",)),
    ],
)
def test_fitted_on_the_first_texts_of_a_field(changes, words):
    train = Stories(["a a", "b"], ["c d", "c b c"], np.zeros(2, np.int32))
    assert fit_vectorizer(train, DataConfig(**changes)).words[2:] == words


def test_texts_without_a_word_name_the_flag():
    train = Stories(["...", ""], ["a", "b"], np.zeros(2, np.int32))
    with pytest.raises(InputError, match=r"vocab_field=title: .*no words"):
        fit_vectorizer(train, DataConfig())


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
