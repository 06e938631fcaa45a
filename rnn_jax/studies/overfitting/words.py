"""What the page says in words: what is meant, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from rnn_jax.studies.overfitting.figures import Setting
from rnn_jax.studies.overfitting.options import OverfittingConfig
from rnn_jax.studies.overfitting.training import DROPOUT, TOKENS, WIDTH

READING = (
    "A chart shows the loss after each epoch, the mean over seeds; thin lines are single seeds. "
    "While both lines fall, what is learned of the training stories holds for others as well. "
    "Where training falls on and validation rises, the network learns its stories by heart: that "
    "is overfitting. Early stopping keeps the parameters of the lowest validation loss."
)
WHAT = {
    WIDTH: "the units of the layer",
    DROPOUT: "dropout of features (of the words' vectors and of what the classifier sees)",
    TOKENS: "dropout of words, each with its whole vector",
}


def measured(config: OverfittingConfig) -> str:
    """What is trained."""
    study, model = config.study, config.model
    return (
        f"A {model.cell.upper()} of {model.hidden} units reads the first {config.data.max_length} "
        f"words of a news story and names its topic. Every setting is trained with {study.seeds} "
        f"seeds for the same number of updates, {study.steps} rounded up to whole epochs, so that "
        "fewer stories are seen more often. The validation and test stories are always the same. "
        f"Where width and dropout are varied, there are {study.stories} training stories. "
        "Training losses are means over an epoch, each taken before its update and with dropout "
        "on; validation is without."
    )


def story(sizes: Mapping[float, Setting]) -> list[str]:
    """The study in a few sentences."""
    return [
        "A network with enough parameters can learn any training set by heart. This study shows "
        "when that happens, and what more data, another width and dropout change.",
        *_ends(sizes),
    ]


def sized(sizes: Mapping[float, Setting]) -> list[str]:
    """What the charts of data show."""
    return [READING, *_ends(sizes), _lost(sizes)]


def varied(name: str, settings: Mapping[float, Setting]) -> list[str]:
    """What the charts of a quantity show."""
    best = min(settings, key=lambda value: settings[value].best.mean)
    return [
        f"What is varied is {WHAT[name]}. The lowest validation loss, "
        f"{settings[best].best.mean:.3f}, is that of {best:g}. {_lost(settings)}"
    ]


def _ends(sizes: Mapping[float, Setting]) -> list[str]:
    """What the fewest and the most stories gave."""
    return [
        f"With {value:g} training stories the validation loss is lowest, {each.best.mean:.3f}, in "
        f"epoch {each.turn.mean:.0f} of {each.epochs} and ends at {each.last.mean:.3f}, where the "
        f"training loss is {each.train.mean:.3f}; test accuracy {each.accuracy.mean:.3f}."
        for value, each in (list(sizes.items())[place] for place in dict.fromkeys((0, -1)))
    ]


def _lost(settings: Mapping[float, Setting]) -> str:
    parts = [f"{each.lost:.3f} with {value:g}" for value, each in settings.items()]
    return f"Epochs after the best one added to the validation loss: {', '.join(parts)}."
