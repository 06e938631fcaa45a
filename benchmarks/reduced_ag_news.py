"""Builds the reduced AG News from the public CSV file: 6,080 stories to train on and 1,520 to test.

    python benchmarks/reduced_ag_news.py path/to/ag_news_csv/test.csv DIR
    python launch.py --experiment=bilstm --config.data.source=csv --config.data.data_dir=DIR

The input is test.csv of the AG News release (7,600 stories; with or without a header line), as it
is found in many public mirrors. The official training file is left alone, so that comparisons that
take minutes can be made. The stories are shuffled by Python's `random.Random(0)` and split four to
one. Each split is then in the order in which TensorFlow Datasets would store it, by the MD5 of the
split's name and a story's position, so that a vocabulary fitted on the first 2,000 titles is the
same from either.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import pathlib
import random

from rnn_jax.data.ag_news_subset import CLASSES
from rnn_jax.data.csv_folder import records

STORIES, TRAIN = 7_600, 6_080


def split(stories: list) -> dict[str, list]:
    """The stories of the official test file as {"train": ..., "test": ...}."""
    stories = list(stories)
    random.Random(0).shuffle(stories)
    parts = {"train": stories[:TRAIN], "test": stories[TRAIN:]}
    return {name: [part[i] for i in stored_order(name, len(part))] for name, part in parts.items()}


def stored_order(name: str, count: int) -> list[int]:
    """The order in which TFDS stores a split's examples, whose keys are 0, 1, ..."""
    return sorted(range(count), key=lambda key: hashlib.md5(f"{name}{key}".encode()).digest())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", type=pathlib.Path, help="test.csv of the AG News release")
    parser.add_argument(
        "folder", type=pathlib.Path, help="where train.csv, test.csv, classes.txt go"
    )
    arguments = parser.parse_args()

    stories = [story for _, *story in records(arguments.csv)]
    if len(stories) != STORIES:
        parser.error(f"{arguments.csv} has {len(stories)} stories, AG News' test.csv has {STORIES}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, part in split(stories).items():
        with (arguments.folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(part)
        print(f"{len(part):,} stories in {arguments.folder / f'{name}.csv'}")
    (arguments.folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
