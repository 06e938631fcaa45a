"""Sea surface temperature, measured every half hour from 15 February 2016 to 22 March 2017, in
degrees Celsius.

Station B01 of NERACOOS on the Western Maine Shelf (data set B01_sbe37_all, free to use and
redistribute), as `bokeh-sampledata` (BSD-3) holds it; the installed file is read as data. 24 steps
are missing, and one time stands there twice, of which the first is taken.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import zlib

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.series import table
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.table import Clock, Series

PACKAGE, FILE = "bokeh-sampledata", "bokeh_sampledata/_data/sea_surface_temperature.csv.gz"
STEP = 1800  # seconds


def read(config: SeriesConfig) -> Series:
    """The temperatures; NaN where nothing was measured.

    Raises:
      InputError: the package is missing or damaged.
    """
    found = table.installed(PACKAGE, FILE, config.source)
    try:
        with gzip.open(str(found), "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        times = np.array([datetime.datetime.fromisoformat(row[0]).timestamp() for row in rows])
        measured = np.array([float(row[1]) for row in rows])
        places = (times - times[0]) / STEP
        if not np.array_equal(places, places.astype(int)) or np.any(np.diff(places) < 0):
            raise ValueError("times that are no half hours")
    except (OSError, EOFError, zlib.error, ValueError, IndexError, csv.Error) as error:
        raise InputError(f"cannot read {found}: {error}; install bokeh-sampledata anew") from error
    places, first = np.unique(places.astype(int), return_index=True)
    values = np.full((places[-1] + 1, 1), np.nan)
    values[places, 0] = measured[first]
    start = np.datetime64(int(times[0]), "s")
    clock = Clock(start, np.timedelta64(STEP, "s"), utc=True)
    return Series(("temperature",), values, clock, (48,), str(found))
