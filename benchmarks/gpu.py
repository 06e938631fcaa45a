"""What a machine with an accelerator does, in one command of a few minutes.

    pip install -e . && pip install -U 'jax[cuda13]' && python benchmarks/gpu.py

It needs nothing but JAX and this repository, and prints these tables:

- kernels: how far each kernel that can run here is from `scan` in float64 on the CPU, values and
  gradients, relative to the largest entry: with products in float32, where it is held to 1e-4,
  and in JAX's default precision, which on NVIDIA GPUs is TF32;
- layers: a call, forward and with its gradient, by kernel; LSTMs beside cuDNN
  (`jax.experimental.rnn`) where it works. Medians of interleaved calls;
- linear: the same for linear cells, by length (`linear.py` and `newton.py` have the kernels alone);
- epochs: seconds of each experiment's epochs, the first with its compilation;
- population: trials an hour, trained together.

Parts that would end after --minutes are left out, and said so. On a CPU it shows that the script
runs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import cudnn_lstm
import jax
import jax.numpy as jnp
import numpy as np
import record
from turns import Clock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import rnn_jax
from rnn_jax import kernels, sweeps, train
from rnn_jax.commands import experiments
from rnn_jax.config import replace
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.watch import Watch
from rnn_jax.system.display import Display

ROOT = pathlib.Path(__file__).resolve().parent.parent
CELLS = {"simple_rnn": rnn_jax.simple_rnn, "lstm": rnn_jax.lstm, "gru": rnn_jax.gru}
LINEAR = {
    "min_gru": rnn_jax.min_gru,
    "min_lstm": rnn_jax.min_lstm,
    "lru": rnn_jax.lru,
    "rg_lru": rnn_jax.rg_lru,
}
SHAPES = ((16, 64, 128, 64), (64, 128, 256, 256), (128, 256, 512, 512))  # batch, time, in, hidden
LENGTHS = (64, 512, 4096)
LINEAR_KERNELS = ("scan", "blocked", "associative")
EXPERIMENTS = (
    "bilstm", "language_model", "translation", "lstm", "simple_rnn", "min_gru", "gru",
    "char_language_model",
)  # fmt: skip
TRIALS = {"bilstm": 64, "lstm": 64}
PARTS = ("kernels", "layers", "linear", "epochs", "population")
TOLERANCE = 1e-4
Keep = Callable[[record.Table], Any]  # what becomes of a table with each row


def passes(cell: Any, kernel: str, params: Any, inputs: Any) -> Callable[[], Any]:
    """One call of a layer with its gradient."""

    @jax.jit
    def loss(params: Any, inputs: Any) -> Any:
        _, outputs = rnn_jax.unroll(cell, params, inputs, kernel=kernel)
        return jnp.mean(outputs**2)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return lambda: gradient(params, inputs)


def seconds(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Of a call of each, medians of interleaved rounds, once compiled."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            if number:
                found[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in found.items()}


def in_float64(cell: Any, params: Any, inputs: Any) -> Any:
    """What `scan` says in float64 on the CPU."""
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, inputs))
    jax.config.update("jax_enable_x64", True)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            return jax.device_get(passes(cell, "scan", *wide)())
    finally:
        jax.config.update("jax_enable_x64", False)


def largest_error(found: Any, exact: Any) -> float:
    """Of all leaves, relative to the largest entry of each."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))
        for a, b in zip(*map(jax.tree.leaves, (jax.device_get(found), exact)), strict=True)
    )


def check_kernels(keep: Keep) -> None:
    table = record.Table(
        "gpu_kernels",
        [
            ("cell", "{}"),
            ("kernel", "{}"),
            ("largest error", "{:.1e}"),
            (f"within {TOLERANCE:g}", "{}"),
            ("in the default precision", "{:.1e}"),
        ],
    )
    made, exact = {}, {}
    for name, make in (CELLS | LINEAR).items():
        cell = make(hidden=33)
        params = cell.init(jax.random.key(0), 17)
        inputs = jax.random.normal(jax.random.key(1), (5, 70, 17))
        made[name] = (cell, params, inputs)
        exact[name] = in_float64(*made[name])

    def errors(case: tuple[str, str]) -> tuple[float, float]:
        """In float32, and in the default precision."""
        name, kernel = case
        cell, params, inputs = made[name]
        with jax.default_matmul_precision("highest"):
            error = largest_error(passes(cell, kernel, params, inputs)(), exact[name])
        return error, largest_error(passes(cell, kernel, params, inputs)(), exact[name])

    cases = [
        (name, kernel)
        for name, (cell, _, _) in made.items()
        for kernel, factory in kernels.KERNELS.items()
        if factory().problem(cell) is None
    ]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # they wait for compilers
        running = {pool.submit(errors, case): case for case in cases}
        for done in concurrent.futures.as_completed(running):
            error, rough = done.result()
            table.add(*running[done], error, "yes" if error < TOLERANCE else "NO", rough)
            keep(table)


def time_layers(keep: Keep, clock: Clock, shapes: int, rounds: int) -> None:
    names = ("scan", "fused", "cuDNN")
    table = record.Table(
        "gpu_layers",
        [("cell", "{}"), ("batch x time x in x hidden", "{}"), *((n, "{:.2f} ms") for n in names)],
    )
    missing = cudnn_lstm.problem()
    if missing:
        print(f"no cuDNN here: {missing}", flush=True)
    for shape in SHAPES[:shapes]:
        for name, make in CELLS.items():
            if clock.over(f"layer {name} {shape}", 10):
                return
            batch, time_, in_features, hidden = shape
            cell = make(hidden=hidden)
            params = cell.init(jax.random.key(0), in_features)
            inputs = jax.random.normal(jax.random.key(1), (batch, time_, in_features))
            calls = {kernel: passes(cell, kernel, params, inputs) for kernel in names[:2]}
            if name == "lstm" and not missing:
                function, arguments = cudnn_lstm.lstm(shape, gradient=True)
                calls["cuDNN"] = functools.partial(jax.jit(function), *arguments)
            found = seconds(calls, rounds)
            ms = [1e3 * found[each] if each in found else None for each in names]
            table.add(name, "x".join(map(str, shape)), *ms)
            keep(table)


def time_linear(keep: Keep, clock: Clock, lengths: tuple[int, ...], rounds: int) -> None:
    """A layer of each linear cell by kernel."""
    batch, features = 16, 64
    table = record.Table(
        "gpu_linear",
        [("cell", "{}"), ("steps", "{:,}"), *((n, "{:.2f} ms") for n in LINEAR_KERNELS)],
    )
    for name in ("min_gru", "lru"):
        for length in lengths:
            if clock.over(f"linear {name} {length}", 10):
                return
            cell = LINEAR[name](hidden=features)
            params = cell.init(jax.random.key(0), features)
            inputs = jax.random.normal(jax.random.key(1), (batch, length, features))
            calls = {each: passes(cell, each, params, inputs) for each in LINEAR_KERNELS}
            found = seconds(calls, rounds)
            table.add(name, length, *(1e3 * found[each] for each in LINEAR_KERNELS))
            keep(table)


def time_epochs(keep: Keep, clock: Clock, take: int) -> None:
    table = record.Table(
        "gpu_epochs",
        [("experiment", "{}"), ("kernel", "{}"), ("first epoch", "{:.1f} s"), ("next", "{:.2f} s")],
    )
    for name in EXPERIMENTS:
        if clock.over(f"epochs of {name}", 40):
            return
        config = experiments.load(name, ROOT)[1]
        config = replace(config, {"train.epochs": 2, "data.take": take})
        with tempfile.TemporaryDirectory() as folder:
            run = train.run(config, folder, display=Display(quiet=True))
            first, following = run.columns("train")["seconds"]
            table.add(name, _kernel(folder), float(first), float(following))
            keep(table)


def _kernel(folder: str) -> str:
    content = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return content["environment"]["kernel"]


def time_population(keep: Keep, clock: Clock, trials: int | None, take: int) -> None:
    table = record.Table(
        "gpu_population",
        [
            ("experiment", "{}"),
            ("trials", "{}"),
            ("seconds", "{:.1f}"),
            ("trials an hour", "{:,.0f}"),
        ],
    )
    for name, usual in TRIALS.items():
        count = trials or usual
        if clock.over(f"population of {name}", 60):
            return
        config = replace(experiments.load(name, ROOT)[1], {"train.epochs": 2, "data.take": take})
        asked = sweeps.Sweep(f"train.seed=0..{count - 1}")
        engine = local.make(Options(population=count))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            sweeps.run(asked, config, folder, engine=engine, watch=Watch())
            took = time.perf_counter() - began
        table.add(name, count, took, 3600 * count / took)
        keep(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="as long as it may take")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="little of everything")
    record.add_flag(parser)
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind} ({device.platform}), JAX {jax.__version__}")
    quick = arguments.quick
    take = 40 if quick else 0
    parts: dict[str, Callable[[Keep], None]] = {
        "kernels": check_kernels,
        "layers": lambda keep: time_layers(
            keep, clock, 1 if quick else len(SHAPES), 3 if quick else 10
        ),
        "linear": lambda keep: time_linear(
            keep, clock, LENGTHS[:2] if quick else LENGTHS, 3 if quick else 10
        ),
        "epochs": lambda keep: time_epochs(keep, clock, take),
        "population": lambda keep: time_population(keep, clock, 4 if quick else None, take),
    }
    for name in arguments.parts:
        print(flush=True)
        parts[name](lambda table: table.save() if arguments.save else None)


if __name__ == "__main__":
    main()
