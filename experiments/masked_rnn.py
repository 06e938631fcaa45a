"""A simple RNN that reads title and description and skips padding."""

from rnn_jax.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="masked_rnn",
        data=DataConfig(field="text"),
        model=ModelConfig(
            cell="simple_rnn", hidden=16, embedding_size=64, masked=True, pooling="mean"
        ),
        train=TrainConfig(epochs=6, batch_size=16),
    )
