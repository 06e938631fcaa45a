"""The cost of a layer's gradient as texts, batches and hidden sizes grow.

    python benchmarks/scaling.py [--figure=docs/figures/scaling.svg]

Forward and backward of one LSTM layer (or another cell's, --cell) by each kernel, in turns in one
process; the shortest of several calls, since only that is free of what else the machine does.
`auto` takes `native` on CPUs: this shows where that is right.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import matplotlib
import record
import tables

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.kernels.native.kernel import missing
from rnn_jax.unrolling import unroll

ROOT = pathlib.Path(__file__).resolve().parent.parent
NATIVE = () if missing("lstm") else ("native",)  # it needs a C++ compiler
KERNELS = ("scan", "fused", *NATIVE)
CELLS = {"lstm": lstm, "gru": gru, "simple_rnn": simple_rnn}
BASE = {"time": 64, "batch": 16, "hidden": 64}
SWEEPS = {
    "time": (16, 64, 256, 1024, 4096),
    "batch": (1, 4, 16, 64, 256, 1024),
    "hidden": (8, 16, 32, 64, 128, 256, 512, 1024),
}


def functions(kind: str, time: int, batch: int, hidden: int):
    """For each kernel a function that computes the gradient once; as many inputs as units."""
    cell = CELLS[kind](hidden)
    params = cell.init(jax.random.key(0), hidden)
    inputs = jax.random.normal(jax.random.key(1), (batch, time, hidden))

    def loss(params, inputs, kernel):
        return jnp.sum(unroll(cell, params, inputs, kernel=kernel)[1] ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnames="kernel")
    return {
        kernel: lambda kernel=kernel: jax.block_until_ready(gradient(params, inputs, kernel))
        for kernel in KERNELS
    }


def measure(kind: str, calls: int, **shape: int) -> dict[str, float]:
    """Seconds a call of each kernel."""
    runs = functions(kind, **shape)
    found: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
    for _ in range(calls + 1):
        for kernel, run in runs.items():
            began = time.perf_counter()
            run()
            found[kernel].append(time.perf_counter() - began)
    return {kernel: min(seconds[1:]) for kernel, seconds in found.items()}


def draw(results: dict[str, dict[int, dict[str, float]]], path: pathlib.Path) -> None:
    """One panel for each sweep, both axes logarithmic."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(11, 3.4), sharey=True)
    for panel, (axis, values) in zip(panels, results.items(), strict=True):
        for kernel in KERNELS:
            milliseconds = [1e3 * seconds[kernel] for seconds in values.values()]
            panel.loglog(list(values), milliseconds, marker="o", label=kernel)
        others = ", ".join(f"{name} {value}" for name, value in BASE.items() if name != axis)
        panel.set(xlabel=axis, title=others)
        panel.grid(visible=True, which="major", alpha=0.3)
    panels[0].set_ylabel("forward + backward, ms")
    panels[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--figure", type=pathlib.Path, default=ROOT / "docs" / "figures" / "scaling.svg"
    )
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--cell", choices=CELLS, default="lstm", help="only lstm's are saved")
    record.add_flag(parser)
    arguments = parser.parse_args()
    print(f"{tables.machine()}; milliseconds, the shortest of {arguments.calls} calls\n")
    heads = [*KERNELS, *(f"scan / {kernel}" for kernel in KERNELS[1:])]
    table = record.Table(
        "scaling", [*((name, "{}") for name in BASE), *((head, "{:.2f}") for head in heads)]
    )
    results: dict[str, dict[int, dict[str, float]]] = {}
    for axis, values in SWEEPS.items():
        results[axis] = {}
        for value in values:
            shape = BASE | {axis: value}
            seconds = results[axis][value] = measure(arguments.cell, arguments.calls, **shape)
            times = [1e3 * seconds[kernel] for kernel in KERNELS]
            ratios = [seconds["scan"] / seconds[kernel] for kernel in KERNELS[1:]]
            table.add(*shape.values(), *times, *ratios)
    if arguments.cell != "lstm":
        return
    if arguments.save:
        table.save()
    draw(results, arguments.figure)


if __name__ == "__main__":
    main()
