"""What can be set of the study."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from rnn_jax.config import AdamConfig, Config, InputError, Section, TrainConfig, option
from rnn_jax.models.reader import ReaderConfig
from rnn_jax.tasks import AddingConfig, CopyConfig
from rnn_jax.tasks.copy_memory import CopyData
from rnn_jax.tasks.synthetic import DrawnConfig


@dataclasses.dataclass(frozen=True)
class StudyConfig(Section):
    """Sizes of the study."""

    hidden: int = option(32, "units of every cell", minimum=1, below=2**16)
    length: int = option(
        100, "steps of the sequences on which gradients are measured", minimum=2, below=2**16
    )
    rows: int = option(32, "how many such sequences", minimum=1, below=2**16)
    shortest: int = option(10, "the first lag to be learned; each next one is twice", minimum=2)
    longest: int = option(160, "no lag is longer", minimum=2, below=2**20)
    seeds: int = option(
        3, "runs of each cell at each lag, with seeds from 0 on", minimum=1, below=1000
    )
    clip_lag: int = option(20, "the lag at which clipping is tried", minimum=2, below=2**20)
    symbols: int = option(3, "symbols to copy, of eight", minimum=1, below=1000)
    examples: int = option(10_000, "examples to learn from", minimum=1, below=10**8)
    held_out: int = option(
        500, "examples to validate on, and as many more to test on", minimum=1, below=10**8
    )

    def check(self) -> None:
        if self.longest < self.shortest:
            raise InputError(
                f"--config.study.longest must be at least --config.study.shortest, "
                f"{self.shortest}, not {self.longest}"
            )

    @property
    def lags(self) -> tuple[int, ...]:
        """The lags to be learned, one after the other."""
        found = [self.shortest]
        while 2 * found[-1] <= self.longest:
            found.append(2 * found[-1])
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class VanishingConfig(Config):
    """The study; `optimizer` and `train` are those of every run that it trains."""

    task: ClassVar[str] = "vanishing_gradients"

    study: StudyConfig = StudyConfig()
    optimizer: AdamConfig = AdamConfig(learning_rate=1e-2, clip_norm=1.0)
    train: TrainConfig = TrainConfig(epochs=10, batch_size=50, patience=0)


def adding(config: VanishingConfig, lag: int) -> AddingConfig:
    """A run that adds over so many steps; its cell is set by a sweep."""
    study = config.study
    data = DrawnConfig(lag=lag, train=study.examples, held_out=study.held_out)
    return AddingConfig(config.experiment, data, _model(config), config.optimizer, config.train)


def copying(config: VanishingConfig, lag: int) -> CopyConfig:
    """A run that copies over so many steps."""
    study = config.study
    data = CopyData(lag=lag, train=study.examples, held_out=study.held_out, symbols=study.symbols)
    return CopyConfig(config.experiment, data, _model(config), config.optimizer, config.train)


def _model(config: VanishingConfig) -> ReaderConfig:
    return ReaderConfig(hidden=config.study.hidden, initializer="gatewise")
