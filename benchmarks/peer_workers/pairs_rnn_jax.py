"""rnn_jax: the training step of a run of the task `translation`."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import windows

from rnn_jax import TranslationConfig, tasks
from rnn_jax.config import replace
from rnn_jax.data.pairs.batches import PairBatch
from rnn_jax.optim import updates
from rnn_jax.train import steps

CALL = 8  # steps of a call


class Model:
    def __init__(self, job, inputs):
        config = replace(
            TranslationConfig("benchmark"),
            {
                "model.hidden": job["width"], "model.embedding_size": job["embedding_size"],
                "train.batch_size": len(inputs[0]), "optimizer.clip_norm": job["clip_norm"],
                "optimizer.learning_rate": job["learning_rate"],
            },
        )  # fmt: skip
        config = tasks.resolve(config).config
        self.task = tasks.make(
            config, {name: job[name] for name in ("inputs", "outputs", "longest")}
        )
        update = updates.make(config.optimizer)
        self.numbers = updates.hyperparameters(config.optimizer, len(inputs), self.task.rates)
        self.steps = steps.compiled(self.task, update, True).train_steps
        self.state = steps.init_state(self.task, update, self.numbers, 0)
        self.key = steps.run_key(0)
        self.look = jax.jit(lambda params, batch: self.task.loss(
            params, None, batch, self.key, self.task.rates)[0])  # fmt: skip

    def batch(self, texts, answers):
        return PairBatch(texts, answers, np.ones(texts.shape[:-1], np.float32))

    def train(self, inputs, targets):
        self.state = steps.begin_epoch(self.task, self.state)
        pairs = zip(inputs, targets, strict=True)
        for _, alike in itertools.groupby(pairs, key=lambda pair: (pair[0].shape, pair[1].shape)):
            alike = list(alike)
            for start in range(0, len(alike), CALL):
                some = alike[start : start + CALL]
                stacked = (np.stack(part) for part in zip(*some, strict=True))
                missing = [(0, CALL - len(some)), (0, 0), (0, 0)]
                padded = (np.pad(part, missing) for part in stacked)
                self.state, _ = self.steps(
                    self.state, self.batch(*padded), np.int32(len(some)), self.key, self.numbers
                )
        jax.block_until_ready(self.state)

    def loss(self, inputs, targets):
        losses = [
            float(self.look(self.state.params, self.batch(texts, answers)))
            for texts, answers in zip(inputs, targets, strict=True)
        ]
        return sum(losses) / len(losses)


if __name__ == "__main__":
    windows.serve(Model, windows.pairs)
