"""A network that gives each sequence of tokens one of several labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax import masking
from rnn_jax.config import option
from rnn_jax.models import recurrent
from rnn_jax.models.recurrent import WordsConfig
from rnn_jax.nn.noise import dropout, module_rate, rate_array
from rnn_jax.nn.segments import boundaries, segment_max, segment_mean
from rnn_jax.types import Array, Cell, PRNGKey

# (recurrent layer, its final carry, outputs, mask) -> float[batch, features]
POOLINGS = {
    "last": lambda recurrent, carry, outputs, mask: recurrent.final_output(carry),
    "mean": lambda recurrent, carry, outputs, mask: masking.masked_mean(outputs, mask),
    "max": lambda recurrent, carry, outputs, mask: masking.masked_max(outputs, mask),
}
# (outputs, segments, lengths) -> float[batch, features]
SEGMENT_POOLINGS = {"mean": segment_mean, "max": segment_max}


@dataclasses.dataclass(frozen=True)
class ModelConfig(WordsConfig):
    """A classifier of token sequences."""

    bidirectional: bool = option(False, "read each text in both directions")
    dropout: float = option(
        0.0,
        "share of features dropped: of the tokens' vectors, between layers, before the head",
        minimum=0.0,
        below=1.0,
    )
    masked: bool = option(True, "skip padding; otherwise the cell reads it like any token")
    pooling: str = option(
        "last",
        "what the classifier sees of the steps' outputs: the last, their mean or their maximum",
        choices=("last", "mean", "max"),
    )
    token_dropout: float = option(
        0.0,
        "share of tokens whose whole vector is dropped, each on its own",
        minimum=0.0,
        below=1.0,
    )


class SequenceClassifier(nn.Module):
    """Tokens to vectors, through recurrent layers, pooled over time, to one logit a class.

    Attributes:
      recurrent: a layer, `(inputs, lengths=...) -> (carry, outputs)`.
      vocab_size: rows of the embedding, or classes of a one-hot token.
      embedding_size: features of a token's vector; 0 feeds one-hot tokens straight to the cell.
      classes: how many logits come out.
      masked: skip padding. Otherwise the cells read it like any token, as Keras does without a
        mask.
      widths: what an unmasked model takes for a text's padding: that up to the smallest of these
        that holds the text. So it depends on the text alone, not on its neighbours in a batch.
        Without widths, all padding is read.
      pooling: "last", "mean" or "max" over each row's steps.
      dropout: share of features that training drops from the tokens' vectors and from what is
        pooled.
      token_dropout: share of tokens whose whole vector training drops, each on its own. For this
        and `dropout` the collection "rates" may have others (`rnn_jax.nn.noise.module_rate`).

    Raises:
      ValueError: an attribute out of its bounds.
    """

    recurrent: nn.Module
    vocab_size: int
    embedding_size: int
    classes: int
    masked: bool = True
    widths: tuple[int, ...] = ()
    pooling: str = "last"
    dropout: float = 0.0
    token_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, smallest in (("vocab_size", 1), ("embedding_size", 0), ("classes", 1)):
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)!r}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}")
        for name in ("dropout", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
        super().__post_init__()

    def setup(self) -> None:
        if self.embedding_size:
            self.embedding = nn.Embed(
                self.vocab_size, self.embedding_size, embedding_init=_keras_embedding_init
            )
        self.head = nn.Dense(self.classes, kernel_init=nn.initializers.glorot_uniform())

    def __call__(
        self,
        tokens: Array,
        lengths: Array,
        deterministic: bool = True,
        segments: Array | None = None,
    ) -> Array:
        """Logits of token sequences.

        Args:
          tokens: int32[batch, time], or int32[rows, time] packed.
          lengths: int32[batch]; padded, tokens beyond them are padding.
          deterministic: no dropout; otherwise needs the random stream "dropout".
          segments: of packed sequences, int32[rows, time], as in `rnn_jax.nn.segments`.

        Returns:
          float32[batch, classes].

        Raises:
          ValueError: packed sequences for a model that is unmasked or pools the last state.
        """
        return self.classify(self.embed(tokens), lengths, deterministic, segments)

    def embed(self, tokens: Array) -> Array:
        """int32[batch, time] -> float32[batch, time, features]."""
        if not self.embedding_size:
            return jax.nn.one_hot(tokens, self.vocab_size)
        return self.embedding(tokens)

    def classify(
        self,
        vectors: Array,
        lengths: Array,
        deterministic: bool = True,
        segments: Array | None = None,
    ) -> Array:
        """float32[batch, time, features] -> float32[batch, classes]; apart from `embed`, so that
        a loss can be differentiated by the vectors alone."""
        if not deterministic:
            vectors = self._dropped(vectors, "token_dropout", axes=2)
            vectors = self._dropped(vectors, "dropout")
        if segments is None:
            features = self._pooled(vectors, lengths, deterministic)
        else:
            features = self._pooled_segments(vectors, lengths, segments, deterministic)
        return self.head(features if deterministic else self._dropped(features, "dropout"))

    def _pooled(self, vectors: Array, lengths: Array, deterministic: bool) -> Array:
        read = self._read(lengths, vectors.shape[1])
        carry, outputs = self.recurrent(vectors, lengths=read, deterministic=deterministic)
        mask = None if read is None else masking.lengths_to_mask(read, vectors.shape[1])
        return POOLINGS[self.pooling](self.recurrent, carry, outputs, mask)

    def _pooled_segments(
        self, vectors: Array, lengths: Array, segments: Array, deterministic: bool
    ) -> Array:
        if not self.masked or self.pooling not in SEGMENT_POOLINGS:
            raise ValueError(
                f"segments need masked=True and a pooling of {' or '.join(SEGMENT_POOLINGS)}, got "
                f"masked={self.masked} and pooling={self.pooling!r}"
            )
        vectors = masking.zero_masked(vectors, segments > 0)
        _, outputs = self.recurrent(
            vectors, resets=boundaries(segments), deterministic=deterministic
        )
        return SEGMENT_POOLINGS[self.pooling](outputs, segments, lengths)

    def _dropped(self, values: Array, name: str, axes: int | None = None) -> Array:
        rate = module_rate(self, name)
        return values if rate is None else dropout(self.make_rng("dropout"), values, rate, axes)

    def _read(self, lengths: Array, time: int) -> Array | None:
        """How many steps of each row are read: int32[batch], or None for all."""
        lengths = masking.int32_lengths(lengths)
        if self.masked:
            return lengths
        if not self.widths:
            return None
        widths = jnp.asarray(self.widths, jnp.int32)
        # There are few widths: comparing with all is quicker than a search, which is a loop.
        return jnp.minimum(widths[jnp.searchsorted(widths, lengths, method="compare_all")], time)


def _keras_embedding_init(key: PRNGKey, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform within 0.05 of zero."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


def classifier(
    config: ModelConfig,
    vocab_size: int,
    classes: int,
    widths: tuple[int, ...] = (),
    cells: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({}),
) -> SequenceClassifier:
    """The classifier that a config describes.

    Args:
      config: the options; the kernel is one that can run the cell.
      vocab_size: as for `SequenceClassifier`.
      classes: likewise.
      widths: likewise.
      cells: those of the experiment, beside `rnn_jax.models.CELLS`.

    Raises:
      InputError: there is no such cell.
    """
    return SequenceClassifier(
        recurrent=recurrent.stack(
            config, cells, bidirectional=config.bidirectional, dropout=config.dropout
        ),
        vocab_size=vocab_size,
        embedding_size=config.embedding_size,
        classes=classes,
        masked=config.masked,
        widths=() if config.masked else widths,
        pooling=config.pooling,
        dropout=config.dropout,
        token_dropout=config.token_dropout,
    )


def classifier_rates(config: ModelConfig) -> dict[str, Any]:
    """The rates of a config's classifier as arrays, None where they are 0: its collection "rates".

    A classifier that is given them does not look at its own, so that classifiers that differ only
    in rates can share a compiled program.
    """
    features = rate_array(config.dropout)
    return {
        "dropout": features,
        "token_dropout": rate_array(config.token_dropout),
        "recurrent": recurrent.stack_rates(
            config, bidirectional=config.bidirectional, dropout=features
        ),
    }
