"""What holds for every cell and kernel, whatever the lengths, masks, resets and padding.

Each case compiles one program for each of two shapes; Hypothesis varies what they are given. Both
directions of time run in one unroll, each with parameters of its own. Compared are the values and
the gradients with respect to parameters, inputs and initial carries, for one cotangent.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from unrolls import KERNELS_AND_CELLS, compiled

from rnn_jax import masking
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.types import Direction
from rnn_jax.unrolling import unroll, unroll_directions

BATCH, TIME, IN, MORE = 3, 6, 2, 3
CASES = {  # cell, kernel, type of everything but a bfloat16 cell's products and outputs
    "lstm": (lstm(4, projection=3, peepholes=True), "scan", np.float64),
    "gru": (learnable_initial(zoneout(gru(3, reset_after=False), 0.2)), "scan", np.float32),
    "simple_rnn bfloat16": (simple_rnn(4, dtype=jnp.bfloat16), "scan", np.float32),
    "fused lstm bfloat16": (lstm(4, dtype=jnp.bfloat16), "fused", np.float32),
    "fused gru": (learnable_initial(gru(3)), "fused", np.float64),
    "native lstm": (learnable_initial(lstm(17)), "native", np.float32),
    "native gru": (learnable_initial(gru(9)), "native", np.float32),
    "native simple_rnn": (simple_rnn(9), "native", np.float32),
}
# Rounding, relative to an array's largest entry (at least 1).
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5, jnp.bfloat16: 0.05}

seeds = st.integers(0, 2**32 - 1)
flags = arrays(bool, (BATCH, TIME))
right_padded = st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH).map(
    lambda lengths: np.arange(TIME) < np.array(lengths)[:, None]
)
masks = st.one_of(flags, right_padded)
few = settings(max_examples=25, deadline=None)


class Given(NamedTuple):
    """Arguments of an unroll in two directions; params and initials hold one of each."""

    params: Any
    inputs: Any
    initials: Any


class Case:
    """A cell and a kernel, with what they are given and their compiled program."""

    def __init__(self, cell, kernel, dtype):
        self.cell, self.kernel, self.dtype = cell, kernel, dtype
        inner = jnp.bfloat16 if getattr(cell.spec, "dtype", None) == jnp.bfloat16 else dtype
        self.tolerance = TOLERANCE[inner]
        self.restart = jax.jit(self._restart)
        self.run = jax.jit(self._run)

    def draw(self, seed) -> tuple[Given, Any]:
        """Arguments and a cotangent, no entry like another."""
        rng = np.random.default_rng(seed)
        fill = lambda like: jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), like
        )
        given = fill(self.shapes[0])
        return given._replace(params=jax.tree.map(lambda x: x / 2, given.params)), fill(
            self.shapes[1]
        )

    @functools.cached_property
    def shapes(self):
        params = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, self.dtype),
            jax.eval_shape(lambda: self.cell.init(jax.random.key(0), IN)),
        )
        initial = jax.eval_shape(lambda params: self.cell.initial_carry(params, BATCH), params)
        inputs = jax.ShapeDtypeStruct((BATCH, TIME, IN), self.dtype)
        given = Given((params, params), inputs, (initial, initial))
        return given, jax.eval_shape(self._walk, given, None, None)

    def _walk(self, given, mask, resets):
        directions = [
            Direction(self.cell, params, reverse, initial)
            for params, reverse, initial in zip(
                given.params, (False, True), given.initials, strict=True
            )
        ]
        return unroll_directions(
            directions, given.inputs, mask=mask, resets=resets, kernel=self.kernel
        )

    def _run(self, given, mask, resets, cotangents):
        values, pull = jax.vjp(lambda given: self._walk(given, mask, resets), given)
        return values, pull(cotangents)[0]

    def _restart(self, params, cotangent):
        """The cell's own initial carry, and what its gradient adds to the parameters'."""
        carry, pull = jax.vjp(lambda params: self.cell.initial_carry(params, BATCH), params)
        return carry, pull(cotangent)[0]

    def close(self, got, expected):
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
            scale = max(1.0, np.abs(other).max(initial=0.0))
            np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=self.tolerance)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=compiled if "native" in name else ()) for name in CASES],
)
def case(request):
    """Of module scope, so that a case's tests follow each other and share its programs."""
    cell, kernel, dtype = CASES[request.param]
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_enable_x64", dtype == np.float64)
    yield Case(cell, kernel, dtype)
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_enable_x64", False)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def add(one, other):
    return jax.tree.map(np.add, one, other)


def zeros(tree):
    return jax.tree.map(np.zeros_like, tree)


@few
@given(seeds, masks, flags, st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
def test_padding_changes_no_bit(case, seed, mask, resets, garbage):
    given, cotangents = case.draw(seed)
    clean = case.run(given, mask, resets, cotangents)
    inputs = np.where(mask[..., None], given.inputs, given.inputs.dtype.type(garbage))
    assert bits(case.run(given._replace(inputs=inputs), mask, resets, cotangents)) == bits(clean)

    values, gradients = clean
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(clean))
    assert not np.asarray(gradients.inputs)[~mask].any()
    untouched = ~(mask | resets).any(axis=1)
    for initial, (carry, outputs) in zip(given.initials, values, strict=True):
        assert not np.asarray(outputs)[~mask].any()
        for before, after in zip(jax.tree.leaves(initial), jax.tree.leaves(carry), strict=True):
            np.testing.assert_array_equal(np.asarray(after)[untouched], before[untouched])


@few
@given(seeds, masks, flags, st.permutations(range(TIME + MORE)))
def test_a_row_is_the_same_alone_and_with_more_padding(case, seed, mask, resets, places):
    """Padding goes anywhere: before the row, into it and after it."""
    resets[:, 0] = False  # with padding before it, a walk backwards would cross that boundary
    places = np.sort(places[:TIME])
    given, cotangents = case.draw(seed)
    values, gradients = case.run(given, mask, resets, cotangents)

    def spread(steps, b, filler=0):
        wide = np.full((1, TIME + MORE, *steps.shape[2:]), filler, steps.dtype)
        wide[0, places] = steps[b]
        return wide

    def row(carries, b):
        return jax.tree.map(lambda leaf: np.asarray(leaf)[b : b + 1], carries)

    def walks(pair, b):
        return tuple((row(carry, b), spread(outputs, b)) for carry, outputs in pair)

    total = zeros(gradients.params)
    for b in range(BATCH):
        alone = Given(given.params, spread(given.inputs, b, np.nan), row(given.initials, b))
        found, slopes = case.run(alone, spread(mask, b), spread(resets, b), walks(cotangents, b))
        case.close(found, walks(values, b))
        case.close(slopes.inputs, spread(gradients.inputs, b))
        case.close(slopes.initials, row(gradients.initials, b))
        total = add(total, slopes.params)
    case.close(total, gradients.params)


@few
@given(seeds, masks, flags, st.integers(1, TIME - 1), st.booleans(), st.sampled_from([0, 1]))
def test_two_parts_are_the_whole(case, seed, mask, resets, cut, fresh, way):
    """With the carry handed over; or, where a reset parts them, as sequences of their own."""
    resets[:, cut] = fresh
    given, cotangents = case.draw(seed)
    one_way = list(zeros(cotangents))
    one_way[way] = cotangents[way]
    values, gradients = case.run(given, mask, resets, tuple(one_way))

    steps = np.arange(TIME)
    parts = [(mask & (steps < cut), resets & (steps < cut)),
             (mask & (steps >= cut), resets & (steps > cut))]  # fmt: skip
    first, second = parts[::-1] if way else parts
    middle, begun = case.run(given, *first, tuple(one_way))[0][way]
    start, _ = case.restart(given.params[way], middle)
    initials = list(given.initials)
    initials[way] = start if fresh else middle
    found, late = case.run(given._replace(initials=tuple(initials)), *second, tuple(one_way))
    handed = late.initials[way]
    one_way[way] = (zeros(handed) if fresh else handed, cotangents[way][1])
    _, early = case.run(given, *first, tuple(one_way))

    carry, ended = found[way]
    case.close((carry, begun + ended), values[way])
    params = add(early.params[way], late.params[way])
    if fresh:
        params = add(params, case.restart(given.params[way], handed)[1])
    case.close(params, gradients.params[way])
    case.close(early.inputs + late.inputs, gradients.inputs)
    case.close(early.initials[way], gradients.initials[way])


@few
@given(seeds, masks, flags)
def test_reversing_inputs_and_direction_changes_nothing(case, seed, mask, resets):
    resets[:, 0] = False  # no boundary lies before a row, or behind a reversed one
    given, cotangents = case.draw(seed)
    turn = lambda results: tuple((carry, y[:, ::-1]) for carry, y in results[::-1])
    back = lambda given: Given(given.params[::-1], given.inputs[:, ::-1], given.initials[::-1])
    boundaries = np.concatenate([resets[:, :1], resets[:, :0:-1]], axis=1)
    found, slopes = case.run(back(given), mask[:, ::-1], boundaries, turn(cotangents))
    values, gradients = case.run(given, mask, resets, cotangents)
    case.close(turn(found), values)
    case.close(back(slopes), gradients)


@pytest.mark.parametrize(("kernel", "make"), KERNELS_AND_CELLS)
def test_lengths_say_what_their_mask_says(kernel, make):
    cell = make(3)
    params = cell.init(jax.random.key(0), IN)
    inputs = np.random.default_rng(1).normal(size=(BATCH, TIME, IN)).astype(np.float32)
    run = jax.jit(functools.partial(unroll, cell, params, inputs, reverse=True, kernel=kernel))

    @few
    @given(st.lists(st.integers(0, TIME), min_size=BATCH, max_size=BATCH), flags)
    def check(lengths, resets):
        mask = np.arange(TIME) < np.array(lengths)[:, None]
        one = run(lengths=np.array(lengths, np.int32), resets=resets)
        other = run(mask=mask, resets=resets & mask)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)

    check()


@pytest.mark.parametrize(("batch", "time"), [(0, 4), (2, 0), (2, 4)])
def test_nothing_to_read_gives_no_nan(batch, time):
    """No rows, no steps or no valid step, down to the gradients of a pooled stack."""
    fused = lambda: RNN(gru(3), kernel="fused")
    stack = Stacked([Bidirectional(fused(), fused()), RNN(lstm(4))])
    variables = jax.jit(stack.init)(jax.random.key(0), jnp.ones((1, 1, IN)))
    inputs, lengths = jnp.full((batch, time, IN), jnp.nan), jnp.zeros(batch, jnp.int32)

    def loss(variables):
        carry, outputs = stack.apply(variables, inputs, lengths=lengths)
        mask = masking.lengths_to_mask(lengths, time)
        pools = (masking.last_valid, masking.masked_mean, masking.masked_max)
        pooled = [stack.final_output(carry), *(pool(outputs, mask) for pool in pools)]
        return sum(jnp.sum(jnp.cos(features)) for features in pooled), (carry, pooled)

    gradients, (carry, pooled) = jax.jit(jax.grad(loss, has_aux=True))(variables)
    assert [features.shape for features in pooled] == [(batch, 4)] * 4
    for leaf in jax.tree.leaves((carry, pooled, gradients)):
        np.testing.assert_array_equal(leaf, 0)
