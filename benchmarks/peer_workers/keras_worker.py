"""Trains with Keras on TensorFlow: a worker of `epoch.py`.

documentation: `fit` on a `tf.data` pipeline that shuffles and pads each batch to its longest text.
buckets: `fit` on rnn_jax's batches, ready-made, many steps an execution, compiled by XLA, which
  takes long and then runs up to twice as fast; Keras' own choice here is not to.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import serving
import tensorflow as tf

STEPS = 32  # an execution
AHEAD = 8  # batches that are made ahead of time


def build(job: serving.Job) -> keras.Model:
    """The job's model, of the layers that a user would take."""
    model = job.model
    layer = {
        "simple_rnn": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
    }[model["cell"]]
    uniform = keras.initializers.RandomUniform(-0.05, 0.05)
    stack = [
        keras.layers.Embedding(
            job.vocab_size, model["embedding_size"], uniform, mask_zero=model["masked"]
        )
    ]
    for index in range(model["layers"]):
        sequences = index < model["layers"] - 1 or model["pooling"] != "last"
        rnn = layer(model["hidden"], return_sequences=sequences)
        stack.append(keras.layers.Bidirectional(rnn) if model["bidirectional"] else rnn)
    if model["pooling"] != "last":
        stack.append(
            {"mean": keras.layers.GlobalAveragePooling1D, "max": keras.layers.GlobalMaxPooling1D}[
                model["pooling"]
            ]()
        )
    head = keras.layers.Dense(job.classes)
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack, head])


class Trainer:
    def __init__(self, job: serving.Job):
        self.job = job
        keras.utils.set_random_seed(job.seed)
        self.model = build(job)
        self.model.compile(
            optimizer=keras.optimizers.Adam(
                *(job.optimizer[name] for name in ("learning_rate", "b1", "b2", "epsilon"))
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            weighted_metrics=["accuracy"],
            **({} if job.own_batches else {"steps_per_execution": STEPS, "jit_compile": True}),
        )
        self.own = self._pipeline() if job.own_batches else None
        self.test = _dataset(job.test_batches(fill=not job.own_batches))

    def _pipeline(self) -> tf.data.Dataset:
        train = self.job.train
        texts = tf.RaggedTensor.from_row_splits(train.ids, train.offsets)
        return _ahead(
            tf.data.Dataset.from_tensor_slices((texts, train.labels))
            .shuffle(len(train), seed=self.job.seed)
            .batch(self.job.batch_size)
            .map(lambda texts, labels: (texts.to_tensor(), labels))
        )

    def prepare(self, epoch: int) -> tf.data.Dataset:
        if self.job.own_batches:
            return self.own
        return _dataset(self.job.batches(epoch, fill=True))

    def train(self, prepared: tf.data.Dataset) -> None:
        self.model.fit(prepared, epochs=1, verbose=0)

    def evaluate(self) -> float:
        return self.model.evaluate(self.test, verbose=0, return_dict=True)["accuracy"]

    def cells(self, prepared: tf.data.Dataset) -> int:
        return sum(int(tf.size(batch[0])) for batch in prepared)


def _dataset(batches: list[serving.Batch]) -> tf.data.Dataset:
    signature = (
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.float32),
    )
    entries = [(batch.tokens, batch.labels, batch.weights) for batch in batches]
    dataset = tf.data.Dataset.from_generator(lambda: iter(entries), output_signature=signature)
    return _ahead(dataset.apply(tf.data.experimental.assert_cardinality(len(entries))))


def _ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    # Without tf.data's own tuning: an epoch's end waited for its thread, up to seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(AHEAD).with_options(options)


if __name__ == "__main__":
    serving.serve(Trainer)
