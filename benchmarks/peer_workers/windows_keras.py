"""Keras: stateful LSTMs, a dense head, Adam, trained batch by batch.

Keras has no tied head: its head is a matrix of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import windows


class Model:
    def __init__(self, job, inputs):
        keras.utils.set_random_seed(0)
        tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
        _, batch, time = inputs.shape
        tokens = keras.Input(batch_shape=(batch, time), dtype="int32")
        values = keras.layers.Embedding(job["vocab_size"], job["width"])(tokens)
        for _ in range(job["layers"]):
            values = keras.layers.LSTM(job["width"], return_sequences=True, stateful=True)(values)
        logits = keras.layers.Dense(job["vocab_size"])(values)
        self.model = keras.Model(tokens, logits)
        self.model.compile(
            keras.optimizers.Adam(job["learning_rate"], global_clipnorm=job["clip_norm"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def forget(self):
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.LSTM):
                layer.reset_states()

    def train(self, inputs, targets):
        self.forget()
        for data, wanted in zip(inputs, targets, strict=True):
            self.model.train_on_batch(data, wanted)

    def loss(self, inputs, targets):
        self.forget()
        losses = [
            self.model.test_on_batch(data, wanted)
            for data, wanted in zip(inputs, targets, strict=True)
        ]
        self.model.reset_metrics()
        return float(np.ravel(losses[-1])[0])  # a running mean


if __name__ == "__main__":
    windows.serve(Model)
