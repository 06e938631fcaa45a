"""An LSTM that guesses the next character of BBC stories.

192 units that read one-hot characters, without an embedding.

    python launch.py --experiment=char_language_model

CHARPERPLEXITY
"""

from rnn_jax import (
    AdamConfig,
    LanguageConfig,
    LanguageDataConfig,
    LanguageModelConfig,
    TrainConfig,
)


def get_config() -> LanguageConfig:
    return LanguageConfig(
        experiment="char_language_model",
        data=LanguageDataConfig(tokens="characters", lowercase=False, vocab_size=256, window=64),
        model=LanguageModelConfig(hidden=192, embedding_size=0, tied=False),
        optimizer=AdamConfig(learning_rate=4e-3, schedule="cosine", clip_norm=1.0),
        train=TrainConfig(epochs=2, batch_size=32, patience=0, steps_per_call=4),
    )
