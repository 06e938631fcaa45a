"""Tokens a second that are written at batch 1, with the state carried from token to token.

    python benchmarks/generation.py

For characters an LSTM of 256 with a vocabulary of 90, for words two LSTMs of 200 and 10,000 words;
the weights are those of the start, which take as long as others. For words reading the head's
matrix once a token is what no program can do without: the table says how much of that speed is
reached. The programs are compiled before, and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics

import peers
import record

JOBS = {
    "characters": {"vocab_size": 90, "width": 256, "vectors": 64, "layers": 1},
    "words": {"vocab_size": 10_000, "width": 200, "vectors": 200, "layers": 2},
}
# name -> (worker, peer whose environment it runs in, tokens of a turn)
WORKERS = {
    "rnn_jax": ("generation_rnn_jax.py", "flax", 2000),
    "PyTorch": ("generation_torch.py", "torch", 500),
    "Keras": ("generation_keras.py", "keras", 100),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = record.Table(
        "generation",
        [("tokens", "{}"), ("library", "{}"), ("tokens a second", "{:.0f}"),
         ("ours is", "{:.1f} times"), ("of the head's bound", "{:.0%}")],
    )  # fmt: skip
    for kind, job in JOBS.items():
        with contextlib.ExitStack() as stack:
            workers = {}
            for name, (script, environment, _) in WORKERS.items():
                worker = stack.enter_context(peers.Worker(script, peers.ensure(environment)))
                worker.ask(job | {"threads": os.cpu_count()})
                workers[name] = worker
            speeds, bounds = {name: [] for name in workers}, []
            for _ in range(arguments.rounds):
                for name, worker in workers.items():
                    tokens = WORKERS[name][2]
                    speeds[name].append(tokens / worker.ask({"tokens": tokens})["seconds"])
                said = workers["rnn_jax"].ask({"tokens": 2000, "bound": True})
                bounds.append(2000 / said["seconds"])
        found = {name: statistics.median(each) for name, each in speeds.items()}
        bound = statistics.median(bounds)
        for name, speed in found.items():
            share = speed / bound if kind == "words" else None
            table.add(kind, name, speed, found["rnn_jax"] / speed, share)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
