"""Stock Flax: nn.RNN over OptimizedLSTMCell, Embed.attend as the tied head, optax."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import windows


class Network(nn.Module):
    vocab_size: int
    width: int
    layers: int

    @nn.compact
    def __call__(self, tokens, carries):
        embed = nn.Embed(self.vocab_size, self.width)
        values, after = embed(tokens), []
        for carry in carries:
            cell = nn.OptimizedLSTMCell(self.width)
            carry, values = nn.RNN(cell, return_carry=True)(values, initial_carry=carry)
            after.append(carry)
        return embed.attend(values), after


class Model:
    def __init__(self, job, inputs):
        _, batch, time = inputs.shape
        network = Network(job["vocab_size"], job["width"], job["layers"])
        zeros = jnp.zeros((batch, job["width"]))
        self.start = [(zeros, zeros) for _ in range(job["layers"])]
        self.params = network.init(
            jax.random.key(0), jnp.zeros((batch, time), jnp.int32), self.start
        )
        optimizer = optax.chain(
            optax.clip_by_global_norm(job["clip_norm"]), optax.adam(job["learning_rate"])
        )
        self.state = optimizer.init(self.params)

        def loss(params, carries, tokens, targets):
            logits, carries = network.apply(params, tokens, carries)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return losses.mean(), carries

        def step(params, state, carries, tokens, targets):
            (_, carries), grads = jax.value_and_grad(loss, has_aux=True)(
                params, carries, tokens, targets
            )
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, carries

        self.step, self.look = jax.jit(step, donate_argnums=(0, 1)), jax.jit(loss)

    def train(self, inputs, targets):
        carries = self.start
        for tokens, wanted in zip(inputs, targets, strict=True):
            self.params, self.state, carries = self.step(
                self.params, self.state, carries, tokens, wanted
            )
        jax.block_until_ready(self.params)

    def loss(self, inputs, targets):
        carries, total = self.start, 0.0
        for tokens, wanted in zip(inputs, targets, strict=True):
            mean, carries = self.look(self.params, carries, tokens, wanted)
            total += float(mean)
        return total / len(inputs)


if __name__ == "__main__":
    windows.serve(Model)
