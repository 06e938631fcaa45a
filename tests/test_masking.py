"""Lengths, masks and pooling: rows without a step, NaN in the padding."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import masking

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
