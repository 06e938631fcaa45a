"""Several processes, perhaps on several machines, that compute one thing through JAX's runtime."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.system import meeting
from rnn_jax.system.messages import first_line

AUTO = "auto"  # the coordinator that Slurm, MPI or the TPU pod names
TIMEOUT = 60  # seconds that processes wait for each other at the start
PATIENCE = 1800  # seconds that the others wait at the end for process 0 to save and send
PIECE = 2**28  # bytes that are sent at a time
HEARTBEAT = 20  # seconds after which a silent process counts as dead


def started(environ: Mapping[str, str]) -> bool:
    """Whether Slurm (`srun`) or Open MPI (`mpirun`) started this process as one of several.

    >>> started({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"})
    True
    >>> started({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"})
    False
    """
    slurm = environ.get("SLURM_STEP_NUM_TASKS") if "SLURM_PROCID" in environ else None
    tasks = slurm or environ.get("OMPI_COMM_WORLD_SIZE") or "1"
    return tasks.isdigit() and int(tasks) > 1


def join(coordinator: str, count: int, index: int, timeout: int = TIMEOUT) -> None:
    """Joins the processes of a run; before JAX looks for its devices.

    Args:
      coordinator: HOST:PORT, where process 0 listens, or `AUTO`.
      count: how many processes there are; with `AUTO` nobody asks.
      index: which one this is; likewise.
      timeout: seconds to wait for the others.

    Raises:
      InputError: process 0 or another one does not come, or the address is none.
    """
    import jax

    options: dict[str, Any] = {"initialization_timeout": timeout}
    known = inspect.signature(jax.distributed.initialize).parameters
    more = {"heartbeat_timeout_seconds": HEARTBEAT, "shutdown_timeout_seconds": PATIENCE}
    options |= {name: value for name, value in more.items() if name in known}
    if coordinator != AUTO:
        host, port = _address(coordinator)
        options |= {
            "coordinator_address": coordinator, "num_processes": count, "process_id": index
        }  # fmt: skip
        if host in ("127.0.0.1", "localhost"):  # nobody else is to reach it
            options["coordinator_bind_address"] = f"127.0.0.1:{port}"
        if index:
            meeting.report(host, port, count, index, timeout)
        else:
            meeting.gather(host, port, count, timeout)
    # JAX would take SIGTERM away from whoever handles it.
    with contextlib.suppress(AttributeError):
        jax.config.update("jax_enable_preemption_service", False)
    # On CPUs, programs that run at once would mix their messages up.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(**options)
    except Exception as error:  # JAX raises this and that
        if coordinator == AUTO:
            raise InputError(
                "--coordinator=auto: JAX finds no Slurm step, MPI job or TPU pod that it can join "
                f"here ({first_line(error)}); give --coordinator=HOST:PORT, --processes, --process"
            ) from error
        raise InputError(
            f"the {count} processes did not meet at {coordinator} within {timeout} s "
            f"({first_line(error)}); start all of them, each with its own --process"
        ) from error
    with _silent_stdout():  # whoever connects CPUs says so there
        share(b"")


def share(content: bytes | None) -> bytes:
    """What process 0 has, in every process of the team.

    Args:
      content: it, in process 0; in the others nobody asks.
    """
    import numpy as np
    from jax.experimental import multihost_utils

    def told(piece: bytes, size: int) -> bytes:
        held = np.zeros(size, np.uint8)
        held[: len(piece)] = np.frombuffer(piece, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(held)).tobytes()

    content = content or b""
    size = int.from_bytes(told(len(content).to_bytes(8, "big"), 8), "big")
    starts = range(0, size, PIECE)
    return b"".join(told(content[at : at + PIECE], min(PIECE, size - at)) for at in starts)


def part() -> None:
    """Returns when every process of the team is here, and ends the team."""
    import jax

    jax.distributed.shutdown()


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Without what a library in C++ writes to standard output."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator must be HOST:PORT or {AUTO}, not {coordinator!r}")
    return host, int(port)
