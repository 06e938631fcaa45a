"""Measures the memory that a gradient takes beyond its arguments and results, against the steps.

    python benchmarks/memory.py

For one LSTM layer (float32, batch 8, 64 inputs, 64 units), with and without `remat_chunk`: what XLA
sets aside while it runs the compiled gradient of the outputs' sum with respect to parameters and
inputs (`temp_size_in_bytes` of its memory analysis). Nothing is run, so that the load of the
machine does not matter. Prints a Markdown table, and draws docs/figures/memory.svg.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import record

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BATCH, WIDTH = 8, 64
STEPS = (256, 512, 1024, 2048, 4096, 8192, 16384)
CHUNKS = {"plain": None, "remat_chunk=128": 128}
MEBIBYTE = 2**20


def megabytes(time: int, chunk: int | None) -> float:
    """MiB of temporary memory of one gradient."""
    import jax
    import jax.numpy as jnp

    import rnn_jax

    cell = rnn_jax.lstm(WIDTH)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), WIDTH))
    inputs = jax.ShapeDtypeStruct((BATCH, time, WIDTH), jnp.float32)

    def loss(params, inputs):
        return jnp.sum(rnn_jax.unroll(cell, params, inputs, remat_chunk=chunk)[1])

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes / MEBIBYTE


def draw(curves: dict[str, list[float]], inputs: list[float], path: pathlib.Path) -> None:
    """The curves on logarithmic axes, with the size of the inputs to compare."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "memory"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for name, curve in curves.items():
        axes.loglog(STEPS, curve, marker="o", label=name)
        axes.annotate(
            f"{curve[-1]:.0f} MiB", (STEPS[-1], curve[-1]), (6, -3), textcoords="offset points"
        )
    axes.loglog(STEPS, inputs, color="gray", linestyle=":", label="the inputs alone")
    axes.set_xticks(STEPS, [f"{time:,}" for time in STEPS], minor=False)
    axes.minorticks_off()
    axes.set_xlim(STEPS[0] * 0.85, STEPS[-1] * 2)
    axes.set_xlabel("steps")
    axes.set_ylabel("temporary memory, MiB")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    record.add_flag(parser)
    arguments = parser.parse_args()
    curves = {name: [megabytes(time, chunk) for time in STEPS] for name, chunk in CHUNKS.items()}
    inputs = [BATCH * time * WIDTH * 4 / MEBIBYTE for time in STEPS]
    sizes = [(name, "{:.1f} MiB") for name in ("the inputs", *CHUNKS)]
    table = record.Table("memory", [("steps", "{:,}"), *sizes])
    for row in zip(STEPS, inputs, *curves.values(), strict=True):
        table.add(*row)
    if arguments.save:
        table.save()
    draw(curves, inputs, ROOT / "docs" / "figures" / "memory.svg")


if __name__ == "__main__":
    main()
