"""The kernel `newton` beside `scan`, and cuDNN: where it loses, and where it wins.

    python benchmarks/newton.py
    python benchmarks/newton.py --quick

A GRU and an LSTM as they are initialised, on inputs N(0, 1), for several numbers of units, rows and
steps, forward and with the gradient of the outputs' mean square. All entrants take turns in one
process, several rounds; the table shows medians, and how many times as long `newton` takes: more
than 1 is where it loses. cuDNN has turns where JAX finds a GPU, with LSTMs only
(`jax.experimental.rnn`), in JAX's default precision as the other two.

It runs on the device that JAX finds; the result of a CPU is newton.json, of an accelerator
newton_on_gpu.json. It needs nothing but JAX and this repository. `--quick` takes fewer sizes, and
begins nothing after 36 seconds; rows that would end after `--minutes` are left out, and said so.

With `--figures` instead: draws docs/figures/newton_*.svg, the errors of Newton's iterates over
time, on a cell that contracts and on one that expands.
"""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Callable
from typing import Any

import cudnn_lstm
import jax
import jax.numpy as jnp
import numpy as np
import record
import tables
import turns

import rnn_jax
from rnn_jax import kernels, report
from rnn_jax.kernels.parallel import newton

CELLS = {"gru": rnn_jax.gru, "lstm": rnn_jax.lstm}
HIDDEN = (1, 8, 32)
ROWS = (1, 16)
STEPS = {"cpu": (64, 4096), "gpu": (4096, 16384)}
LARGEST = {"cpu": 2**25, "gpu": 2**28}  # entries of all Jacobians
QUICK = ((32, 8), (1,), (4096, 16384), 2**27)
QUICK_MINUTES = 0.6
ROW = 8  # seconds, about, with compilation
FIGURES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "figures"


def unrolled(cell: rnn_jax.Cell, kernel: str, gradient: bool) -> Callable[..., tuple[Any, Any]]:
    """A function of parameters and inputs: the outputs, or the mean of their squares and its
    gradient; and Newton's rounds and which rows converged. The exponent, which costs as much as a
    round, is not among them, and so not computed."""

    def run(params: Any, inputs: Any) -> tuple[Any, Any]:
        _, outputs, told = rnn_jax.unroll(cell, params, inputs, kernel=kernel, report=True)
        return outputs, None if told is None else (told[0].iterations, told[0].converged)

    def loss(params: Any, inputs: Any) -> tuple[Any, Any]:
        outputs, told = run(params, inputs)
        return jnp.mean(outputs**2), told

    if not gradient:
        return run

    def both(params: Any, inputs: Any) -> tuple[Any, Any]:
        (value, told), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, inputs)
        return (value, gradients), told

    return both


def table(count: int, quick: bool, clock: turns.Clock, save: bool) -> None:
    """Prints the table."""
    backend = "cpu" if jax.default_backend() == "cpu" else "gpu"
    shown = record.Table(
        "newton" if backend == "cpu" else "newton_on_gpu",
        [
            ("cell", "{}"), ("hidden", "{}"), ("rows", "{}"), ("steps", "{:,}"), ("pass", "{}"),
            ("scan, ms", "{:.2f}"), ("newton, ms", "{:.2f}"), ("newton / scan", "{:.2f}"),
            ("newton / cuDNN", "{:.1f}"), ("Newton's rounds", "{}"), ("rows fallen back", "{}"),
        ],
    )  # fmt: skip
    missing = cudnn_lstm.problem()
    if missing:
        print(f"without cuDNN: {missing}\n")
    sizes = (HIDDEN, ROWS, STEPS[backend], LARGEST[backend])
    all_hidden, all_rows, all_steps, largest = QUICK if quick else sizes
    each = [
        (name, hidden, rows, steps, gradient)
        for gradient in (False, True)
        for steps in all_steps
        for hidden in all_hidden
        for rows in all_rows
        for name in CELLS
    ]
    for name, hidden, rows, steps, gradient in each:
        cell = CELLS[name](hidden=hidden)
        features = hidden * (2 if name == "lstm" else 1)  # of the carry
        if steps * rows * features**2 > largest:
            continue
        way = "forward + backward" if gradient else "forward"
        if clock.over(f"{name}({hidden}), {rows} rows of {steps} steps, {way}", ROW):
            continue
        params = cell.init(jax.random.key(0), hidden)
        given = (params, jax.random.normal(jax.random.key(1), (rows, steps, hidden)))
        calls: dict[str, Any] = {
            kernel: (unrolled(cell, kernel, gradient), given) for kernel in ("scan", "newton")
        }
        if name == "lstm" and not missing:
            calls["cuDNN"] = cudnn_lstm.lstm((rows, steps, hidden, hidden), gradient)
        calls = turns.compiled(calls)
        _, (iterations, converged) = calls["newton"]()
        found = turns.rounds(calls, count)
        shown.add(
            name, hidden, rows, steps, way,
            1e3 * turns.median(found, "scan"), 1e3 * turns.median(found, "newton"),
            turns.median(found, "newton", over="scan"),
            turns.median(found, "newton", over="cuDNN") if "cuDNN" in calls else None,
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
    parser.add_argument("--quick", action="store_true", help="fewer sizes, for less than a minute")
    parser.add_argument("--minutes", type=float, help="as long as it may take")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.figures:
        figures()
        return
    clock = turns.Clock(arguments.minutes or (QUICK_MINUTES if arguments.quick else math.inf))
    print(f"{tables.machine()}; milliseconds a call, medians of {arguments.rounds} rounds\n")
    table(arguments.rounds, arguments.quick, clock, arguments.save)


if __name__ == "__main__":
    main()
