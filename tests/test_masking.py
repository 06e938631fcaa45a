"""Lengths, masks and pooling: rows without a step, NaN in the padding."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import masking
from rnn_jax.nn import segments

MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
VALUES = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("strict_promotion")


def test_lengths_and_masks_are_inverse():
    lengths = jnp.array([3, 0, 5], jnp.int32)
    mask = masking.lengths_to_mask(lengths, 5)
    np.testing.assert_array_equal(mask, [[1, 1, 1, 0, 0], [0] * 5, [1] * 5])
    np.testing.assert_array_equal(masking.mask_to_lengths(mask), lengths)
    assert masking.lengths_to_mask(lengths, 0).shape == (3, 0)


def test_a_mask_with_a_hole_has_no_lengths():
    with pytest.raises(ValueError, match="valid step after a masked one"):
        masking.mask_to_lengths(jnp.asarray(MASK))


POOLINGS = {
    masking.last_valid: lambda rows: rows[-1],
    masking.masked_mean: lambda rows: rows.mean(axis=0),
    masking.masked_max: lambda rows: rows.max(axis=0),
}


@pytest.mark.parametrize("pool", POOLINGS)
def test_pooling(pool):
    def expected(mask):
        rows = zip(VALUES, mask, strict=True)
        return [POOLINGS[pool](row[m]) if m.any() else np.zeros(3) for row, m in rows]

    np.testing.assert_allclose(pool(VALUES, jnp.asarray(MASK)), expected(MASK), rtol=1e-6)
    np.testing.assert_allclose(pool(jnp.asarray(VALUES)), expected(np.ones_like(MASK)), rtol=1e-6)
    empty = jnp.zeros((4, 0, 3))
    for mask in (None, jnp.zeros((4, 0), bool)):
        np.testing.assert_array_equal(pool(empty, mask), np.zeros((4, 3)))


@pytest.mark.parametrize("pool", POOLINGS)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -7.0])
def test_padding_never_matters(pool, garbage):
    def run(values):
        def loss(v):
            return jnp.sum(jnp.sin(pool(v, jnp.asarray(MASK))))

        return pool(values, jnp.asarray(MASK)), jax.grad(loss)(values)

    clean = run(jnp.where(MASK[..., None], VALUES, jnp.float32(0)))
    dirty = run(jnp.where(MASK[..., None], VALUES, jnp.float32(garbage)))
    for one, other in zip(clean, dirty, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert np.isfinite(one).all()
    np.testing.assert_array_equal(np.asarray(clean[1])[~MASK], 0)


@pytest.mark.parametrize("use", [masking.zero_masked, *POOLINGS])
def test_a_mask_that_would_broadcast_or_is_no_mask_is_refused(use):
    shape = r"mask must have shape \[batch, time\] = \(4, 5\), got "
    for wrong in (MASK[:, :1], MASK[:1], MASK[:, :4], MASK[..., None], MASK[0]):
        with pytest.raises(ValueError, match=shape + re.escape(str(wrong.shape))):
            use(VALUES, wrong)
        with pytest.raises(ValueError, match=shape):
            jax.jit(use)(VALUES, wrong)
    for kind in (np.float32, np.int32):
        with pytest.raises(ValueError, match=f"mask must be of type bool, got {kind.__name__}"):
            use(VALUES, MASK.astype(kind))


def test_starts_keep_the_boundary_under_reverse():
    resets = jnp.array([[True, False, True, False, False]])
    np.testing.assert_array_equal(masking.starts(resets, reverse=False), resets)
    np.testing.assert_array_equal(masking.starts(resets, reverse=True), [[0, 1, 0, 0, 0]])


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("kind", INTEGERS)
def test_lengths_of_every_integer_type_count_up_to_their_largest(kind):
    largest = min(np.iinfo(kind).max, 70_000)
    lengths = np.array([0, 10, 100, largest - 1, largest], kind)
    time = largest + 3
    for given in (lengths, jnp.asarray(lengths)):
        mask = masking.lengths_to_mask(given, time)
        assert mask.shape == (5, time)
        np.testing.assert_array_equal(np.asarray(mask).sum(axis=1), lengths)
        np.testing.assert_array_equal(masking.mask_to_lengths(mask), lengths)
    traced = jax.jit(masking.lengths_to_mask, static_argnums=1)(lengths, time)
    np.testing.assert_array_equal(np.asarray(traced).sum(axis=1), lengths)


def test_lengths_beyond_int32_are_beyond_any_array():
    for value in (2**31, 2**32 + 5, 2**63, 2**64 - 1):
        np.testing.assert_array_equal(masking.lengths_to_mask(np.array([value, 1], "uint64"), 3),
                                      [[1, 1, 1], [1, 0, 0]])  # fmt: skip
    assert masking.lengths_to_mask(np.array([-(2**63)]), 3).tolist() == [[False] * 3]
    assert masking.lengths_to_mask([2, 0], 2).tolist() == [[True, True], [False, False]]
    with pytest.raises(ValueError, match="lengths must be of an integer type, got float32"):
        masking.lengths_to_mask(jnp.ones(3), 2)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_means_of_half_types_add_up_in_float32(kind):
    hundreds = jnp.full((1, 1000, 1), 100, kind)
    mask = jnp.arange(1000)[None] < 998
    ids = mask.astype(jnp.int8)
    draw = np.random.default_rng(3).normal(size=(1, 1000, 2))
    values = jnp.asarray(draw, kind)
    rounded = np.asarray(values, np.float64)
    for found, expected in (
        (masking.masked_mean(hundreds), [[100]]),
        (masking.masked_mean(hundreds, mask), [[100]]),
        (segments.segment_mean(hundreds, ids, np.array([998])), [[100]]),
        (masking.masked_mean(values, mask), rounded[:, :998].mean(axis=1)),
        (segments.segment_mean(values, ids, np.array([998])), rounded[:, :998].mean(axis=1)),
    ):
        assert found.dtype == kind
        half = np.finfo(np.float16).eps if kind == jnp.float16 else 2**-8
        np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=half)
    slopes = jax.grad(lambda values: jnp.sum(masking.masked_mean(values, mask)))(hundreds)
    assert slopes.dtype == kind
    np.testing.assert_allclose(np.asarray(slopes, np.float64)[0, :998], 1 / 998, rtol=2**-8)
    np.testing.assert_array_equal(slopes[0, 998:], 0)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint32"])
def test_means_of_segments_count_in_any_integer_type(kind):
    count = 200
    values = np.random.default_rng(5).normal(size=(4, 300, 2)).astype(np.float32)
    ids = np.zeros((4, 300), np.int32)
    ids[0, :120], ids[1], ids[2, :5] = 1, 2, 3
    lengths = np.zeros(count, np.int64)
    lengths[:3] = 120, 100, 5
    ids[1, 100:] = 0
    found = segments.segment_mean(values, ids.astype(kind), lengths.astype(kind))
    for n in range(3):
        np.testing.assert_allclose(
            found[n], values[ids == n + 1].mean(axis=0), rtol=2e-5, atol=1e-6
        )
    np.testing.assert_array_equal(found[3:], 0)
    largest = segments.segment_max(values, ids.astype(kind), lengths.astype(kind))
    for n in range(3):
        np.testing.assert_array_equal(largest[n], values[ids == n + 1].max(axis=0))


@pytest.mark.parametrize("kind", ["int8", "int32", "uint8"])
def test_pooling_integers(kind):
    info = np.iinfo(kind)
    values = np.random.default_rng(2).integers(info.min, info.max, (4, 5, 3), kind, endpoint=True)
    found = masking.masked_max(jnp.asarray(values), jnp.asarray(MASK))
    expected = [
        row[m].max(axis=0) if m.any() else [0] * 3 for row, m in zip(values, MASK, strict=True)
    ]
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)
    mean = masking.masked_mean(jnp.asarray(values), jnp.asarray(MASK))
    assert mean.dtype == jnp.float32
    for row, m, found in zip(values, MASK, mean, strict=True):
        exact = row[m].mean(axis=0) if m.any() else 0
        np.testing.assert_allclose(found, exact, rtol=0, atol=info.max * 1e-6)
    with pytest.raises(ValueError, match="values must be of a real type, got complex64"):
        masking.masked_max(jnp.ones((4, 5, 3), jnp.complex64), MASK)
