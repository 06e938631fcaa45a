"""Keras: an encoder-decoder with its Attention layer, Adam, trained batch by batch."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import windows
from keras import layers


class Model:
    def __init__(self, job, inputs):
        keras.utils.set_random_seed(0)
        tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
        width, self.end = job["width"], job["end"]
        texts = keras.Input((None,), dtype="int32")
        before = keras.Input((None,), dtype="int32")
        reading = layers.Embedding(job["inputs"], job["embedding_size"], mask_zero=True)
        writing = layers.Embedding(job["outputs"], job["embedding_size"])
        lstm = lambda **how: layers.LSTM(width, return_sequences=True, **how)
        values, *states = layers.Bidirectional(lstm(return_state=True))(reading(texts))
        features = layers.Concatenate()([states[0], states[2]])
        start = [layers.Dense(width, activation="tanh")(features) for _ in range(4)]
        asking = lstm()(writing(before), initial_state=start[:2])
        query = layers.Dense(width, use_bias=False)(asking)
        key = layers.Dense(width, use_bias=False)(values)
        mask = layers.Lambda(lambda tokens: tokens != 0, output_shape=(None,))(texts)
        context = layers.Attention()([query, values, key], mask=[None, mask])
        above = lstm()(layers.Concatenate()([asking, context]), initial_state=start[2:])
        joined = layers.Dense(width, activation="tanh")(layers.Concatenate()([above, context]))
        self.model = keras.Model([texts, before], layers.Dense(job["outputs"])(joined))
        self.model.compile(
            keras.optimizers.Adam(job["learning_rate"], global_clipnorm=job["clip_norm"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
        )

    def of(self, texts, answers):
        before = np.pad(answers[:, :-1], [(0, 0), (1, 0)], constant_values=self.end)
        return [texts, before], answers

    def train(self, inputs, targets):
        for texts, answers in zip(inputs, targets, strict=True):
            self.model.train_on_batch(*self.of(texts, answers))

    def loss(self, inputs, targets):
        self.model.reset_metrics()
        losses = [
            self.model.test_on_batch(*self.of(texts, answers))
            for texts, answers in zip(inputs, targets, strict=True)
        ]
        self.model.reset_metrics()
        return float(np.ravel(losses[-1])[0])  # a running mean


if __name__ == "__main__":
    windows.serve(Model, windows.pairs)
