"""Searches against all sequences that there are, and distances against the table of a textbook."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import decoding
from rnn_jax.decoding import NEVER
from rnn_jax.report.translation import aligned, distance

END, SIZE, LIMIT, ROWS = 2, 5, 4, 3
# What comes after each beginning, by its number in base SIZE; a model that forgets nothing.
LOGITS = np.random.default_rng(0).normal(0, 2, (ROWS, SIZE ** (LIMIT + 1), SIZE)).astype(np.float32)
LOGITS[..., 0] = -1e9  # padding never comes


def step(carry, tokens):
    """The carry is (row, the number of what has come so far, with the start before it)."""
    row, so_far = carry
    so_far = so_far * SIZE + jnp.where(tokens == END, 0, tokens)
    return (row, so_far), jnp.asarray(LOGITS)[row, so_far]


def carry(rows=ROWS):
    return jnp.arange(rows), jnp.zeros(rows, jnp.int32)


def every(row, alpha):
    """All sequences that end within the limit, best first: (score, log, tokens)."""
    logs = np.asarray(jax.nn.log_softmax(LOGITS[row]))
    found = []
    for length in range(LIMIT):
        for before in itertools.product((1, 3, 4), repeat=length):
            number, log = 0, 0.0
            for token in (*before, END):
                log += float(logs[number, token])
                number = number * SIZE + token
            score = log / ((5 + length + 1) / 6) ** alpha
            found.append((score, log, (*before, END)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(alpha):
    beam = 3 ** (LIMIT - 1)  # as wide as there are beginnings
    found = jax.jit(
        lambda alpha: decoding.search(step, carry(), END, END, ROWS, LIMIT, beam, alpha)
    )(alpha)
    for row in range(ROWS):
        expected = every(row, alpha)
        for place, (score, log, tokens) in enumerate(expected[:beam]):
            length = len(tokens)
            assert found.tokens[row, place].tolist() == [*tokens, *[0] * (LIMIT - length)]
            assert found.lengths[row, place] == length
            assert float(found.scores[row, place]) == pytest.approx(score, rel=1e-5)
            assert float(found.logs[row, place]) == pytest.approx(log, rel=1e-5)


def test_the_penalty_changes_what_is_best():
    best = [[every(row, alpha)[0][2] for row in range(ROWS)] for alpha in (0.0, 3.0)]
    assert best[0] != best[1]  # otherwise the test above says little


def test_a_narrow_beam_does_as_it_says():
    """Beside a search written with lists."""
    for beam in (1, 2):
        found = decoding.search(step, carry(), END, END, ROWS, LIMIT, beam, 0.0)
        for row in range(ROWS):
            logs = np.asarray(jax.nn.log_softmax(LOGITS[row]))
            alive, ended = [(0.0, 0, ())], []
            for _ in range(LIMIT):
                ended += [(log + logs[n, END], (*seq, END)) for log, n, seq in alive]
                alive = sorted(
                    (log + logs[n, token], n * SIZE + token, (*seq, token))
                    for log, n, seq in alive
                    for token in (1, 3, 4)
                )[: -beam - 1 : -1]
            best = sorted(ended, reverse=True)[:beam]
            for place, (log, tokens) in enumerate(best):
                assert found.tokens[row, place].tolist()[: len(tokens)] == list(tokens)
                assert float(found.logs[row, place]) == pytest.approx(float(log), rel=1e-5)


def test_greedy_takes_the_likeliest_token_each_time():
    found = decoding.greedy(step, carry(), END, END, ROWS, LIMIT)
    for row in range(ROWS):
        number, expected = 0, []
        while len(expected) < LIMIT and (not expected or expected[-1] != END):
            expected.append(int(LOGITS[row, number].argmax()))
            number = number * SIZE + expected[-1]
        assert found.tokens[row].tolist() == [*expected, *[0] * (LIMIT - len(expected))]
        assert found.lengths[row] == len(expected)
        said = np.asarray(jax.nn.log_softmax(LOGITS[row]))
        number, log = 0, 0.0
        for token in expected:
            log += float(said[number, token])
            number = number * SIZE + token
        assert float(found.logs[row]) == pytest.approx(log, rel=1e-5)


def test_rows_do_not_depend_on_each_other():
    together = decoding.search(step, carry(), END, END, ROWS, LIMIT, 2, 0.6)
    alone = decoding.search(step, carry(1), END, END, 1, LIMIT, 2, 0.6)
    for one, other in zip(together, alone, strict=True):
        assert (np.asarray(one)[:1] == np.asarray(other)).all()


def test_where_nothing_ends_what_has_come_stands_for_it():
    endless = lambda carry, tokens: (carry, jnp.tile(jnp.log(jnp.array([0, 0.3, 0, 0.7])), (2, 1)))
    found = decoding.search(endless, (), END, END, 1, 3, 2, 1.0)
    assert found.tokens[0].tolist() == [[3, 3, 3], [3, 1, 3]]
    np.testing.assert_allclose(found.logs[0, 0], 3 * np.log(0.7), rtol=1e-5)
    np.testing.assert_allclose(found.scores[0, 0], 3 * np.log(0.7) / (8 / 6), rtol=1e-5)


def test_places_that_no_sequence_takes_say_so():
    only = lambda carry, tokens: (carry, jnp.tile(jnp.array([-1e9, -1e9, 0.0, -1e31]), (3, 1)))
    found = decoding.search(only, (), END, END, 1, 4, 3, 0.0)
    assert found.tokens[0, 0].tolist() == [END, 0, 0, 0]
    assert float(found.logs[0, 0]) == 0
    assert (np.asarray(found.logs[0, 1:]) == NEVER).all()
    assert (np.asarray(found.scores[0, 1:]) == NEVER).all()
    # One that cannot come is in no sequence, even where there are fewer than the beam.
    two = jnp.array([-1e9, -1e9, 1.0, 0.0])
    found = decoding.search(
        lambda carry, tokens: (carry, jnp.tile(two, (3, 1))), (), END, END, 1, 2, 3, 0.0
    )
    assert (np.asarray(found.logs[0]) > NEVER).tolist() == [True, True, False]
    assert found.tokens[0, :2].tolist() == [[END, 0], [3, END]]


def test_edit_distances_are_those_of_the_table():
    random = np.random.default_rng(0)
    one, other = np.zeros((40, 7), np.int32), np.zeros((40, 5), np.int32)
    for rows in (one, other):
        for row in rows:
            length = random.integers(rows.shape[1] + 1)
            row[:length] = random.integers(1, 4, length)
    found = decoding.edit_distances(jnp.asarray(one), jnp.asarray(other))
    bare = lambda row: [token for token in row.tolist() if token]
    expected = [distance(bare(a), bare(b)) for a, b in zip(one, other, strict=True)]
    assert found.tolist() == expected
    assert len(set(expected)) > 4
    several = decoding.edit_distances(jnp.asarray(one)[:, None], jnp.asarray(other)[None])
    assert several.shape == (40, 40)
    assert jnp.diagonal(several).tolist() == expected


def test_alignments_by_hand():
    assert distance("kitten", "sitting") == 3
    assert aligned("131", "11") == [("1", "1"), ("3", "·"), ("1", "1")]
    assert aligned("", "a") == [("·", "a")]
