"""Sweeps on a Ray cluster of several nodes on this machine: lost nodes, lost drivers, signals.

All but one are slow, and run by `.ci/versions` (`pytest -m slow`).
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
from conftest import ROOT

from rnn_jax.config import InputError, replace
from rnn_jax.runs.folder import CHECKPOINTS, InUseError
from rnn_jax.sweeps import Sweep
from rnn_jax.sweeps import run as sweep
from rnn_jax.sweeps.engines import ENGINES, Options, Work, local, ray_engine
from rnn_jax.sweeps.outcomes import FAILED, FINISHED, Outcome
from rnn_jax.sweeps.trials import Trial
from rnn_jax.sweeps.watch import Watch
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.tasks import NO_EXTRAS

# Before Ray is imported, as the engine does it: nodes listen on 127.0.0.1 only.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what Ray and its threads warn of is theirs
]
SEEDS = "train.seed=0..2"
SMALL = 80 << 20  # bytes of a node's store


@pytest.fixture(scope="module")
def cluster():
    """A node of one processor, and a head that trains nothing."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": SMALL, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head | {"node_ip_address": "127.0.0.1"})
    made.add_node(num_cpus=1, object_store_memory=SMALL, node_ip_address="127.0.0.1")
    ray.init(address=made.address, logging_level="error", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def short(config):
    """Long enough to be caught in the middle."""
    return replace(config, {"train.epochs": 3, "train.checkpoint_steps": 3, "train.patience": 0})


@pytest.fixture(scope="module")
def expected(short, tmp_path_factory):
    """The same sweep on this machine."""
    path = tmp_path_factory.mktemp("local")
    return path, swept(short, path, local.make(Options(jobs=1)))


def swept(config, path, engine, axes=SEEDS, request=None, mirror=None, **asked):
    return sweep(
        Sweep(axes, **asked), config, path, engine=engine, watch=Watch(), request=request,
        mirror=mirror,
    )  # fmt: skip


def on_ray(**options):
    return ENGINES["ray"](Options(**options))


def assert_same(found, path, expected, without_times):
    """Every trial is there once, with the numbers of the local engine."""
    folder, wanted = expected
    names = [entry.trial.name for entry in found.entries]
    assert sorted(names) == sorted(entry.trial.name for entry in wanted.entries)
    assert found.line == wanted.line
    for name in names:
        trained, alone = (without_times(each / "trials" / name) for each in (path, folder))
        assert trained == alone
    lines = (path / "sweep.csv").read_text().splitlines()
    assert len(lines) == 1 + len(names)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_that_dies_in_a_sweep_costs_nothing(
    cluster, short, expected, tmp_path, without_times
):
    lost = cluster.add_node(num_cpus=1, object_store_memory=SMALL, node_ip_address="127.0.0.1")

    def kill():
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob(f"trials/*/{CHECKPOINTS}/0*"))) < 2:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = swept(short, tmp_path, on_ray())
    killer.join()
    assert lost not in cluster.list_all_nodes()
    assert_same(found, tmp_path, expected, without_times)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_sweep_that_is_stopped_goes_on_where_it_was(
    cluster, short, expected, tmp_path, without_times
):
    request = Request()

    def stop():
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f"trials/*/{CHECKPOINTS}/0*")):
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        request.signal = signal.SIGTERM

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Interrupted):
        swept(short, tmp_path, on_ray(), request=request)
    stopper.join()
    said = json.loads((tmp_path / "sweep.json").read_text())
    assert {trial["status"] for trial in said["trials"]} != {"finished"}
    found = swept(short, tmp_path, on_ray())
    assert_same(found, tmp_path, expected, without_times)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_trials_ask_the_driver_whether_they_are_promising(cluster, config, tmp_path):
    config = replace(config, {"train.epochs": 4, "train.patience": 0})
    rates = "optimizer.learning_rate=[0.02,0.03,0.025,0.022,0.00001,0.00002]"
    found = swept(config, tmp_path, on_ray(jobs=1), rates, prune="median")
    statuses = [entry.outcome.status for entry in found.entries]
    assert statuses[:4] == ["finished"] * 4
    assert statuses[4:] == ["pruned"] * 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_trial_that_cannot_be_trained_is_said_in_a_line(cluster, config, tmp_path):
    missing = replace(config, {"data.data_dir": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="nowhere"):
        swept(missing, tmp_path / "s", on_ray())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_driver_that_is_stopped_or_killed_is_followed_by_the_same_command(
    csv_folder, tmp_path, without_times
):
    """With a Ray of its own, which ends with it."""
    flags = [
        sys.executable, str(ROOT / "launch.py"), "--experiment=gru", "--config.data.source=csv",
        f"--config.data.data_dir={csv_folder}", "--config.data.max_length=16",
        "--config.data.vocab_size=100", "--config.model.hidden=4", "--config.train.epochs=4",
        "--config.train.batch_size=4", "--config.train.checkpoint_steps=2",
        "--config.train.patience=0", "--sweep=train.seed=0..1",
    ]  # fmt: skip
    # What a driver starts has its environment: that of users, and a mark.
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env["RNN_JAX_TEST"] = mark = str(tmp_path)
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    on_ray = [*flags, "--engine=ray", f"--workdir={stopped}"]
    ends = {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    for count, (number, code) in enumerate(ends.items(), start=1):
        with open(tmp_path / "said", "w+") as said:
            process = subprocess.Popen(
                on_ray, stdout=subprocess.DEVNULL, stderr=said, env=env, start_new_session=True
            )
            try:
                deadline = time.monotonic() + 80
                while len(list(stopped.glob(f"trials/*/{CHECKPOINTS}/0*"))) < 2 * count - 1:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.02)
            finally:
                process.send_signal(number)
                assert process.wait(timeout=60) == code
            said.seek(0)
            assert ("the same command continues" in said.read()) == (number == signal.SIGTERM)
        deadline = time.monotonic() + 30
        while marked(mark) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert marked(mark) == []
    for command in (on_ray, [*flags, f"--workdir={whole}"]):
        done = subprocess.run(command, capture_output=True, timeout=100, env=env)
        assert done.returncode == 0, done.stderr
    trials = json.loads((whole / "sweep.json").read_text())["trials"]
    for name in (trial["name"] for trial in trials):
        trained, alone = (without_times(path / "trials" / name) for path in (stopped, whole))
        assert trained == alone


def marked(mark):
    """Processes that have a text in their environment."""
    found = []
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (each / "environ").read_bytes():
                found.append(each.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_mirrored_sweep_goes_on_on_a_fresh_cluster(cluster, short, tmp_path, without_times):
    folder, address = tmp_path / "sweep", f"file://{tmp_path}/mirror"
    found = swept(short, folder, on_ray(), mirror=address)
    before = {path.name: without_times(path) for path in (folder / "trials").iterdir()}
    shutil.rmtree(folder)
    again = swept(short, folder, local.make(Options(jobs=1)), mirror=address)
    assert again.line == found.line
    assert {path.name: without_times(path) for path in (folder / "trials").iterdir()} == before
    assert len(before) == 3


@pytest.mark.slow
def test_a_trial_that_no_node_has_room_for_is_refused(cluster, config, tmp_path):
    with pytest.raises(InputError, match=r"no node has --trial_cpus=64 and --trial_gpus=0"):
        swept(config, tmp_path, on_ray(trial_cpus=64.0))
    with pytest.raises(InputError, match="the largest have 1 processors and 0 GPUs"):
        swept(config, tmp_path, on_ray(trial_gpus=1.0))


def test_what_ray_cannot_do_is_refused():
    with pytest.raises(InputError, match="--population is for --engine=local"):
        on_ray(population=4)
    with pytest.raises(InputError, match="--trial_gpus must be below 1 or a whole number"):
        on_ray(trial_gpus=1.5)


class Answers:
    """What the driver asks of Ray; tasks return, or raise, what `found` says, one by one."""

    def __init__(self, found):
        self.found, self.sent = iter(found), 0
        self.cloudpickle, self.exceptions = ray.cloudpickle, ray.exceptions

    def put(self, value):
        return value

    def remote(self, **options):
        def send(*arguments):
            self.sent += 1
            return f"task {self.sent}"

        return lambda function: types.SimpleNamespace(remote=send)

    def cluster_resources(self):
        return {"CPU": 1}

    def wait(self, tasks, timeout):
        return tasks[:1], tasks[1:]

    def get(self, asked):
        if asked is None:  # letters: there are none
            return []
        answer = next(self.found)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("times", [1, ray_engine.ATTEMPTS])
def test_a_trial_whose_folder_another_process_holds_is_sent_again_and_ends_alone(
    config, tmp_path, times
):
    """The process of an attempt on a node that was lost may live on for long."""
    busy = ray.exceptions.RayTaskError("_train", "", InUseError("another process trains in it"))
    done = Outcome(FINISHED, ())
    answers = Answers([*[busy] * times, done])
    letters = types.SimpleNamespace(collect=types.SimpleNamespace(remote=lambda: None))
    trials, ended = [Trial("one", {}, config)], []
    ray_engine._Driver(
        answers, Options(), letters, lambda: trials.pop() if trials else None,
        lambda trial, outcome: ended.append(outcome),
        Work(NO_EXTRAS, Request(), lambda trial: tmp_path, lambda trial, history: True),
    ).run()  # fmt: skip
    if times < ray_engine.ATTEMPTS:
        assert (answers.sent, ended) == (times + 1, [done])
    else:
        assert answers.sent == times
        assert [each.status for each in ended] == [FAILED]
        assert "another process trains" in ended[0].reason
