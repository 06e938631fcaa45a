"""Tables: parameters of which a batch reads few rows, and how a step updates them.

An update is a record of pure functions, in the manner of an optax transformation. The training step
calls them around the gradient, in this order:

    read -> catch_up -> (gradient of the loss) -> gradient -> (optimizer) -> mark -> write

`rnn_jax.optim.updates` has the names of all updates; here is the one that leaves everything to the
optimizer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
import optax

from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.types import AnyArray, Array, Params

T = TypeVar("T")


class Tables(NamedTuple):
    """Which parameters a loss only reads rows of, and where a batch reads them.

    marks: a tree like the parameters, true at the tables. Each has the shape [rows, ...].
    rows: how many rows they have. Row 0 is the padding's.
    read: `(batch) -> int32[...]`, the rows that the loss reads. A batch is the task's own.
    with_reads: `(batch, positions) -> batch`, the batch whose look-ups go to these positions, of
      the same shape, instead: so a table may be given in part.
    """

    marks: Params
    rows: int
    read: Callable[[Any], AnyArray]
    with_reads: Callable[[Any, Array], Any]


class Learned(NamedTuple, Generic[T]):
    """What an update changes: as a whole, or as the rows that a batch reads stand for the tables.

    params: the parameters.
    opt_state: optax' state.
    settled: int32[rows]; the optimizer's count up to which each row of the tables stands. None for
      an update that keeps all rows up to date.
    """

    params: Params
    opt_state: Any
    settled: T | None


Values = Learned[Array]
Marks = Learned[bool]  # whether a leaf has a row for each of the tables'


class TableUpdate(NamedTuple):
    """How a step updates tables.

    `marks` are true at what has a table's rows. A task without tables has `NO_TABLES` and marks of
    nothing, and its update is `dense`, which looks at neither.

    prepare: `(hyperparameters, total_steps) -> hyperparameters`, with the numbers that it needs.
    init: `(tables) -> settled`, before the first step.
    read: `(tables, marks, learned, batch) -> (rows, part, batch)`: which rows the batch reads, what
      is learned of those alone, and the batch that reads that part.
    catch_up: `(hyperparameters, marks, learned) -> learned`, with every row at the optimizer's
      present count but for `settled`; of a part, or of all, to be looked at.
    gradient: `(tables, rows, gradient) -> gradient`, without what is not to count.
    mark: `(settled, opt_state) -> settled`, of rows that all stand at the present count.
    write: `(marks, rows, learned, part) -> learned`, with the part put back.
    """

    prepare: Callable[[Hyperparameters, int], Hyperparameters]
    init: Callable[[Tables], Array | None]
    read: Callable[[Tables, Marks, Values, Any], tuple[Any, Values, Any]]
    catch_up: Callable[[Hyperparameters, Marks, Values], Values]
    gradient: Callable[[Tables, Any, Params], Params]
    mark: Callable[[Array | None, Any], Array | None]
    write: Callable[[Marks, Any, Values, Values], Values]


def prepare_nothing(hyperparameters: Hyperparameters, total_steps: int) -> Hyperparameters:
    """`TableUpdate.prepare` of an update that needs no numbers of its own."""
    del total_steps
    return hyperparameters


def keep_no_state(tables: Tables) -> None:
    """`TableUpdate.init` of an update that keeps all rows up to date."""
    del tables


def miss_nothing(hyperparameters: Hyperparameters, marks: Marks, learned: Values) -> Values:
    """`TableUpdate.catch_up` of an update that keeps all rows up to date."""
    del hyperparameters, marks
    return learned


def mark_nothing(settled: Array | None, opt_state: Any) -> None:
    """`TableUpdate.mark` of an update that keeps all rows up to date."""
    del settled, opt_state


NO_TABLES = Tables(
    marks=None,
    rows=0,
    read=lambda batch: np.zeros(0, np.int32),
    with_reads=lambda batch, positions: batch,
)


@functools.cache  # one record, so that what is compiled for it is found again
def dense() -> TableUpdate:
    """The optimizer sees whole tables, as it sees every other parameter."""
    return TableUpdate(
        prepare=prepare_nothing,
        init=keep_no_state,
        read=lambda tables, marks, learned, batch: (None, learned, batch),
        catch_up=miss_nothing,
        gradient=lambda tables, rows, gradient: gradient,
        mark=mark_nothing,
        write=lambda marks, rows, learned, part: part,
    )


def marks_of(tables: Tables, optimizer: optax.GradientTransformation, learned: Values) -> Marks:
    """For every leaf of `learned` whether it has a row for each of the tables'."""
    in_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, mark: mark,
        learned.opt_state,
        tables.marks,
        transform_non_params=lambda _: False,
    )
    return Learned(tables.marks, in_state, None if learned.settled is None else True)


def where_marked(marks: Any, function: Callable[..., Array], tree: Any, *rest: Any) -> Any:
    """`function` of the marked leaves; of the others the last tree's."""
    return jax.tree.map(
        lambda mark, *leaves: function(*leaves) if mark else leaves[-1], marks, tree, *rest
    )
