"""A network that guesses, at each step of a text, which token comes next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.config import InputError, option
from rnn_jax.models import recurrent
from rnn_jax.models.recurrent import WordsConfig
from rnn_jax.nn.noise import embedding_dropout, locked_dropout, module_rate, rate_array
from rnn_jax.types import Array, Carry, Cell, Params


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(WordsConfig):
    """A language model."""

    hidden: int = option(256, "units of each layer", minimum=1, below=2**20)
    embedding_size: int = option(
        256,
        "features of a token's learned vector (0: one-hot tokens go straight into the cell)",
        minimum=0,
        below=2**20,
    )
    tied: bool = option(
        True,
        "the head reads the tokens' vectors as its weights (Press and Wolf 2017); with another "
        "hidden than embedding_size a linear map stands between",
    )
    sampled: int = option(
        0,
        "words that stand for the whole vocabulary in a training step (sampled softmax); the "
        "training figures are estimates then (0: all words)",
        minimum=0,
        below=2**24,
    )
    input_dropout: float = option(
        0.0,
        "share of the features of the tokens' vectors dropped, the same at all steps of a window",
        minimum=0.0,
        below=1.0,
    )
    hidden_dropout: float = option(
        0.0, "likewise, of the outputs between two layers", minimum=0.0, below=1.0
    )
    output_dropout: float = option(
        0.0, "likewise, of the last layer's outputs", minimum=0.0, below=1.0
    )
    embedding_dropout: float = option(
        0.0,
        "share of the vocabulary whose vectors are dropped wherever they are read, anew for each "
        "window",
        minimum=0.0,
        below=1.0,
    )
    activation_penalty: float = option(
        0.0, "weight of the mean square of the last layer's dropped outputs", minimum=0.0
    )
    slowness_penalty: float = option(
        0.0,
        "weight of the mean square of the difference between the last layer's outputs at "
        "neighbouring steps",
        minimum=0.0,
    )

    def check(self) -> None:
        super().check()
        if self.tied and not self.embedding_size:
            raise InputError(
                "--config.model.tied needs vectors: give --noconfig.model.tied with "
                "--config.model.embedding_size=0"
            )
        if self.embedding_dropout and not self.embedding_size:
            raise InputError("--config.model.embedding_dropout needs --config.model.embedding_size")


class Read(NamedTuple):
    """What a language model makes of a window.

    carry: the recurrent layers', after the last step.
    features: float[batch, time, features], what the head reads.
    outputs: float[batch, time, hidden], the last layer's before dropout; for penalties.
    dropped: the same after dropout.
    """

    carry: Carry
    features: Array
    outputs: Array
    dropped: Array


class Readout(NamedTuple):
    """The head: logits are features @ table^T + bias.

    table: float[vocabulary, features].
    bias: float[vocabulary].
    """

    table: Array
    bias: Array


class LanguageModel(nn.Module):
    """Tokens to vectors, through recurrent layers, to what the head reads.

    Attributes:
      recurrent: a layer, `(inputs, initial=..., resets=...) -> (carry, outputs)`.
      vocab_size: tokens that there are.
      embedding_size: features of a token's vector; 0 feeds one-hot tokens straight to the cell.
      tied: whether the head's table is the embedding's.
      input_dropout, output_dropout, embedding_dropout: see `LanguageModelConfig`; the collection
        "rates" may have others (`rnn_jax.nn.noise.module_rate`).
    """

    recurrent: nn.Module
    vocab_size: int
    embedding_size: int
    tied: bool = True
    input_dropout: float = 0.0
    output_dropout: float = 0.0
    embedding_dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        tokens: Array,
        initial: Carry = None,
        resets: Array | None = None,
        deterministic: bool = True,
    ) -> Read:
        """Reads a window of tokens.

        Args:
          tokens: int32[batch, time].
          initial: the carry that the window begins with; None: none.
          resets: bool[batch, time], true where the carry is forgotten before the step.
          deterministic: no dropout; otherwise needs the random stream "dropout".
        """
        vectors = self._vectors(tokens, deterministic)
        vectors = self._dropped(vectors, "input_dropout", deterministic)
        carry, outputs = self.recurrent(
            vectors, initial=initial, resets=resets, deterministic=deterministic
        )
        dropped = self._dropped(outputs, "output_dropout", deterministic)
        features = dropped
        if self.tied and outputs.shape[-1] != self.embedding_size:
            features = nn.Dense(self.embedding_size, use_bias=False, name="projection")(dropped)
        self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        if not self.tied:
            shape = (self.vocab_size, features.shape[-1])
            self.param("head", _uniform, shape)
        return Read(carry, features, outputs, dropped)

    def _vectors(self, tokens: Array, deterministic: bool) -> Array:
        if not self.embedding_size:
            return jax.nn.one_hot(tokens, self.vocab_size)
        table = self.param("embedding", _uniform, (self.vocab_size, self.embedding_size))
        vectors = jnp.take(table, tokens, axis=0)
        rate = None if deterministic else module_rate(self, "embedding_dropout")
        if rate is None:
            return vectors
        kept = embedding_dropout(self.make_rng("dropout"), self.vocab_size, rate)
        return vectors * jnp.take(kept, tokens, axis=0)

    def _dropped(self, values: Array, name: str, deterministic: bool) -> Array:
        rate = None if deterministic else module_rate(self, name)
        return values if rate is None else locked_dropout(self.make_rng("dropout"), values, rate)


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Uniform within 0.1 of zero, as in Zaremba et al. (2014), https://arxiv.org/abs/1409.2329."""
    return jax.random.uniform(key, shape, dtype, -0.1, 0.1)


def readout(params: Params) -> Readout:
    """A language model's head."""
    table = params["head"] if "head" in params else params["embedding"]
    return Readout(table, params["bias"])


def language_model(
    config: LanguageModelConfig,
    vocab_size: int,
    cells: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({}),
) -> LanguageModel:
    """The language model that a config describes.

    Args:
      config: the options; the kernel is one that can run the cell.
      vocab_size: as for `LanguageModel`.
      cells: those of the experiment, beside `rnn_jax.models.CELLS`.

    Raises:
      InputError: there is no such cell.
    """
    return LanguageModel(
        recurrent=recurrent.stack(config, cells, dropout=config.hidden_dropout, locked=True),
        vocab_size=vocab_size,
        embedding_size=config.embedding_size,
        tied=config.tied,
        input_dropout=config.input_dropout,
        output_dropout=config.output_dropout,
        embedding_dropout=config.embedding_dropout,
    )


def language_model_rates(config: LanguageModelConfig) -> dict[str, Any]:
    """The rates of a config's language model as arrays, None where they are 0: its collection
    "rates"."""
    return {
        "input_dropout": rate_array(config.input_dropout),
        "output_dropout": rate_array(config.output_dropout),
        "embedding_dropout": rate_array(config.embedding_dropout),
        "recurrent": recurrent.stack_rates(config, dropout=rate_array(config.hidden_dropout)),
    }
