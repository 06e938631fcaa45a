"""Linear recurrences, h_t = a_t * h_{t-1} + b_t, by kernel, over lengths and widths.

    python benchmarks/linear.py
    python benchmarks/linear.py --quick

A lane is an entry of the state: batch times features. `a` and `b` are given, so this is the
recurrence alone, without products and gates. The gradient is with respect to `a`, `b` and the
initial state. All entrants run in one process and take turns, several rounds; the table shows
medians. `scan` is `jax.lax.scan` and its own gradient. `copy` is bound by memory: it reads and
writes as many bytes as the recurrence must at least, 12 an entry forwards, and 20 more backwards;
the share of it that the fastest kernel reaches is the copy's time divided by the kernel's.

It runs on the device that JAX finds; the result of a CPU is linear.json, of an accelerator
linear_on_gpu.json. It needs nothing but JAX and this repository. `--quick` takes fewer sizes, and
begins nothing after 36 seconds; rows that would end after `--minutes` are left out, and said so.

With `--layers` instead: a whole layer of `min_gru` beside torch.nn.GRU and the package's own GRU,
at the sizes of `layer.py`, on a CPU; `peers.py` makes torch's environment.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import record
import tables
import turns

from rnn_jax.kernels.native import library
from rnn_jax.kernels.native import linear as native
from rnn_jax.kernels.parallel import recurrence
from rnn_jax.kernels.parallel.recurrence import Method

LENGTHS = (64, 512, 4096, 65536)
LANES = ((1, 8), (1, 128), (16, 64), (128, 64))  # batch, features
LARGEST = {"cpu": 2**25, "gpu": 2**26}  # entries
QUICK = ((4096, 512, 16384), ((128, 64), (1, 128), (16, 64)), 2**27)  # the telling ones first
BYTES = {False: 12, True: 32}  # an entry
QUICK_MINUTES = 0.6
ROW = 5  # seconds, about, with compilation


def stepwise(is_complex: bool, reverse: bool, a: jax.Array, b: jax.Array, h: jax.Array):
    """By `jax.lax.scan` and autodiff."""
    del is_complex, reverse

    def step(h, pair):
        h = pair[0] * h + pair[1]
        return h, h

    return jax.lax.scan(step, h, (a.swapaxes(0, 1), b.swapaxes(0, 1)))[1].swapaxes(0, 1)


KERNELS: dict[str, Callable] = {
    "native": native.states,
    "blocked": functools.partial(recurrence.states, Method(recurrence.by_blocks, (0,))),
    "associative": functools.partial(recurrence.states, Method(recurrence.by_tree)),
    "scan": stepwise,
}


def entrants(
    names: list[str], length: int, batch: int, features: int, gradient: bool
) -> dict[str, turns.Call]:
    """A call of each kernel, and of the copy."""
    keys = jax.random.split(jax.random.key(0), 3)
    a, b, d = (jax.random.normal(key, (batch, length, features)) for key in keys)
    a, initial = jax.nn.sigmoid(a), jnp.zeros((batch, features))

    def made(states: Callable) -> tuple[Callable, tuple]:
        def forward(a, b, initial):
            return states(False, False, a, b, initial)

        def both(a, b, initial, d):
            h, pull = jax.vjp(forward, a, b, initial)
            return h, pull(d)

        return (both, (a, b, initial, d)) if gradient else (forward, (a, b, initial))

    calls = turns.compiled({name: made(KERNELS[name]) for name in names})
    count = batch * length * features * BYTES[gradient] // 8
    if jax.default_backend() == "cpu":
        # Into memory that is there already: an array that XLA makes anew costs page faults.
        source, target = np.ones(count, np.float32), np.ones(count, np.float32)
        return calls | {"copy": lambda: np.copyto(target, source)}
    return calls | turns.compiled({"copy": (lambda x: x + 1, (jnp.ones(count),))})


def recurrences(count: int, quick: bool, clock: turns.Clock, save: bool) -> None:
    """The table over lengths and lanes."""
    backend = jax.default_backend()
    problem = library.missing(library.LINEAR) if backend == "cpu" else "on CPUs only"
    if problem:
        print(f"without the kernel `native`: {problem}\n")
    names = [name for name in KERNELS if not (name == "native" and problem)]
    table = record.Table(
        "linear" if backend == "cpu" else "linear_on_gpu",
        [
            ("steps", "{:,}"),
            ("lanes", "{}"),
            ("pass", "{}"),
            *((f"{name}, ms", "{:.3f}") for name in [*names, "copy"]),
            ("fastest", "{}"),
            ("share of the copy", "{:.0%}"),
            ("times `scan`", "{:.1f}"),
        ],
    )
    lengths, lanes, largest = LENGTHS, LANES, LARGEST["cpu" if backend == "cpu" else "gpu"]
    if quick:
        lengths, lanes, largest = QUICK
    for length in lengths:
        for batch, features in lanes:
            if length * batch * features > largest:
                continue
            for gradient in (False, True):
                way = "forward + backward" if gradient else "forward"
                if clock.over(f"{length} steps of {batch} x {features}, {way}", ROW):
                    continue
                found = turns.rounds(entrants(names, length, batch, features, gradient), count)
                times = {name: turns.median(found, name) for name in [*names, "copy"]}
                best = min(names, key=lambda name, times=times: times[name])
                table.add(
                    length, f"{batch} x {features}", way,
                    *(1e3 * each for each in times.values()), best,
                    turns.median(found, "copy", over=best), turns.median(found, "scan", over=best),
                )  # fmt: skip
                if save:
                    table.save()


LAYERS = {  # name: (worker, environment, cell)
    "min_gru": ("layer_jax.py", "flax", "min_gru"),
    "gru": ("layer_jax.py", "flax", "gru"),
    "torch GRU": ("layer_torch.py", "torch", "gru"),
}


def layers(rounds: int, save: bool) -> None:
    """The table of whole layers."""
    import layer
    import peers

    names = list(LAYERS)
    texts = (("batch x time x in x hidden", "{}"), ("pass", "{}"))
    heads = [(f"{name}, ms", "{:.2f}") for name in names]
    ratios = [(f"{name} / min_gru", "{:.1f}") for name in names[1:]]
    table = record.Table("linear_layers", [*texts, *heads, *ratios])
    with contextlib.ExitStack() as stack:
        workers = {
            name: (stack.enter_context(peers.Worker(script, peers.ensure(environment))), cell)
            for name, (script, environment, cell) in LAYERS.items()
        }
        for shape in layer.SHAPES:
            for gradient in (False, True):
                found = []
                for _ in range(rounds + 1):  # the first one compiles
                    found.append({})
                    for name, (worker, cell) in workers.items():
                        what = {"cell": cell, "shape": shape, "gradient": gradient}
                        told = worker.ask({"entrant": "rnn_jax", **what})
                        found[-1][name] = statistics.median(told["seconds"])
                median = lambda of, found=found: statistics.median(map(of, found[1:]))
                table.add(
                    "x".join(map(str, shape)), "forward + backward" if gradient else "forward",
                    *(1e3 * median(lambda each, n=name: each[n]) for name in names),
                    *(median(lambda each, n=n: each[n] / each["min_gru"]) for n in names[1:]),
                )  # fmt: skip
    if save:
        table.save()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", action="store_true", help="whole layers, beside torch.nn.GRU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, for less than a minute")
    parser.add_argument("--minutes", type=float, help="as long as it may take")
    record.add_flag(parser)
    arguments = parser.parse_args()
    minutes = arguments.minutes or (QUICK_MINUTES if arguments.quick else math.inf)
    clock = turns.Clock(minutes)
    print(f"{tables.machine()}; milliseconds a call, medians of {arguments.rounds} rounds\n")
    if arguments.layers:
        layers(arguments.rounds, arguments.save)
    else:
        recurrences(arguments.rounds, arguments.quick, clock, arguments.save)


if __name__ == "__main__":
    main()
