"""Keras: a stateful model, called with one token after the other."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import asking
import keras
import numpy as np
import tensorflow as tf


class Model:
    def __init__(self, job):
        tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
        word = keras.Input(batch_shape=(1, 1), dtype="int32")
        values = keras.layers.Embedding(job["vocab_size"], job["vectors"])(word)
        for layer in range(job["layers"]):
            last = layer == job["layers"] - 1
            values = keras.layers.LSTM(job["width"], return_sequences=not last, stateful=True)(
                values
            )
        self.model = keras.Model(word, keras.layers.Dense(job["vocab_size"])(values))
        self.random = np.random.default_rng(0)

    def write(self, tokens):
        word = np.zeros((1, 1), np.int32)
        for _ in range(tokens):
            logits = self.model.predict_on_batch(word)[0].astype(np.float64)
            shares = np.exp(logits - logits.max())
            word[0, 0] = self.random.choice(len(shares), p=shares / shares.sum())


if __name__ == "__main__":
    asking.serve(Model)
