"""The records of `epoch.py` as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import record as record_lib

OURS = "rnn_jax"
HEAD = (
    ("trained by", "{}"),
    ("s per epoch", "{:.2f}"),
    ("times rnn_jax", "{:.2f}"),
    ("first epoch", "{:.1f}"),
    ("padding", "{:.0%}"),
    ("peak memory", "{:.2f} GB"),
)
RESTLESS = 0.05  # share of a processor that a waiting process may use before it is named

Record = dict[str, Any]


def machine() -> str:
    """What the figures depend on besides the code."""
    found = record_lib.machine()
    return f"{found['cores']} processors ({found['processor']}), Python {found['python']}"


def progress(record: Record) -> str:
    """One line on an epoch that has just ended."""
    return (
        f"{record['experiment']} seed {record['seed']} epoch {record['epoch'] + 1}  "
        f"{record['entrant']:<36} {record['seconds']:7.2f} s  accuracy {record['accuracy']:.4f}"
    )


def experiment(name: str, records: list[Record]) -> record_lib.Table:
    """Prints the table of one experiment.

    Seconds and ratios are medians over the epochs after each seed's first; a ratio is taken within
    a round, so that a machine whose speed drifts does not matter. Accuracies are means over seeds.
    """
    titles = list(dict.fromkeys(record["entrant"] for record in records))
    seeds = {record["seed"] for record in records}
    epochs = max(record["epoch"] for record in records) + 1
    accuracies = ((f"accuracy after {epochs}", "{:.4f}"), (f"best of {epochs}", "{:.4f}"))
    print(
        f"\n**{name}**, {records[0]['stories']:,} stories, {len(seeds)} seeds of {epochs} epochs\n"
    )
    table = record_lib.Table(f"epoch_{name}", [*HEAD, *accuracies])
    for title in titles:
        own = [record for record in records if record["entrant"] == title]
        last, best = _accuracies(own, epochs)
        table.add(
            title,
            np.median([r["seconds"] for r in own if r["epoch"]]),
            _ratio(own, records),
            np.median([r["seconds"] for r in own if not r["epoch"]]),
            np.mean([r["padded"] for r in own]),
            max(r["peak_memory"] for r in own) / 1e9,
            last,
            best,
        )
    restless = {r["entrant"] for r in records if r.get("idle_share", 0) > RESTLESS}
    if restless:
        print(f"\nUsed processors while others were timed: {', '.join(sorted(restless))}.")
    return table


def _ratio(own: list[Record], records: list[Record]) -> float:
    ours = {
        (record["seed"], record["epoch"]): record["seconds"]
        for record in records
        if record["entrant"] == OURS
    }
    return float(np.median([r["seconds"] / ours[r["seed"], r["epoch"]] for r in own if r["epoch"]]))


def _accuracies(own: list[Record], epochs: int) -> tuple[float, float]:
    """After the last epoch, and the best of all, each as the mean over seeds."""
    by_seed: dict[int, list[float]] = {}
    for record in own:
        by_seed.setdefault(record["seed"], []).append(record["accuracy"])
    assert all(len(values) == epochs for values in by_seed.values())
    return (
        float(np.mean([values[-1] for values in by_seed.values()])),
        float(np.mean([max(values) for values in by_seed.values()])),
    )
