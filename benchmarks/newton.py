"""The kernel `newton` beside `scan`: where it loses, and where it would win.

    python benchmarks/newton.py

A GRU as it is initialised, forwards, on inputs N(0, 1), for several numbers of units, rows and
steps. Both kernels take turns in one process, several rounds; the table shows medians, and how many
times as long `newton` takes: more than 1 is where it loses.

With `--figures` instead: draws docs/figures/newton_*.svg, the errors of Newton's iterates over
time, on a cell that contracts and on one that expands.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import record
import tables

import rnn_jax
from rnn_jax import kernels, report
from rnn_jax.kernels.parallel import newton

HIDDEN = (1, 8, 32)
ROWS = (1, 16)
STEPS = (64, 4096)
LARGEST = 2**25  # entries of all Jacobians
FIGURES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "figures"


def walked(cell: rnn_jax.Cell, kernel: str, given: tuple) -> Callable[[], tuple]:
    """An unroll that also gives out Newton's rounds and which rows converged; the exponent, which
    costs as much as a round, is not computed."""

    @jax.jit
    def run(params, inputs):
        carry, outputs, report = rnn_jax.unroll(cell, params, inputs, kernel=kernel, report=True)
        told = None if report is None else (report[0].iterations, report[0].converged)
        return carry, outputs, told

    return lambda: run(*given)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def table(rounds: int, save: bool) -> None:
    """Prints the table."""
    shown = record.Table(
        "newton",
        [
            ("hidden", "{}"), ("rows", "{}"), ("steps", "{:,}"), ("scan, ms", "{:.2f}"),
            ("newton, ms", "{:.2f}"), ("newton / scan", "{:.1f}"), ("Newton's rounds", "{}"),
            ("rows fallen back", "{}"),
        ],
    )  # fmt: skip
    for hidden in HIDDEN:
        cell = rnn_jax.gru(hidden=hidden)
        params = cell.init(jax.random.key(0), hidden)
        for rows in ROWS:
            for steps in STEPS:
                if steps * rows * hidden**2 > LARGEST:
                    continue
                given = (params, jax.random.normal(jax.random.key(1), (rows, steps, hidden)))
                calls = {name: walked(cell, name, given) for name in ("scan", "newton")}
                for call in calls.values():
                    seconds(call)  # compiles
                _, _, (iterations, converged) = calls["newton"]()
                found = [{n: seconds(call) for n, call in calls.items()} for _ in range(rounds)]
                median = {name: statistics.median(each[name] for each in found) for name in calls}
                ratio = statistics.median(each["newton"] / each["scan"] for each in found)
                shown.add(
                    hidden, rows, steps, 1e3 * median["scan"], 1e3 * median["newton"], ratio,
                    int(iterations.max()), int((~converged).sum()),
                )  # fmt: skip
                if save:
                    shown.save()


def figures() -> None:
    """Draws the errors of Newton's iterates."""
    for name, scale in (("contracting", 0.5), ("expanding", 2.0)):
        cell = rnn_jax.simple_rnn(hidden=16)
        params = cell.init(jax.random.key(0), 3)
        params["recurrent_kernel"] *= scale
        inputs = 0.3 * jax.random.normal(jax.random.key(1), (1, 100, 3))
        states = rnn_jax.unroll(cell, params, inputs)[1][0]
        found = newton.iterates(cell, params, inputs, rounds=16)[:, 0]
        error = np.log10(np.maximum(jnp.abs(found - states).max(axis=2), 1e-8))
        series = {f"round {n}": error[n].tolist() for n in (1, 2, 4, 8, 16)}
        chart = report.Chart(
            f"Error (log10) of Newton's iterates, {name} cell", "step", range(100), series
        )
        FIGURES.joinpath(f"newton_{name}.svg").write_text(report.drawing(chart), encoding="utf-8")
        print(f"drew newton_{name}.svg: recurrent kernel {scale} times an orthogonal one")
        for damping in (False, True):
            kernel = kernels.newton(damping=damping)
            _, _, (told,) = rnn_jax.unroll(cell, params, inputs, kernel=kernel, report=True)
            rounds, exponent = int(told.iterations[0]), float(told.exponent[0])
            print(f"  {kernel}: {rounds} rounds, exponent {exponent:+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", action="store_true", help="draw the pictures of the docs")
    parser.add_argument("--rounds", type=int, default=5)
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.figures:
        figures()
        return
    print(f"{tables.machine()}; milliseconds a call, medians of {arguments.rounds} rounds\n")
    table(arguments.rounds, arguments.save)


if __name__ == "__main__":
    main()
