"""A two-layer bidirectional LSTM that skips padding."""

from rnn_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="bilstm",
        data=DataConfig(field="text", vocab_field="text", vocab_texts=0),
        model=ModelConfig(
            cell="lstm",
            hidden=64,
            layers=2,
            bidirectional=True,
            embedding_size=128,
            masked=True,
            pooling="mean",
            dropout=0.5,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine"),
        train=TrainConfig(epochs=6, batch_size=16, patience=0),
    )
