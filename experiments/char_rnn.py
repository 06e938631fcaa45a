"""An LSTM on one-hot characters: no words, no embedding."""

from rnn_jax.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="char_rnn",
        data=DataConfig(field="text", tokens="characters", vocab_size=64, max_length=400),
        model=ModelConfig(cell="lstm", hidden=64, embedding_size=0, masked=True, pooling="mean"),
        train=TrainConfig(epochs=10, batch_size=16),
    )
