"""What the page says in words: what follows from the equations, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnn_jax.studies.vanishing_gradients.cells import NAMES
from rnn_jax.studies.vanishing_gradients.measures import LARGEST, SMALLEST, Curve
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.studies.vanishing_gradients.training import ADDING, COPYING, Problem, Trial, reach

Ladders = dict[str, dict[str, dict[str, list[Trial]]]]

TRAINED = (
    "The gradient of the network's answer with respect to what each step hands on, before training "
    "and after it, by the run with the longest lag that the cell learned (or with the first lag). "
    "Where a cell has learned to remember, its trained line lies above its untrained one: training "
    "has made the way on which the gradient comes back. Distances beyond the lag were never seen "
    "in training."
)


def story(ladders: Ladders) -> list[str]:
    """The study in a few sentences."""
    return [
        "How the gradient of a loss shrinks or grows on its way back through time, and how far "
        "back each cell learns to remember.",
        *(f"{_furthest(ladders, problem)}." for problem in (ADDING, COPYING)),
    ]


def measured(config: VanishingConfig) -> str:
    """What a line shows."""
    study = config.study
    return (
        "L is a loss of the output after the last step T, and h_t all that step t hands on to the "
        "next (for an LSTM hidden and cell state together). By the chain rule dL/dh_t is dL/dh_T "
        "times a Jacobian dh_k/dh_(k-1) for every step between. If these shrink what they "
        "multiply, the gradient vanishes with the distance, and training learns nothing of what "
        "stood far back; if they stretch it, it explodes. A line shows the norm of dL/dh_t by the "
        f"steps back, T - t, as a share of that at T: the median over {study.rows} sequences of "
        f"{study.length} steps. Norms below {SMALLEST:g} and above {LARGEST:g} are not drawn."
    )


def untrained(curves: dict[str, dict[str, Curve]], far: int) -> list[str]:
    """What the charts of untrained cells show."""
    identity = curves["simple_identity"]
    told = [
        f"{identity[scale][far]:.3g} at scale {scale}"
        for scale in ("0.5", "0.8", "1.25", "2")
        if identity[scale][far] is not None
    ]
    return [
        "Recurrent kernels start orthogonal, each gate's by itself, times a scale: all their "
        "eigenvalues lie on a circle of that radius. With the identity as activation a step "
        "multiplies every gradient by exactly the scale, so that only scale 1 keeps it: "
        f"{', '.join(told) or 'too small or large to be told'} is left after {far} steps. Other "
        "activations multiply by their derivative besides. It is at most 1 for tanh and 0 or 1 for "
        "relu; for sigmoid it is at most 1/4, so that the gradient vanishes at every scale below "
        "4.",
        "Gates make a way that leads through no kernel. An LSTM's cell state is multiplied by its "
        "forget gate alone: about sigmoid(0) = 0.5 a step with a bias of 0, about sigmoid(1) = "
        "0.73 with one of 1. A GRU keeps about half of its state. An LRU's state is multiplied by "
        "numbers just inside the unit circle, at which it starts, whatever it reads.",
    ]


def ladders(config: VanishingConfig, found: Ladders) -> list[str]:
    """What the charts of lags show."""
    return [
        "Each cell was trained on one lag after the other, each twice the one before, until the "
        "first that it did not learn. "
        f"A run of adding has learned with {ADDING.rule}, of copying with {COPYING.rule}; "
        f"{_rule(config.study.seeds)}. Lines are medians over the seeds. Every lag has the same "
        "steps: one that fails here may be learned with more of them.",
        *(
            f"{_furthest(found, problem)}. {_order(found, problem)}"
            for problem in (ADDING, COPYING)
        ),
    ]


def _rule(seeds: int) -> str:
    """When a cell has learned a lag."""
    if seeds == 1:
        return "there is one seed, and another may end otherwise"
    return f"a cell has learned a lag when more than half of its {seeds} seeds have"


def clipped(config: VanishingConfig, runs: Sequence[tuple[dict[str, Any], Trial]]) -> str:
    """What clipping changed."""
    lost = [changes for changes, trial in runs if trial.figure is None]
    unclipped = sum(not changes["optimizer.clip_norm"] for changes in lost)
    learned = lambda clip: sum(
        trial.figure is not None and ADDING.learned(trial.figure)
        for changes, trial in runs
        if bool(changes["optimizer.clip_norm"]) == clip
    )
    half = len(runs) // 2
    return (
        f"Adding at lag {config.study.clip_lag} with one seed, from recurrent kernels of the usual "
        "scale and of a larger one. Clipping scales a step's whole gradient to a largest norm; it "
        "leaves dL/dh_t its shape, and a gradient that has vanished stays so. It keeps one "
        "exploding step from throwing the parameters away. "
        f"Without clipping {learned(False)} of {half} runs learned, with it {learned(True)}; "
        f"{len(lost)} stopped because something was not finite, {unclipped} of them unclipped. "
        "Adam divides by the gradient's own size, which already tames what plain gradient descent "
        "would not survive."
    )


def _furthest(found: Ladders, problem: Problem) -> str:
    reached = {name: reach(problem, found[problem.name][name]) for name in NAMES}
    longest = max((lag for lag in reached.values() if lag), default=None)
    what = "Adding" if problem is ADDING else "Copying"
    if longest is None:
        return f"{what} was learned by no cell"
    names = [NAMES[name] for name, lag in reached.items() if lag == longest]
    return f"{what} was learned up to lag {longest} by {_listed(names)}"


def _order(found: Ladders, problem: Problem) -> str:
    """The others, by what they reached."""
    reached = {name: reach(problem, found[problem.name][name]) or 0 for name in NAMES}
    longest = max(reached.values())
    parts = []
    for lag in sorted(set(reached.values()) - {longest}, reverse=True):
        names = _listed([NAMES[name] for name in NAMES if reached[name] == lag])
        parts.append(f"up to {lag}: {names}" if lag else f"at no lag: {names}")
    return f"The others {'; '.join(parts)}." if parts else "So did all."


def _listed(names: Sequence[str]) -> str:
    """Names with commas of their own, one after the other.

    >>> _listed(["GRU", "LSTM, forget bias 1"])
    'GRU and LSTM (forget bias 1)'
    """
    told = []
    for name in names:
        head, comma, tail = name.partition(", ")
        told.append(f"{head} ({tail})" if comma else name)
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
