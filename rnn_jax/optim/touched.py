"""Updating only the rows of an embedding that a batch touched.

Adam over a whole table moves every row at every step, since the running means of rows long unseen
still decay and still push. Over 20,000 rows, of which a batch reads a few hundred, that is most
of the time of a small model's step. Here the optimizer sees a small table instead: the rows that
the batch reads, each once, with their own running means. The rule that results is "lazy" Adam (and
dense Adam again, if rows first make up for what they missed: `rnn_jax.optim.delayed`):

- a row is touched if a token of the batch reads it; the padding row (id 0) never is;
- gradients of the same row are summed before the norm that clips is taken;
- an untouched row keeps its value and its running means; weight decay leaves it alone, too;
- bias correction counts the steps of the run, not of the row.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnn_jax.optim import tables as tables_lib
from rnn_jax.optim.tables import Marks, Tables, TableUpdate, Values
from rnn_jax.types import AnyArray, Array, Params

PADDING = 0


class Reads(NamedTuple):
    """Which rows a batch reads.

    rows: int32[n], the rows that are read, each once, among fillers (the table's number of rows).
    positions: int32[...], where in `rows` each of the batch's look-ups goes.
    """

    rows: Array
    positions: Array


@functools.cache  # one record, so that what is compiled for it is found again
def touched() -> TableUpdate:
    """The optimizer sees the rows that the batch reads, by the rule that the module states."""
    return TableUpdate(
        prepare=tables_lib.prepare_nothing,
        init=tables_lib.keep_no_state,
        read=read,
        catch_up=tables_lib.miss_nothing,
        gradient=gradient,
        mark=tables_lib.mark_nothing,
        write=write,
    )


def read(
    tables: Tables, marks: Marks, learned: Values, batch: Any, padding: bool = False
) -> tuple[Array, Values, Any]:
    """`TableUpdate.read`: the batch's rows stand for the tables.

    Args:
      tables, marks, learned, batch: see `rnn_jax.optim.tables.TableUpdate`.
      padding: whether the padding row is one like all others.
    """
    rows, positions = reads(tables.read(batch), tables.rows, padding)
    part = tables_lib.where_marked(marks, lambda table: gather(table, rows), learned)
    return rows, part, tables.with_reads(batch, positions)


def gradient(tables: Tables, rows: Array, gradient: Params) -> Params:
    """`TableUpdate.gradient`: 0 at fillers, which the padding's look-ups may go to."""
    real = rows < tables.rows
    return tables_lib.where_marked(
        tables.marks,
        lambda leaf: jnp.where(real.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0),
        gradient,
    )


def write(marks: Marks, rows: Array, learned: Values, part: Values) -> Values:
    """`TableUpdate.write`."""
    return tables_lib.where_marked(
        marks, lambda table, values: scatter(table, rows, values), learned, part
    )


def reads(tokens: AnyArray, table_rows: int, padding: bool = False) -> Reads:
    """The rows that `tokens` read in a table of `table_rows` rows.

    There is a slot for each token. A row stands in the slot of the last token that reads it; all
    other slots, and unless `padding` that of the padding row, are fillers.

    Args:
      tokens: int32[...], within [0, table_rows).
      table_rows: how many rows the table has. An array of so many numbers is made; for the 20,000
        of a vocabulary that takes less time than sorting the tokens of a batch.
      padding: whether the padding row is one like all others.
    """
    ids = tokens.reshape(-1)
    slots = jnp.arange(ids.size, dtype=jnp.int32)
    last = jnp.zeros(table_rows, jnp.int32).at[ids].max(slots)
    position = last[ids]
    is_row = position == slots
    if not padding:
        is_row &= ids != PADDING
    rows = jnp.where(is_row, ids, table_rows)
    return Reads(rows, position.reshape(tokens.shape))


def gather(table: Array, rows: Array) -> Array:
    """The rows of `table` [rows, ...] at `rows`; fillers read the padding row."""
    return table[jnp.where(rows < table.shape[0], rows, PADDING)]


def scatter(table: Array, rows: Array, values: Array) -> Array:
    """`table` with `values` at `rows`; fillers write nothing."""
    return table.at[rows].set(values, mode="drop", unique_indices=True)
