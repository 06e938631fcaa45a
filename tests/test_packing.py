"""Which shape a batch gets, and where its texts stand in it."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rnn_jax.data.packing import Shape, place
from rnn_jax.data.shapes import cheapest, packed_shapes, padded_shapes, widths, worthwhile


@hypothesis.given(
    st.lists(st.integers(0, 10), min_size=1, max_size=12), st.integers(1, 12), st.integers(1, 12)
)
@hypothesis.settings(max_examples=200, deadline=None)
def test_texts_are_placed_side_by_side_within_rows(lengths, rows, width):
    lengths, shape = np.array(lengths), Shape(rows, width)
    places = place(lengths, shape)
    if places is None:
        # Where best fit fails, no two rows could be joined: they are more than half full.
        assert lengths.max() > width or 2 * lengths.sum() > rows * width
        return
    taken = np.concatenate([np.arange(p, p + n) for p, n in zip(places, lengths, strict=True)])
    assert len(set(taken)) == lengths.sum()
    for start, length in zip(places, lengths, strict=True):
        if length:
            assert 0 <= start // width == (start + length - 1) // width < rows


def test_the_fullest_row_that_still_fits_is_taken():
    assert place(np.array([3, 6, 4, 7]), Shape(2, 10)).tolist() == [7, 10, 16, 0]
    assert place(np.array([3, 6, 5, 7]), Shape(2, 10)) is None
    assert place(np.array([3, 1]), Shape(2, 4)).tolist() == [0, 4]  # a row for each, in order


def test_a_batch_gets_the_first_shape_that_holds_it():
    shapes = [Shape(1, 8), Shape(2, 8), Shape(4, 8)]
    lengths = np.array([3, 3, 2, 5, 6, 8])
    batches = [np.array(members, int) for members in ([0, 1, 2], [0, 3, 4], [4] * 4, [5], [])]
    assert [shape.rows for shape in cheapest(lengths, batches, shapes)] == [1, 2, 4, 1, 1]
    assert cheapest(lengths, [], shapes) == []
    with pytest.raises(ValueError, match=r"no shape of .* holds texts of .8, 8, 8, 8, 8. tokens"):
        cheapest(lengths, [np.array([5] * 5)], shapes)


def test_packed_shapes_rise_in_cost_and_the_last_holds_any_batch():
    lengths = np.random.default_rng(0).integers(9, 13, 1024)
    lengths[5] = 90
    batches = list(np.arange(1024).reshape(64, 16))
    shapes = packed_shapes(lengths, batches, 16, 100)
    assert list(shapes) == sorted(set(shapes), key=lambda shape: shape.cost)
    assert shapes[-1] == (16, 100)
    assert len({shape.width for shape in shapes}) == 2
    assert packed_shapes(lengths, [], 16, 100)[-1] == (16, 100)


def test_a_shape_is_worth_its_compilation_if_it_saves_more():
    def kept(lengths, shapes, compilation=0.02):
        batches = list(np.arange(len(lengths))[:, None])
        price, left = worthwhile(lengths, batches, shapes, compilation)
        used = cheapest(lengths, batches, left)
        whole = sum(shape.cost for shape in cheapest(lengths, batches, shapes))
        steps = sum(shape.cost for shape in used)
        assert price == pytest.approx(steps + compilation * whole * len(set(used)))
        return [shape.width for shape in left]

    shapes = [Shape(1, width) for width in (8, 10, 11, 20, 100)]
    lengths = np.repeat([7, 10, 20, 50], [500, 100, 1, 1])
    # No batch gets 11 or, since 100 has to be compiled anyway, needs 20: one of 602 does not pay.
    assert kept(lengths, shapes) == [8, 10, 100]
    assert kept(lengths, shapes, compilation=0.3) == [10, 100]
    assert kept(lengths, shapes, compilation=0.0) == [8, 10, 20, 100]
    # A shape that holds the batches of two others saves a compilation.
    shapes = [Shape(1, 40), Shape(1, 41), Shape(1, 100)]
    assert kept(np.repeat([40, 41], [50, 50]), shapes) == [41, 100]
    assert kept(np.zeros(0, int), shapes) == [100]


@pytest.mark.parametrize("max_length", [1, 7, 8, 40, 200, 256, 1000, 100_000])
def test_widths_rise_to_the_maximum_and_are_few(max_length):
    chosen = widths(max_length)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[-1] == max_length
    assert chosen[0] >= min(8, max_length)
    assert len(chosen) <= 30
    assert all(wide < 2.5 * narrow for narrow, wide in itertools.pairwise(chosen))
    assert padded_shapes(3, max_length) == tuple((3, width) for width in chosen)
    for longest in {0, 1, max_length // 2, max_length}:
        fewer = widths(max_length, longest)
        assert (
            fewer == chosen[: len(fewer)]
        )  # the same ones: an unmasked model reads to one of them
        assert fewer[-1] >= longest
        assert len(fewer) == 1 or fewer[-2] < longest
