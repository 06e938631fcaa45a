"""Times recurrent layers in JAX: those of rnn_jax by kernel, those of flax.linen as they come, and
one large matrix product for the machine's rate. A worker of `layer.py`."""

from __future__ import annotations

import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import layer_timing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import rnn_jax

OURS = {
    "simple_rnn": rnn_jax.simple_rnn,
    "lstm": rnn_jax.lstm,
    "gru": rnn_jax.gru,
    "min_gru": rnn_jax.min_gru,
}
FLAX = {"simple_rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}


def build(entrant: str, cell: str, shape: tuple[int, int, int, int], gradient: bool):
    """A function without arguments that runs the entrant once, to its end."""
    batch, time, in_features, hidden = shape
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.normal(keys[0], (batch, time, in_features))
    cotangent = jax.random.normal(keys[1], (batch, time, hidden))
    if entrant == "product":
        run, arguments = jnp.matmul, (jax.random.normal(keys[0], (2048, 2048)),) * 2
    else:
        layer, outputs_of = _layer(entrant, cell, hidden)
        arguments = (layer.init(keys[2], inputs), inputs)

        def run(variables, inputs):
            return outputs_of(layer.apply(variables, inputs))

        if gradient:
            forward = run

            def run(variables, inputs):
                return jax.vjp(forward, variables, inputs)[1](cotangent)

    compiled = jax.jit(run)
    return lambda: jax.block_until_ready(compiled(*arguments))


def _layer(entrant: str, cell: str, hidden: int):
    if entrant == "flax":
        return nn.RNN(FLAX[cell](hidden)), lambda outputs: outputs
    ours = OURS[cell](hidden)
    kernel = entrant.removeprefix("rnn_jax").strip() or "auto"
    return rnn_jax.RNN(ours, kernel=kernel), lambda result: result[1]


layer_timing.serve(build)
