"""The devices and processes of a training run: flags, and who does what."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax

from rnn_jax.commands.base import Command, Flag
from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints
from rnn_jax.runs.folder import CHECKPOINTS
from rnn_jax.runs.identity import CONFIG
from rnn_jax.system import processes
from rnn_jax.system.display import Display
from rnn_jax.system.processes import AUTO
from rnn_jax.train.company import ALONE, Company
from rnn_jax.train.mesh import Mesh

FLAGS = (
    Flag(
        "devices", int, 1,
        "devices that share each batch of a training run (0: all that there are)",
        minimum=0, below=2**20,
    ),
    Flag(
        "coordinator", str, "",
        "of a run of several processes: HOST:PORT where process 0 listens, or auto, as Slurm, MPI "
        "or the TPU pod says (default: auto where srun or mpirun started several, else none)",
    ),
    Flag("processes", int, 1, "with --coordinator: how many processes", minimum=1, below=2**20),
    Flag("process", int, 0, "with --coordinator: which one this is", minimum=0, below=2**20),
)  # fmt: skip


class Place(NamedTuple):
    """Where a process trains, and in what company.

    folder: the run's, or of a process that does not lead a folder of its own for a while.
    leads: whether this process is the one that writes and speaks.
    """

    folder: pathlib.Path
    company: Company
    leads: bool


def prepare(command: Command) -> None:
    """Joins the processes of a run, before JAX looks for its devices.

    Raises:
      InputError: the flags do not go together, or the others do not come.
    """
    values = command.values
    count, index, coordinator = values.processes, values.process, values.coordinator
    if not coordinator:
        for name in ("processes", "process"):
            if values[name].present:
                raise InputError(f"--{name} needs --coordinator=HOST:PORT, where process 0 listens")
        if not processes.started(os.environ):
            return
        coordinator = AUTO
    elif coordinator != AUTO and index >= count:
        raise InputError(f"--process={index} must be below --processes={count}")
    if values.sweep is not None:
        raise InputError(
            "a sweep's trials run in one process each: start it once, without --coordinator and "
            "not by srun or mpirun with several tasks"
        )
    if values["devices"].present and values.devices:
        raise InputError("with several processes all devices take part: leave out --devices")
    processes.join(coordinator, count, index)


@contextlib.contextmanager
def placed(command: Command) -> Iterator[Place]:
    """Where this process trains.

    Raises:
      InputError: there are fewer devices, or they do not divide a batch.
    """
    devices, folder = jax.devices(), pathlib.Path(command.workdir)
    several = jax.process_count() > 1
    asked = len(devices) if several or not command.values.devices else command.values.devices
    if asked > len(devices):
        raise InputError(f"--devices={asked}: JAX has {len(devices)} here ({devices[0].platform})")
    if not jax.local_devices():
        raise InputError("there are more processes than devices: give each its own")
    if asked == 1:
        yield Place(folder, ALONE, True)
        return
    mesh = Mesh(devices[:asked])
    mesh.check(command.config.train.batch_size, command.config.train.accumulate)
    if not several:
        yield Place(folder, mesh.company(), True)
        return
    company = mesh.company()._replace(alike=_check_alike)
    if jax.process_index() == 0:
        yield Place(folder, company._replace(claimed=_share), True)
    else:
        with tempfile.TemporaryDirectory(prefix="rnn_jax_") as own:
            yield Place(pathlib.Path(own), company._replace(before=_receive), False)
    processes.part()  # nobody leaves before the last checkpoint is where it belongs


def display(command: Command, leads: bool) -> Display:
    """Of a process that leads; of the others none."""
    return Display(verbose=command.values.verbose) if leads else Display(quiet=True)


def _share(folder: str | os.PathLike) -> None:
    """Sends what of a run's folder the other processes need to go on from the same place."""
    folder, held = pathlib.Path(folder), io.BytesIO()
    found = checkpoints.newest(folder / CHECKPOINTS)
    with tarfile.open(fileobj=held, mode="w") as archive:
        if found is not None:
            archive.add(folder / CONFIG, CONFIG)
            archive.add(found.path, f"{CHECKPOINTS}/{found.path.name}")
    processes.share(held.getvalue())


def _check_alike(named: Mapping[str, str]) -> None:
    """Raises InputError in a process that would train something else than process 0."""
    told = json.loads(processes.share(json.dumps(named).encode()))
    for name, value in named.items():
        if told.get(name) != value:
            raise InputError(
                f"process {jax.process_index()} has {name} = {value}, and process 0 has "
                f"{told.get(name)}: start all of them with the same flags and the same data"
            )


def _receive(folder: str | os.PathLike) -> None:
    """Puts into a folder what process 0 sends."""
    with tarfile.open(fileobj=io.BytesIO(processes.share(None))) as archive:
        archive.extractall(folder, filter="data")
