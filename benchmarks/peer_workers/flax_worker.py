"""Trains with flax.linen and optax, one jit call a batch: a worker of `epoch.py`.

documentation: batches in random order, each padded to the power of two that holds its longest text;
  `LSTMCell` and so on as the guides have them.
buckets: rnn_jax's batches, ready-made; `OptimizedLSTMCell`; the state's buffers are given away.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import serving
from flax import traverse_util
from flax.training.train_state import TrainState


class Classifier(nn.Module):
    cell: type[nn.RNNCellBase]
    model: dict
    vocab_size: int
    classes: int

    @nn.compact
    def __call__(self, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        """int32[batch, time], int32[batch] -> float32[batch, classes]."""
        model = self.model
        seq_lengths = lengths if model["masked"] else None
        embed = nn.Embed(self.vocab_size, model["embedding_size"], embedding_init=_uniform)
        outputs = embed(tokens)
        for _ in range(model["layers"]):
            cells = [self.cell(model["hidden"]) for _ in range(2 if model["bidirectional"] else 1)]
            layers = [nn.RNN(cell, return_carry=True) for cell in cells]
            if model["bidirectional"]:
                layers = [nn.Bidirectional(*layers, return_carry=True)]
            (layer,) = layers
            carry, outputs = layer(outputs, seq_lengths=seq_lengths)
        head = nn.Dense(self.classes, kernel_init=nn.initializers.glorot_uniform())
        return head(self._pool(carry, outputs, lengths))

    def _pool(self, carry, outputs: jax.Array, lengths: jax.Array) -> jax.Array:
        pooling, masked = self.model["pooling"], self.model["masked"]
        if pooling == "last":
            carries = carry if self.model["bidirectional"] else (carry,)
            hidden = [carry[1] if isinstance(carry, tuple) else carry for carry in carries]
            return jnp.concatenate(hidden, axis=-1)
        mask = jnp.arange(outputs.shape[1]) < lengths[:, None] if masked else True
        mask = jnp.broadcast_to(mask, outputs.shape[:2])[:, :, None]
        if pooling == "mean":
            return (outputs * mask).sum(1) / mask.sum(1)
        return jnp.where(mask, outputs, -jnp.inf).max(1)


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """As Keras starts an embedding."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


CELLS = {"simple_rnn": nn.SimpleCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


def init_state(job: serving.Job) -> TrainState:
    cell = CELLS[job.model["cell"]]
    if cell is nn.LSTMCell and not job.own_batches:
        cell = nn.OptimizedLSTMCell
    module = Classifier(cell, job.model, job.vocab_size, job.classes)
    key = jax.random.key(job.seed)
    params = module.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32))["params"]
    adam = job.optimizer
    optimizer = optax.adam(adam["learning_rate"], adam["b1"], adam["b2"], adam["epsilon"])
    return TrainState.create(
        apply_fn=module.apply,
        params=_as_keras(params, key),
        tx=optimizer,
    )


def _as_keras(params: dict, key: jax.Array) -> dict:
    """The same parameters with those of the cells started as Keras does, so that accuracies may be
    compared: the kernels of all gates drawn together, a forget gate's bias at 1."""
    flat = traverse_util.flatten_dict(params)
    together = {}
    for *cell, gate, kind in flat:
        if kind == "kernel" and gate[0] in "ih":  # "ii", "hf", ...; of a simple cell "i" and "h"
            together.setdefault((*cell, gate[0]), []).append((*cell, gate, kind))
    for number, (group, paths) in enumerate(sorted(together.items())):
        rows, hidden = flat[paths[0]].shape
        draw = {"i": nn.initializers.glorot_uniform, "h": nn.initializers.orthogonal}[group[-1]]()
        drawn = draw(jax.random.fold_in(key, number), (rows, len(paths) * hidden))
        flat |= zip(paths, jnp.split(drawn, len(paths), axis=1), strict=True)
    for path, leaf in flat.items():
        if path[-2:] == ("hf", "bias"):
            flat[path] = jnp.ones_like(leaf)
    return traverse_util.unflatten_dict(flat)


def train_step(state: TrainState, batch: serving.Batch) -> tuple[TrainState, jax.Array]:
    def loss(params):
        logits = state.apply_fn({"params": params}, batch.tokens, batch.lengths)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return (losses * batch.weights).sum() / batch.weights.sum()

    value, gradient = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradient), value


@jax.jit
def hits(state: TrainState, batch: serving.Batch) -> jax.Array:
    logits = state.apply_fn({"params": state.params}, batch.tokens, batch.lengths)
    return ((logits.argmax(-1) == batch.labels) * batch.weights).sum()


class Trainer:
    def __init__(self, job: serving.Job):
        self.job = job
        self.state = init_state(job)
        donate = () if job.own_batches else (0,)
        self.step = functools.partial(jax.jit, donate_argnums=donate)(train_step)
        self.test = [
            self._widened(batch) if job.own_batches else batch
            for batch in job.test_batches(fill=True)
        ]

    def _widened(self, batch: serving.Batch) -> serving.Batch:
        wide = _power(batch.tokens.shape[1]) - batch.tokens.shape[1]
        return batch._replace(tokens=np.pad(batch.tokens, ((0, 0), (0, wide))))

    def prepare(self, epoch: int):
        return epoch if self.job.own_batches else self.job.batches(epoch, fill=True)

    def _batches(self, prepared):
        if not self.job.own_batches:
            yield from prepared
            return
        train, size = self.job.train, self.job.batch_size
        order = np.random.default_rng([self.job.seed, prepared]).permutation(len(train))
        for start in range(0, len(train), size):
            rows = order[start : start + size]
            yield train.batch(rows, _power(train.lengths[rows].max()), fill=size)

    def train(self, prepared) -> None:
        for batch in self._batches(prepared):
            self.state, _ = self.step(self.state, batch)
        jax.block_until_ready(self.state.params)

    def evaluate(self) -> float:
        return sum(float(hits(self.state, batch)) for batch in self.test) / len(self.job.test)

    def cells(self, prepared) -> int:
        return sum(batch.tokens.size for batch in self._batches(prepared))


def _power(length: int) -> int:
    return max(8, 1 << int(length - 1).bit_length())


if __name__ == "__main__":
    serving.serve(Trainer)
