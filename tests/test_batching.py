"""Every example exactly once, in few shapes, in an order that only seed and epoch decide."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rnn_jax.data.batching import (
    Examples,
    assemble,
    assemble_run,
    padded_share,
    plan,
    runs,
    widths,
)
from rnn_jax.data.text import Ragged

WIDTHS = (4, 8, 12)
LENGTHS = np.array([0, 1, 4, 5, 8, 9, 12, 3, 2, 7, 12, 4, 4, 6])


@hypothesis.given(
    st.lists(st.integers(0, 12), max_size=60),
    st.integers(1, 7),
    st.integers(0, 2**40),
    st.integers(0, 99),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 4),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_every_row_once_in_batches_as_wide_as_their_longest_row(
    lengths, batch_size, seed, epoch, shuffle, pool, run
):
    lengths = np.array(lengths, np.int64)
    batches = plan(lengths, batch_size, WIDTHS, seed, epoch, shuffle, pool, run)
    rows = [row for _, members in batches for row in members]
    assert sorted(rows) == list(range(len(lengths)))
    for width, members in batches:
        assert 1 <= len(members) <= batch_size
        assert width == min(w for w in WIDTHS if w >= lengths[members].max())
    assert sum(len(members) < batch_size for _, members in batches) <= 1


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(**arguments):
        return [row for _, rows in plan(LENGTHS, 2, WIDTHS, **arguments) for row in rows]

    assert order(seed=3, epoch=1) == order(seed=3, epoch=1)
    orders = {tuple(order(seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    # Written down, so that a new version of NumPy cannot change a run that is resumed under it.
    assert order(seed=0, epoch=0) == [2, 10, 7, 5, 0, 8, 1, 11, 13, 6, 12, 4, 3, 9]


def test_unshuffled_sorts_rows_by_length():
    batches = plan(LENGTHS, 3, WIDTHS, shuffle=False)
    assert [(width, rows.tolist()) for width, rows in batches] == [
        (4, [0, 1, 8]),
        (4, [7, 2, 11]),
        (8, [12, 3, 13]),
        (12, [9, 4, 5]),
        (12, [6, 10]),
    ]


def test_a_pool_saves_padding_and_no_pool_mixes_lengths():
    lengths = np.tile([2, 6, 11], 400)
    shares = [padded_share(plan(lengths, 8, WIDTHS, pool=pool), lengths, 8) for pool in (1, 4, 50)]
    assert shares[0] > shares[1] > shares[2]
    mixed = plan(lengths, 8, WIDTHS, seed=5)
    assert np.mean([len(set(lengths[rows])) == 3 for _, rows in mixed]) > 0.8
    order = np.concatenate([rows for _, rows in mixed])
    assert np.abs(np.corrcoef(order, np.arange(1200))[0, 1]) < 0.1


def test_runs_hold_one_width_and_leave_no_batch_out():
    lengths = np.tile([2, 6, 10], 40)
    batches = plan(lengths, 4, WIDTHS, seed=5, run=3)
    for start in (0, 1, 17, len(batches) - 1, len(batches)):
        parts = list(runs(batches, start, longest=3))
        assert [batch for part in parts for batch in part] == batches[start:]
        assert all(1 <= len(part) <= 3 for part in parts)
        assert all(len({width for width, _ in part}) == 1 for part in parts)
    assert len(list(runs(batches, 0, longest=3))) < len(batches) / 2


def test_plan_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="largest width 12"):
        plan(np.array([3, 13]), 2, WIDTHS)
    for name in ("batch_size", "pool", "run"):
        with pytest.raises(ValueError, match=name):
            plan(LENGTHS, **{"batch_size": 2, "widths": WIDTHS, name: 0})


def test_assemble():
    tokens = Ragged(np.array([5, 6, 7, 8, 9, 2], np.int32), np.array([0, 2, 2, 5, 6]))
    examples = Examples(tokens, np.array([3, 1, 2, 0], np.int32))
    batch = assemble(examples, 4, np.array([2, 0, 1]), batch_size=4)
    assert batch.tokens.tolist() == [[7, 8, 9, 0], [5, 6, 0, 0], [0] * 4, [0] * 4]
    assert batch.lengths.tolist() == [3, 2, 0, 0]
    assert batch.labels.tolist() == [2, 3, 1, 0]
    assert batch.weights.tolist() == [1, 1, 1, 0]
    assert [array.dtype for array in batch] == [np.int32, np.int32, np.int32, np.float32]
    with pytest.raises(ValueError, match="width 2 is too small for a row of length 3"):
        assemble(examples, 2, np.array([2]), 4)
    with pytest.raises(ValueError, match="at most batch_size 1"):
        assemble(examples, 4, np.array([2, 0]), 1)


def test_assemble_run_stacks_batches_and_fills_up_with_empty_ones():
    tokens = Ragged(np.array([5, 6, 7], np.int32), np.array([0, 2, 2, 3]))
    examples = Examples(tokens, np.array([3, 1, 2], np.int32))
    run = [(4, np.array([2, 0])), (4, np.array([1]))]
    stacked = assemble_run(examples, run, batch_size=2, count=3)
    assert [leaf.shape for leaf in stacked] == [(3, 2, 4), (3, 2), (3, 2), (3, 2)]
    for position, (width, rows) in enumerate(run):
        for leaf, expected in zip(stacked, assemble(examples, width, rows, 2), strict=True):
            assert leaf.dtype == expected.dtype
            np.testing.assert_array_equal(leaf[position], expected)
    assert not any(leaf[2].any() for leaf in stacked)


def test_assemble_without_a_token():
    empty = Examples(Ragged(np.zeros(0, np.int32), np.zeros(3, np.int64)), np.zeros(2, np.int32))
    batch = assemble(empty, 4, np.array([0, 1]), 3)
    assert batch.tokens.tolist() == [[0] * 4] * 3
    assert batch.weights.tolist() == [1, 1, 0]


def test_an_epoch_holds_every_token_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 13, 50)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    examples = Examples(
        Ragged(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets),
        np.arange(50, dtype=np.int32),
    )
    batches = [assemble(examples, w, rows, 8) for w, rows in plan(lengths, 8, WIDTHS, 1, 2)]
    seen = np.sort(np.concatenate([batch.tokens[batch.tokens > 0] for batch in batches]))
    np.testing.assert_array_equal(seen, examples.tokens.ids)
    assert sum(batch.weights.sum() for batch in batches) == 50
    assert len({batch.tokens.shape for batch in batches}) <= len(WIDTHS)


def test_padded_share():
    lengths = np.array([4, 2, 8])
    batches = plan(lengths, 2, WIDTHS)  # 2 x 4 and 2 x 8 cells for 14 tokens
    assert padded_share(batches, lengths, 2) == pytest.approx(10 / 24)
    assert padded_share([], np.array([], int), 2) == 0


@pytest.mark.parametrize("max_length", [1, 7, 8, 40, 200, 256, 1000, 100_000])
def test_widths_rise_to_the_maximum_and_are_few(max_length):
    chosen = widths(max_length)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[-1] == max_length
    assert chosen[0] >= min(8, max_length)
    assert len(chosen) <= 30
    assert all(wide < 2.5 * narrow for narrow, wide in itertools.pairwise(chosen))
