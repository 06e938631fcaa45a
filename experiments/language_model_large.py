"""A wider language model of the words of BBC stories.

400 units, more sampled words and more dropout than `language_model`.

    python launch.py --experiment=language_model_large

gave test perplexity 82.27 (1.668 bits a character) on the embedded stories, in 25 minutes from
Enter to the end on two cores that had other work as well (seed 0): 0.58 times that of Kneser-Ney
5-grams.
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
