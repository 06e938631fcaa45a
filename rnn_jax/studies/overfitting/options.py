"""What can be set of the study."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from rnn_jax.config import Config, InputError, OptimizerConfig, Section, TrainConfig, option
from rnn_jax.data.options import DataConfig
from rnn_jax.models import ModelConfig
from rnn_jax.tasks import ClassificationConfig


@dataclasses.dataclass(frozen=True)
class StudyConfig(Section):
    """Sizes of the study."""

    smallest: int = option(
        200, "the smallest number of training stories; each next one is twice", minimum=2
    )
    largest: int = option(1_530, "the largest number of training stories", minimum=2)
    stories: int = option(
        400, "training stories where width and dropout are varied", minimum=2, below=2**31
    )
    narrowest: int = option(
        2, "units of the narrowest network; each next one has four times as many", minimum=1
    )
    widest: int = option(128, "no network is wider", minimum=1, below=2**16)
    seeds: int = option(3, "runs of each setting, with seeds from 0 on", minimum=1, below=1000)
    steps: int = option(1_200, "updates of every run, rounded up to whole epochs", minimum=1)

    def check(self) -> None:
        for low, high in (("smallest", "largest"), ("narrowest", "widest")):
            if getattr(self, high) < getattr(self, low):
                raise InputError(
                    f"--config.study.{high} must be at least --config.study.{low}, "
                    f"{getattr(self, low)}, not {getattr(self, high)}"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of training stories, rising."""
        return (*_powers(self.smallest, self.largest - 1, 2), self.largest)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of units, rising."""
        return _powers(self.narrowest, self.widest, 4)


@dataclasses.dataclass(frozen=True)
class OverfittingConfig(Config):
    """The study; `data`, `model`, `optimizer` and `train` are those of every run, but for what the
    study varies."""

    task: ClassVar[str] = "overfitting"

    study: StudyConfig = StudyConfig()
    data: DataConfig = DataConfig(
        field="text", vocab_field="text", vocab_texts=0, vocab_size=10_000, max_length=60
    )
    model: ModelConfig = ModelConfig(cell="gru", hidden=32, embedding_size=32, pooling="mean")
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-3)
    train: TrainConfig = TrainConfig(batch_size=20, patience=0)


def classifier(config: OverfittingConfig, stories: int) -> ClassificationConfig:
    """A run with so many training stories, and as many epochs as the study's updates take."""
    batches = -(-stories // config.train.batch_size)
    epochs = -(-config.study.steps // batches)
    return ClassificationConfig(
        config.experiment,
        dataclasses.replace(config.data, train_take=stories),
        config.model,
        config.optimizer,
        dataclasses.replace(config.train, epochs=epochs),
    )


def _powers(first: int, last: int, factor: int) -> tuple[int, ...]:
    found: list[Any] = []
    value = first
    while value <= last:
        found.append(value)
        value *= factor
    return tuple(found)
