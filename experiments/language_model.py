"""Guesses the next word of BBC stories."""

from rnn_jax import (
    LanguageConfig,
    LanguageDataConfig,
    LanguageModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> LanguageConfig:
    return LanguageConfig(
        experiment="language_model",
        data=LanguageDataConfig(tokens="words", vocab_size=10_000, window=32),
        model=LanguageModelConfig(
            hidden=256,
            embedding_size=256,
            tied=True,
            input_dropout=0.3,
            output_dropout=0.4,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", clip_norm=1.0),
        train=TrainConfig(epochs=8, batch_size=32, patience=0, steps_per_call=4),
    )
