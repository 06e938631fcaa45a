"""Options of the series that a forecaster reads, and the table of their sources."""

from __future__ import annotations

import dataclasses
import itertools

from rnn_jax.config import InputError, Section, option
from rnn_jax.data.options import Source

MOST_HORIZON = 2**14  # steps ahead

# A module has the function `read`; `rnn_jax.data.series.table` says what it returns.
SERIES = {
    "electricity": Source(
        "rnn_jax.data.series.electricity",
        "half-hourly demand in England and Wales (pip install --no-deps pmdarima)",
    ),
    "sea_temperature": Source(
        "rnn_jax.data.series.sea_temperature",
        "half-hourly, measured by a buoy (pip install --no-deps bokeh-sampledata)",
    ),
    "csv": Source("rnn_jax.data.series.csv_file", "a file of your own"),
}


@dataclasses.dataclass(frozen=True)
class SeriesConfig(Section):
    """Which series, and what of them a forecast reads and says."""

    source: str = option(
        "electricity",
        "the series: " + "; ".join(f"{name}, {each.what}" for name, each in SERIES.items()),
        choices=tuple(SERIES),
    )
    path: str = option(
        "",
        "for csv: the file, one row a time step, its first line the columns' names",
        fixed=False,  # what is in it counts, and a run knows that by its digest
    )
    time: str = option(
        "",
        "for csv: the column with the times, as ISO 8601 writes them (otherwise the first column, "
        "if it holds times)",
    )
    columns: str = option("", "for csv: the columns with the series, by commas (otherwise all)")
    id: str = option(
        "", "for csv in long form: the column with the names of the series; one column has values"
    )
    seasons: str = option(
        "",
        "steps of each season, rising, by commas (otherwise the source's own; of a csv a day and a "
        "week, a week or a year, as its time steps allow)",
    )
    history: int = option(
        96, "steps before the forecast that the network reads", minimum=2, below=2**16
    )
    lags: int = option(
        3,
        "earlier seasons of each length that the simple forecasts are made of",
        minimum=1,
        below=100,
    )
    smoothed: int = option(
        6,
        "forecasts by exponential smoothing among the simple ones, whose coefficients did best on "
        "the training part (0: none)",
        minimum=0,
        below=100,
    )
    horizons: str = option(
        "1,48,336",
        "how many steps ahead, rising, by commas: a forecast goes as far as the last one, and "
        "errors are reported for each",
    )
    held_out: int = option(
        0,
        "steps to validate on, and as many more at the end to test on (0: a sixth of the series "
        "each)",
        minimum=0,
    )
    stride: int = option(1, "steps from one training window to the next", minimum=1)
    test_stride: int = option(
        7, "steps from one forecast to the next in validation and test", minimum=1
    )

    @property
    def ahead(self) -> tuple[int, ...]:
        """The horizons."""
        return numbers_of("horizons", self.horizons, below=MOST_HORIZON)

    @property
    def horizon(self) -> int:
        """How far forecasts go."""
        return self.ahead[-1]

    def check(self) -> None:
        self.ahead  # noqa: B018, it checks itself
        if self.seasons:
            numbers_of("seasons", self.seasons, below=2**20, first=2)
        if self.source == "csv" and not self.path:
            raise InputError(
                "--config.data.source=csv needs the file: give --config.data.path=FILE"
            )
        if self.source != "csv":
            for name in ("path", "time", "columns", "id"):
                if getattr(self, name):
                    raise InputError(
                        f"--config.data.{name} belongs to --config.data.source=csv, not to "
                        f"{self.source}"
                    )


def numbers_of(name: str, text: str, below: int, first: int = 1) -> tuple[int, ...]:
    """The whole numbers that an option lists by commas.

    Args:
      name: the option's, within `data`.
      text: its value.
      below: what each must be smaller than.
      first: the smallest that there may be.

    Raises:
      InputError: it lists something else, or they do not rise.
    """
    parts = [part.strip() for part in text.split(",")]
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        found = tuple(int(part) for part in parts)
        rising = all(one < other for one, other in itertools.pairwise(found))
        if rising and found[0] >= first and found[-1] < below:
            return found
    raise InputError(
        f"--config.data.{name} must be whole numbers by commas, rising, from {first} and below "
        f"{below}, not {text!r}"
    )
