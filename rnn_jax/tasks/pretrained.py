"""Vectors of words from a file, as the start of a network's table "embedding"."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import jax

from rnn_jax.config import InputError
from rnn_jax.data.vectors import reading
from rnn_jax.data.vectors.reading import Vectors
from rnn_jax.models import WordsConfig
from rnn_jax.report.pieces import Prose, Section
from rnn_jax.tasks.base import Held, Say
from rnn_jax.types import Params, PRNGKey

TABLE = "embedding"


def vectors(config: WordsConfig, words: Sequence[str], special: int, say: Say) -> Vectors | None:
    """The vectors that a config names, for the words of a vocabulary; None if it names none.

    Args:
      config: the model section.
      words: the vocabulary, commonest words first.
      special: so many of the first are no words of a text.
      say: told how many have a vector, and which have none.

    Raises:
      InputError: the file cannot be used.
    """
    if not config.vectors:
        return None
    found = reading.read(config.vectors, words, config.embedding_size, special)
    for line in reading.coverage(found, words, special):
        say(line)
    return found


def sections(found: Vectors | None, words: Sequence[str], special: int) -> list[Section]:
    """What the report says of them: the lines that `vectors` says, or no section without a file."""
    if found is None:
        return []
    lines = (line.removeprefix("vectors: ") for line in reading.coverage(found, words, special))
    return [
        Section("Vectors from a file", [Prose(f"{line[0].upper()}{line[1:]}.") for line in lines])
    ]


def digest(data: str, found: Vectors | None) -> str:
    """The digest of a run's data, with its vectors if it has some."""
    if found is None:
        return data
    return hashlib.sha256((data + found.digest()).encode()).hexdigest()


def start(found: Vectors | None) -> Callable[[Params], Params]:
    """`Data.start`: the table's rows of these words are their vectors; the others stay as drawn.

    What it returns raises InputError for a network whose table has vectors of another length.
    """

    def begin(params: Params) -> Params:
        if found is None:
            return params
        features = found.values.shape[1]
        tables = jax.tree.leaves(params.get(TABLE))
        if [table.shape[1:] for table in tables] != [(features,)]:
            raise InputError(
                f"--config.model.vectors has vectors of {features} numbers, but the network has no "
                f"table {TABLE!r} of such vectors"
            )
        put = lambda table: table.at[found.rows].set(found.values)
        return {**params, TABLE: jax.tree.map(put, params[TABLE])}

    return begin


def frozen(config: WordsConfig) -> str | None:
    """What of `frozen_epochs` is compiled: how many there are is not."""
    if not config.frozen_epochs:
        return None
    return "always" if config.frozen_epochs < 0 else "first"


def held(config: WordsConfig, init: Callable[[PRNGKey], Params]) -> Held | None:
    """`Task.held`: the table, as long as the config says."""
    if not config.frozen_epochs:
        return None
    return Held(marks(init), None if config.frozen_epochs < 0 else config.frozen_epochs)


def marks(init: Callable[[PRNGKey], Params]) -> Params:
    """A tree like the parameters, true at the table."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == TABLE, shapes)
