"""Forecasts of statsforecast, each fitted on all that came before its first step.

    python forecasting_statsforecast.py IN.npz OUT.npz

IN: values float64[time] without gaps, origins int[n], horizon, seasons, and most, the steps of
history that MSTL is given. OUT: names, and by each one's number an array [n, 3, horizon] of means
and the ends of the 80% interval, and the processor seconds that it took.
"""

import sys
import time
import warnings

import numpy as np
from statsforecast.models import MSTL, AutoETS

warnings.filterwarnings("ignore")


def models(seasons):
    """A model for each name; None stands for the whole history, a number for its last steps."""
    parts = "+".join(map(str, seasons))
    yield f"MSTL ({parts}) with ETS", lambda: MSTL(seasons, AutoETS(model="ZZN")), None
    yield "ETS without season", lambda: AutoETS(model="ZZN"), 1000


def main(source, target):
    given = np.load(source)
    values, origins, horizon = given["values"], given["origins"], int(given["horizon"])
    seasons, most = given["seasons"].tolist(), int(given["most"])
    found, names = {}, []
    for number, (name, make, last) in enumerate(models(seasons)):
        began, parts = time.process_time(), []
        for origin in origins:
            history = values[max(0, origin - (last or most)) : origin]
            said = make().forecast(y=history, h=horizon, level=[80])
            parts.append([said["mean"], said["lo-80"], said["hi-80"]])
        found[f"{number}"] = np.array(parts)
        found[f"seconds_{number}"] = time.process_time() - began
        names.append(name)
        print(name, found[f"seconds_{number}"], file=sys.stderr, flush=True)
    np.savez(target, names=np.array(names), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
