"""One recurrent layer, forward and with its gradient, beside torch.nn and flax.linen.

    python benchmarks/layer.py

"rnn_jax" is its quickest kernel: native where there is a C++ compiler, otherwise fused.
Every entrant is a process of its own. They take turns of a quarter of a second, several rounds; a
ratio is taken between the medians of one round, since a machine's speed drifts, and the table shows
the median over rounds. The gradient is with respect to the inputs and all parameters. The floor is
the time of the layer's matrix products alone, at the rate of one large product (2,048 cubed) that
has its turns among the others.

A large layer's arrays are new to the processor at every call, since the C library gives them back
to the system in between, and touching them first takes time of any library's call. With
--keep_memory (glibc) it keeps them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics

import peers
import record
import tables

SHAPES = ((16, 64, 64, 16), (16, 64, 128, 64), (64, 64, 256, 256), (128, 128, 512, 512))
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}
ENTRANTS = {  # name: (worker, environment)
    "rnn_jax": ("layer_jax.py", "flax"),  # with the quickest kernel
    "rnn_jax fused": ("layer_jax.py", "flax"),
    "rnn_jax scan": ("layer_jax.py", "flax"),
    "flax": ("layer_jax.py", "flax"),
    "torch": ("layer_torch.py", "torch"),
    "product": ("layer_jax.py", "flax"),
}
OURS = "rnn_jax"
PRODUCT = 2 * 2048**3
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}  # mallopt(3)


def flops(cell: str, shape: tuple[int, int, int, int], gradient: bool) -> int:
    """Of the products with the kernel and the recurrent kernel; backwards there are two of each."""
    batch, time, in_features, hidden = shape
    forward = 2 * batch * time * GATES[cell] * hidden * (in_features + hidden)
    return forward * (3 if gradient else 1)


def measure(workers, rounds: int, **what) -> list[dict[str, float]]:
    """Seconds a call of each entrant, for each round."""
    found = []
    for _ in range(rounds + 1):
        found.append(
            {
                name: statistics.median(worker.ask({"entrant": name, **what})["seconds"])
                for name, worker in workers.items()
            }
        )
    return found[1:]  # the first one compiles


def row(cell: str, shape: tuple, gradient: bool, rounds: list[dict[str, float]]) -> list:
    def median(value) -> float:
        return statistics.median(value(seconds) for seconds in rounds)

    names = [name for name in ENTRANTS if name in rounds[0] and name != "product"]
    work = flops(cell, shape, gradient) / PRODUCT
    cells = [cell, "x".join(map(str, shape)), "forward + backward" if gradient else "forward"]
    cells += [1e3 * median(lambda seconds, n=name: seconds[n]) for name in names]
    cells += [1e3 * median(lambda seconds: work * seconds["product"])]
    cells += [
        median(lambda seconds, n=name: seconds[n] / seconds[OURS]) for name in names if name != OURS
    ]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=GATES, default=list(GATES))
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only so many, from small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep_memory", action="store_true", help="see above")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.keep_memory:
        os.environ.update(KEEP_MEMORY)  # workers inherit it
    names = [name for name in ENTRANTS if name != "product"]
    print(f"{tables.machine()}; milliseconds a call, medians of {arguments.rounds} rounds\n")
    heads = [*names, "floor", *(f"{name} / {OURS}" for name in names if name != OURS)]
    texts = ("cell", "batch x time x in x hidden", "pass")
    table = record.Table(
        "layer", [*((head, "{}") for head in texts), *((head, "{:.2f}") for head in heads)]
    )
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(peers.Worker(script, peers.ensure(environment)))
            for name, (script, environment) in ENTRANTS.items()
        }
        for cell in arguments.cells:
            for shape in SHAPES[: arguments.shapes]:
                for gradient in (False, True):
                    rounds = measure(
                        workers, arguments.rounds, cell=cell, shape=shape, gradient=gradient
                    )
                    table.add(*row(cell, shape, gradient, rounds))
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
