"""A two-layer bidirectional LSTM that skips padding."""

from rnn_jax.config import Config, DataConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="bilstm",
        data=DataConfig(field="text"),
        model=ModelConfig(
            cell="lstm",
            hidden=64,
            layers=2,
            bidirectional=True,
            embedding_size=128,
            masked=True,
            pooling="mean",
        ),
        train=TrainConfig(epochs=8, batch_size=16),
    )
