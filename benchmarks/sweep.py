"""Trials an hour of whole sweeps, beside single commands, Optuna with PyTorch, and KerasTuner.

    python benchmarks/sweep.py --source=csv --data_dir=DIR
    python benchmarks/sweep.py --source=csv --data_dir=DIR --experiments lstm --skip-peers

A sweep is over learning rates and seeds, two epochs a trial, judged on the test stories after each.
Seconds are those of whole processes, from start to end:

- rnn_jax: one `launch.py --sweep=...` into an empty folder, for 8, 16, 32, ... trials. The same
  command has been run with one epoch before, so that programs come from the cache of compiled ones;
  with `--cold` that is empty.
- rnn_jax, a command a trial: `launch.py` for each of the first trials, with the same cache.
- The peers: one process that makes all trials, with the models, data and settings of `epoch.py`'s
  workers as documented, and for PyTorch with the best settings, too, and a trial at a time for each
  processor. (Keras' best settings take longer to start, in every trial, than two epochs gain by
  them.) They are handed texts as ids.

Of all but the first, some trials are run, and the time of the others is that of those without the
first one, which a process' start is part of; the table says so. A trial's model is written to disk
by rnn_jax and KerasTuner, not by Optuna.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import epoch
import peers
import record
import tables

from rnn_jax import Config
from rnn_jax import config as config_lib

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENTS = ("simple_rnn", "lstm", "bilstm")
EPOCHS, SEEDS, BOUNDS = 2, 4, (1e-3, 1e-2)
AXES = f"optimizer.learning_rate=log({BOUNDS[0]},{BOUNDS[1]}); train.seed=0..{SEEDS - 1}"
COUNTS = (8, 16, 32, 64)
OURS = "rnn_jax"
# title -> (worker, peer whose environment it runs in, variant)
PEERS = {
    "Optuna + PyTorch, as documented": ("sweep_optuna_torch.py", "torch", "documentation"),
    "Optuna + PyTorch, best settings": ("sweep_optuna_torch.py", "torch", "buckets"),
    "KerasTuner, as documented": ("sweep_keras_tuner.py", "keras", "documentation"),
}
COLUMNS = (
    ("experiment", "{}"),
    ("trained by", "{}"),
    ("trials", "{}"),
    ("run", "{}"),
    ("s a trial", "{:.2f}"),
    ("trials an hour", "{:,.0f}"),
    ("times rnn_jax", "{:.2f}"),
    ("steps a trial", "{}"),
    ("validation accuracy", "{:.4f}"),
    ("rnn_jax on the same trials", "{:.4f}"),
)


class Trial(NamedTuple):
    """A trial that was trained.

    accuracy: on the validation split after the last epoch.
    steps: of its optimizer.
    """

    learning_rate: float
    seed: int
    accuracy: float
    steps: int

    @property
    def point(self) -> tuple[float, int]:
        return self.learning_rate, self.seed


class Measured(NamedTuple):
    """One way to make a number of trials.

    title: what the table calls it.
    trials: how many the seconds are for.
    seconds: from start to end.
    found: those that were run.
    """

    title: str
    trials: int
    seconds: float
    found: Sequence[Trial]


def extrapolated(whole: float, each: Sequence[float], trials: int, at_once: int = 1) -> float:
    """The seconds that so many trials take.

    Args:
      whole: seconds of those that were run, from start to end.
      each: between the ends of every one and the one before; the first are left out, since a start
        is part of them.
      trials: how many there are to be.
      at_once: how many are trained at a time.
    """
    return whole + (trials - len(each)) * statistics.mean(each[at_once:] or each)


def flags(config: Config, default: Config) -> list[str]:
    """The flags of `launch.py` that make `config` of the experiment's own."""
    pairs = zip(config_lib.options(config), config_lib.options(default), strict=True)
    return [f"--config.{name}={value}" for (name, _, value), (_, _, old) in pairs if value != old]


def launch(options: Sequence[str], cache: pathlib.Path) -> float:
    """The seconds of one `launch.py`.

    Raises:
      RuntimeError: it failed; the message ends with what it said.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "launch.py", *options],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "XDG_CACHE_HOME": str(cache)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{options} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


def trained(folder: pathlib.Path, point: dict[str, Any]) -> Trial:
    """A trial as its run's folder has it."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [each for each in map(json.loads, lines) if each["split"] == "validation"][-1]
    return Trial(
        point["optimizer.learning_rate"], point["train.seed"], last["accuracy"], last["step"]
    )


def swept(folder: pathlib.Path) -> list[Trial]:
    """All trials of a sweep's folder."""
    said = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return [trained(folder / "trials" / each["name"], each["changes"]) for each in said["trials"]]


class Ours:
    """rnn_jax's own commands for an experiment."""

    def __init__(self, config: Config, default: Config, cold: bool):
        self._options = [f"--experiment={config.experiment}", *flags(config, default)]
        self._cold = cold

    def sweep(self, trials: int) -> Measured:
        """One command for all trials."""
        asked = [*self._options, f"--sweep={AXES}", f"--trials={trials}"]
        with _folder() as cache, _folder() as before, _folder() as folder:
            if not self._cold:
                launch([*asked, f"--workdir={before}", "--config.train.epochs=1"], cache)
            cached = set(cache.rglob("*"))
            seconds = launch([*asked, f"--workdir={folder}"], cache)
            if not self._cold and (new := set(cache.rglob("*-cache")) - cached):
                print(f"{trials} trials: {len(new)} programs compiled anew", file=sys.stderr)
            return Measured(OURS, trials, seconds, swept(folder))

    def singly(self, points: Sequence[Trial], trials: int) -> Measured:
        """A command for each of the points, extrapolated to so many trials."""
        with _folder() as cache:
            if not self._cold:
                self._single(points[0], cache)
            runs = [self._single(point, cache) for point in points]
        each = [seconds for seconds, _ in runs]
        return Measured(
            f"{OURS}, a command a trial",
            trials,
            extrapolated(sum(each), each, trials),
            [trial for _, trial in runs],
        )

    def _single(self, point: Trial, cache: pathlib.Path) -> tuple[float, Trial]:
        changes = {"optimizer.learning_rate": point.learning_rate, "train.seed": point.seed}
        options = [f"--config.{name}={value}" for name, value in changes.items()]
        with _folder() as folder:
            seconds = launch([*self._options, *options, f"--workdir={folder}"], cache)
            return seconds, trained(folder, changes)


def peer(
    title: str, job: dict[str, Any], points: Sequence[Trial], run: int, trials: int
) -> tuple[Measured, dict[str, str]]:
    """Runs some trials of a peer; returns them and the versions of its libraries.

    Args:
      title: one of PEERS.
      job: as its workers take it, without the variant.
      points: the trials that it may make.
      run: how many it makes.
      trials: how many the seconds are to be for.
    """
    worker, environment, variant = PEERS[title]
    python = peers.ensure(environment)
    asked = {
        "job": job | {"variant": variant},
        "points": [{"learning_rate": each.learning_rate, "seed": each.seed} for each in points],
        "bounds": BOUNDS,
        "trials": run,
        "epochs": EPOCHS,
    }
    began = time.perf_counter()
    done = subprocess.run(
        [python, HERE / "peer_workers" / worker],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    whole = time.perf_counter() - began
    said = json.loads(done.stdout)
    each = [trial.pop("seconds") for trial in said["trials"]]
    found = [Trial(**trial) for trial in said["trials"]]
    seconds = extrapolated(whole, each, trials, said["at_once"])
    return Measured(title, trials, seconds, found), said["versions"]


def row(experiment: str, measured: Measured, ours: Measured) -> tuple[Any, ...]:
    """A row of the table; `ours` is the sweep of all trials."""
    title, trials, seconds, found = measured
    same = {trial.point: trial.accuracy for trial in ours.found}
    steps = sorted({trial.steps for trial in found})
    return (
        experiment,
        title,
        trials,
        "all" if len(found) == trials else f"{len(found)}, extrapolated",
        seconds / trials,
        trials / seconds * 3600,
        seconds / trials / (ours.seconds / ours.trials),
        steps[0] if len(steps) == 1 else None,
        statistics.mean(trial.accuracy for trial in found),
        statistics.mean(same[trial.point] for trial in found),
    )


def measure(
    name: str, arguments: argparse.Namespace, table: record.Table, versions: dict[str, str]
) -> None:
    """All rows of one experiment."""
    chosen = argparse.Namespace(**vars(arguments) | {"rounds": EPOCHS})
    config = epoch.experiment_config(name, chosen, seed=0)
    own = Ours(config, epoch.default_config(name), arguments.cold)
    counts = sorted({arguments.trials, *(n for n in COUNTS if n < arguments.trials)})
    sweeps = [own.sweep(trials) for trials in counts]
    ours = sweeps[-1]
    for each in sweeps:
        table.add(*row(name, each, ours))
    run = arguments.peers_trials
    table.add(*row(name, own.singly(ours.found[:run], arguments.trials), ours))
    if not arguments.skip_peers:
        with _folder() as folder:
            classes, _ = epoch.export(config, folder / "data.npz")
            job = {
                "data": str(folder / "data.npz"),
                "classes": classes,
                "config": config_lib.to_dict(config),
            }
            for title in PEERS:
                measured, found = peer(title, job, ours.found, run, arguments.trials)
                versions.update(found)
                table.add(*row(name, measured, ours))
    steps = table.columns.index({"name": "steps a trial", "format": "{}"})
    if len({line[steps] for line in table.rows if line[0] == name}) > 1:
        print(f"{name}: not all were trained the same number of steps", file=sys.stderr)


@contextmanager
def _folder() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="csv", help="as --config.data.source")
    parser.add_argument("--data_dir", default="", help="as --config.data.data_dir")
    parser.add_argument("--take", type=int, default=0, help="as --config.data.take")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--trials", type=int, default=COUNTS[-1], help="of the largest sweep")
    parser.add_argument(
        "--peers-trials", type=int, default=8, help="that are run of the others, and extrapolated"
    )
    parser.add_argument("--skip-peers", action="store_true", help="rnn_jax alone")
    parser.add_argument("--cold", action="store_true", help="nothing is compiled before")
    record.add_flag(parser)
    arguments = parser.parse_args()
    if arguments.trials < SEEDS or arguments.trials % SEEDS:
        parser.error(f"--trials must be a multiple of {SEEDS}, the seeds of each learning rate")
    if not 1 <= arguments.peers_trials <= arguments.trials:
        parser.error("--peers-trials must be between 1 and --trials")
    sys.path.insert(0, str(ROOT))  # for experiments

    print(f"{tables.machine()}\n", flush=True)
    if not arguments.skip_peers:
        for _, environment, _ in PEERS.values():
            peers.ensure(environment)
    table, versions = record.Table("sweep", COLUMNS), {}
    for name in arguments.experiments:
        measure(name, arguments, table, versions)
        if arguments.save:
            table.save(versions=versions)


if __name__ == "__main__":
    main()
