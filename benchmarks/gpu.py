"""What a machine with an accelerator does, in one command of a few minutes.

    pip install -e . && pip install -U 'jax[cuda13]' && python benchmarks/gpu.py

It needs nothing but JAX and this repository, and prints four tables:

- kernels: whether each kernel that can run here gives the values and gradients of `scan` in
  float64 on the CPU, relative to the largest entry;
- layers: a call, forward and with its gradient, by kernel; LSTMs beside cuDNN
  (`jax.experimental.rnn`) where it works. Medians of interleaved calls;
- epochs: seconds of each experiment's epochs, the first with its compilation;
- population: trials of `lstm` an hour, trained together.

Parts that would end after --minutes are left out, and said so. On a CPU it shows that the script
runs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import record

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
SHAPES = ((16, 64, 128, 64), (64, 128, 256, 256), (128, 256, 512, 512))  # batch, time, in, hidden
EXPERIMENTS = ("simple_rnn", "lstm", "bilstm", "language_model")
TRIALS = 64
PARTS = ("kernels", "layers", "epochs", "population")


class Clock:
    """How long the command may still take."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes

    def over(self, part: str, seconds: float) -> bool:
        """Whether a part of about so many seconds would end too late; then it says so."""
        late = time.monotonic() + seconds > self._end
        if late:
            print(f"left out for want of time: {part}", flush=True)
        return late


def passes(cell: Any, kernel: str, params: Any, inputs: Any) -> Callable[[], Any]:
    """One call of a layer with its gradient."""

    @jax.jit
    def loss(params: Any, inputs: Any) -> Any:
        _, outputs = rnn_jax.unroll(cell, params, inputs, kernel=kernel)
        return jnp.mean(outputs**2)

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return lambda: gradient(params, inputs)


def cudnn(shape: tuple[int, int, int, int]) -> Callable[[], Any] | None:
    """The same call of cuDNN's LSTM; None where there is none."""
    batch, time_, in_features, hidden = shape
    try:
        from jax.experimental import rnn

        weights = rnn.init_lstm_weight(jax.random.key(0), in_features, hidden, 1, False)
        inputs = jax.random.normal(jax.random.key(1), (batch, time_, in_features))
        zeros, lengths = jnp.zeros((1, batch, hidden)), jnp.full(batch, time_, jnp.int32)

        def loss(inputs: Any, weights: Any) -> Any:
            outputs, _, _ = rnn.lstm(
                inputs, zeros, zeros, weights, lengths, in_features, hidden, 1, 0.0, False
            )
            return jnp.mean(outputs**2)

        gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        jax.block_until_ready(gradient(inputs, weights))
    except Exception as error:  # its interface and its support differ from version to version
        print(f"no cuDNN here: {str(error).splitlines()[0][:100]}", flush=True)
        return None
    return lambda: gradient(inputs, weights)


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


def check_kernels() -> None:
    table = record.Table(
        "gpu_kernels",
        [("cell", "{}"), ("kernel", "{}"), ("largest error", "{:.1e}"), ("within 1e-4", "{}")],
    )
    for name, make in CELLS.items():
        cell = make(hidden=33)
        params = cell.init(jax.random.key(0), 17)
        inputs = jax.random.normal(jax.random.key(1), (5, 70, 17))
        exact = in_float64(cell, params, inputs)
        for kernel in ("scan", "fused", "native"):
            if kernels.KERNELS[kernel]().problem(cell) is not None:
                continue
            found = jax.device_get(passes(cell, kernel, params, inputs)())
            error = max(
                float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))
                for a, b in zip(*map(jax.tree.leaves, (found, exact)), strict=True)
            )
            table.add(name, kernel, error, "yes" if error < 1e-4 else "NO")


def time_layers(clock: Clock, shapes: int, rounds: int) -> None:
    names = ("scan", "fused", "cuDNN")
    table = record.Table(
        "gpu_layers",
        [("cell", "{}"), ("batch x time x in x hidden", "{}"), *((n, "{:.2f} ms") for n in names)],
    )
    for shape in SHAPES[:shapes]:
        for name, make in CELLS.items():
            if clock.over(f"layer {name} {shape}", 30):
                return
            batch, time_, in_features, hidden = shape
            cell = make(hidden=hidden)
            params = cell.init(jax.random.key(0), in_features)
            inputs = jax.random.normal(jax.random.key(1), (batch, time_, in_features))
            calls = {kernel: passes(cell, kernel, params, inputs) for kernel in names[:2]}
            theirs = cudnn(shape) if name == "lstm" and jax.default_backend() == "gpu" else None
            if theirs is not None:
                calls["cuDNN"] = theirs
            found = seconds(calls, rounds)
            ms = [1e3 * found[each] if each in found else None for each in names]
            table.add(name, "x".join(map(str, shape)), *ms)


def time_epochs(clock: Clock, take: int) -> None:
    table = record.Table(
        "gpu_epochs",
        [("experiment", "{}"), ("kernel", "{}"), ("first epoch", "{:.1f} s"), ("next", "{:.2f} s")],
    )
    for name in EXPERIMENTS:
        if clock.over(f"epochs of {name}", 90):
            return
        config = experiments.load(name, ROOT)[1]
        config = replace(config, {"train.epochs": 2, "data.take": take})
        with tempfile.TemporaryDirectory() as folder:
            run = train.run(config, folder, display=Display(quiet=True))
            first, following = run.columns("train")["seconds"]
            table.add(name, _kernel(folder), float(first), float(following))


def _kernel(folder: str) -> str:
    content = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return content["environment"]["kernel"]


def time_population(clock: Clock, trials: int, take: int) -> None:
    if clock.over("population", 120):
        return
    table = record.Table(
        "gpu_population", [("trials", "{}"), ("seconds", "{:.1f}"), ("trials an hour", "{:.0f}")]
    )
    config = replace(experiments.load("lstm", ROOT)[1], {"train.epochs": 2, "data.take": take})
    asked, engine = sweeps.Sweep(f"train.seed=0..{trials - 1}"), local.make(Options(population=64))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        sweeps.run(asked, config, folder, engine=engine, watch=Watch())
        took = time.perf_counter() - began
    table.add(trials, took, 3600 * trials / took)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="as long as it may take")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="little of everything")
    arguments = parser.parse_args()
    clock = Clock(arguments.minutes)
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind} ({device.platform}), JAX {jax.__version__}")
    take = 40 if arguments.quick else 0
    parts: dict[str, Callable[[], None]] = {
        "kernels": check_kernels,
        "layers": lambda: time_layers(clock, 1 if arguments.quick else len(SHAPES), 3),
        "epochs": lambda: time_epochs(clock, take),
        "population": lambda: time_population(clock, 4 if arguments.quick else TRIALS, take),
    }
    for name in arguments.parts:
        print(flush=True)
        parts[name]()


if __name__ == "__main__":
    main()
