"""What models that ignore the order of words reach on the same split, as a yardstick.

    python benchmarks/yardsticks.py
    python benchmarks/yardsticks.py --source=ag_news_subset --data_dir=DIR --seeds=3

Flags are the options of `--config.data.*`. Two models:

- TF-IDF and logistic regression (scikit-learn), once on whole texts and once on the `max_length`
  words that a recurrent model reads. The penalty is chosen on the validation split.
- The mean of learned embeddings and a softmax, on the vocabulary and the batches of a recurrent
  model, with its optimizer; the epoch with the smallest validation loss counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import record
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from rnn_jax import DataConfig
from rnn_jax.data import batching, sources
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.stories import Splits
from rnn_jax.data.text import fit_vectorizer

COLUMNS = {"bbc_news": "BBC News", "ag_news_subset": "reduced AG News"}
ROWS = (
    "TF-IDF + logistic regression, whole texts",
    "TF-IDF + logistic regression, first 200 words",
    "mean of embeddings, three seeds",
)
BATCH, FEATURES, EPOCHS, PATIENCE = 16, 64, 60, 5


def tfidf(splits: Splits, config: DataConfig, words: int | None) -> float:
    """Test accuracy of TF-IDF and logistic regression on the first `words` words (None: on all)."""
    texts = [
        [" ".join(text.split()[:words]) for text in stories.text(config.field)]
        for stories in splits[:3]
    ]
    scores = {}
    for strength in (1.0, 10.0, 100.0):
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=strength, max_iter=2_000)
        )
        model.fit(texts[0], splits.train.labels)
        scores[strength] = (model.score(texts[1], splits.validation.labels), model)
    _, best = max(scores.values(), key=lambda score: score[0])
    return best.score(texts[2], splits.test.labels)


def mean_of_embeddings(splits: Splits, config: DataConfig, seed: int) -> float:
    """Test accuracy of a softmax on the mean of the words' learned vectors."""
    vectorizer = fit_vectorizer(splits.train, config)
    train, validation, test = (
        batching.Examples(
            vectorizer.encode(stories.text(config.field), config.max_length), stories.labels
        )
        for stories in splits[:3]
    )
    shapes = shapes_lib.padded_shapes(BATCH, config.max_length)
    optimizer = optax.adam(1e-3, eps=1e-7)

    def batches(examples, epoch=0, shuffle=False):
        plan = batching.plan(examples.tokens.lengths, BATCH, shapes, seed, epoch, shuffle)
        for shape, members in plan:
            yield batching.assemble(examples, shape, members, BATCH)

    def logits(params, batch):
        mask = jnp.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
        total = (params["embedding"][batch.tokens] * mask[..., None]).sum(1)
        mean = total / jnp.maximum(batch.lengths, 1)[:, None]
        return mean @ params["kernel"] + params["bias"]

    def loss(params, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits(params, batch), batch.labels
        )
        return (losses * batch.weights).sum() / batch.weights.sum()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def score(params, batch):
        right = logits(params, batch).argmax(-1) == batch.labels
        return loss(params, batch) * batch.weights.sum(), (right * batch.weights).sum()

    def evaluate(params, examples):
        sums = np.sum([score(params, batch) for batch in batches(examples)], axis=0)
        return sums / len(examples)

    normal, classes = jax.nn.initializers.glorot_uniform(), len(splits.classes)
    keys = jax.random.split(jax.random.key(seed))
    params = {
        "embedding": jax.random.uniform(
            keys[0], (config.vocab_size, FEATURES), minval=-0.05, maxval=0.05
        ),
        "kernel": normal(keys[1], (FEATURES, classes)),
        "bias": jnp.zeros(classes),
    }
    state = optimizer.init(params)
    best, accuracy, waited = np.inf, 0.0, 0
    for epoch in range(EPOCHS):
        for batch in batches(train, epoch, shuffle=True):
            params, state = step(params, state, batch)
        value, _ = evaluate(params, validation)
        waited += 1
        if value < best:
            best, waited, accuracy = value, 0, evaluate(params, test)[1]
        if waited == PATIENCE:
            break
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in dataclasses.fields(DataConfig):
        parser.add_argument(
            f"--{field.name}",
            type=type(field.default),
            default=field.default,
            choices=field.metadata["choices"],
            help=field.metadata["help"],
        )
    parser.add_argument("--seeds", type=int, default=3, help="runs of the mean of embeddings")
    record.add_flag(parser)
    arguments = vars(parser.parse_args())
    seeds, save = arguments.pop("seeds"), arguments.pop("save")
    config = DataConfig(**arguments)
    splits = sources.load(config)
    print(
        f"{config.source}: "
        + ", ".join(f"{len(s)} {n}" for n, s in zip(Splits._fields, splits[:3], strict=False))
    )
    whole, cut = (tfidf(splits, config, words) for words in (None, config.max_length))
    print(f"TF-IDF + logistic regression, whole texts       {whole:.4f}")
    words = f"first {config.max_length} words"
    print(f"TF-IDF + logistic regression, {words:<17} {cut:.4f}")
    means = [mean_of_embeddings(splits, config, seed) for seed in range(seeds)]
    print(
        f"mean of embeddings, mean of {seeds} seeds            {np.mean(means):.4f}  "
        f"({', '.join(f'{mean:.4f}' for mean in means)})"
    )
    if save:
        found = (whole, cut, np.mean(means))
        column = COLUMNS[config.source]
        cells = {(row, column): float(value) for row, value in zip(ROWS, found, strict=True)}
        record.update("yardsticks", cells)


if __name__ == "__main__":
    main()
