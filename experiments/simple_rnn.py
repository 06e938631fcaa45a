"""A simple RNN that reads the titles, padding and all."""

from rnn_jax.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="simple_rnn",
        data=DataConfig(field="title"),
        model=ModelConfig(
            cell="simple_rnn", hidden=16, embedding_size=64, masked=False, pooling="mean"
        ),
        train=TrainConfig(epochs=6, batch_size=16),
    )
