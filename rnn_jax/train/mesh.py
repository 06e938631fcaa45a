"""A run on several devices, of one process or of many: each has some rows of every batch.

The program is that of one device. XLA is told that the rows of a batch lie on the devices of a mesh
and the state on all of them, and splits the arithmetic and adds the gradient up (data parallelism);
of recurrences each device runs its own rows (`rnn_jax.kernels.rows`).
So batch, order, noise and gradient are those of one device, and a run differs by rounding alone; it
may go on with another number of devices. Leaves of a batch whose rows the devices do not divide,
such as those of a short one, lie whole on each.

Every process assembles the whole batch and places its own rows of it. All of them run the loop, and
what they decide there they decide by the same bits: the figures of an evaluation come out of a
program that all take part in, and so does the answer to whether one of them was asked to stop.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rnn_jax.config import InputError
from rnn_jax.kernels import rows
from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.optim.tables import TableUpdate
from rnn_jax.system import compilation, programs
from rnn_jax.system.interrupts import Request
from rnn_jax.tasks.base import Evaluate, Task, TaskBatch
from rnn_jax.train import steps
from rnn_jax.train.company import Company
from rnn_jax.train.steps import Compiled, TrainState
from rnn_jax.types import Array, PRNGKey

ROWS = "rows"  # the mesh's axis
LATE = 3  # calls after which it is known whether a process was asked to stop: no device waits then


class Mesh:
    """The devices that a run is trained on, and what its processes agree on."""

    def __init__(self, devices: Sequence[jax.Device]):
        """Args:
        devices: of all processes, in the same order in each.
        """
        mesh = jax.sharding.Mesh(np.array(devices), (ROWS,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._mesh = mesh
        self._alone = jax.process_count() == 1
        self._own = Request()  # to this process
        self._shared = Request()  # to one of them, once all know
        self._answers: collections.deque[Array] = collections.deque()

    def company(self) -> Company:
        """What a run is given that is trained on these devices."""
        return Company(
            compiled=self._compiled,
            evaluation=self._evaluation,
            agreed=lambda request: request if self._alone else self._agreed(request),
            writes=jax.process_index() == 0,
        )

    def check(self, batch_size: int, parts: int = 1) -> None:
        """Raises InputError if the devices do not divide a batch, or its parts."""
        count = self._mesh.size
        if parts > 1 and batch_size // parts % count:
            raise InputError(
                f"{count} devices do not divide the parts of --config.train.batch_size="
                f"{batch_size} that --config.train.accumulate={parts} makes: give fewer parts"
            )
        if batch_size % count:
            fitting = [str(each) for each in range(1, count) if batch_size % each == 0]
            raise InputError(
                f"{count} devices do not divide --config.train.batch_size={batch_size}: give a "
                f"multiple of {count}, or --devices={' or '.join(fitting[-3:])}"
            )

    def _compiled(
        self, task: Task, update: TableUpdate, stop_at_non_finite: bool, manner: str
    ) -> Compiled:
        """`Company.compiled`."""
        alone = steps.compiled(task, update, stop_at_non_finite, manner)
        program = _steps_on(task, update, stop_at_non_finite, manner, self._mesh)
        fixed: list[Any] = []  # key and numbers, the same in all calls

        def train_steps(
            state: TrainState,
            batches: TaskBatch,
            count: Any,
            key: PRNGKey,
            numbers: Hyperparameters,
        ) -> tuple[TrainState, Array]:
            if not fixed:
                fixed.append(self._copied((jax.random.key_data(key), numbers)))
            state, step, answer = program(
                self._copied(state), self._dealt(batches, 1), count, *fixed[0], self._asked()
            )
            self._answers.append(answer)
            if len(self._answers) > LATE:
                self._hear(self._answers.popleft())
            return state, step

        return Compiled(
            train_steps=train_steps,
            settle=lambda state, numbers: alone.settle(_here(state), numbers),
            sums=lambda state: _here(state.sums),
            whole=_here,
        )

    def _evaluation(self, task: Task) -> Evaluate:
        """`Company.evaluation`."""
        program = _evaluation_on(task, self._mesh)
        placed: list[Any] = [None, None]  # parameters, here and there

        def evaluate(params: Any, carry: Any, batch: TaskBatch) -> tuple[Any, Any, Array]:
            if placed[0] is not params:
                placed[:] = params, self._copied(params)
            found, answer = program(
                placed[1], self._copied(carry), self._dealt(batch, 0), self._asked()
            )
            self._answers.clear()
            self._hear(answer)
            carry, sums, outputs = found
            return carry, _here(sums), _here(outputs)

        return evaluate

    def _copied(self, tree: Any) -> Any:
        """The same arrays on every device; those that lie there stay."""

        def place(leaf: Any) -> Array:
            if isinstance(leaf, jax.Array) and leaf.sharding == self._everywhere:
                return leaf
            return self._placed(np.asarray(leaf), self._everywhere)

        return jax.tree.map(place, tree)

    def _dealt(self, tree: Any, axis: int) -> Any:
        """Each device's part of arrays that have rows along `axis`."""
        by_rows = NamedSharding(self._mesh, PartitionSpec(*[None] * axis, ROWS))

        def place(leaf: Any) -> Array:
            leaf = np.asarray(leaf)
            divided = leaf.ndim > axis and leaf.shape[axis] % self._mesh.size == 0
            return self._placed(leaf, by_rows if divided else self._everywhere)

        return jax.tree.map(place, tree)

    def _placed(self, leaf: np.ndarray, sharding: NamedSharding) -> Array:
        if self._alone:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    def _asked(self) -> Array:
        """The signal that each process was asked to stop by, on its devices: int32[devices]."""
        signals = np.full(self._mesh.size, self._own.signal or 0, np.int32)
        if self._own.signal:  # passed on, the answer takes some calls: time stops running
            self._own.answered = True
        return self._placed(signals, NamedSharding(self._mesh, PartitionSpec(ROWS)))

    def _agreed(self, request: Request) -> Request:
        """`Company.agreed`."""
        self._own, self._shared = request, Request()
        self._answers.clear()
        return self._shared

    def _hear(self, answer: Array) -> None:
        """Takes in what all processes said when they were asked whether to stop."""
        signal = int(_here(answer))
        if signal:
            self._shared.signal, self._own.answered = signal, True


@programs.shared
def _steps_on(
    task: Task,
    update: TableUpdate,
    stop_at_non_finite: bool,
    manner: str,
    mesh: jax.sharding.Mesh,
) -> Callable[..., tuple[TrainState, Array, Array]]:
    """`(state, batches, count, key data, numbers, asked) -> (state, step, whether to stop)`."""
    several = steps.make_train_steps(
        steps.make_train_step(task, update, stop_at_non_finite=stop_at_non_finite)
    )

    def train_steps(
        state: TrainState, batches: Any, count: Any, key: Array, numbers: Any, asked: Array
    ) -> tuple[TrainState, Array, Array]:
        with rows.on(mesh, ROWS):
            state = several(state, batches, count, jax.random.wrap_key_data(key), numbers)
        return state, state.step, jnp.max(asked)

    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(
        train_steps,
        donate_argnums=0,
        out_shardings=everywhere,
        compiler_options=compilation.options(manner),
    )


@programs.shared
def _evaluation_on(task: Task, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Any, Array]]:
    """`(params, carry, batch, asked) -> (what task.evaluate returns, whether to stop)`."""

    def evaluate(params: Any, carry: Any, batch: Any, asked: Array) -> tuple[Any, Array]:
        with rows.on(mesh, ROWS):
            return task.evaluate(params, carry, batch), jnp.max(asked)

    return jax.jit(evaluate, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _here(tree: Any) -> Any:
    """Arrays that lie on every device, as this process' first one has them."""

    def part(leaf: Any) -> Any:
        return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf

    return jax.tree.map(part, tree)
