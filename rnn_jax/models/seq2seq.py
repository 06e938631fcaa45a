"""A network that reads one sequence of tokens and writes another: encoder, attention, decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax import masking
from rnn_jax.config import option
from rnn_jax.models import recurrent
from rnn_jax.models.recurrent import RecurrentConfig
from rnn_jax.nn.attention import SCORES, Attention, Memory
from rnn_jax.nn.layers import Stacked
from rnn_jax.nn.noise import dropout, module_rate, rate_array
from rnn_jax.types import Array, Carry, Cell

_NEVER = -1e9  # a logit of what cannot come


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig(RecurrentConfig):
    """An encoder and a decoder with attention."""

    hidden: int = option(128, "units of each layer and direction", minimum=1, below=2**20)
    layers: int = option(
        1, "layers of the encoder, each of which reads in both directions", minimum=1, below=1000
    )
    decoder_layers: int = option(
        1, "layers of the decoder whose outputs ask the attention", minimum=1, below=1000
    )
    upper_layers: int = option(
        1,
        "layers of the decoder above those, which read what the attention found as well, so that "
        "they know what was read before (0: the head reads it alone, as in Luong et al. 2015)",
        minimum=0,
        below=1000,
    )
    embedding_size: int = option(64, "features of a token's learned vector", minimum=1, below=2**20)
    attention: str = option(
        "dot",
        "how steps are compared: dot (Luong et al. 2015, scaled) or additive (Bahdanau et al. "
        "2015; slower)",
        choices=SCORES,
    )
    dropout: float = option(
        0.0,
        "share of features dropped: of tokens' vectors, between layers, before the head",
        minimum=0.0,
        below=1.0,
    )
    label_smoothing: float = option(
        0.0,
        "share of a token's probability that training wants spread over the whole vocabulary",
        minimum=0.0,
        below=1.0,
    )
    scheduled_sampling: float = option(
        0.0,
        "share of the tokens before that the decoder gets as it would have written them itself, "
        "not as they are (all steps at once: Duckworth et al. 2019, "
        "https://arxiv.org/abs/1906.04331); takes a second pass of the decoder",
        minimum=0.0,
        below=1.0,
    )
    beam: int = option(
        5,
        "answers that a prediction looks for, and gives, best first (1: greedy)",
        minimum=1,
        below=1000,
        fixed=False,
    )
    test_beam: int = option(
        1,
        "the same of validation and test, which take the best one",
        minimum=1,
        below=1000,
    )
    length_penalty: float = option(
        0.6,
        "the scores of a beam's answers are logarithms divided by ((5 + tokens) / 6) to this power",
        minimum=0.0,
        below=10.0,
    )


class Start(NamedTuple):
    """What the decoder starts from.

    memory: the encoder's outputs, to be attended to.
    carry: (of the layers below the attention, of those above it).
    """

    memory: Memory
    carry: Carry


class Decoded(NamedTuple):
    """What the decoder says.

    carry: after the last step.
    logits: float[batch, time, outputs].
    weights: float[batch, time, input time], of the attention.
    """

    carry: Carry
    logits: Array
    weights: Array


class Bridge(nn.Module):
    """The carry that layers of any cells start from, made of features of any encoder: each of its
    arrays is tanh of an affine map of the features.

    cells: of the layers.
    """

    cells: tuple[Cell, ...]

    @nn.compact
    def __call__(self, features: Array) -> Carry:
        """float[batch, features] -> the layers' carry."""
        made = []
        for number, cell in enumerate(self.cells):
            begin = lambda key, cell=cell: cell.initial_carry(cell.init(key, 1), len(features))
            leaves, tree = jax.tree.flatten(jax.eval_shape(begin, jax.random.key(0)))
            found = [
                jnp.tanh(nn.Dense(leaf.shape[-1], name=f"layer_{number}_{place}")(features))
                for place, leaf in enumerate(leaves)
            ]
            made.append(jax.tree.unflatten(tree, found))
        return tuple(made)


class Seq2Seq(nn.Module):
    """Reads with an encoder, writes with a decoder that attends to what was read.

    The decoder's lower layers read the tokens so far; their outputs ask the attention; the upper
    layers read outputs and answers, and so know what was attended to before; the head reads both.
    All steps of a text that is known are computed at once, by the layers' kernel.

    Attributes:
      encoder: a layer, `(inputs, lengths=...) -> (carry, outputs)`.
      lower: the decoder's layers whose outputs ask.
      upper: those above, or None.
      inputs, outputs: tokens that there are, to read and to write.
      embedding_size: features of a token's vector.
      attention: see `rnn_jax.nn.attention.Attention`.
      hidden: features of what the head reads, and in which the attention compares.
      dropout: see `Seq2SeqConfig`; the collection "rates" may have another
        (`rnn_jax.nn.noise.module_rate`).
    """

    encoder: Stacked
    lower: Stacked
    upper: Stacked | None
    inputs: int
    outputs: int
    embedding_size: int
    attention: str
    hidden: int
    dropout: float = 0.0

    def setup(self) -> None:
        self.input_embedding = nn.Embed(self.inputs, self.embedding_size, embedding_init=_uniform)
        self.output_embedding = nn.Embed(self.outputs, self.embedding_size, embedding_init=_uniform)
        self.bridge = Bridge(_cells(self.lower))
        if self.upper is not None:
            self.upper_bridge = Bridge(_cells(self.upper))
        self.attend = Attention(self.attention, self.hidden)
        glorot = nn.initializers.glorot_uniform()
        self.join = nn.Dense(self.hidden, kernel_init=glorot)
        self.head = nn.Dense(self.outputs, kernel_init=glorot)

    def __call__(self, texts: Array, before: Array, deterministic: bool = True) -> Decoded:
        """Reads texts and says what comes after each token of their answers.

        Args:
          texts: int32[batch, input time]; 0 is padding, at the rows' ends.
          before: int32[batch, time], the tokens before those that are asked for.
          deterministic: no dropout; otherwise needs the random stream "dropout".
        """
        start = self.encode(texts, deterministic)
        return self.decode(start.memory, start.carry, before, deterministic)

    def encode(self, texts: Array, deterministic: bool = True) -> Start:
        """What the decoder starts from; `texts` as for a call."""
        mask = jnp.asarray(texts) != 0
        lengths = jnp.sum(mask, axis=1, dtype=jnp.int32)
        vectors = self._dropped(self.input_embedding(texts), deterministic)
        vectors = masking.zero_masked(vectors, mask)
        carry, outputs = self.encoder(vectors, lengths=lengths, deterministic=deterministic)
        values = self._dropped(outputs, deterministic)
        features = self.encoder.final_output(carry)
        upper = () if self.upper is None else self.upper_bridge(features)
        return Start(self.attend.remember(values, mask), (self.bridge(features), upper))

    def decode(
        self, memory: Memory, carry: Carry, before: Array, deterministic: bool = True
    ) -> Decoded:
        """What comes after some tokens.

        Args:
          memory: the encoder's.
          carry: before the first of the tokens.
          before: int32[batch, time].
          deterministic: as for a call.
        """
        of_lower, of_upper = carry
        vectors = self._dropped(self.output_embedding(before), deterministic)
        of_lower, asking = self.lower(vectors, initial=of_lower, deterministic=deterministic)
        found = self.attend.attend(asking, memory)
        seen = jnp.concatenate([asking, found.context], axis=-1)
        if self.upper is not None:
            of_upper, above = self.upper(
                self._dropped(seen, deterministic), initial=of_upper, deterministic=deterministic
            )
            seen = jnp.concatenate([above, found.context], axis=-1)
        features = self._dropped(jnp.tanh(self.join(seen)), deterministic)
        return Decoded((of_lower, of_upper), self.head(features), found.weights)

    def _dropped(self, values: Array, deterministic: bool) -> Array:
        rate = None if deterministic else module_rate(self, "dropout")
        return values if rate is None else dropout(self.make_rng("dropout"), values, rate)


def _cells(layers: Stacked) -> tuple[Cell, ...]:
    return tuple(member.cell for member in layers.members())


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    return jax.random.uniform(key, shape, dtype, -0.1, 0.1)


def writable(logits: Array) -> Array:
    """Logits float[..., outputs] without those of padding and the unknown token, 0 and 1."""
    return logits.at[..., :2].set(_NEVER)


def seq2seq(
    config: Seq2SeqConfig,
    inputs: int,
    outputs: int,
    cells: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({}),
) -> Seq2Seq:
    """The network that a config describes.

    Args:
      config: the options; the kernel is one that can run the cell.
      inputs, outputs: as for `Seq2Seq`.
      cells: those of the experiment, beside `rnn_jax.models.CELLS`.

    Raises:
      InputError: there is no such cell.
    """
    layers = lambda count, **how: recurrent.stack(
        dataclasses.replace(config, layers=count), cells, dropout=config.dropout, **how
    )
    return Seq2Seq(
        encoder=layers(config.layers, bidirectional=True),
        lower=layers(config.decoder_layers),
        upper=layers(config.upper_layers) if config.upper_layers else None,
        inputs=inputs,
        outputs=outputs,
        embedding_size=config.embedding_size,
        attention=config.attention,
        hidden=config.hidden,
        dropout=config.dropout,
    )


def seq2seq_rates(config: Seq2SeqConfig) -> dict[str, Any]:
    """A config's dropout as arrays, None where it is 0: the network's collection "rates"."""
    rate = rate_array(config.dropout)
    of = lambda count, **how: recurrent.stack_rates(
        dataclasses.replace(config, layers=count), dropout=rate, **how
    )
    rates = {"encoder": of(config.layers, bidirectional=True), "lower": of(config.decoder_layers)}
    upper = {"upper": of(config.upper_layers)} if config.upper_layers else {}
    return {"dropout": rate} | rates | upper
