"""Feeds every reader of outside files with broken and hostile input: `python benchmarks/fuzz.py`.

Each reader runs in a process of its own, so that even a crash of native code is seen and counted.
Half of the inputs are mutations of valid files, the others are made up: random bytes, for JSON
random trees with the names that the reader looks for, for the command line random flags. For every
input the reader must either raise the error that it documents, or return something that satisfies
its own description (`check`): anything else is a failure, and so is more than five seconds or more
memory than a small file can justify. The same seed gives the same inputs.

It prints a table in Markdown, and ends with exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import pathlib
import random
import resource
import signal
import sys
import tempfile
import time
from typing import Any, NamedTuple

import fuzz_inputs
import fuzz_readers
import record

COLUMNS = (
    ("reader", "{}"),
    ("inputs", "{:,}"),
    ("of these mutated", "{:,}"),
    ("accepted, and rightly", "{:,}"),
    ("slowest", "{:.0f} ms"),
    ("failures", "{:,}"),
)
PATIENCE = 5  # seconds for one input
MEMORY = 3 * 2**30  # bytes of address space beyond those in use when a reader starts


class Timeout(BaseException):
    """One input took too long."""


class Tally(NamedTuple):
    """What a reader did. failures: one line each."""

    inputs: int
    mutated: int
    accepted: int
    slowest: float
    failures: list[str]


def attack(reader: fuzz_readers.Reader, count: int, seed: int, folder: pathlib.Path) -> Tally:
    """Feeds `count` inputs to a reader; every second one is a mutation of a valid file."""
    valid, read, check = reader.make(folder)
    for raw in valid:
        check(raw, read(raw))  # the valid ones are accepted
    mutated = accepted = 0
    slowest, failures = 0.0, []
    signal.signal(signal.SIGALRM, _time_out)
    for index in range(count):
        source = random.Random(f"{seed}/{reader.name}/{index}")
        if index % 2:
            raw = fuzz_inputs.invent(source, reader.keys, reader.flags)
        else:
            mutated += 1
            raw = fuzz_inputs.mutate(valid, source, bool(reader.keys))
        began = time.perf_counter()
        signal.alarm(PATIENCE)
        try:
            value = read(raw)
            accepted += 1
            check(raw, value)
        except reader.errors:
            pass
        except (Exception, Timeout) as error:
            failures.append(
                f"{reader.name} input {index}: {type(error).__name__} {error} {raw[:300]!r}"
            )
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    return Tally(count, mutated, accepted, slowest, failures)


def _time_out(number: int, frame: Any) -> None:
    raise Timeout(f"more than {PATIENCE} seconds")


def _limit_memory() -> None:
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def _work(index: int, count: int, seed: int, results: Any) -> None:
    logging.disable()  # orbax logs what it does not like, besides raising it
    reader = fuzz_readers.readers()[index]
    with tempfile.TemporaryDirectory(prefix="rnn_jax_fuzz_") as folder:
        if sys.platform == "linux":
            _limit_memory()
        results.put(attack(reader, count, seed, pathlib.Path(folder)))


def _run(index: int, count: int, seed: int) -> Tally:
    """`attack` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_work, args=(index, count, seed, results))
    process.start()
    while results.empty() and process.is_alive():
        time.sleep(0.1)
    tally = None if results.empty() else results.get()
    process.join()
    if tally is None:
        name = fuzz_readers.readers()[index].name
        failure = f"{name}: the process ended with {process.exitcode}"
        return Tally(0, 0, 0, 0.0, [failure])
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_010_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs")
    parser.add_argument("--readers", default="", help="only those with this in their name")
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = record.Table("_".join(filter(None, ["fuzz", arguments.readers])), COLUMNS)
    tallies = []
    for index, reader in enumerate(fuzz_readers.readers()):
        if arguments.readers not in reader.name:
            continue
        tally = _run(index, round(reader.share * arguments.inputs), arguments.seed)
        tallies.append(tally)
        _add(table, reader.name, tally)
    failures = [line for tally in tallies for line in tally.failures]
    total = [sum(column) for column in zip(*(tally[:3] for tally in tallies), strict=True)]
    _add(table, "all", Tally(*total, max(tally.slowest for tally in tallies), failures))
    if arguments.save:
        table.save()
    print("\n".join(failures[:50]), file=sys.stderr)
    return 1 if failures else 0


def _add(table: record.Table, name: str, tally: Tally) -> None:
    milliseconds, failures = 1000 * tally.slowest, len(tally.failures)
    table.add(name, tally.inputs, tally.mutated, tally.accepted, milliseconds, failures)


if __name__ == "__main__":
    sys.exit(main())
