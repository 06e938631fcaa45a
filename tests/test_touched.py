"""Which rows of a table a batch reads."""

import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.optim.touched import PADDING, gather, reads, scatter

ROWS = 9


@pytest.mark.parametrize(
    "tokens",
    [
        [[3, 5, 3, 0], [7, 3, 0, 0]],
        [[8, 1], [8, 8]],  # no padding; the table's last row
        [[0, 0], [0, 0]],
        [[4, 0, 0]],  # a row that only the first slot reads
        np.zeros((2, 0), int),
    ],
)
def test_each_row_stands_in_one_slot_and_padding_in_none(tokens):
    tokens = jnp.asarray(tokens, jnp.int32)
    rows, positions = reads(tokens, ROWS)
    assert rows.shape == (tokens.size,)
    assert positions.shape == tokens.shape
    real = [row for row in rows.tolist() if row != ROWS]
    assert sorted(real) == sorted(set(tokens.reshape(-1).tolist()) - {PADDING})
    read = jnp.where(rows == ROWS, PADDING, rows)[positions]
    np.testing.assert_array_equal(read, tokens)


def test_the_padding_row_may_be_one_like_all_others():
    rows, positions = reads(jnp.array([[3, 0, 3], [0, 0, 0]], jnp.int32), ROWS, padding=True)
    assert sorted(rows.tolist()) == [PADDING, 3] + [ROWS] * 4
    assert rows[positions].tolist() == [[3, 0, 3], [0, 0, 0]]


def test_fillers_read_the_padding_row_and_write_nothing():
    table = jnp.arange(ROWS * 2.0).reshape(ROWS, 2)
    rows = jnp.array([ROWS, 4, ROWS, 2], jnp.int32)
    np.testing.assert_array_equal(gather(table, rows), table[jnp.array([0, 4, 0, 2])])
    written = scatter(table, rows, -jnp.ones((4, 2)))
    np.testing.assert_array_equal(written, table.at[jnp.array([4, 2])].set(-1))
