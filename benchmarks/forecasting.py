"""Forecasts of `time_series` beside naive ones, statsforecast's and NeuralForecast's, from the same
origins.

    python benchmarks/forecasting.py

Each forecast of the test part is made from all that came before it: rnn_jax's with the parameters
that the training part gave, statsforecast's fitted anew at each origin. MASE is the mean absolute
error over the first 1, 48 and 336 steps ahead, in units of the seasonal naive error of the training
part. Of rnn_jax the mean of three seeds, and the median of their runs' processor seconds: the first
compiles, the others in the same process do not. Exponential smoothing is the mean of the forecasts
that the network starts from. NeuralForecast's LSTM has as many units and is fitted once, too; its
seconds are those of `fit` alone. Missing values are filled in for the others, by straight lines,
and do not count.

A second table has runs on the electricity series as it was some weeks before its end, with fewer
weeks to learn from and other weeks to test on: how much do error and coverage depend on which they
are?
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import peers
import record

from rnn_jax import train
from rnn_jax.config import replace
from rnn_jax.data.series import preparation
from rnn_jax.tasks import forecast_report, forecasting

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = {"electricity": {}, "sea_temperature": {"data.stride": 8, "data.test_stride": 25}}
STEPS = 500  # that NeuralForecast's network learns for
MOST = 2000  # steps of history of MSTL where a series has many more
PEERS = ("statsforecast", "neuralforecast")
COLUMNS = [
    ("series", "{}"), ("forecast", "{}"), ("1 step", "{:.3f}"), ("48 steps", "{:.3f}"),
    ("336 steps", "{:.3f}"), ("inside the 80% interval", "{:.3f}"), ("processor seconds", "{:.0f}"),
]  # fmt: skip
CUT = 5  # ends of the series, a week apart
ENDS = [
    ("weeks in all", "{}"), ("1 step", "{:.3f}"), ("48 steps", "{:.3f}"), ("336 steps", "{:.3f}"),
    ("inside the 80% interval", "{:.3f}"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on")
    parser.add_argument("--keep", help="a folder for runs and the peers' forecasts, used again")
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = record.Table("forecasting", COLUMNS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(arguments.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for source, changes in SOURCES.items():
            _rows(table, folder, source, changes, arguments.seeds)
        ends = record.Table("forecasting_ends", ENDS)
        for weeks in range(CUT):
            _end(ends, folder, weeks)
    if arguments.save:
        ends.save()
        table.save(versions={name: peers.REQUIREMENTS[name][0].split("==")[1] for name in PEERS})


def _rows(
    table: record.Table, folder: pathlib.Path, source: str, changes: dict, seeds: int
) -> None:
    """The rows of a source."""
    config = replace(_experiment(source), changes)
    data = preparation.prepare(config.data)
    split, ahead = data.test, config.data.ahead
    name = f"{source}, {len(split.origins)} origins"
    came = forecast_report.came_of(data, split)
    scale = data.known.scales[0]
    figures, seconds = [], []
    for seed in range(seeds):
        began = time.process_time()
        run = train.run(replace(config, {"train.seed": seed}), folder / f"{source}_{seed}")
        seconds.append(time.process_time() - began)
        figures.append(_ours(run, ahead))
        print(f"{source}, seed {seed}: {figures[-1]}, {seconds[-1]:.0f} s", flush=True)
    table.add(name, "rnn_jax", *np.mean(figures, axis=0), float(np.median(seconds)))
    levels = config.model.levels
    shape = (*came.shape, len(levels))
    errors = forecast_report.errors_of(np.zeros(shape, np.float32), data, split, levels)
    for each, off in list(errors.items())[1:]:
        table.add(name, each, *(np.nanmean(off[:, :steps]) for steps in ahead), None, None)
    for each, said, took in _peers(folder, source, data, config):
        off = np.abs(said[:, 0] - came) / scale
        inside = ((came >= said[:, 1]) & (came <= said[:, 2]))[np.isfinite(came)]
        table.add(name, each, *(np.nanmean(off[:, :steps]) for steps in ahead), inside.mean(), took)


def _end(table: record.Table, folder: pathlib.Path, weeks: int) -> None:
    """A row of the series as it was so many weeks before its end; a fortnight to validate and one
    to test on, as the whole has."""
    config = _experiment("electricity")
    data = preparation.prepare(config.data)
    week, held = data.found.seasons[-1], len(data.found.values) // preparation.SHARE
    values, path = data.found.values[: len(data.found.values) - weeks * week, 0], folder / "cut.csv"
    times = data.known.clock.times(0, len(values))
    rows = [f"{when},{value}" for when, value in zip(times, values, strict=True)]
    path.write_text("\n".join(["time,demand", *rows, ""]))
    changes = {"source": "csv", "path": str(path), "held_out": held}
    seasons = {"data.seasons": ",".join(map(str, data.found.seasons))}
    config = replace(config, {f"data.{name}": each for name, each in changes.items()} | seasons)
    run = train.run(config, folder / f"end_{weeks}")
    table.add(len(values) // week, *_ours(run, config.data.ahead))


def _experiment(source: str) -> forecasting.ForecastingConfig:
    sys.path.insert(0, str(HERE.parent))
    config = importlib.import_module("experiments.time_series").get_config()
    return replace(config, {"data.source": source})


def _ours(run: train.Run, ahead: tuple[int, ...]) -> list[float]:
    """Errors by horizon, and the share inside the 80% interval."""
    last = run.history[-1]
    names = [f"MASE_{steps}" for steps in ahead[:-1]]
    return [*(last[each] for each in names), last["MASE"], last["coverage"]]


def _peers(folder: pathlib.Path, source: str, data, config: forecasting.ForecastingConfig):
    """Yields (name, [origins, 3, horizon], seconds) of each model."""
    given = folder / f"{source}.npz"
    values = data.found.values[:, 0]
    steps, seen = np.arange(len(values)), np.isfinite(values)
    np.savez(
        given, values=np.interp(steps, steps[seen], values[seen]), origins=data.test.origins,
        horizon=config.data.horizon, seasons=data.found.seasons,
        most=max(MOST, 12 * data.found.seasons[-1]), training=data.validation.origins[0],
        units=config.model.hidden, steps=STEPS, batch=config.train.batch_size,
    )  # fmt: skip
    for peer in PEERS:
        target = folder / f"{source}_{peer}.npz"
        if not target.exists():
            script = HERE / "peer_workers" / f"forecasting_{peer}.py"
            subprocess.run([peers.ensure(peer), script, given, target], check=True)
        found = np.load(target)
        for number, name in enumerate(found["names"]):
            yield str(name), found[f"{number}"], float(found[f"seconds_{number}"])


if __name__ == "__main__":
    main()
