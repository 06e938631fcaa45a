"""Every example exactly once, in few shapes, in an order that only seed and epoch decide."""

import hypothesis
import jax
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
    shapes,
)
from rnn_jax.data.packing import Shape
from rnn_jax.data.text import Ragged

WIDTHS = (4, 8, 12)


def padded(batch_size):
    return tuple(Shape(batch_size, width) for width in WIDTHS)


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
    batches = plan(lengths, batch_size, padded(batch_size), seed, epoch, shuffle, pool, run)
    rows = [row for _, members in batches for row in members]
    assert sorted(rows) == list(range(len(lengths)))
    for shape, members in batches:
        assert 1 <= len(members) <= batch_size
        width = min(w for w in WIDTHS if w >= lengths[members].max())
        assert shape == (batch_size, width)
    assert sum(len(members) < batch_size for _, members in batches) <= 1


@hypothesis.given(
    st.lists(st.integers(0, 12), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(0, 99),
    st.booleans(),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_packed_batches_hold_every_token_once_and_in_order(lengths, batch_size, epoch, shuffle):
    lengths = np.array(lengths, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    examples = Examples(Ragged(ids, offsets), np.arange(len(lengths), dtype=np.int32))
    few = shapes(lengths, batch_size, 12, packed=True)
    batches = plan(lengths, batch_size, few, seed=1, epoch=epoch, shuffle=shuffle)
    assert sorted(row for _, members in batches for row in members) == list(range(len(lengths)))
    for shape, members in batches:
        batch = assemble(examples, shape, members, batch_size)
        assert batch.tokens.shape == shape in few
        assert batch.labels[: len(members)].tolist() == members.tolist()
        assert batch.weights.sum() == len(members)
        if batch.segments is None:
            assert shape.rows == batch_size
            continue
        for place, member in enumerate(members):
            here = batch.segments == place + 1
            own = ids[offsets[member] : offsets[member + 1]]
            assert batch.tokens[here].tolist() == own.tolist()
            assert len(np.unique(np.nonzero(here)[0])) <= 1  # all of it in one row
            assert np.diff(np.nonzero(here)[1]).tolist() == [1] * max(len(own) - 1, 0)
        assert not batch.tokens[batch.segments == 0].any()
        assert (np.diff((batch.segments > 0).astype(int), axis=1) <= 0).all()  # padding at the ends


def test_packing_leaves_little_padding_in_few_shapes():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(3.6, 0.3, 4000).astype(int), 200)
    epochs = []
    few = shapes(lengths, 16, 200, packed=True)
    for packed in (True, False):
        batches = plan(lengths, 16, shapes(lengths, 16, 200, packed))
        epochs.append((padded_share(batches, lengths), {shape for shape, _ in batches}))
    (packed_share, used), (share, _) = epochs
    assert packed_share < 0.2 < 0.35 < share
    assert len(few) <= 5
    assert few[-1].rows == 16
    assert few[-1] not in used  # for a batch that the sample did not show; there is none


def test_packed_shapes_suit_all_texts_though_a_file_is_sorted():
    lengths = np.repeat([8, 60], [4096, 20_000])
    few = shapes(lengths, 16, 200, packed=True)
    assert padded_share(plan(lengths, 16, few), lengths) < 0.25


def test_shapes_suit_the_batches_that_are_made():
    lengths = np.random.default_rng(0).integers(5, 90, 4000)

    def widths(**options):
        return [shape.width for shape in shapes(lengths, 16, 200, packed=False, **options)]

    assert widths()[0] >= 80
    assert widths(pool=16)[0] <= 32
    assert widths(shuffle=False)[0] < 80
    assert len(widths(shuffle=False)) <= 4  # a pass that only looks is not worth many
    # No text needs more than 96; of a sample, which may miss the longest, that has to be said.
    assert widths()[-1] == widths(shuffle=False)[-1] == 96
    assert widths(longest=150)[-1] == 200


@pytest.mark.parametrize("packed", [True, False])
def test_few_and_tiny_texts_have_shapes(packed):
    for lengths in ([], [0], [5], [3, 200]):
        few = shapes(np.array(lengths, np.int64), 2, 200, packed)
        for epoch in range(3):
            plan(np.array(lengths, np.int64), 2, few, epoch=epoch)


def test_shapes_are_chosen_by_texts_from_the_whole_file():
    # Sorted, and just too few for every second one to be left out of the sample.
    lengths = np.repeat([8, 30, 60], [4096, 3900, 100])
    assert [shape.width for shape in shapes(lengths, 16, 200, packed=False)] == [32, 64]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_packing_never_costs_more_than_padding(batch_size):
    lengths = np.random.default_rng(0).integers(5, 90, 2000)

    def cost(packed):
        batches = plan(lengths, batch_size, shapes(lengths, batch_size, 100, packed), seed=5)
        return sum(shape.cost for shape, _ in batches)

    assert cost(packed=True) <= cost(packed=False) * 1.02


def test_unshuffled_packed_batches_have_equally_many_tokens():
    lengths = np.arange(1, 97)
    batches = plan(lengths, 8, shapes(lengths, 8, 96, packed=True), shuffle=False)
    totals = [lengths[members].sum() for _, members in batches]
    assert max(totals) - min(totals) <= 96


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(**arguments):
        return [row for _, rows in plan(LENGTHS, 2, padded(2), **arguments) for row in rows]

    assert order(seed=3, epoch=1) == order(seed=3, epoch=1)
    orders = {tuple(order(seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    # Written down, so that a new version of NumPy cannot change a run that is resumed under it.
    assert order(seed=0, epoch=0) == [2, 10, 7, 5, 0, 8, 1, 11, 13, 6, 12, 4, 3, 9]


def test_unshuffled_sorts_rows_by_length():
    batches = plan(LENGTHS, 3, padded(3), shuffle=False)
    assert [(shape.width, rows.tolist()) for shape, rows in batches] == [
        (4, [0, 1, 8]),
        (4, [7, 2, 11]),
        (8, [12, 3, 13]),
        (12, [9, 4, 5]),
        (12, [6, 10]),
    ]


def test_a_pool_saves_padding_and_no_pool_mixes_lengths():
    lengths = np.tile([2, 6, 11], 400)
    shares = [padded_share(plan(lengths, 8, padded(8), pool=pool), lengths) for pool in (1, 4, 50)]
    assert shares[0] > shares[1] > shares[2]
    mixed = plan(lengths, 8, padded(8), seed=5)
    assert np.mean([len(set(lengths[rows])) == 3 for _, rows in mixed]) > 0.8
    order = np.concatenate([rows for _, rows in mixed])
    assert np.abs(np.corrcoef(order, np.arange(1200))[0, 1]) < 0.1


def test_runs_hold_one_shape_and_leave_no_batch_out():
    lengths = np.tile([2, 6, 10], 40)
    batches = plan(lengths, 4, padded(4), seed=5, run=3)
    for start in (0, 1, 17, len(batches) - 1, len(batches)):
        parts = list(runs(batches, start, longest=3))
        assert [batch for part in parts for batch in part] == batches[start:]
        assert all(1 <= len(part) <= 3 for part in parts)
        assert all(len({shape for shape, _ in part}) == 1 for part in parts)
    assert len(list(runs(batches, 0, longest=3))) < len(batches) / 2


def test_plan_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"holds texts of .13, 3. tokens"):
        plan(np.array([3, 13]), 2, padded(2))
    for name in ("batch_size", "pool", "run"):
        with pytest.raises(ValueError, match=name):
            plan(LENGTHS, **{"batch_size": 2, "shapes": padded(2), name: 0})


def test_assemble():
    tokens = Ragged(np.array([5, 6, 7, 8, 9, 2], np.int32), np.array([0, 2, 2, 5, 6]))
    examples = Examples(tokens, np.array([3, 1, 2, 0], np.int32))
    batch = assemble(examples, Shape(4, 4), np.array([2, 0, 1]), batch_size=4)
    assert batch.tokens.tolist() == [[7, 8, 9, 0], [5, 6, 0, 0], [0] * 4, [0] * 4]
    assert batch.lengths.tolist() == [3, 2, 0, 0]
    assert batch.labels.tolist() == [2, 3, 1, 0]
    assert batch.weights.tolist() == [1, 1, 1, 0]
    assert [array.dtype for array in batch[:4]] == [np.int32, np.int32, np.int32, np.float32]
    assert batch.segments is None
    with pytest.raises(ValueError, match=r"width=2\) is too small for texts of .3. tokens"):
        assemble(examples, Shape(4, 2), np.array([2]), 4)
    with pytest.raises(ValueError, match="at most batch_size 1"):
        assemble(examples, Shape(1, 4), np.array([2, 0]), 1)


@pytest.mark.parametrize("shape", [Shape(2, 4), Shape(1, 4)], ids=["padded", "packed"])
def test_assemble_run_stacks_batches_and_fills_up_with_empty_ones(shape):
    tokens = Ragged(np.array([5, 6, 7], np.int32), np.array([0, 2, 2, 3]))
    examples = Examples(tokens, np.array([3, 1, 2], np.int32))
    run = [(shape, np.array([2, 0])), (shape, np.array([1]))]
    stacked = assemble_run(examples, run, batch_size=2, count=3)
    assert stacked.tokens.shape == (3, *shape)
    assert stacked.labels.shape == (3, 2)
    assert (stacked.segments is None) == (shape.rows == 2)
    for position, (_, members) in enumerate(run):
        single = assemble(examples, shape, members, 2)
        here = jax.tree.map(lambda leaf, position=position: leaf[position], stacked)
        jax.tree.map(np.testing.assert_array_equal, here, single)
    assert not any(leaf[2].any() for leaf in jax.tree.leaves(stacked))


def test_assemble_without_a_token():
    empty = Examples(Ragged(np.zeros(0, np.int32), np.zeros(3, np.int64)), np.zeros(2, np.int32))
    batch = assemble(empty, Shape(3, 4), np.array([0, 1]), 3)
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
    batches = [assemble(examples, *each, 8) for each in plan(lengths, 8, padded(8), 1, 2)]
    seen = np.sort(np.concatenate([batch.tokens[batch.tokens > 0] for batch in batches]))
    np.testing.assert_array_equal(seen, examples.tokens.ids)
    assert sum(batch.weights.sum() for batch in batches) == 50
    assert len({batch.tokens.shape for batch in batches}) <= len(WIDTHS)


def test_padded_share():
    lengths = np.array([4, 2, 8])
    batches = plan(lengths, 2, padded(2))  # 2 x 4 and 2 x 8 cells for 14 tokens
    assert padded_share(batches, lengths) == pytest.approx(10 / 24)
    assert padded_share([], np.array([], int)) == 0
