"""An LSTM that forecasts a week of half-hourly electricity demand, with intervals.

    python launch.py --experiment=time_series

gave test MASE 0.502 over a week (0.217 one step ahead, 0.495 over a day; the season before has
0.846, 1.162 and 1.161), in 10 s of processor time (seed 0; 49 s from Enter to the end on two cores
that did much other work); 0.931 of what came lay in the 80% intervals. Then

    python launch.py --mode=predict --workdir=runs/time_series

says what comes next. The data: pip install --no-deps pmdarima. See docs/forecasting.md.
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
