"""A wider language model of BBC stories, for an hour.

    python launch.py --experiment=language_model_large

PERPLEXITY
"""

import dataclasses

from experiments import language_model
from rnn_jax import LanguageConfig


def get_config() -> LanguageConfig:
    config = language_model.get_config()
    return dataclasses.replace(
        config,
        experiment="language_model_large",
        model=dataclasses.replace(
            config.model, hidden=400, sampled=2048, input_dropout=0.2, output_dropout=0.4
        ),
        train=dataclasses.replace(config.train, epochs=10),
    )
