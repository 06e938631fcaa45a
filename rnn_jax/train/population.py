"""Runs that take their steps together, in one program, vmapped over their states.

Every member is an ordinary run in a thread of its own, with its own data order, clipping, early
stopping, folder and checkpoints; only its calls of `train_steps` are not computed at once. When all
members of a group wait, those whose batches have the shape that most have are computed as one, and
the others wait for their turn. A group's states stay on the device in one stack with a row for each
member; a call takes out the rows that it needs, and a member that looks at its state gets its row.

What a member computes depends on nobody's company: rows of a vmapped program do not touch, batches
keep their shapes (with their padding, and so their noise), and a program has as many rows as the
population may have members, used or not. XLA's bits differ with that number, but not with a
member's place; the tests hold it to that. So in a population of the same size a run goes on bit for
bit, whoever else is there.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.optim.tables import TableUpdate
from rnn_jax.system import compilation, machine, programs
from rnn_jax.tasks.base import Task, TaskBatch
from rnn_jax.tasks.metrics import Sums
from rnn_jax.train import steps
from rnn_jax.train.company import Company
from rnn_jax.train.steps import Compiled, TrainState
from rnn_jax.types import Array, PRNGKey

SHARE = 0.5  # of the device's memory that a group's stack may take, with the copy of a call's rows


class Row(NamedTuple):
    """A member's state, while it is in the stack."""

    group: _Group
    number: int

    @property
    def sums(self) -> Sums:
        return self.group.part(self.number, lambda state: state.sums)

    def whole(self) -> TrainState:
        return self.group.part(self.number, lambda state: state)


class _Call(NamedTuple):
    """A member that waits for its steps."""

    row: int
    batches: TaskBatch
    steps: int


class Population:
    """Where members meet. Its methods may be called from any thread."""

    def __init__(self, size: int):
        """Args:
        size: members at a time, at most.
        """
        self._size = size
        self._turn = threading.Condition()
        self._groups: dict[Hashable, _Group] = {}
        self._arriving = 0  # members that are yet to make their first call: all wait for them

    @contextlib.contextmanager
    def member(self) -> Iterator[Company]:
        """What a run is given that trains with the others; it leaves them with the context."""
        with self._turn:
            self._arriving += 1
            for group in self._groups.values():
                group.open = False
        member = _Member(self)
        try:
            yield Company(compiled=member.compiled)
        finally:
            member.leave()

    def enter(self, key: Hashable, make: Callable[[], Any], state: Any) -> Row:
        """A row in the group of runs that share a program; waits until one is free."""
        with self._turn:
            if key not in self._groups:
                # A search over shapes must not hold the stacks of all that it has left behind.
                for old in [key for key, group in self._groups.items() if not group.inside]:
                    del self._groups[old]
                self._groups[key] = _Group(self._turn, make(), _rows(state, self._size))
            group = self._groups[key]
            if not group.free:  # the others go on meanwhile
                self.arrived()
                self._turn.wait_for(lambda: group.free)
                return Row(group, group.enter())
            row = Row(group, group.enter())
            self.arrived()
            return row

    def arrived(self) -> None:
        """One member fewer is yet to come."""
        with self._turn:
            self._arriving -= 1
            for group in self._groups.values():
                group.open = self._arriving == 0
                group.compute()


class _Member:
    """One run's side: from its first call on it has a row of its group's stack."""

    def __init__(self, population: Population):
        self._population = population
        self._row: Row | None = None

    def compiled(
        self, task: Task, update: TableUpdate, stop_at_non_finite: bool, manner: str
    ) -> Compiled:
        """`Company.compiled`; a task that equals no other takes its steps alone."""
        alone = steps.compiled(task, update, stop_at_non_finite, manner)
        if task.key is None:
            return alone
        together = functools.partial(_together, task, update, stop_at_non_finite, manner)
        program = (task.key, update, stop_at_non_finite, manner)

        def train_steps(
            state: Any, batches: TaskBatch, count: Any, key: PRNGKey, numbers: Hyperparameters
        ) -> tuple[Row, Array]:
            fixed = (jax.random.key_data(key), numbers)
            if self._row is None:
                kind = (program, _shapes((state, fixed)))
                self._row = self._population.enter(kind, together, (state, fixed))
            group, row = self._row
            if not isinstance(state, Row):
                group.put(row, state, fixed)
            return self._row, group.call(_Call(row, batches, int(count)))

        return Compiled(
            train_steps=train_steps,
            settle=lambda state, numbers: alone.settle(_whole(state), numbers),
            sums=lambda state: state.sums,
            whole=_whole,
        )

    def leave(self) -> None:
        """Its run has ended."""
        if self._row is None:
            self._population.arrived()
        else:
            self._row.group.leave(self._row.number)
            self._row = None


class _Group:
    """Members that share a program, and their stack.

    free: rows that nobody has.
    inside: members that have one.
    open: whether nobody is to come any more.
    """

    def __init__(
        self,
        turn: threading.Condition,
        program: Callable[..., tuple[TrainState, Array]],
        rows: int,
    ):
        self._turn, self._program, self._rows = turn, program, rows
        self.free = list(range(rows))
        self.inside = 0
        self.open = False
        self._waiting: list[_Call] = []
        self._steps: dict[int, Array] = {}  # of rows whose call is done
        self._states: Any = None  # [rows + 1, ...]; the last row fills programs up
        self._fixed: Any = None
        self._error: BaseException | None = None

    def enter(self) -> int:
        """A row of the stack, which has a free one."""
        self.inside += 1
        return self.free.pop(0)

    def leave(self, row: int) -> None:
        """Gives a row back."""
        with self._turn:
            self.free.append(row)
            self.inside -= 1
            self.compute()
            self._turn.notify_all()

    def put(self, row: int, state: TrainState, fixed: Any) -> None:
        """Puts a member's state into its row."""
        with self._turn:
            if self._states is None:
                self._states, self._fixed = _stack((state, fixed), self._rows + 1)
            self._states = _put(self._states, row, state)
            self._fixed = _put(self._fixed, row, fixed)

    def part(self, row: int, of: Callable[[Any], Any]) -> Any:
        """A part of a member's state."""
        with self._turn:
            return _take(of(self._states), row)

    def call(self, call: _Call) -> Array:
        """The step at which a row arrives, once all members' calls are under way."""
        with self._turn:
            self._waiting.append(call)
            self.compute()
            self._turn.wait_for(lambda: call.row in self._steps or self._error)
            if self._error is not None:
                raise self._error
            return self._steps.pop(call.row)

    def compute(self) -> None:
        """Computes what waits, if nobody else is to come."""
        whole = self.open and len(self._waiting) == self.inside
        if not whole or not self._waiting or self._error is not None:
            return
        alike: dict[Hashable, list[_Call]] = {}
        for call in self._waiting:
            alike.setdefault(_shapes(call.batches), []).append(call)
        most = max(alike.values(), key=len)
        chosen = {call.row for call in most}
        self._waiting = [call for call in self._waiting if call.row not in chosen]
        try:
            self._compute_alike(most)
        except BaseException as error:
            self._error = error  # every member is told
        self._turn.notify_all()

    def _compute_alike(self, calls: list[_Call]) -> None:
        missing = self._rows - len(calls)
        rows = np.array([*(call.row for call in calls), *[self._rows] * missing], np.int32)
        counts = np.array([*(call.steps for call in calls), *[0] * missing], np.int32)
        empty = [jax.tree.map(np.zeros_like, calls[0].batches)] * missing
        several = [*(call.batches for call in calls), *empty]
        batches = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
        self._states, step = self._program(self._states, self._fixed, rows, batches, counts)
        for number, call in enumerate(calls):
            self._steps[call.row] = step[number]


@programs.shared
def _together(
    task: Task, update: TableUpdate, stop_at_non_finite: bool, manner: str
) -> Callable[..., Any]:
    """`(states, fixed, rows, batches, counts) -> (states, steps)`: several steps of some rows of a
    stack, compiled."""
    train_step = steps.make_train_step(task, update, stop_at_non_finite=stop_at_non_finite)

    def several(
        states: TrainState, fixed: Any, rows: Array, batches: TaskBatch, counts: Array
    ) -> tuple[TrainState, Array]:
        taken, (keys, numbers) = jax.tree.map(lambda leaf: leaf[rows], (states, fixed))
        keys = jax.random.wrap_key_data(keys)

        def body(index: Array, taken: TrainState) -> TrainState:
            batch = jax.tree.map(lambda leaf: leaf[:, index], batches)
            return jax.vmap(train_step)(taken, batch, keys, numbers, index >= counts)

        taken = jax.lax.fori_loop(0, jnp.max(counts), body, taken)
        states = jax.tree.map(lambda every, some: every.at[rows].set(some), states, taken)
        return states, taken.step

    return jax.jit(several, donate_argnums=0, compiler_options=compilation.options(manner))


def _whole(state: Any) -> TrainState:
    return state.whole() if isinstance(state, Row) else state


@functools.partial(jax.jit, static_argnums=1)
def _stack(tree: Any, rows: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], rows, axis=0), tree)


@functools.partial(jax.jit, donate_argnums=0)
def _put(stack: Any, row: int, tree: Any) -> Any:
    return jax.tree.map(lambda every, one: every.at[row].set(one), stack, tree)


@jax.jit
def _take(stack: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[row], stack)


def _shapes(tree: Any) -> Hashable:
    """What of a tree a program is compiled for."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)


def _rows(tree: Any, size: int) -> int:
    """How many members fit into the device's memory, at most `size`; two at least, since one row
    would be compiled as none."""
    each = sum(math.prod(np.shape(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    room = SHARE * machine.memory() / (2 * each)  # the stack, and the rows that a call takes out
    return max(2, min(size, int(room) - 1))
