"""Half-hourly demand for electricity in England and Wales, 5 June to 27 August 2000, in megawatts.

J. W. Taylor, "Short-term electricity demand forecasting using double seasonal exponential
smoothing", Journal of the Operational Research Society 54, 2003,
https://doi.org/10.1057/palgrave.jors.2601589. 4,032 values, none missing, with seasons of a day and
a week. They are read from the source text of `pmdarima.datasets.taylor` (MIT) as data; none of the
package's code runs, so that it need not be there with all that it depends on.
"""

from __future__ import annotations

import ast

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.series import table
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.table import Clock, Series

PACKAGE, FILE = "pmdarima", "pmdarima/datasets/taylor.py"
VALUES = 4032
CLOCK = Clock(np.datetime64("2000-06-05T00:00:00"), np.timedelta64(1800, "s"))


def read(config: SeriesConfig) -> Series:
    """The demand.

    Raises:
      InputError: the package is missing or damaged.
    """
    found = table.installed(PACKAGE, FILE, config.source)
    try:
        with open(str(found), encoding="utf-8") as file:
            nodes = ast.walk(ast.parse(file.read()))
        lists = (node for node in nodes if isinstance(node, ast.List))
        longest = max(lists, key=lambda each: len(each.elts))
        values = np.array(ast.literal_eval(longest), np.float64)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read {found}: {error}; install pmdarima anew") from error
    if values.shape != (VALUES,):
        raise InputError(
            f"{found} has {len(values)} values, not {VALUES}: another version of pmdarima is needed"
        )
    return Series(("demand",), values[:, None], CLOCK, (48, 336), str(found))
