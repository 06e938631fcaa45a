"""rnn_jax: `Writer.generate`."""

from __future__ import annotations

import asking
import jax
import jax.numpy as jnp

from rnn_jax import LanguageConfig, tasks
from rnn_jax.config import replace
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.tasks.base import Trained


class Model:
    def __init__(self, job):
        config = replace(
            LanguageConfig("benchmark"),
            {"model.hidden": job["width"], "model.embedding_size": job["vectors"],
             "model.layers": job["layers"], "model.tied": job["vectors"] == job["width"]},
        )  # fmt: skip
        size = job["vocab_size"]
        config = tasks.resolve(config).config
        task = tasks.make(config, {"vocab_size": size})
        params = task.init(jax.random.key(0))
        params["bias"] = params["bias"].at[END].set(-1e9)  # no story ends
        words = (*SPECIAL, *(f"w{i}" for i in range(size - len(SPECIAL))))
        remembered = {"vocabulary.json": Vocabulary(words, "words", True, {"": 1}).to_json()}
        self.writer = task.predictor(Trained(config, task, params, remembered, {}, 0, 1))
        self.table = jnp.ones((size, job["width"]))

    def write(self, tokens):
        self.writer.generate(tokens=tokens)

    def bound(self, tokens):
        """Nothing but reading the head's matrix once a token."""

        def step(vector, _):
            logits = self.table @ vector
            return vector + logits[0] * 1e-9, None

        read = jax.jit(lambda vector: jax.lax.scan(step, vector, length=tokens)[0])
        start = jnp.ones(self.table.shape[1])
        read(start).block_until_ready()
        return lambda: read(start).block_until_ready()


if __name__ == "__main__":
    asking.serve(Model)
