"""What a forecaster's run tells its readers besides its figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnn_jax.data.series import baselines
from rnn_jax.data.series.preparation import Prepared, Split
from rnn_jax.data.series.table import DAY
from rnn_jax.report import forecasting as pages
from rnn_jax.report.forecasting import OURS, Shown
from rnn_jax.report.pieces import Section

SMOOTHING = "exponential smoothing"  # the mean of what the model starts from
SHOWN = 4  # forecasts that are drawn
HOUR = 3600  # seconds


def lines(
    outputs: np.ndarray,
    prepared: Prepared,
    split: Split,
    ahead: Sequence[int],
    levels: Sequence[float],
) -> list[str]:
    """What `--mode=evaluate` says above the result; arguments as for `sections`."""
    errors = errors_of(outputs, prepared, split, levels)
    season = prepared.found.seasons[-1]
    found = [
        f"MASE: mean absolute errors in units of the training part's seasonal naive error (season "
        f"{season}), of forecasts 1, 2, ... steps ahead together"
    ]
    width = max(map(len, errors))
    for name, each in errors.items():
        means = {steps: pages.mean(each[:, :steps]) for steps in ahead}
        figures = "  ".join(
            f"{steps}: " + ("-" if mean is None else f"{mean:.3f}") for steps, mean in means.items()
        )
        found.append(f"{name.ljust(width)}  {figures}")
    return found


def sections(
    outputs: np.ndarray,
    prepared: Prepared,
    split: Split,
    ahead: Sequence[int],
    levels: Sequence[float],
) -> list[Section]:
    """What the report shows.

    Args:
      outputs: float32[examples, horizon, levels], the scaled quantiles of the test part.
      prepared: the run's series.
      split: the test part.
      ahead: the horizons, rising.
      levels: the quantiles.
    """
    errors = errors_of(outputs, prepared, split, levels)
    known, found = prepared.known, prepared.found
    scaled = scaled_came(prepared, split)
    inside = pages.coverage_by_lead(outputs, scaled, levels)
    made = [
        pages.comparison(errors, ahead, found.seasons[-1], len(split.origins)),
        pages.pictures(_shown(outputs, errors, prepared, split, levels)),
        pages.by_lead(errors, inside),
    ]
    clock = known.clock
    if clock is not None and not clock.monthly and clock.seconds < DAY:
        steps = split.origins[:, None] + np.arange(outputs.shape[1])
        times = clock.times(0, len(found.values)).astype(np.int64)
        hours = times[steps] % DAY // HOUR
        made.append(pages.by_hour(errors, hours))
    made.append(pages.coverage(outputs, scaled, levels, ahead))
    if len(found.names) > 1:
        made.append(pages.by_series(errors, split.series, found.names))
    return made


def errors_of(
    outputs: np.ndarray, prepared: Prepared, split: Split, levels: Sequence[float]
) -> dict[str, np.ndarray]:
    """The absolute errors, scaled, of the model's median and of simple forecasts, by name:
    float64[examples, horizon], NaN where nothing was measured."""
    known, came = prepared.known, came_of(prepared, split)
    median = np.asarray(outputs, np.float64)[..., list(levels).index(0.5)]
    scales, centres = known.scales[split.series, None], known.centres[split.series, None]
    found = {OURS: np.abs(median - (came - centres) / scales)}
    others = simple_of(prepared, split, outputs.shape[1])
    for place, name in enumerate(baselines.NAMES):
        found[name] = np.abs(others[..., place] - came) / scales
    smoothed = split.windows.smoothed[np.arange(len(came))]
    if smoothed.shape[-1]:
        mean = np.asarray(smoothed, np.float64).mean(axis=-1)
        found[SMOOTHING] = np.abs(mean - (came - centres) / scales)
    return found


def simple_of(prepared: Prepared, split: Split, horizon: int) -> np.ndarray:
    """float64[examples, horizon, baselines]: simple forecasts, in the series' own units."""
    found = np.empty((len(split.origins), horizon, len(baselines.NAMES)))
    season = prepared.found.seasons[-1]
    for series in np.unique(split.series):
        mine = split.series == series
        values = prepared.found.values[:, series]
        found[mine] = baselines.baselines(values, split.origins[mine], season, horizon)
    return found


def came_of(prepared: Prepared, split: Split) -> np.ndarray:
    """float64[examples, horizon]: what came, in the series' own units."""
    _, horizon = split.windows.typical.shape
    steps = split.origins[:, None] + np.arange(horizon)
    return prepared.found.values[steps, split.series[:, None]]


def scaled_came(prepared: Prepared, split: Split) -> np.ndarray:
    """The same, scaled as the quantiles are."""
    known = prepared.known
    came = came_of(prepared, split)
    return (came - known.centres[split.series, None]) / known.scales[split.series, None]


def _shown(
    outputs: np.ndarray,
    errors: dict[str, np.ndarray],
    prepared: Prepared,
    split: Split,
    levels: Sequence[float],
) -> list[Shown]:
    """The first, the middle, the last and the worst forecast."""
    count, known = len(split.origins), prepared.known
    mean = np.nanmean(errors[OURS], axis=1)
    chosen = list(dict.fromkeys([0, count // 2, count - 1, int(np.argmax(mean))]))[:SHOWN]
    came, simple = came_of(prepared, split), simple_of(prepared, split, outputs.shape[1])
    found = []
    for each in chosen:
        series, origin = int(split.series[each]), int(split.origins[each])
        clock = known.clock
        when = f"step {origin}" if clock is None else clock.text(clock.times(origin, 1)[0])
        found.append(
            Shown(
                title=f"{known.names[series]} from {when} on, MASE {mean[each]:.3f}",
                came=came[each],
                quantiles=outputs[each] * known.scales[series] + known.centres[series],
                levels=tuple(levels),
                naive=simple[each, :, 0],
            )
        )
    return found
