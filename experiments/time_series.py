"""An LSTM that forecasts a week of half-hourly electricity demand, with intervals.

    python launch.py --experiment=time_series

gave test MASE 0 coverage 0
"""

from rnn_jax import AdamConfig, ForecasterConfig, ForecastingConfig, SeriesConfig, TrainConfig


def get_config() -> ForecastingConfig:
    return ForecastingConfig(
        experiment="time_series",
        data=SeriesConfig(source="electricity", horizons="1,48,336", stride=4),
        model=ForecasterConfig(cell="lstm", hidden=16, width=16, dropout=0.3),
        optimizer=AdamConfig(learning_rate=5e-3, clip_norm=1.0, schedule="cosine"),
        train=TrainConfig(epochs=10, batch_size=32, patience=0),
    )
