"""A small LSTM that reads title and description, padding and all.

It has the sizes of the course's third model: LSTM(8), embedding 64, batches of 8, no mask. The
course classifies by the last state, at a learning rate of 0.001; here it is the mean of the outputs
(`--config.model.pooling=last` for the course's way), at 0.002. The gradients of eight texts have a
norm of 2 to 3 on average; clipping them at 1 instead of 10 costs accuracy (docs/results.md).

    python launch.py --experiment=lstm

gave test accuracy 0.8664 on the embedded BBC stories (mean of five seeds, 0.8447 to 0.9059), in 13
s of processor time from Enter to the end, with nothing compiled before. AG News: docs/results.md.
"""

from rnn_jax import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        experiment="lstm",
        data=DataConfig(field="text"),
        model=ModelConfig(cell="lstm", hidden=8, embedding_size=64, masked=False, pooling="mean"),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        train=TrainConfig(epochs=6, batch_size=8),
    )
