"""Trains experiments with several seeds and prints what they reach as a Markdown table.

    python benchmarks/results.py simple_rnn masked_rnn -- --config.data.source=csv
    --config.data.data_dir=DIR

What follows `--` are flags of launch.py. Each row says what was measured: where the run validates
on the test split, the best test accuracy after any epoch, as tutorials report it (optimistic: the
test split chose the epoch); otherwise the accuracy of the one test with the parameters of the
lowest validation loss, or its perplexity or share of exact matches. Beside the mean of the seeds
stand the single figures. Processor time is that of the whole command, over all cores, with nothing
compiled before: other work beside it matters little. The median of the seeds is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import record as record_lib

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Trained(NamedTuple):
    """One run.

    figure: what it reached.
    passes: seconds of its training passes.
    processor: seconds of processor time of the whole command.
    """

    figure: float
    passes: float
    processor: float


Column = Callable[[Sequence[Trained]], Any]


def mean(runs: Sequence[Trained]) -> float:
    return round(statistics.mean(run.figure for run in runs), 4)


def by_seed(runs: Sequence[Trained]) -> str:
    return ", ".join(f"{run.figure:.{4 if run.figure <= 1 else 2}f}" for run in runs)


def span(runs: Sequence[Trained]) -> str:
    found = [run.figure for run in runs]
    return f"{min(found):.4f} to {max(found):.4f}"


def processor(runs: Sequence[Trained]) -> int:
    return round(statistics.median(run.processor for run in runs))


THREE: dict[str, Column] = {"mean of three seeds": mean, "by seed": by_seed}
TABLES: dict[str, dict[str, Column]] = {  # the columns that are written
    "ag_news_best": THREE,
    "ag_news_test": THREE,
    "bbc_news": {
        "mean of five seeds": mean,
        "lowest to highest": span,
        "processor time": processor,
    },
    "bfloat16": {  # DTYPE: of the runs
        "DTYPE, mean of three seeds": mean,
        "DTYPE, by seed": by_seed,
    },
    "course": THREE,
    "three_seeds": THREE | {"processor time": processor},
}
FIGURES = ("accuracy", "perplexity", "exact_match")
DTYPE = "--config.train.dtype="


def trained(experiment: str, flags: list[str], seed: int) -> Trained:
    """One run in an empty folder, with empty caches."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "launch.py", f"--experiment={experiment}", f"--workdir={folder}/run",
            f"--config.train.seed={seed}", *flags,
        ]  # fmt: skip
        environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        before = _children()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
        took = _children() - before
        run = pathlib.Path(folder) / "run"
        lines = (run / "metrics.jsonl").read_text().splitlines()
        config = json.loads((run / "config.json").read_text())["config"]
    records = [json.loads(line) for line in lines]
    seconds = sum(record["seconds"] for record in records if record["split"] == "train")
    if config["data"].get("validation") == "test":
        validated = [record for record in records if record["split"] == "validation"]
        return Trained(max(record["accuracy"] for record in validated), seconds, took)
    figure = next(records[-1][name] for name in FIGURES if name in records[-1])
    return Trained(figure, seconds, took)


def _children() -> float:
    """Processor time of the processes that have ended, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "experiments", nargs="+", help="names, as launch.py --list_experiments has them"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on")
    parser.add_argument(
        "--save", choices=TABLES, help="of benchmarks/results, the table whose rows are written"
    )
    arguments = parser.parse_args(own.split())
    flags = flags.split()
    print("| experiment | flags | mean | by seed | training passes | processor time |")
    print("|---|---|---|---|---|---|")
    for experiment in arguments.experiments:
        runs = [trained(experiment, flags, seed) for seed in range(arguments.seeds)]
        passes = statistics.median(run.passes for run in runs)
        print(
            f"| {experiment} | `{' '.join(flags)}` | {mean(runs):.4f} | {by_seed(runs)} | "
            f"{passes:.0f} s | {processor(runs)} s |",
            flush=True,
        )
        if arguments.save:
            dtype = next((flag for flag in flags if flag.startswith(DTYPE)), "float32")
            cells = {
                (f"`{experiment}`", name.replace("DTYPE", dtype.removeprefix(DTYPE))): column(runs)
                for name, column in TABLES[arguments.save].items()
            }
            record_lib.update(arguments.save, cells)


if __name__ == "__main__":
    main()
