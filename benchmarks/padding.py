"""Prints the share of padding in batches, sorted by length in pools of some size, or packed.

python benchmarks/padding.py [--source=ag_news_subset --data_dir=DIR] [--field=title]
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import record

from rnn_jax import DataConfig
from rnn_jax.data import batching
from rnn_jax.data.preparation import prepare

POOLS = (1, 2, 4, 8, 16)
COLUMNS = {
    ("bbc_news", "text"): "BBC News, text",
    ("ag_news_subset", "title"): "reduced AG News, titles",
    ("ag_news_subset", "text"): "reduced AG News, text",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", default="bbc_news")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--field", default="text", choices=("title", "text"))
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=200)
    record.add_flag(parser)
    arguments = parser.parse_args()
    config = DataConfig(
        source=arguments.source,
        data_dir=arguments.data_dir,
        field=arguments.field,
        max_length=arguments.max_length,
    )
    lengths = prepare(config).train.lengths
    print(f"{config.source}, {config.field}, batches of {arguments.batch_size}\n")
    shares = {}
    print("| batches | padded | how many of each rows x width |\n|---|---|---|")
    for packed, pool in [*((False, pool) for pool in POOLS), (True, 1)]:
        shapes = batching.shapes(
            lengths, arguments.batch_size, config.max_length, packed, pool=pool
        )
        plan = batching.plan(lengths, arguments.batch_size, shapes, pool=pool)
        share = batching.padded_share(plan, lengths)
        counts = sorted(collections.Counter(shape for shape, _ in plan).items())
        of_shape = ", ".join(f"{count} of {rows} x {width}" for (rows, width), count in counts)
        name = "packed" if packed else f"pool of {pool}"
        shares[name] = share
        print(f"| {name} | {share:.1%} | {of_shape} |")
    whole = 1 - lengths.sum() / (len(lengths) * config.max_length)
    name = f"all texts {config.max_length} wide"
    shares[name] = whole
    print(f"| {name} | {whole:.1%} | |")
    if arguments.save:
        column = COLUMNS[config.source, config.field]
        record.update("padding", {(name, column): share for name, share in shares.items()})


if __name__ == "__main__":
    main()
