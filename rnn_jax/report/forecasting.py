"""What a forecaster has to show: comparisons, pictures, errors by lead and hour, coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.report.pieces import Chart, Prose, Section, Share, Table

OURS = "this model"
POINTS = 56  # of a line by lead; more of them would not be seen


class Shown(NamedTuple):
    """A forecast to be drawn, in the series' own units.

    title: what it is.
    came: float[horizon], what came; NaN where nothing was measured.
    quantiles: float[horizon, levels].
    levels: which ones, rising, symmetric about 0.5.
    naive: float[horizon], the seasonal naive forecast.
    """

    title: str
    came: np.ndarray
    quantiles: np.ndarray
    levels: tuple[float, ...]
    naive: np.ndarray


def comparison(
    errors: Mapping[str, np.ndarray], ahead: Sequence[int], season: int, count: int
) -> Section:
    """The model beside simple forecasts.

    Args:
      errors: float[examples, horizon] by name, scaled; the model's first.
      ahead: the horizons.
      season: steps of the season that errors are scaled by.
      count: how many forecasts.
    """
    rows = [[name, *(mean(each[:, :steps]) for steps in ahead)] for name, each in errors.items()]
    text = (
        f"Mean absolute scaled errors (MASE) of {count} forecasts of the test part, each made from "
        "all that came before it. A column has the mean over its first steps ahead. Errors are "
        f"scaled by that of the seasonal naive forecast (season {season}) in the training part: "
        "below 1 is better than that forecast did there, one step ahead of it."
    )
    columns = ["forecast", *(_ahead(steps) for steps in ahead)]
    return Section("Beside simple forecasts", [Prose(text), Table("", columns, rows, digits=3)])


def pictures(shown: Sequence[Shown]) -> Section:
    """Forecasts and what came."""
    charts = []
    for each in shown:
        horizon = len(each.came)
        at = _points(horizon)
        quantiles = each.quantiles[at].T.astype(float).tolist()
        pairs = len(each.levels) // 2
        charts.append(
            Chart(
                each.title,
                "steps ahead",
                (at + 1).tolist(),
                {  # what is drawn later lies in front
                    "naive": each.naive[at].astype(float).tolist(),
                    "median": quantiles[pairs],
                    "came": [float(v) if np.isfinite(v) else None for v in each.came[at]],
                },
                bands=[(quantiles[place], quantiles[-1 - place]) for place in range(pairs)],
            )
        )
    if not charts:
        return Section("Forecasts", [])
    widths = ", ".join(
        f"{high - low:.0%}"
        for low, high in zip(shown[0].levels, shown[0].levels[::-1], strict=True)
        if high > low
    )
    text = (
        f"The first, the middle, the last and the worst forecast of the test part. Bands hold "
        f"{widths} of what comes, if the model is right; naive is the season before."
    )
    return Section("Forecasts", [Prose(text), *charts])


def by_lead(errors: Mapping[str, np.ndarray], inside: Mapping[str, np.ndarray]) -> Section:
    """Errors and coverage by how far ahead a step is.

    Args:
      errors: as for `comparison`.
      inside: as `coverage_by_lead` returns it.
    """
    horizon = next(iter(errors.values())).shape[1]
    at = _points(horizon)
    series = {name: [mean(each[:, place]) for place in at] for name, each in errors.items()}
    leads = (at + 1).tolist()
    charts = [Chart("MASE by step ahead", "steps ahead", leads, series, from_zero=True)]
    if inside:
        charts.append(
            Chart(
                "Share of what came inside the intervals",
                "steps ahead",
                leads,
                {name: [float(each[place]) for place in at] for name, each in inside.items()},
                levels={
                    f"{float(name.rstrip('%')):g}% asked": float(name.rstrip("%")) / 100
                    for name in inside
                },
                from_zero=True,
            )
        )
    return Section("By step ahead", charts)


def by_hour(errors: Mapping[str, np.ndarray], hours: np.ndarray) -> Section:
    """Errors by the hour of the day that is forecast.

    Args:
      errors: as for `comparison`.
      hours: int[examples, horizon].
    """
    known = np.unique(hours)
    series = {name: [mean(each[hours == hour]) for hour in known] for name, each in errors.items()}
    chart = Chart("MASE by hour of the day", "hour", known.tolist(), series, from_zero=True)
    return Section("By hour", [chart])


def coverage(
    outputs: np.ndarray, came: np.ndarray, levels: Sequence[float], ahead: Sequence[int]
) -> Section:
    """How much of what came lay between the quantiles.

    Args:
      outputs: float[examples, horizon, levels].
      came: float[examples, horizon], NaN where nothing was measured.
      levels: the quantiles.
      ahead: the horizons.
    """
    rows = []
    seen = np.isfinite(came)
    for low in range(len(levels) // 2):
        high = len(levels) - 1 - low
        inside = (came >= outputs[..., low]) & (came <= outputs[..., high])
        width = outputs[..., high] - outputs[..., low]
        shares = [Share(_share(inside[:, :steps], seen[:, :steps])) for steps in ahead]
        asked = Share(levels[high] - levels[low])
        rows.append([f"{levels[low]:g} to {levels[high]:g}", asked, *shares, float(width.mean())])
    columns = ["between the quantiles", "asked"]
    columns += [_ahead(steps) for steps in ahead]
    return Section("Coverage", [Table("", [*columns, "mean width, scaled"], rows, digits=3)])


def by_series(
    errors: Mapping[str, np.ndarray], series: np.ndarray, names: Sequence[str]
) -> Section:
    """Errors of each series.

    Args:
      errors: as for `comparison`.
      series: int[examples].
      names: of the series.
    """
    rows = []
    for place, name in enumerate(names):
        mine = series == place
        if mine.any():
            rows.append([name, *(mean(each[mine]) for each in errors.values())])
    return Section("By series", [Table("", ["series", *errors], rows, digits=3)])


def coverage_by_lead(
    outputs: np.ndarray, came: np.ndarray, levels: Sequence[float]
) -> dict[str, np.ndarray]:
    """The share of what came inside each interval, by its name such as "80%": float[horizon],
    NaN where nothing was measured."""
    found = {}
    for low in range(len(levels) // 2):
        high = len(levels) - 1 - low
        inside = (came >= outputs[..., low]) & (came <= outputs[..., high])
        counts = np.isfinite(came).sum(axis=0)
        shares = np.where(counts > 0, inside.sum(axis=0) / np.maximum(counts, 1), np.nan)
        found[f"{100 * (levels[high] - levels[low]):g}%"] = shares
    return found


def _points(horizon: int) -> np.ndarray:
    """Which steps a line shows: int[points]."""
    return np.unique(np.linspace(0, horizon - 1, min(horizon, POINTS)).round().astype(int))


def _share(inside: np.ndarray, seen: np.ndarray) -> float:
    count = int(seen.sum())
    return float((inside & seen).sum() / count) if count else float("nan")


def mean(values: np.ndarray) -> float | None:
    """Of what is known; None if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _ahead(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)} ahead"
