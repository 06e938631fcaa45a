"""How much each word of a text counts for a class.

Three answers, for the logit of one class as a function F of the words' vectors x_t:

- gradient x input: sum over features of x_t * dF/dx_t at the text (Li et al. 2016,
  https://arxiv.org/abs/1506.01066, look at that gradient); what F would lose if it were linear.
- integrated gradients: sum over features of x_t * integral over a from 0 to 1 of dF/dx_t at a * x
  (Sundararajan, Taly and Yan 2017, https://arxiv.org/abs/1703.01365), the baseline being the text
  whose vectors are all zero. It is complete: over all words it adds up to F(x) - F(0).
- occlusion: F(x) - F(x with x_t set to zero), one word at a time; needs no gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.inspect import plots
from rnn_jax.inspect.gates import PADDING
from rnn_jax.system import programs
from rnn_jax.types import AnyArray, Array, Params

STEPS = 64  # points at which the gradient is integrated
_ROWS = 64  # texts that are computed together
_ENTRIES = 2**24  # of the vectors of those texts, at most


class Scorer(NamedTuple):
    """A classifier in two halves.

    embed: `(params, tokens int32[batch, time]) -> float[batch, time, features]`.
    logits: `(params, vectors, lengths int32[batch]) -> float[batch, classes]`, without noise.
    key: scorers of equal keys compute the same, as in `rnn_jax.system.programs`.
    """

    embed: Callable[[Params, AnyArray], Array]
    logits: Callable[[Params, Array, AnyArray], Array]
    key: Hashable = None


@dataclasses.dataclass(frozen=True, eq=False)
class Importance:
    """How much each word of a text counts for a class: positive for it, negative against it.

    words: those that were read, with the padding that an unmasked network reads.
    known: bool[words], which of them are in the vocabulary.
    label: the class.
    probability: what the network gives it.
    logit: its logit.
    baseline: its logit for the text whose vectors are all zero.
    gradient: float64[words], gradient x input.
    integrated: float64[words], integrated gradients.
    occlusion: float64[words], what the logit loses without the word's vector.
    steps: at how many points the gradient was integrated.
    """

    axes: ClassVar[tuple[str]] = ("words",)

    words: tuple[str, ...]
    known: np.ndarray
    label: str
    probability: float
    logit: float
    baseline: float
    gradient: np.ndarray
    integrated: np.ndarray
    occlusion: np.ndarray
    steps: int

    def __repr__(self) -> str:
        return f"Importance({self.label!r}, {len(self.words)} words)"

    @property
    def gap(self) -> float:
        """What integrated gradients miss of the logits' difference: smaller with more `steps`."""
        return float(self.integrated.sum() - (self.logit - self.baseline))

    def ranked(self) -> list[tuple[str, float]]:
        """The words by their integrated gradients, the largest size first."""
        order = np.argsort(-np.abs(self.integrated), kind="stable")
        return [(self.words[i], float(self.integrated[i])) for i in order]

    def plot(self) -> Any:
        """A figure of matplotlib: bars of the three answers, the words down.

        Raises:
          InputError: matplotlib is not installed.
        """
        named = {
            "integrated gradients": self.integrated,
            "gradient x input": self.gradient,
            "occlusion": self.occlusion,
        }
        return plots.importance(self.words, named, f"importance for {self.label!r} (logit)")


def importance_of(
    scorer: Scorer,
    params: Params,
    tokens: np.ndarray,
    classes: tuple[str, ...],
    words: tuple[str, ...],
    known: tuple[bool, ...],
    *,
    label: str | None = None,
    steps: int = STEPS,
) -> Importance:
    """How much each word of a text counts.

    Args:
      scorer: the classifier.
      params: its parameters.
      tokens: int32[time], the text's ids and after them the padding that stands in its row.
      classes: the classes' names.
      words: the text's words; as many as it has ids.
      known: whether each is in the vocabulary.
      label: the class that is explained; None for the likeliest.
      steps: at how many points the gradient is integrated (Gauss-Legendre).

    Raises:
      ValueError: no such class, or steps below 1.
    """
    if label is not None and label not in classes:
        raise ValueError(f"label must be one of {', '.join(classes)}, got {label!r}")
    if type(steps) is not int or not 1 <= steps <= 2**12:
        raise ValueError(f"steps must be a whole number from 1 to {2**12}, got {steps!r}")
    time, lengths = len(tokens), np.array([len(words)], np.int32)
    points, weights = np.polynomial.legendre.leggauss(steps)
    scales = np.concatenate(
        [
            np.ones((1, time)),
            np.zeros((1, time)),
            np.repeat((points[:, None] + 1) / 2, time, axis=1),
            1 - np.eye(time),
        ]
    ).astype(np.float32)
    vectors = scorer.embed(params, tokens[None])[0]
    rows = max(1, min(_ROWS, _ENTRIES // max(vectors.size, 1)))
    probe = _probe(scorer)

    def ask(scales: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for start in range(0, len(scales), rows):
            part = scales[start : start + rows]
            full = np.pad(part, ((0, rows - len(part)), (0, 0)))  # one shape, one program
            answer = probe(params, vectors, lengths, full, np.int32(target))
            found.append([np.asarray(leaf, np.float64)[: len(part)] for leaf in answer])
        logits, products = map(np.concatenate, zip(*found, strict=True))
        return logits, products

    if label is None:
        label = classes[int(np.argmax(ask(scales[:1], 0)[0][0]))]
    target = classes.index(label)
    logits, products = ask(scales, target)
    scores, inner = logits[:, target], products[2 : 2 + steps]
    integrated = weights @ inner / 2
    occlusion = scores[0] - scores[2 + steps :]
    # Beyond the text only what the network reads can have a gradient.
    read = np.flatnonzero(products.any(axis=0))
    count = max(len(words), int(read[-1]) + 1 if len(read) else 0)
    exponents = np.exp(logits[0] - logits[0].max())
    return Importance(
        words=(*words, *[PADDING] * (count - len(words))),
        known=np.array([*known, *[True] * (count - len(words))], bool),
        label=label,
        probability=float(exponents[target] / exponents.sum()),
        logit=float(scores[0]),
        baseline=float(scores[1]),
        gradient=products[0, :count],
        integrated=integrated[:count],
        occlusion=occlusion[:count],
        steps=steps,
    )


@programs.shared
def _probe(scorer: Scorer) -> Callable[..., tuple[Array, Array]]:
    """Returns `(params, vectors, lengths, scales, target) -> (logits, products)`: one text in many
    rows, each word's vector times its scale there.

    logits are float[rows, classes]; products float[rows, time] are sums over the features of the
    vectors times the target's gradient with respect to the scaled ones.
    """

    def probe(
        params: Params, vectors: Array, lengths: Array, scales: Array, target: Array
    ) -> tuple[Array, Array]:
        scaled = vectors[None] * scales[:, :, None].astype(vectors.dtype)
        everyone = jnp.broadcast_to(lengths, scales.shape[:1])

        def total(scaled: Array) -> tuple[Array, Array]:
            logits = scorer.logits(params, scaled, everyone)
            return jnp.sum(logits[:, target]), logits

        gradients, logits = jax.grad(total, has_aux=True)(scaled)
        return logits, jnp.einsum("rtf,tf->rt", gradients, vectors)

    return jax.jit(probe)
