"""Trains experiments with several seeds and prints their accuracies as a Markdown table.

    python benchmarks/results.py simple_rnn masked_rnn -- --config.data.source=csv
    --config.data.data_dir=DIR

What follows `--` are flags of launch.py. Each row says what was measured: where the run validates
on the test split, the best test accuracy after any epoch, as tutorials report it (optimistic: the
test split chose the epoch); otherwise the accuracy of the one test with the parameters of the
lowest validation loss. Beside the mean of the seeds stand the single figures.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import record as record_lib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = {  # the columns that are written
    "ag_news_best": ("mean of three seeds", "by seed"),
    "ag_news_test": ("mean of three seeds", "by seed"),
    "bbc_news": ("test accuracy", "time"),
    "course": ("mean of three seeds", "by seed"),
}


def accuracy(experiment: str, flags: list[str], seed: int) -> tuple[float, float, float]:
    """The accuracy of one run, the seconds of its training passes, and those of the command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "launch.py", f"--experiment={experiment}", f"--workdir={folder}",
            f"--config.train.seed={seed}", *flags,
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - began
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())["config"]
    records = [json.loads(line) for line in lines]
    seconds = sum(record["seconds"] for record in records if record["split"] == "train")
    if config["data"]["validation"] == "test":
        validated = [record for record in records if record["split"] == "validation"]
        return max(record["accuracy"] for record in validated), seconds, whole
    return records[-1]["accuracy"], seconds, whole


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
    print("| experiment | flags | mean accuracy | by seed | training passes |")
    print("|---|---|---|---|---|")
    for experiment in arguments.experiments:
        found = [accuracy(experiment, flags, seed) for seed in range(arguments.seeds)]
        figures = [figure for figure, _, _ in found]
        by_seed = ", ".join(f"{figure:.4f}" for figure in figures)
        print(
            f"| {experiment} | `{' '.join(flags)}` | {statistics.mean(figures):.4f} | "
            f"{by_seed} | {statistics.median(seconds for _, seconds, _ in found):.0f} s |",
            flush=True,
        )
        if arguments.save:
            mean, whole = statistics.mean(figures), statistics.median(each[2] for each in found)
            written = (round(mean, 4), by_seed if arguments.save != "bbc_news" else round(whole))
            row = f"`{experiment}`"
            cells = {
                (row, column): value
                for column, value in zip(TABLES[arguments.save], written, strict=True)
            }
            record_lib.update(arguments.save, cells)


if __name__ == "__main__":
    main()
