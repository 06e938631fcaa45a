"""rnn_jax: the training step of a run of the task `language_model`."""

from __future__ import annotations

import jax
import numpy as np
import windows

from rnn_jax import LanguageConfig, tasks
from rnn_jax.config import replace
from rnn_jax.data.language.windows import TextBatch
from rnn_jax.optim import updates
from rnn_jax.tasks.base import compiled
from rnn_jax.train import steps

CALL = 8  # steps of a call


class Model:
    def __init__(self, job, inputs):
        count, batch, time = inputs.shape
        config = replace(
            LanguageConfig("benchmark"),
            {
                "data.window": time, "data.carry": "stream", "model.hidden": job["width"],
                "model.embedding_size": job["width"], "model.layers": job["layers"],
                "model.sampled": job["sampled"], "train.batch_size": batch,
                "optimizer.clip_norm": job["clip_norm"],
                "optimizer.learning_rate": job["learning_rate"],
            },
        )  # fmt: skip
        config = tasks.resolve(config).config
        self.task = tasks.make(config, {"vocab_size": job["vocab_size"]})
        update = updates.make(config.optimizer)
        self.numbers = updates.hyperparameters(config.optimizer, count, self.task.rates)
        self.steps = steps.compiled(self.task, update, True).train_steps
        self.state = steps.init_state(self.task, update, self.numbers, 0)
        self.key = steps.run_key(0)

    def batch(self, inputs, targets):
        rows = inputs.shape[:-1]
        return TextBatch(inputs, targets, np.ones(rows, np.int32), np.zeros(rows, np.float32))

    def train(self, inputs, targets):
        self.state = steps.begin_epoch(self.task, self.state)
        for start in range(0, len(inputs), CALL):
            some = inputs[start : start + CALL], targets[start : start + CALL]
            missing = CALL - len(some[0])
            padded = (np.pad(part, ((0, missing), (0, 0), (0, 0))) for part in some)
            self.state, _ = self.steps(
                self.state, self.batch(*padded), np.int32(len(some[0])), self.key, self.numbers
            )
        jax.block_until_ready(self.state)

    def loss(self, inputs, targets):
        carry, total = self.task.initial_carry(), 0.0
        evaluate = compiled(self.task)
        for tokens, wanted in zip(inputs, targets, strict=True):
            carry, sums, _ = evaluate(self.state.params, carry, self.batch(tokens, wanted))
            total += float(sums["loss"]) / int(sums["tokens"])
        return total / len(inputs)


if __name__ == "__main__":
    windows.serve(Model)
