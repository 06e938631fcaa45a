"""Runs on several devices and in several processes against the run on one device."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK_XLA, ROOT
from test_population import MODELS, after, plan_of

from rnn_jax import lstm, train
from rnn_jax.cells import gru, min_gru
from rnn_jax.config import replace
from rnn_jax.kernels import rows
from rnn_jax.system import processes
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.train.mesh import Mesh
from rnn_jax.unrolling import unroll

PROGRAM = """
import functools, sys
sys.path.insert(0, {root!r})
from jax._src.lib import _jax
# What connects CPUs listens on this machine alone.
_jax.make_gloo_tcp_collectives = functools.partial(
    _jax.make_gloo_tcp_collectives, hostname="127.0.0.1"
)
import launch
code = launch.main(["launch.py", *sys.argv[1:]])
sys.stdout.flush(); sys.stderr.flush()
import os
os._exit(code)
"""


def close(found, expected, tolerance):
    """Whether two states agree but for rounding, relative to each leaf's largest entry."""
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        scale = max(np.abs(b).max(), 1e-6) if np.size(b) else 1.0
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_step_is_that_of_one_device(config, changes):
    config = replace(config, changes | {"data.max_length": 8, "train.batch_size": 8})
    alone = after(plan_of(config), 1, 1)
    spread = after(plan_of(config, Mesh(jax.devices()[:2]).company()), 1, 1)
    assert spread.step == alone.step == 1
    close(spread.params, alone.params, 1e-5)
    close(spread.opt_state, alone.opt_state, 1e-4)
    close(spread.sums, alone.sums, 1e-5)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_run_on_more_devices_has_the_same_losses(config, tmp_path, count):
    config = replace(config, {"train.batch_size": 8, "data.max_length": 8, "train.epochs": 2})
    alone = train.run(config, tmp_path / "alone")
    spread = train.run(config, tmp_path / "spread", company=Mesh(jax.devices()[:count]).company())
    assert len(alone.history) == len(spread.history) == 5
    for one, other in zip(alone.history, spread.history, strict=True):
        assert one["examples"] == other["examples"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_run_goes_on_with_another_number_of_devices(config, tmp_path, signal_at):
    config = replace(config, {"train.batch_size": 8, "data.max_length": 8, "train.epochs": 2})
    alone = train.run(config, tmp_path / "alone")
    signal_at(4)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "run", company=Mesh(jax.devices()[:2]).company())
    signal_at(10**9)
    resumed = train.run(config, tmp_path / "run")
    assert [record["step"] for record in resumed.history] == [
        record["step"] for record in alone.history
    ]
    assert resumed.history[-1]["loss"] == pytest.approx(alone.history[-1]["loss"], rel=1e-4)


CELLS = {
    "scan": lstm(4, recurrent_dropout=0.3),
    "fused": lstm(4),
    "native": lstm(4),
    "native gru": gru(4),
    "blocked": min_gru(4),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_kernel_runs_its_rows_on_each_device(name):
    cell, key = CELLS[name], jax.random.key(3)
    params = cell.init(jax.random.key(0), 3)
    inputs = jax.random.normal(jax.random.key(1), (6, 9, 3))
    lengths = jnp.array([9, 0, 4, 7, 1, 9])
    weights = jax.random.uniform(jax.random.key(2), (6, 9, 4))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:3]), ("rows",))

    def loss(params, inputs):
        carry, outputs = unroll(
            cell, params, inputs, lengths=lengths, key=key, kernel=name.split()[0]
        )
        last = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))
        return jnp.sum(weights * outputs**2) + last  # nothing cancels, so rounding is small

    def spread(params, inputs):
        with rows.on(mesh, "rows"):
            return loss(params, inputs)

    alone = jax.value_and_grad(loss, argnums=(0, 1))(params, inputs)
    program = jax.jit(jax.value_and_grad(spread, argnums=(0, 1)))
    close(program(params, inputs), alone, 1e-6)
    # The rows' gradients are added up once, not at each step of a loop.
    text = program.lower(params, inputs).compile().as_text()
    inside = [part for part in re.split(r"\n(?=\S)", text) if "all-reduce(" in part]
    assert len(inside) == 1
    assert inside[0].startswith("ENTRY")


def test_a_batch_that_the_devices_do_not_divide_lies_whole_on_each():
    cell = lstm(2)
    params, inputs = cell.init(jax.random.key(0), 3), jnp.ones((5, 4, 3))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
    with rows.on(mesh, "rows"):
        spread = jax.jit(lambda: unroll(cell, params, inputs))()
    jax.tree.map(np.testing.assert_array_equal, spread, unroll(cell, params, inputs))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--devices=9",), "--devices=9: JAX has 8 here (cpu)"),
        (("--devices=3",), "3 devices do not divide --config.train.batch_size=4: give a multiple "
         "of 3, or --devices=1 or 2"),
        (("--devices=-1",), "--devices must be at least 0, not -1"),
        (("--devices=4", "--config.train.accumulate=2"), "4 devices do not divide the parts of "
         "--config.train.batch_size=4 that --config.train.accumulate=2 makes: give fewer parts"),
        (("--process=1",), "--process needs --coordinator=HOST:PORT, where process 0 listens"),
        (("--coordinator=here", "--processes=2"), "--coordinator must be HOST:PORT or auto, not "
         "'here'"),
        (("--coordinator=127.0.0.1:0", "--processes=2"), "--coordinator must be HOST:PORT or auto, "
         "not '127.0.0.1:0'"),
        (("--coordinator=127.0.0.1:9", "--processes=2", "--process=2"), "--process=2 must be below "
         "--processes=2"),
        (("--coordinator=127.0.0.1:9", "--processes=2", "--devices=2"), "with several processes "
         "all devices take part: leave out --devices"),
        (("--coordinator=127.0.0.1:9", "--sweep=train.seed=0..1"), "a sweep's trials run in one "
         "process each: start it once, without --coordinator and not by srun or mpirun with "
         "several tasks"),
    ],
)  # fmt: skip
def test_devices_and_processes_that_there_are_not(launch, small, tmp_path, flags, said):
    assert launch("--experiment=gru", *small, *flags) == (2, "", f"launch.py: {said}\n")
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_does_not_answer(launch, small, monkeypatch):
    monkeypatch.setattr(processes.join, "__defaults__", (1,))
    with socket.socket() as nobody:  # bound, but listening to nobody
        nobody.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        flags = (f"--coordinator={place}", "--processes=2", "--process=1")
        code, out, err = launch("--experiment=gru", *small, *flags)
    assert (code, out) == (2, "")
    assert err == (
        f"launch.py: no coordinator answers at {place} (Connection refused, waited 1 s): start "
        "process 0 there, or mend --coordinator\n"
    )


def test_a_process_that_does_not_come(launch, small, monkeypatch, tmp_path):
    monkeypatch.setattr(processes.join, "__defaults__", (1,))
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    found = launch("--experiment=gru", *small, f"--coordinator={place}", "--processes=2")
    assert found == (
        2, "", f"launch.py: process 1 of 2 did not come to {place} within 1 s: start all of them, "
        "each with its own --process\n",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_slurm_and_mpi_are_asked_but_must_answer(launch, small, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")

    def initialize(**options):
        assert "coordinator_address" not in options
        raise ValueError("no cluster")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    code, out, err = launch("--experiment=gru", *small)
    assert (code, out) == (2, "")
    assert "JAX finds no Slurm step, MPI job or TPU pod that it can join here (no cluster)" in err


class Team:
    """Processes of one run, over the loopback interface; ended with the context."""

    def __init__(self, flags, count, differing=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{free.getsockname()[1]}"
        # One device each, and this machine's caches as all tests have them.
        environment = os.environ | {"XLA_FLAGS": " ".join(QUICK_XLA)}
        program = PROGRAM.format(root=str(ROOT))
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, *flags, *(differing if number else ()),
                 f"--coordinator={place}",
                 f"--processes={count}", f"--process={number}"],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.communicate()

    def ends(self, timeout=100):
        """(exit code, standard output, standard error) of each."""
        end = time.monotonic() + timeout
        outs = [process.communicate(timeout=end - time.monotonic()) for process in self.processes]
        return [
            (process.returncode, *out) for process, out in zip(self.processes, outs, strict=True)
        ]


def until(path, timeout=90):
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.1)


def test_two_processes_are_one_run_and_stop_together(
    small, config, csv_folder, tmp_path, without_times, launch
):
    flags = ["--experiment=gru", *small, "--config.train.epochs=40"]
    folder = tmp_path / "run"
    with Team(flags, 2) as team:
        until(folder / "metrics.jsonl")
        while (folder / "metrics.jsonl").read_text().count("\n") < 4:
            time.sleep(0.1)
        team.processes[1].send_signal(signal.SIGTERM)
        (code, out, err), (other, said, _) = team.ends()
    assert (code, other) == (143, 143), err
    assert said == ""
    assert "epoch 1/40" in out
    assert "stopped by SIGTERM" in err
    # What they did is what one device does, and one process goes on with it.
    begun = without_times(folder)
    assert (
        launch(*flags[:-1], "--config.train.epochs=40", "--workdir=" + str(tmp_path / "alone"))[0]
        == 0
    )
    for one, other in zip(begun, without_times(tmp_path / "alone"), strict=False):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    code, out, _ = launch(*flags)
    assert code == 0
    assert "continuing the run" in out


@pytest.mark.slow
def test_processes_that_would_train_something_else_are_refused(small, tmp_path):
    with Team(["--experiment=gru", *small], 2, ["--config.train.seed=1"]) as team:
        (code, _, err), (other, _, said) = team.ends()
    assert other == 2
    assert said.endswith(
        "launch.py: process 1 has --config.train.seed = 1, and process 0 has 0: start all of them "
        "with the same flags and the same data\n"
    )
    assert code != 0
    assert not (tmp_path / "run" / "checkpoints").exists(), err


@pytest.mark.slow
def test_four_processes_end_when_one_is_killed(small, tmp_path):
    folder = tmp_path / "run"
    flags = ["--experiment=gru", *small, "--config.train.epochs=400"]
    with Team(flags, 4) as team:
        until(folder / "metrics.jsonl")
        team.processes[2].kill()
        began = time.monotonic()
        ends = team.ends(60)
    assert time.monotonic() - began < 60
    for number in (0, 1, 3):
        code, _, err = ends[number]
        assert code != 0
        assert "mostly since one has ended" in err or "another task died" in err
