"""What a job adds to the loop: its model, its loss, what it measures, its part of the report.

The loop knows nothing of classification; it calls the functions of a `Task`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import metrics, models, report
from rnn_jax.config import Config
from rnn_jax.data import packing
from rnn_jax.metrics import Sums
from rnn_jax.tables import Tables
from rnn_jax.types import Array, Batch, Params, PRNGKey


class Task(NamedTuple):
    """A job as a record of functions.

    module: the flax module, for those who want to look inside.
    init: `(key) -> params`.
    loss: `(params, batch, key) -> (loss, sums)`; the batch's mean loss and what is measured on
      the way.
    evaluate: `(params, batch) -> (sums, outputs)`, without noise; outputs are arrays [batch, ...].
    sums: names, shapes and dtypes of the sums.
    tables: the parameters that the loss only reads rows of, and that may therefore be given in
      part; None if there are none.
    means: `(sums) -> {"loss": ..., ...}`, the figures that metrics.jsonl and the log show.
    sections: `(outputs, labels, texts) -> report sections` for the test split.
    """

    module: nn.Module
    init: Callable[[PRNGKey], Params]
    loss: Callable[[Params, Batch, PRNGKey], tuple[Array, Sums]]
    evaluate: Callable[[Params, Batch], tuple[Sums, Array]]
    sums: Any
    tables: Tables | None
    means: Callable[[dict[str, Any]], dict[str, float]]
    sections: Callable[[np.ndarray, np.ndarray, Sequence[str]], list[Any]]


def classification(config: Config, classes: Sequence[str]) -> Task:
    """One label for each text, learned with softmax cross-entropy.

    Args:
      config: the experiment's config.
      classes: the class names; label i is `classes[i]`.
    """
    widths = packing.widths(config.data.max_length)
    module = models.classifier(config.model, config.data.vocab_size, len(classes), widths)

    def init(key: PRNGKey) -> Params:
        return module.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1,), jnp.int32))["params"]

    def classify(params: Params, batch: Batch, **noise: Any) -> tuple[Array, Sums]:
        if config.model.embedding_size:
            # Not the module's own look-up, since the table may hold the batch's rows alone.
            vectors = params["embedding"]["embedding"][batch.tokens]
        else:
            vectors = module.apply({"params": params}, batch.tokens, method="embed")
        variables = {"params": params}
        logits = module.apply(
            variables, vectors, batch.lengths, segments=batch.segments, method="classify", **noise
        )
        return logits, metrics.classification(logits, batch.labels, batch.weights, batch.lengths)

    def loss(params: Params, batch: Batch, key: PRNGKey) -> tuple[Array, Sums]:
        _, sums = classify(params, batch, deterministic=False, rngs={"dropout": key})
        return sums["loss"] / jnp.maximum(sums["examples"], 1).astype(jnp.float32), sums

    def evaluate(params: Params, batch: Batch) -> tuple[Sums, Array]:
        logits, sums = classify(params, batch)
        return sums, jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    def sections(probabilities: np.ndarray, labels: np.ndarray, texts: Sequence[str]) -> list[Any]:
        return report.classification_sections(labels, probabilities, texts, classes)

    rows = jax.ShapeDtypeStruct((1,), jnp.int32)
    logits = jax.ShapeDtypeStruct((1, len(classes)), jnp.float32)
    tables = None
    if config.model.embedding_size:
        shapes = jax.eval_shape(init, jax.random.key(0))
        tables = Tables(
            marks=jax.tree_util.tree_map_with_path(
                lambda path, _: path[0].key == "embedding", shapes
            ),
            rows=config.data.vocab_size,
            read=lambda batch: batch.tokens,
            with_reads=lambda batch, positions: batch._replace(tokens=positions),
        )
    return Task(
        module=module,
        init=init,
        loss=loss,
        evaluate=evaluate,
        sums=jax.eval_shape(metrics.classification, logits, rows, rows, rows),
        tables=tables,
        means=metrics.classification_means,
        sections=sections,
    )
