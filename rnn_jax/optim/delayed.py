"""Dense Adam over an embedding at the cost of the rows that are read.

Adam moves a row at every step, read or not: after a gradient the row's running mean m goes on
pushing until it has decayed, about 1 / (1 - b1) times as far in all as at the gradient's own step.
(Where rows rest while nobody reads them, the rule of `rnn_jax.optim.touched`, a rare word has that
step alone.) But nobody sees where a row stands until it is read, and without gradients its course
is known: a row may miss updates, and make up for all of them at once when it is next read.

Let m and v be the running means of a row after update s (updates count from 1), and let it miss the
k updates s + 1 to s + k. After j of them its means are b1^j m and b2^j v, and update i = s + j
moves its value by

    - lr_i (b1^j m / (1 - b1^i)) / (sqrt(b2^j v / (1 - b2^i)) + epsilon)
  = - r^j c_i m / (sqrt(v) + epsilon d_i b2^(-j/2)),

    r = b1 / sqrt(b2),   c_i = lr_i d_i / (1 - b1^i),   d_i = sqrt(1 - b2^i).

Only the weights r^j c_i and what epsilon is multiplied with depend on j. If the latter is replaced
by its weighted mean, the sum over the gap has the closed form

    - C m / (sqrt(v) + epsilon D / C),   C = sum_j r^j c_i,   D = sum_j q^j c_i d_i,   q = b1 / b2.

C and D are differences of tails, which depend on the schedule alone and are tabulated:

    C = R(s) - r^k R(s + k),   R(s) = sum_{j >= 1} r^j c_{s+j} = r (c_{s+1} + R(s + 1)),

and D likewise with q. Then m <- b1^k m and v <- b2^k v, and the row stands at update s + k. Tails
are finite only if b1 < b2, and the mean stands for its terms only if b2^(-j/2) stays near 1 while
r^j decays; `config.check` wants 1 - b2 small beside 1 - b1, as it usually is.

That mean is all that is approximated; but for it and rounding, the rule is dense Adam's. It shows
where sqrt(v) comes near epsilon, that is, where an entry's gradients do: with the usual b1 and b2
the move of a row after one gradient is exact to 3e-4 of itself at 100 epsilon, and to 2e-2 at 10
(`tests/test_delayed.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.optim import optimizer, touched
from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.optim.tables import Marks, TableUpdate, Values
from rnn_jax.types import AnyArray, Array

_SMALL = 1 << 15  # rows of tails that nobody minds: 256 KiB


class Missed(NamedTuple):
    """What there is to know of updates that rows miss, beside Adam's numbers.

    decays: float32[2]; r and q.
    tails: float32[updates + 1, 2]; the tails of C and of D after each update. From the last on they
      stay the same.
    """

    decays: AnyArray
    tails: AnyArray


@functools.cache  # one record, so that what is compiled for it is found again
def delayed() -> TableUpdate:
    """The optimizer sees the rows that the batch reads, each after the updates that it missed."""
    return TableUpdate(
        prepare=prepare,
        init=lambda tables: jnp.zeros(tables.rows, jnp.int32),
        read=functools.partial(touched.read, padding=True),
        catch_up=catch_up,
        gradient=touched.gradient,
        mark=mark,
        write=touched.write,
    )


def prepare(numbers: Hyperparameters, total_steps: int) -> Hyperparameters:
    """`TableUpdate.prepare`: the numbers with the updates that `optimizer.make` would make of rows
    without a gradient.

    Args:
      numbers: the optimizer's; without weight decay, and as `config.check` wants them.
      total_steps: steps of the whole run. Beyond them the last c goes on.
    """
    updates = total_steps
    if numbers.decay_steps is None:
        # No rate and, to float32, no correction changes after these. A run of fewer steps gets as
        # long a table where it is small, so that its length compiles nothing anew.
        rise = 0 if numbers.warmup_steps is None else int(numbers.warmup_steps)
        changing = rise + math.ceil(-26 * math.log(2, numbers.b2))
        updates = min(changing, max(total_steps, 1 << 16))
    # The float32 numbers that optax computes with: 1 - b2 is off by 1e-5 of itself in them.
    b1, b2 = _rounded(numbers.b1), _rounded(numbers.b2)
    # As many as a power of two: runs of other lengths have tables of the same shape.
    rows = max(_SMALL, 1 << updates.bit_length())
    rates = jax.jit(optimizer.learning_rate)(numbers, np.arange(rows, dtype=np.int32))
    rates = np.asarray(rates, np.float64)[: updates + 1]
    i = np.arange(1, updates + 2)
    d = np.sqrt(1 - b2**i)
    c, r, q = rates * d / (1 - b1**i), b1 / math.sqrt(b2), b1 / b2
    tails = np.stack([_tails(c, r), _tails(c * d, q)], axis=1)
    largest = np.finfo(np.float32).max  # a learning rate may be anything
    tails = np.minimum(tails, largest).astype(np.float32)
    tails = np.pad(tails, ((0, rows - len(tails)), (0, 0)), mode="edge")
    return dataclasses.replace(numbers, missed=Missed(np.array([r, q], np.float32), tails))


def _rounded(decay: float) -> float:
    return float(np.float32(decay))


def _tails(terms: np.ndarray, r: float) -> np.ndarray:
    """The sum over j >= 1 of r^j terms[s + j - 1], for each s; the last term goes on for ever."""
    *first, last = terms.tolist()
    backwards = itertools.accumulate(
        reversed(first), lambda tail, term: r * (term + tail), initial=r / (1 - r) * last
    )
    return np.array(list(backwards)[::-1])


def catch_up(numbers: Hyperparameters, marks: Marks, learned: Values) -> Values:
    """`TableUpdate.catch_up`: all rows of the tables at the optimizer's present count.

    A row that misses nothing keeps its bits, and one that never had a gradient stays where it is.

    Args:
      numbers: as `prepare` returns them.
      marks: true at the tables, float32[rows, features], whole or in part.
      learned: with Adam's state in optax'.
    """
    adam = optax.tree_utils.tree_get(learned.opt_state, "ScaleByAdamState")
    gap = adam.count - learned.settled
    decay = lambda base: jnp.power(jnp.float32(base), gap.astype(jnp.float32)[:, None])
    tails = lambda count: jnp.take(numbers.missed.tails, count, axis=0, mode="clip")
    sums = tails(learned.settled) - decay(numbers.missed.decays) * tails(adam.count)
    c, d = sums[:, :1], sums[:, 1:]
    # Where there is nothing to make up for, both quotients may be 0 / 0.
    factor = numbers.epsilon * d / jnp.where(c > 0, c, 1)
    move = lambda m, v: jnp.where((c > 0) & (m != 0), c * m / (jnp.sqrt(v) + factor), 0)

    def in_tables(function: Callable[..., Array], *trees: Any) -> Any:
        return jax.tree.map(
            lambda mark, *leaves: function(*leaves) if mark else leaves[0], marks.params, *trees
        )

    params = in_tables(lambda x, m, v: x - move(m, v), learned.params, adam.mu, adam.nu)
    adam = adam._replace(
        mu=in_tables(lambda m: decay(numbers.b1) * m, adam.mu),
        nu=in_tables(lambda v: decay(numbers.b2) * v, adam.nu),
    )
    opt_state = optax.tree_utils.tree_set(learned.opt_state, ScaleByAdamState=adam)
    return learned._replace(params=params, opt_state=opt_state)


def mark(settled: Array | None, opt_state: Any) -> Array:
    """`TableUpdate.mark`: `settled` for rows that all stand at the optimizer's present count."""
    assert settled is not None  # `init` made it
    return jnp.full_like(settled, optax.tree_utils.tree_get(opt_state, "ScaleByAdamState").count)
