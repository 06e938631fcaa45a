"""An encoder-decoder with attention that turns number words into digits.

    python launch.py --experiment=translation

gives its test exact match last.
"""

from rnn_jax import AdamConfig, TrainConfig
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.models import Seq2SeqConfig
from rnn_jax.tasks import TranslationConfig


def get_config() -> TranslationConfig:
    return TranslationConfig(
        experiment="translation",
        data=PairsConfig(source="numbers", train=20_000, buckets=3),
        model=Seq2SeqConfig(hidden=96, embedding_size=32),
        optimizer=AdamConfig(learning_rate=3e-3, schedule="cosine", clip_norm=1.0),
        train=TrainConfig(epochs=6, batch_size=64, patience=0),
    )
