"""Forecasts of NeuralForecast's LSTM, fitted once on the training part.

    python forecasting_neuralforecast.py IN.npz OUT.npz

IN: values float64[time] without gaps, training (steps of the training part), origins int[n],
horizon, seasons, units, steps (of the optimizer) and batch. OUT: names, and by each one's number an
array [n, 3, horizon] of medians and the ends of the 80% interval, and the processor seconds of the
training. The network reads two days, or a week where there is a week's season, and where in each
season a step lies, as sines, also ahead.
"""

import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


def main(source, target):
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import LSTM

    given = np.load(source)
    values, horizon, seasons = given["values"], int(given["horizon"]), given["seasons"].tolist()
    training, units = int(given["training"]), int(given["units"])
    reach = max(96, seasons[-1])
    steps = np.arange(len(values) + horizon)
    frame = pd.DataFrame({"unique_id": "series", "ds": steps})
    for season in seasons:
        frame[f"sin{season}"] = np.sin(steps * 2 * np.pi / season)
        frame[f"cos{season}"] = np.cos(steps * 2 * np.pi / season)
    ahead = list(frame.columns[2:])
    frame["y"] = np.append(values, np.full(horizon, np.nan))
    model = LSTM(
        h=horizon, input_size=reach, encoder_n_layers=1, encoder_hidden_size=units,
        decoder_hidden_size=units, futr_exog_list=ahead, loss=MQLoss(level=[80]),
        max_steps=int(given["steps"]), windows_batch_size=int(given["batch"]),
        scaler_type="standard", enable_progress_bar=False, logger=False,
        enable_checkpointing=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    forecaster = NeuralForecast(models=[model], freq=1)
    began = time.process_time()
    forecaster.fit(frame[:training], val_size=0)
    seconds = time.process_time() - began
    # Each history as a series of its own: one call for all of them.
    named = lambda first, last: pd.concat(
        frame[origin + first : origin + last].assign(unique_id=f"{number:05}")
        for number, origin in enumerate(given["origins"])
    )
    said = forecaster.predict(df=named(-reach, 0), futr_df=named(0, horizon).drop(columns="y"))
    columns = ["LSTM-median", "LSTM-lo-80", "LSTM-hi-80"]
    found = said.sort_values(["unique_id", "ds"])[columns].to_numpy()
    parts = np.moveaxis(found.reshape(len(given["origins"]), horizon, 3), -1, 1)
    np.savez(
        target, names=np.array(["NeuralForecast LSTM"]), **{"0": parts},
        seconds_0=seconds,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
