"""The records of `epoch.py` as Markdown."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np

OURS = "rnn_jax"
HEAD = ("trained by", "s per epoch", "times rnn_jax", "first epoch", "padding", "peak memory")
RESTLESS = 0.05  # share of a processor that a waiting process may use before it is named

Record = dict[str, Any]


def machine() -> str:
    """What the figures depend on besides the code."""
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    return f"{processors} processors ({_processor()}), Python {platform.python_version()}"


def progress(record: Record) -> str:
    """One line on an epoch that has just ended."""
    return (
        f"{record['experiment']} seed {record['seed']} epoch {record['epoch'] + 1}  "
        f"{record['entrant']:<36} {record['seconds']:7.2f} s  accuracy {record['accuracy']:.4f}"
    )


def experiment(name: str, records: list[Record]) -> str:
    """The table of one experiment.

    Seconds and ratios are medians over the epochs after each seed's first; a ratio is taken within
    a round, so that a machine whose speed drifts does not matter. Accuracies are means over seeds.
    """
    titles = list(dict.fromkeys(record["entrant"] for record in records))
    seeds = {record["seed"] for record in records}
    epochs = max(record["epoch"] for record in records) + 1
    accuracies = (f"accuracy after {epochs}", f"best of {epochs}")
    lines = [
        f"\n**{name}**, {records[0]['stories']:,} stories, {len(seeds)} seeds of {epochs} epochs\n",
        _row((*HEAD, *accuracies)),
        _row(("---", *["---:"] * (len(HEAD) + 1))),
    ]
    for title in titles:
        own = [record for record in records if record["entrant"] == title]
        last, best = _accuracies(own, epochs)
        lines.append(
            _row(
                (
                    title,
                    f"{np.median([r['seconds'] for r in own if r['epoch']]):.2f}",
                    f"{_ratio(own, records):.2f}",
                    f"{np.median([r['seconds'] for r in own if not r['epoch']]):.1f}",
                    f"{np.mean([r['padded'] for r in own]):.0%}",
                    f"{max(r['peak_memory'] for r in own) / 1e9:.2f} GB",
                    f"{last:.4f}",
                    f"{best:.4f}",
                )
            )
        )
    restless = {r["entrant"] for r in records if r.get("idle_share", 0) > RESTLESS}
    if restless:
        lines.append(f"\nUsed processors while others were timed: {', '.join(sorted(restless))}.")
    return "\n".join(lines)


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


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
