"""Texts that a language model writes, and what it says of others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import sampling, tasks
from rnn_jax.config import replace
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.tasks import LanguageConfig
from rnn_jax.tasks import writer as writer_lib
from rnn_jax.tasks.base import Trained

WORDS = (*SPECIAL, "the", "cat", "dog", "sat", ".", ",", "\n")


@pytest.fixture(scope="module")
def writer():
    config = replace(
        LanguageConfig("small"),
        {"model.hidden": 5, "model.embedding_size": 5, "model.kernel": "scan",
         "train.batch_size": 2},
    )  # fmt: skip
    task = tasks.make(config, {"vocab_size": len(WORDS)})
    # Larger than at the start of a training, so that distributions are far from even.
    params = jax.tree.map(lambda leaf: 6 * leaf, task.init(jax.random.key(0)))
    params["bias"] = params["bias"].at[END].set(-8)
    vocabulary = Vocabulary(WORDS, "words", True, {"": 1})
    remembered = {"vocabulary.json": vocabulary.to_json()}
    return task.predictor(Trained(config, task, params, remembered, {}, 0, 1))


def distributions(writer, ids):
    """What comes after each of some tokens, the end before them the first: float[n + 1, words]."""
    empty = writer_lib.empty_carry(writer.network, writer.params, 1)
    found = writer.network.read(writer.params, empty, jnp.asarray([[END, *ids]]))
    table, bias = writer.network.head(writer.params)
    return np.array(jax.nn.softmax(found.features[0] @ table.T + bias))


def distribution(writer, ids):
    """What comes next, by reading everything anew: float[words]."""
    return distributions(writer, ids)[-1]


def test_without_temperature_the_likeliest_token_comes(writer):
    text = writer.generate("the", tokens=40, temperature=0)
    ids = writer.read(text)[0].tolist()
    shares = distributions(writer, ids)
    shares[:, :2] = 0  # padding and unknown ones are not written
    likeliest = shares.argmax(axis=1).tolist()
    assert text == writer.vocabulary.text(ids)
    assert ids[0] == WORDS.index("the")
    assert likeliest[1 : len(ids)] == ids[1:]
    assert len(ids) == 41 or likeliest[len(ids)] == END
    assert len(ids) > 5


def test_the_same_seed_gives_the_same_text_in_any_company(writer):
    three = writer.generate("the cat", tokens=50, seed=4, samples=3)
    assert three == writer.generate("the cat", tokens=50, seed=4, samples=3)
    assert three[:2] == writer.generate("the cat", tokens=50, seed=4, samples=2)
    assert three[0] == writer.generate("the cat", tokens=50, seed=4)
    assert len(set(three)) == 3
    assert three[0] != writer.generate("the cat", tokens=50, seed=5)
    assert writer.generate("the cat", tokens=50, seed=4).startswith(
        writer.generate("the cat", tokens=20, seed=4)
    )


def test_pieces_are_the_text(writer):
    pieces = list(writer.stream("the", tokens=90, seed=1))
    assert len(pieces) > 1
    assert "the" + "".join(pieces) == writer.generate("the", tokens=90, seed=1)


def test_a_text_ends_before_the_string_that_stops_it(writer):
    whole = writer.generate("the", tokens=90, seed=1)
    stop = whole[40:43]
    expected = whole[: whole.index(stop, 3)]
    assert writer.generate("the", tokens=90, seed=1, stop=stop) == expected
    assert "the" + "".join(writer.stream("the", tokens=90, seed=1, stop=stop)) == expected


def test_a_long_prompt_is_read_to_its_end(writer):
    prompt = " ".join(["the", "cat", "sat", "."] * 20)
    ids = writer.read(prompt)[0].tolist()
    shares = distribution(writer, ids)
    shares[:2] = 0
    text = writer.generate(prompt, tokens=1, temperature=0)
    gained = "" if shares.argmax() == END else WORDS[shares.argmax()]
    assert text.removeprefix(prompt).strip(" ") == gained


def test_what_is_said_of_a_text(writer):
    guess = writer("The cat, zebra.")
    assert [token for token, _ in guess.tokens] == ["the", "cat", ",", "<unk>", "."]
    assert guess.unknown == ["zebra"]
    ids = [WORDS.index(word) for word, _ in guess.tokens]
    expected = [distribution(writer, ids[:i])[token] for i, token in enumerate(ids)]
    assert [share for _, share in guess.tokens] == pytest.approx(expected, rel=1e-4)
    assert guess.perplexity == pytest.approx(np.exp(-np.log(expected).mean()), rel=1e-4)
    after = distribution(writer, ids)
    assert list(guess.next.values()) == pytest.approx(sorted(after, reverse=True)[:10], rel=1e-4)


def test_a_text_longer_than_a_call_is_read_on(writer, monkeypatch):
    text = "the cat sat . " * 40
    whole = writer(text)
    monkeypatch.setattr(writer_lib, "LONGEST", 64)
    parts = writer(text)
    assert parts.perplexity == pytest.approx(whole.perplexity, rel=1e-5)
    assert parts.next == pytest.approx(whole.next, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tokens": -1}, "tokens must"),
        ({"tokens": 1.5}, "tokens must"),
        ({"temperature": -0.1}, "temperature must"),
        ({"temperature": float("nan")}, "temperature must"),
        ({"top_k": -1}, "top_k must"),
        ({"top_p": 0}, "top_p must"),
        ({"top_p": 1.01}, "top_p must"),
        ({"samples": 0}, "samples must"),
        ({"seed": -1}, "seed must"),
        ({"prompt": None}, "text must be a string"),
    ],
)
def test_arguments_out_of_bounds_are_named(writer, options, named):
    with pytest.raises(ValueError, match=named):
        writer.generate(**options)


def test_a_misspelt_keyword_is_refused(writer):
    for write in (writer.generate, lambda **how: list(writer.stream(**how))):
        with pytest.raises(TypeError, match="temprature"):
            write(temprature=1)


def test_no_token_leaves_the_prompt(writer):
    assert writer.generate("the cat", tokens=0) == "the cat"


@pytest.mark.parametrize("k", [1, 2, 5, 9, 100])
def test_kth_largest(k):
    values = np.random.default_rng(k).normal(size=(4, 9)).astype(np.float32)
    values[0, 3] = values[0, 4]
    values[1, 2] = -np.inf
    expected = np.sort(values, axis=1)[:, ::-1][:, min(k, 9) - 1]
    assert (np.asarray(sampling.kth_largest(values, jnp.int32(k)))[:, 0] == expected).all()


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.5, 0.9, 0.999999])
def test_the_nucleus_is_the_smallest_set_of_that_probability(p):
    logits = 3 * np.random.default_rng(1).normal(size=(5, 30))
    shares = np.asarray(jax.nn.softmax(logits.astype(np.float32)))
    inside = np.asarray(sampling.in_nucleus(shares, jnp.float32(p)))
    for row, kept in zip(shares, inside, strict=True):
        order = np.argsort(-row)
        count = int(np.searchsorted(np.cumsum(row[order].astype(np.float64)), p)) + 1
        assert set(np.flatnonzero(kept)) == set(order[:count])


def test_draws_follow_the_distribution():
    logits = jnp.log(jnp.asarray([0.1, 0.2, 0.3, 0.4]))
    keys = jax.random.split(jax.random.key(0), 8000)
    rows = jnp.broadcast_to(logits, (8000, 4))
    share = lambda how: np.bincount(np.asarray(sampling.draw(keys, rows, how)), minlength=4) / 8000
    assert share(sampling.sampling()) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)
    assert share(sampling.sampling(top_k=2)) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.02)
    assert share(sampling.sampling(top_p=0.6)) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.02)
    squares = np.array([1, 4, 9, 16]) / 30
    assert share(sampling.sampling(temperature=0.5)) == pytest.approx(squares, abs=0.02)
    assert share(sampling.sampling(temperature=0))[3] == 1


@pytest.mark.parametrize("size", [1, 3, 128, 129, 1000])
def test_a_number_finds_its_token(size):
    shares = np.random.default_rng(size).dirichlet(np.full(size, 0.1), size=40)
    shares[0, : size // 2] = 0
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    uniform = np.random.default_rng(0).random(40).astype(np.float32)
    uniform[1], uniform[2] = 0, np.nextafter(np.float32(1), np.float32(0))
    found = np.asarray(sampling.inverse(uniform, shares))
    ends = np.cumsum(shares.astype(np.float64), axis=1)
    ends /= ends[:, -1:]
    for row, token in enumerate(found):
        assert shares[row, token] > 0 or size == 1
        before = ends[row, token - 1] if token else 0.0
        assert before - 1e-5 <= uniform[row] <= ends[row, token] + 1e-5
