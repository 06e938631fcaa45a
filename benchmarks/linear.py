"""Linear recurrences, h_t = a_t * h_{t-1} + b_t, by kernel, over lengths and widths.

    python benchmarks/linear.py

A lane is an entry of the state: batch times features. `a` and `b` are given, so this is the
recurrence alone, without products and gates. The gradient is with respect to `a`, `b` and the
initial state. All entrants run in one process and take turns, several rounds; the table shows
medians. `copy` is a call in C++ that is bound by memory: it reads and writes as many bytes as the
recurrence must at least, 12 an entry forwards, and 20 more backwards.

With `--layers` instead: a whole layer of `min_gru` beside torch.nn.GRU and the package's own GRU,
at the sizes of `layer.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import layer
import numpy as np
import peers
import record
import tables

from rnn_jax.kernels.native import library
from rnn_jax.kernels.native import linear as native
from rnn_jax.kernels.parallel import recurrence
from rnn_jax.kernels.parallel.recurrence import Method

LENGTHS = (64, 512, 4096, 65536)
LANES = ((1, 8), (1, 128), (16, 64), (128, 64))  # batch, features
LARGEST = 2**23  # entries; larger ones take minutes by the slowest
BYTES = {False: 12, True: 32}  # an entry


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
REFERENCE = "native"


def entrants(length: int, batch: int, features: int, gradient: bool) -> dict[str, Callable]:
    """A function without arguments for each entrant, which runs it once, to its end."""
    draw = np.random.default_rng(0)
    a, b, d = (
        jnp.asarray(draw.normal(size=(batch, length, features)), jnp.float32) for _ in range(3)
    )
    a, initial = jax.nn.sigmoid(a), jnp.zeros((batch, features))

    def made(states: Callable) -> Callable:
        def forward(a, b, initial):
            return states(False, False, a, b, initial)

        def both(a, b, initial, d):
            h, pull = jax.vjp(forward, a, b, initial)
            return h, pull(d)

        compiled = jax.jit(both if gradient else forward)
        arguments = (a, b, initial, d) if gradient else (a, b, initial)
        return lambda: jax.block_until_ready(compiled(*arguments))

    size = batch * length * features * BYTES[gradient]
    source, target = np.ones(size // 8, np.float32), np.ones(size // 8, np.float32)
    return {name: made(states) for name, states in KERNELS.items()} | {
        "copy": lambda: np.copyto(target, source)
    }


def seconds(call: Callable) -> float:
    """Of one call; short ones are repeated."""
    began = time.perf_counter()
    call()
    once = time.perf_counter() - began
    if once > 0.01:
        return once
    count = max(1, int(0.02 / once))
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count


def recurrences(rounds: int, save: bool) -> None:
    """The table over lengths and lanes."""
    names = [*KERNELS, "copy"]
    texts = (("steps", "{:,}"), ("lanes", "{}"), ("pass", "{}"))
    heads = [(f"{name}, ms", "{:.3f}") for name in names]
    ratios = [(f"{name} / {REFERENCE}", "{:.2f}") for name in names if name != REFERENCE]
    table = record.Table("linear", [*texts, *heads, *ratios])
    for length in LENGTHS:
        for batch, features in LANES:
            if length * batch * features > LARGEST:
                continue
            for gradient in (False, True):
                calls = entrants(length, batch, features, gradient)
                for call in calls.values():
                    call()  # compiles
                found = [{n: seconds(call) for n, call in calls.items()} for _ in range(rounds)]
                median = {name: statistics.median(each[name] for each in found) for name in names}
                ratio = {
                    name: statistics.median(each[name] / each[REFERENCE] for each in found)
                    for name in names
                }
                way = "forward + backward" if gradient else "forward"
                table.add(
                    length, f"{batch} x {features}", way,
                    *(1e3 * median[name] for name in names),
                    *(ratio[name] for name in names if name != REFERENCE),
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
    parser.add_argument("--rounds", type=int, default=7)
    record.add_flag(parser)
    arguments = parser.parse_args()
    print(f"{tables.machine()}; milliseconds a call, medians of {arguments.rounds} rounds\n")
    if problem := library.missing():
        parser.error(f"the native kernel {problem}")
    (layers if arguments.layers else recurrences)(arguments.rounds, arguments.save)


if __name__ == "__main__":
    main()
