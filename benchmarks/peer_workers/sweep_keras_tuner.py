"""KerasTuner's RandomSearch with Keras on TensorFlow: a worker of `sweep.py`.

It draws from the learning rates and seeds of rnn_jax's trials, so that the same ones are compared.
Trained as `keras_worker.py` does by its documentation.
"""

from __future__ import annotations

import os
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"  # before KerasTuner imports Keras
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_tuner
import keras_worker
import sweeping


class Trainings(keras_tuner.HyperModel):
    def __init__(self, asked: sweeping.Search, log: sweeping.Log):
        super().__init__()
        self._asked, self._log = asked, log
        self._values = {
            name: sorted({point[name] for point in asked.points})
            for name in ("learning_rate", "seed")
        }

    def build(self, hp):
        self._point = {name: hp.Choice(name, values) for name, values in self._values.items()}
        self._trainer = keras_worker.Trainer(self._asked.job_of(self._point))
        return self._trainer.model

    def fit(self, hp, model, callbacks, **options):
        history = model.fit(
            self._trainer.own,
            validation_data=self._trainer.test,
            epochs=self._asked.epochs,
            callbacks=callbacks,
            verbose=0,
        )
        accuracy = history.history["val_accuracy"][-1]
        self._log.ended(self._point, accuracy, int(model.optimizer.iterations))
        return {"val_accuracy": accuracy}


def search(asked: sweeping.Search, log: sweeping.Log) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            Trainings(asked, log),
            objective=keras_tuner.Objective("val_accuracy", "max"),
            max_trials=asked.trials,
            max_consecutive_failed_trials=1,  # it raises
            seed=0,
            directory=folder,
        )
        tuner.search(verbose=0)


if __name__ == "__main__":
    sweeping.serve(search, ("keras-tuner", "keras", "tensorflow-cpu"))
