"""What a language model's run tells its readers besides its figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_jax import ngrams
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.streams import Stream
from rnn_jax.data.language.vocabulary import END, SPECIAL, Vocabulary
from rnn_jax.data.language.windows import TextPass
from rnn_jax.data.text import UNKNOWN
from rnn_jax.report import language_model as pages
from rnn_jax.report.pieces import Section
from rnn_jax.tasks import metrics
from rnn_jax.tasks.base import Tested
from rnn_jax.tasks.writer import Writer

TEMPERATURES = (0.5, 0.8, 1.0)
WRITTEN = {"words": 60, "characters": 300}  # tokens of a sample
MOST = 2**22  # training tokens up to which n-gram models are fitted
NEIGHBOURS = 12


def samples(writer: Writer) -> dict[str, str]:
    """A text for each temperature, always of the same seed, so that epochs can be compared."""
    tokens = WRITTEN[writer.vocabulary.kind]
    return {
        str(temperature): writer.generate(tokens=tokens, temperature=temperature)
        for temperature in TEMPERATURES
    }


def lines(outputs: np.ndarray, test: TextPass) -> list[str]:
    """What `--mode=evaluate` says above the result."""
    ids = test.stream.tokens.ids
    losses = test.in_order(outputs)[:, 0].astype(np.float64)
    unknown = float((ids == UNKNOWN).mean())
    found = [f"out of vocabulary: {unknown:.2%} of {len(ids)} tokens (ends of stories are tokens)"]
    found += [
        f"tokens of the story before it {name}: perplexity {perplexity:.2f}  ({count} tokens)"
        for name, perplexity, count in pages.positions(_places(test.stream), losses)
    ]
    return found


def sections(
    tested: Tested, vocabulary: Vocabulary, config: LanguageDataConfig, table: np.ndarray | None
) -> list[Section]:
    """What the report shows.

    Args:
      tested: what the run found.
      vocabulary: the run's.
      config: the run's.
      table: float[vocabulary, features], the tokens' vectors; None if there are none.
    """
    test: Any = tested.data.test
    train: Any = tested.data.epochs
    validation: Any = tested.data.validation
    ids, said = test.stream.tokens.ids, test.in_order(tested.outputs)
    losses = said[:, 0].astype(np.float64)
    found = [pages.samples(tested.history)]
    if config.yardsticks and len(train.stream) <= MOST:
        rows = [("this model", -losses)]
        rows += ngrams.yardsticks(
            train.stream.stories(), validation.stream.stories(), test.stream.stories(),
            len(vocabulary), END,
        )  # fmt: skip
        said_of = [(name, figures(logs, test.stream)) for name, logs in rows]
        found.append(
            pages.comparison(
                [(name, each["perplexity"], each["bits_per_character"]) for name, each in said_of]
            )
        )
    found.append(pages.words(ids, losses, vocabulary.words))
    found.append(pages.by_position(pages.positions(_places(test.stream), losses)))
    found.append(pages.calibration(said[:, 1], said[:, 2]))
    if table is not None:
        found.append(pages.neighbours(table, vocabulary.words, _chosen(vocabulary)))
    return [*found, *tested.data.sections]


def figures(logs: np.ndarray, stream: Stream) -> dict[str, float]:
    """What the natural logarithms of the probabilities of a stream's tokens, float64[tokens], come
    to; see `metrics.language_means`."""
    characters, spelling = (array.sum(dtype=np.float64) for array in stream.tokens[1:])
    return metrics.language_means(
        {"loss": -logs.sum(), "tokens": len(logs), "characters": characters, "spelling": spelling}
    )


def _places(stream: Stream) -> np.ndarray:
    """int64[tokens]: how many tokens of its story stand before each."""
    starts = np.repeat(stream.offsets[:-1], np.diff(stream.offsets))
    return np.arange(len(stream)) - starts


def _chosen(vocabulary: Vocabulary) -> list[int]:
    """Common words of some length, whose neighbours say something."""
    if vocabulary.kind == "characters":
        return [i for i in range(len(SPECIAL), len(vocabulary)) if vocabulary.words[i].isalpha()][
            :NEIGHBOURS
        ]
    long = (i for i, word in enumerate(vocabulary.words) if len(word) > 5 and word.isalpha())
    return list(long)[: 4 * NEIGHBOURS : 4]
