"""`flax.linen.RNN` with its cells, on the same weights: outputs, final states and all gradients."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from references.stored import assert_agree

from rnn_jax import cells
from rnn_jax.nn.layers import RNN, Bidirectional
from rnn_jax.types import LSTMState

BATCH, TIME, IN, HIDDEN = 4, 7, 3, 5
LENGTHS = np.array([7, 3, 1, 5])


def side_by_side(params, gates, name="kernel", width=HIDDEN):
    """One array from those of Flax' gates; 0 where a gate has none."""
    arrays = [np.asarray(params[gate].get(name, np.zeros(width))) for gate in gates]
    return np.concatenate(arrays, axis=-1, dtype=arrays[-1].dtype)


def from_simple(params):
    return {
        "kernel": params["i"]["kernel"],
        "recurrent_kernel": params["h"]["kernel"],
        "bias": params["i"]["bias"],
    }


def from_lstm(params):
    return {
        "kernel": side_by_side(params, ("ii", "if", "ig", "io")),
        "recurrent_kernel": side_by_side(params, ("hi", "hf", "hg", "ho")),
        "bias": side_by_side(params, ("hi", "hf", "hg", "ho"), "bias"),
    }


def from_gru(params):
    return {
        "kernel": side_by_side(params, ("ir", "iz", "in")),
        "recurrent_kernel": side_by_side(params, ("hr", "hz", "hn")),
        "bias": side_by_side(params, ("ir", "iz", "in"), "bias"),
        "recurrent_bias": side_by_side(params, ("hr", "hz", "hn"), "bias"),
    }


CELLS = {
    "simple_rnn": (nn.SimpleCell, cells.simple_rnn, from_simple),
    "lstm": (nn.LSTMCell, cells.lstm, from_lstm),
    "optimized_lstm": (nn.OptimizedLSTMCell, cells.lstm, from_lstm),
    "gru": (nn.GRUCell, cells.gru, from_gru),
}


def carry_of(flax_carry):
    """Flax' LSTM carries (c, h)."""
    return LSTMState(*flax_carry[::-1]) if isinstance(flax_carry, tuple) else flax_carry


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", CELLS)
def test_numbers_are_those_of_flax(kind, dtype):
    with jax.enable_x64(dtype == "float64"):
        compare(kind, dtype)


def compare(kind, dtype):
    flax_cell, factory, ours_from = CELLS[kind]
    random = np.random.default_rng(3)

    def draw(*shape):
        return random.uniform(-0.8, 0.8, shape).astype(dtype)

    theirs = nn.Bidirectional(
        *(nn.RNN(flax_cell(HIDDEN, param_dtype=dtype)) for _ in range(2)), return_carry=True
    )
    layer = Bidirectional(*(RNN(factory(HIDDEN)) for _ in range(2)))
    inputs = draw(BATCH, TIME, IN)
    shapes = jax.eval_shape(theirs.init, jax.random.key(0), inputs)["params"]
    variables = {"params": jax.tree.map(lambda leaf: draw(*leaf.shape), shapes)}

    def convert(params):
        return {
            "params": {
                name: ours_from(params[f"{name}_rnn"]["cell"]) for name in ("forward", "backward")
            }
        }

    state = (BATCH, HIDDEN)
    one = (lambda: (draw(*state), draw(*state))) if "lstm" in kind else (lambda: draw(*state))
    initial, cotangent = (one(), one()), (one(), one())
    valid = np.arange(TIME) < LENGTHS[:, None]
    above = draw(BATCH, TIME, 2 * HIDDEN) * valid[..., None].astype(dtype)

    @jax.jit
    def run_theirs(variables, inputs, initial, cotangent):
        def forward(variables, inputs, initial):
            return theirs.apply(variables, inputs, initial_carry=initial, seq_lengths=LENGTHS)

        result, pull_back = jax.vjp(forward, variables, inputs, initial)
        return result, pull_back(cotangent)

    @jax.jit
    def run_ours(variables, inputs, initial, cotangent):
        def forward(variables, inputs, initial):
            return layer.apply(variables, inputs, lengths=LENGTHS, initial=initial)

        result, pull_back = jax.vjp(forward, variables, inputs, initial)
        return result, pull_back(cotangent)

    def ours(carries):
        return tuple(map(carry_of, carries))

    (carry, outputs), gradients = run_theirs(variables, inputs, initial, (cotangent, above))
    our_variables = convert(variables["params"])
    (our_carry, our_outputs), our_gradients = run_ours(
        our_variables, inputs, ours(initial), (ours(cotangent), above)
    )
    expected = {
        "outputs": np.asarray(outputs)
        * valid[..., None].astype(dtype),  # Flax goes on computing in the padding
        "carry": ours(carry),
        "gradients": (convert(gradients[0]["params"]), gradients[1], ours(gradients[2])),
    }
    if kind == "gru":  # Flax has the recurrent bias of n alone
        for params in our_gradients[0]["params"].values():
            params["recurrent_bias"] = np.array(params["recurrent_bias"])
            params["recurrent_bias"][: 2 * HIDDEN] = 0
    actual = {"outputs": our_outputs, "carry": our_carry, "gradients": our_gradients}
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, leaf), reference in zip(
        jax.tree_util.tree_flatten_with_path(actual)[0], jax.tree.leaves(expected), strict=True
    ):
        assert_agree(jax.tree_util.keystr(path), leaf, reference, dtype)
