"""The residual block, written out by hand, and what padding does to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import RNN, ResidualBlock, Stacked, cells, unroll

LENGTHS = jnp.array([5, 2, 0])


def problem():
    block = ResidualBlock(RNN(cells.lru(3)), mlp=2)
    inputs = jax.random.normal(jax.random.key(0), (3, 5, 4))
    return block, block.init(jax.random.key(1), inputs), inputs


def by_hand(params, inputs, lengths):
    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * params[name]["scale"] + params[name]["bias"]

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    gelu = lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    told = unroll(cells.lru(3), params["rnn"], norm("norm", inputs), lengths=lengths)[1]
    mixed, gate = np.split(dense("mix", gelu(np.asarray(told))), 2, axis=-1)
    outputs = inputs + mixed / (1 + np.exp(-gate))
    outputs += dense("narrow", gelu(dense("wide", norm("norm_2", outputs))))
    return np.where((np.arange(5) < np.asarray(lengths)[:, None])[..., None], outputs, 0)


def test_numbers_are_those_of_the_equations():
    block, variables, inputs = problem()
    carry, outputs = block.apply(variables, inputs, lengths=LENGTHS)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = by_hand(params, np.asarray(inputs), LENGTHS)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    final = block.final_output(carry)
    np.testing.assert_allclose(final, [expected[0, 4], expected[1, 1], np.zeros(4)], atol=1e-5)


def test_padding_changes_no_bit_and_a_stream_goes_on():
    block, variables, inputs = problem()

    @jax.jit
    def slopes(inputs):
        def loss(variables):
            carry, outputs = block.apply(variables, inputs, lengths=LENGTHS)
            return jnp.sum(outputs**2) + jnp.sum(block.final_output(carry))

        return jax.value_and_grad(loss)(variables)

    beyond = (jnp.arange(5) >= LENGTHS[:, None])[..., None]
    plain, broken = (slopes(jnp.where(beyond, x, inputs)) for x in (0, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, plain, broken)
    whole = block.apply(variables, inputs)
    carry, first = block.apply(variables, inputs[:, :2])
    carry, second = block.apply(variables, inputs[:, 2:], initial=carry)
    both = jnp.concatenate([first, second], axis=1)
    np.testing.assert_allclose(both, whole[1], atol=1e-6)
    np.testing.assert_allclose(carry.hidden, whole[0].hidden, atol=1e-6)
    kept, _ = block.apply(variables, inputs, lengths=jnp.array([1, 1, 0]), initial=carry)
    np.testing.assert_array_equal(kept.hidden[2], carry.hidden[2])


@pytest.mark.parametrize("lengths", [None, jnp.array([0, 0, 0])])
def test_an_empty_chunk_leaves_the_carry_as_it_is(lengths):
    block, variables, inputs = problem()
    initial = block.apply(variables, inputs)[0]
    assert np.abs(initial.hidden).min() > 0
    carry, outputs = block.apply(variables, inputs[:, :0], lengths=lengths, initial=initial)
    assert outputs.shape == (3, 0, 4)
    jax.tree.map(np.testing.assert_array_equal, carry, initial)


def test_blocks_stack():
    layer = Stacked([ResidualBlock(RNN(cells.min_gru(6))) for _ in range(2)])
    inputs = jnp.ones((2, 3, 4))
    (carry, outputs), _ = layer.init_with_output(jax.random.key(0), inputs)
    np.testing.assert_array_equal(layer.final_output(carry), outputs[:, -1])
    assert len(layer.members()) == 2


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="rnn must be an RNN with reverse=False"):
        ResidualBlock(RNN(cells.min_gru(3), reverse=True))
    with pytest.raises(ValueError, match="mlp must be an int of at least 0, got -1"):
        ResidualBlock(RNN(cells.min_gru(3)), mlp=-1)
