"""A small LSTM that reads title and description, padding and all."""

from rnn_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="lstm",
        data=DataConfig(field="text"),
        model=ModelConfig(cell="lstm", hidden=8, embedding_size=64, masked=False, pooling="mean"),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        train=TrainConfig(epochs=6, batch_size=8),
    )
