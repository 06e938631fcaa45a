"""What came out of several models that were each trained with the same seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.inspect import plots
from rnn_jax.studies import statistics
from rnn_jax.sweeps.report import interval

_DODGE = 0.25  # of a row's height, over which its dots are spread


class Summary(NamedTuple):
    """A variant's scores.

    mean: over all seeds; NaN if one of its runs failed.
    low, high: its 95% confidence interval by Student's t; NaN with fewer than two seeds.
    """

    variant: str
    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much more one variant scores than another, paired by seed.

    mean, low, high: of the differences, as of a `Summary`.
    t: p of the paired t test, two-sided; it supposes normal differences.
    flip: p of the exact sign-flip test, two-sided, which does not.
    t_holm, flip_holm: the same by Holm's correction for all differences that are returned.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    t: float
    flip: float
    t_holm: float
    flip_holm: float


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """The test figures of every variant and seed; `print` shows all of them.

    variants: names, in the order that they were given in.
    seeds: of each variant.
    figure: the test figure that they are compared by.
    figures: float64[variants, seeds] of every test figure by its name; NaN where a run failed.
    failures: why a run failed, by (variant, seed).
    folders: of each run, by (variant, seed).
    """

    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    figure: str
    figures: Mapping[str, np.ndarray]
    failures: Mapping[tuple[str, int], str]
    folders: Mapping[tuple[str, int], pathlib.Path]

    def __repr__(self) -> str:
        means = ", ".join(f"{each.variant} {each.mean:.4f}" for each in self.summaries())
        failed = f", {len(self.failures)} runs failed" if self.failures else ""
        return f"Comparison(test {self.figure}: {means}; {len(self.seeds)} seeds{failed})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    @property
    def scores(self) -> np.ndarray:
        """float64[variants, seeds]: the test figure that they are compared by."""
        return self.figures[self.figure]

    def by(self, figure: str) -> Comparison:
        """The same runs, compared by another test figure.

        Raises:
          ValueError: there is no such figure.
        """
        if figure not in self.figures:
            raise ValueError(f"figure must be one of {', '.join(self.figures)}, not {figure!r}")
        return dataclasses.replace(self, figure=figure)

    def summaries(self) -> tuple[Summary, ...]:
        """Mean and 95% confidence interval of each variant."""
        return tuple(
            Summary(name, *_interval(values))
            for name, values in zip(self.variants, self.scores, strict=True)
        )

    def differences(self, against: str | None = None) -> tuple[Difference, ...]:
        """Each variant less `against`, or less each one that stands before it.

        Intervals are of each difference alone; Holm's correction is for all that are returned.

        Raises:
          ValueError: there is no variant of that name.
        """
        if against is not None and against not in self.variants:
            raise ValueError(f"against must be one of {', '.join(self.variants)}, not {against!r}")
        rows = dict(zip(self.variants, self.scores, strict=True))
        if against is None:
            pairs = [(name, other) for other, name in itertools.combinations(self.variants, 2)]
        else:
            pairs = [(name, against) for name in self.variants if name != against]
        found = [rows[name] - rows[other] for name, other in pairs]
        ts, flips = (
            [test(values) if np.isfinite(values).all() else math.nan for values in found]
            for test in (statistics.paired_t, statistics.sign_flip)
        )
        columns = zip(ts, flips, statistics.holm(ts), statistics.holm(flips), strict=True)
        return tuple(
            Difference(*pair, *_interval(values), *map(float, column))
            for pair, values, column in zip(pairs, found, columns, strict=True)
        )

    def plot(self, against: str | None = None) -> Any:
        """A figure of matplotlib: every score with the variants' means and intervals, and the
        differences with theirs.

        Raises:
          InputError: matplotlib is not installed.
          ValueError: there is no variant of the name `against`.
        """
        pairs = self.differences(against)
        scores = dict(zip(self.variants, self.scores, strict=True))
        panels: list[tuple[str, Mapping[str, np.ndarray], Sequence[Summary | Difference]]] = [
            (f"test {self.figure}", scores, self.summaries())
        ]
        if pairs and len(self.seeds) > 1:
            apart = {
                f"{each.first} - {each.second}": scores[each.first] - scores[each.second]
                for each in pairs
            }
            panels.append((f"difference of {self.figure}", apart, pairs))
        rows = max(len(values) for _, values, _ in panels)
        figure, axes = plots.pyplot().subplots(
            1, len(panels), figsize=(4.5 * len(panels), 1.2 + 0.4 * rows), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for each, (label, values, means) in zip(axes[0], panels, strict=True):
            _rows(each, values, means)
            each.set_xlabel(f"{label}\n(dots: {len(self.seeds)} seeds; bars: 95% intervals)")
        if len(panels) > 1:
            axes[0, 1].axvline(0, color=plots.GREY, linewidth=0.8)
        return figure

    def _lines(self) -> Iterator[str]:
        yield f"test {self.figure}, {len(self.seeds)} seeds"
        wide = max(map(len, self.variants))
        head = "".join(f"{f'seed {seed}':>10}" for seed in self.seeds)
        yield f"{'':{wide}}{head}{'mean':>10}   95% interval"
        for each, values in zip(self.summaries(), self.scores, strict=True):
            row = "".join(f"{value:10.4f}" for value in values)
            yield (
                f"{each.variant:{wide}}{row}{each.mean:10.4f}   {each.low:.4f} to {each.high:.4f}"
            )
        for (variant, seed), reason in self.failures.items():
            yield f"{variant} with seed {seed} failed: {reason}"
        pairs = self.differences()
        if not pairs or len(self.seeds) < 2:
            return
        names = [f"{each.first} - {each.second}" for each in pairs]
        wide = max(map(len, names))
        yield ""
        yield f"{'':{wide}}{'mean':>10}   {'95% interval':20}  p by sign flips   p by t"
        for name, pair in zip(names, pairs, strict=True):
            bounds = f"{pair.low:+.4f} to {pair.high:+.4f}"
            tests = f"{pair.flip_holm:15.4f}{pair.t_holm:9.4f}"
            yield f"{name:{wide}}{pair.mean:+10.4f}   {bounds:20}  {tests}"
        if len(pairs) > 1:
            yield f"p by Holm's correction for {len(pairs)} differences, intervals of each alone"
        least = min(1.0, len(pairs) * statistics.smallest(len(self.seeds)))
        yield f"with {len(self.seeds)} seeds no p by sign flips is below {least:.2g} here"


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    if not np.isfinite(values).all():
        return math.nan, math.nan, math.nan
    mean, low, high = interval(values.tolist())
    return (mean, low, high) if len(values) > 1 else (mean, math.nan, math.nan)


def _rows(
    axes: Any, values: Mapping[str, np.ndarray], means: Sequence[Summary | Difference]
) -> None:
    """Draws a row of dots for each name, with mean and interval."""
    for row, (points, each) in enumerate(zip(values.values(), means, strict=True)):
        heights = row + _DODGE * np.linspace(-1, 1, len(points))
        axes.plot(points, heights, ".", color=plots.BLUE, alpha=0.6)
        spread = np.nan_to_num([[each.mean - each.low], [each.high - each.mean]])
        axes.errorbar(each.mean, row, xerr=spread, fmt="o", color=plots.ORANGE, capsize=4)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
