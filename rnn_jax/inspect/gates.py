"""What the gates of a trained network did over the words of a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rnn_jax.inspect import plots
from rnn_jax.inspect.walk import BACKWARD, Walk

OPEN, CLOSED = 0.9, 0.1  # a gate is called so beyond them (Karpathy et al. 2015)
STRONG = 0.5  # a write counts if it has this share of the layer's largest
LEFT = 0.5  # what is written is held while this share of it is left
PADDING = "(padding)"


class NoGates(ValueError):  # noqa: N818
    """A network has no recurrent layer."""


class Held(NamedTuple):
    """The unit that keeps what was written into it for the most words.

    unit: its number, from 0.
    set: the number of the word that wrote.
    written: what it wrote.
    words: for how many words more than half of it was left.
    cleared: the number of the word after which less was left; None if the text ended before.
    """

    unit: int
    set: int
    written: float
    words: int
    cleared: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class LayerGates:
    """One direction of one recurrent layer.

    layer: its number, from 1.
    direction: "forward" or "backward".
    cell: what its cell is called, such as "lstm".
    gates: by name, float[words, units]: forget, input and output gate and candidate of an LSTM,
      update and reset gate and candidate of a GRU, the keep gate of a cell that is linear in its
      state; empty for others.
    states: by name, float[words, units], after each word: "cell state" and "hidden state" of an
      LSTM, "state" of others.
    keep: float[words, units], the share of a unit's memory that each word left; None where there is
      no such gate.
    write: float[words, units], what each word added; None likewise.
    order: int[units], the units from the one that keeps most (the mean of `keep`) to the one that
      keeps least; without `keep` from the one whose state changes least from word to word.
    """

    axes: ClassVar[tuple[str, str]] = ("words", "units")

    layer: int
    direction: str
    cell: str
    gates: Mapping[str, np.ndarray]
    states: Mapping[str, np.ndarray]
    keep: np.ndarray | None
    write: np.ndarray | None
    order: np.ndarray

    @property
    def name(self) -> str:
        """Such as "layer 1, forward (lstm)"."""
        return f"layer {self.layer}, {self.direction} ({self.cell})"

    def __getitem__(self, name: str) -> np.ndarray:
        """A gate or state by its name, float[words, units]."""
        found = {**self.gates, **self.states}
        if name not in found:
            raise KeyError(f"{name!r} is none of {', '.join(found)}")
        return found[name]

    @property
    def held(self) -> Held | None:
        """The unit that holds longest; None where there is no gate that keeps.

        Only writes of at least half of the layer's largest count. Of equals it is the strongest.
        """
        if self.keep is None or self.write is None or not self.write.any():
            return None
        turned = slice(None, None, -1 if self.direction == BACKWARD else 1)
        keep, write = self.keep[turned].astype(np.float64), self.write[turned].astype(np.float64)
        logs = np.cumsum(np.log(np.clip(np.abs(keep), 1e-30, None)), axis=0)
        count, found = len(keep), []
        for word, unit in np.argwhere(np.abs(write) >= STRONG * np.abs(write).max()).tolist():
            lost = np.flatnonzero(logs[word + 1 :, unit] - logs[word, unit] < np.log(LEFT))
            words = int(lost[0]) if len(lost) else count - word - 1
            cleared = word + 1 + words if len(lost) else None
            found.append((words, abs(write[word, unit]), word, unit, cleared))
        words, _, word, unit, cleared = max(found, key=lambda each: each[:2])
        place = (lambda index: count - 1 - index) if self.direction == BACKWARD else int
        end = None if cleared is None else place(cleared)
        return Held(unit, place(word), float(write[word, unit]), words, end)

    def summary(self, words: Sequence[str]) -> tuple[str, ...]:
        """A line for each gate and state, and one for the unit that holds longest."""
        lines = [_line(name, values) for name, values in self.gates.items()]
        lines += [_state_line(name, values) for name, values in self.states.items()]
        held = self.held
        if held is not None:
            until = "the text ends"
            if held.cleared is not None:
                until = f"{words[held.cleared]!r} (word {held.cleared + 1}) clears it"
            lines.append(
                f"unit {held.unit} holds longest: {words[held.set]!r} (word {held.set + 1}) adds "
                f"{held.written:+.2f}, of which more than half is left for {held.words} "
                f"{'word' if held.words == 1 else 'words'} more, until {until}"
            )
        return tuple(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Gates:
    """What a network's recurrent layers did over the words of a text.

    words: those that were read, with the padding that an unmasked network reads.
    known: bool[words], which of them are in the vocabulary.
    layers: each direction of each layer.
    """

    words: tuple[str, ...]
    known: np.ndarray
    layers: tuple[LayerGates, ...]

    def __repr__(self) -> str:
        return f"Gates({len(self.words)} words; {'; '.join(each.name for each in self.layers)})"

    def summary(self) -> tuple[str, ...]:
        """A line for each gate and state of each layer."""
        return tuple(
            f"{layer.name}: {line}" for layer in self.layers for line in layer.summary(self.words)
        )

    def plot(self) -> Any:
        """A figure of matplotlib: a row of heat maps for each direction of each layer, words down,
        units across in the order of `LayerGates.order`.

        Raises:
          InputError: matplotlib is not installed.
        """
        return plots.gates(self.words, [(each.name, _ordered(each)) for each in self.layers])


def gates_of(
    walks: Sequence[Walk],
    words: Sequence[str],
    known: Sequence[bool],
    count: int | None = None,
) -> Gates:
    """The gates of a text from walks over a batch whose first row it is.

    Args:
      walks: what `rnn_jax.inspect.walk.walks` returned.
      words: the text's words, the row's first steps.
      known: whether each is in the vocabulary.
      count: how many steps are shown; None for the words, and the padding that was read.

    Raises:
      NoGates: there is no walk: the network has no recurrent layer that can be found.
    """
    if not walks:
        raise NoGates("the network has no layer RNN or Bidirectional, so there are no gates")
    if count is None:
        taken = np.flatnonzero(np.asarray(walks[0].steps)[0])
        count = max(len(words), int(taken[-1]) + 1 if len(taken) else 0)
    padding = count - len(words)
    return Gates(
        words=(*words, *[PADDING] * padding),
        known=np.array([*known, *[True] * padding], bool),
        layers=tuple(_layer(each, count) for each in walks),
    )


def _layer(walk: Walk, count: int) -> LayerGates:
    row = lambda leaf: np.asarray(leaf)[0, :count]
    states = dict(zip(walk.state_names, map(row, walk.states), strict=True))
    keep = None if walk.keep is None else row(walk.keep)
    if keep is not None:
        order = np.argsort(-keep.mean(axis=0), kind="stable")
    else:
        order = np.argsort(_changes(next(iter(states.values()))), kind="stable")
    return LayerGates(
        layer=walk.layer,
        direction=walk.direction,
        cell=walk.cell,
        gates=dict(zip(walk.gate_names, map(row, walk.gates), strict=True)),
        states=states,
        keep=keep,
        write=None if walk.write is None else row(walk.write),
        order=order,
    )


def _ordered(layer: LayerGates) -> dict[str, np.ndarray]:
    """Gates and states with their units in the layer's order; a state that has other units as it
    is."""
    named = {**layer.gates, **layer.states}
    fits = lambda values: values.shape[1] == len(layer.order)
    return {name: v[:, layer.order] if fits(v) else v for name, v in named.items()}


def _changes(values: np.ndarray) -> np.ndarray:
    """How much each unit changes from word to word, in the mean."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return np.abs(np.diff(values.astype(np.float64), axis=0)).mean(axis=0)


def _line(name: str, values: np.ndarray) -> str:
    if not name.endswith("gate"):
        return _state_line(name, values)
    means = values.mean(axis=0)
    return (
        f"{name}: mean {values.mean():.2f}; above {OPEN} {(values > OPEN).mean():.0%}, below "
        f"{CLOSED} {(values < CLOSED).mean():.0%} of the time; unit {means.argmax()} is open the "
        f"most ({means.max():.2f}), unit {means.argmin()} the least ({means.min():.2f})"
    )


def _state_line(name: str, values: np.ndarray) -> str:
    changes = _changes(values)
    return (
        f"{name}: from {values.min():.2f} to {values.max():.2f}; from word to word unit "
        f"{changes.argmin()} changes least ({changes.min():.2f}), unit {changes.argmax()} most "
        f"({changes.max():.2f})"
    )
