"""Trials as tasks of a Ray cluster (https://docs.ray.io), each in a process on some node.

The sweep's folder is on a disk that all nodes share, and is the truth: a trial is the same run as
on one machine, and reads from its folder where it stands. So a trial whose node has died is sent
out again and goes on from its last checkpoint, and one that is still being trained somewhere keeps
others out by its folder's lock. Ray keeps nothing that must survive.

Between the driver and its trials stands an actor, `_Post`: trials ask there whether they should go
on after an epoch, and look whether somebody wants them to stop.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.runs.failure import RunError
from rnn_jax.runs.folder import InUseError
from rnn_jax.sweeps import outcomes
from rnn_jax.sweeps.engines.base import Engine, Options, Work, train
from rnn_jax.sweeps.outcomes import FAILED, Outcome
from rnn_jax.sweeps.trials import Trial
from rnn_jax.system import machine
from rnn_jax.system.interrupts import Request
from rnn_jax.system.messages import first_line

ATTEMPTS = 5  # a trial is sent out so often if its processes die, or find its folder in use
INTERVAL = 0.2  # seconds between two looks of the driver
LOOKING = 0.5  # seconds between two looks of a trial
FREED = 60.0  # seconds in which a dead process' lock has to be given back
GPU_SHARE = 0.9  # of a GPU's memory that its trials take together


def make(options: Options) -> Engine:
    """The engine.

    Raises:
      InputError: Ray is not installed, or is asked for what it cannot do here.
    """
    if options.population > 1:
        raise InputError("--population is for --engine=local: Ray gives each trial its process")
    if options.trial_gpus > 1 and options.trial_gpus != int(options.trial_gpus):
        raise InputError(
            f"--trial_gpus must be below 1 or a whole number, not {options.trial_gpus}"
        )
    return RayEngine(_library(bool(options.address)), options)


def _library(connects: bool) -> Any:
    if not connects:
        # Read when Ray is imported: otherwise it takes an address that other machines can reach for
        # 127.0.0.1, and listens there.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine=ray needs Ray: pip install 'rnn_jax[ray]' (in a checkout: pip install -e "
            "'.[ray]')"
        ) from error
    return ray


class RayEngine:
    """Trains trials on a cluster, as many at a time as it has room for."""

    def __init__(self, ray: Any, options: Options):
        self._ray, self._options = ray, options

    def run(
        self,
        take: Callable[[], Trial | None],
        ended: Callable[[Trial, Outcome], None],
        work: Work,
    ) -> None:
        """`Engine.run`."""
        with self._cluster():
            self._check_room()
            post = self._post()
            try:
                _Driver(self._ray, self._options, post, take, ended, work).run()
            finally:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    self._ray.kill(post)

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        """A connection to the cluster; without an address, to one of this machine's own."""
        ray, address = self._ray, self._options.address
        if ray.is_initialized():  # the caller's own
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        jobs, cpus = self._options.jobs, max(self._options.trial_cpus, 1.0)
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            with _handlers_kept():
                if address:
                    ray.init(address=address, **common)
                else:
                    ray.init(
                        address="local",
                        num_cpus=math.ceil(jobs * cpus) if jobs else machine.threads(),
                        include_dashboard=False,
                        _node_ip_address="127.0.0.1",
                        **common,
                    )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"a Ray cluster at {address!r}" if address else "Ray on this machine"
            raise InputError(f"--ray_address: cannot use {where} ({first_line(error)})") from error
        try:
            yield
        finally:
            ray.shutdown()

    def _check_room(self) -> None:
        """Raises InputError if no node has what a trial takes: Ray would wait for one without a
        word."""
        wanted = {"CPU": self._options.trial_cpus, "GPU": self._options.trial_gpus}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(k, 0) >= v for k, v in wanted.items()) for node in nodes):
            most = {k: max((node.get(k, 0) for node in nodes), default=0) for k in wanted}
            raise InputError(
                f"no node has --trial_cpus={wanted['CPU']:g} and --trial_gpus={wanted['GPU']:g}; "
                f"the largest have {most['CPU']:g} processors and {most['GPU']:g} GPUs"
            )

    def _post(self) -> Any:
        """The actor, on the driver's own node: it is lost only with the driver."""
        ray = self._ray
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        remote = ray.remote(num_cpus=0, scheduling_strategy=here, max_concurrency=1000)(_Post)
        return remote.remote()


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Puts back the handler of SIGTERM, in whose place `ray.init` sets one that exits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Post:
    """Letters between the driver and the trials. An actor: its methods run in threads."""

    def __init__(self) -> None:
        self._asked: list[tuple[str, Sequence[Mapping[str, Any]]]] = []
        self._answers: dict[tuple[str, int], bool] = {}
        self._signal: int | None = None
        self._changed = threading.Condition()

    def promising(self, name: str, history: Sequence[Mapping[str, Any]]) -> bool:
        """A trial asks; returns when the driver has answered."""
        key = (name, len(history))
        with self._changed:
            self._answers.pop(key, None)
            self._asked.append((name, history))
            self._changed.wait_for(lambda: key in self._answers or self._signal is not None)
            return self._answers.pop(key, True)

    def collect(self) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
        """What trials have asked since the last time."""
        with self._changed:
            asked, self._asked = self._asked, []
            return asked

    def answer(self, name: str, count: int, promising: bool) -> None:
        """The driver's answer to a history of so many records."""
        with self._changed:
            self._answers[name, count] = promising
            self._changed.notify_all()

    def stop(self, number: int) -> None:
        """The driver was asked to stop, by this signal."""
        with self._changed:
            self._signal = number
            self._changed.notify_all()

    def stopped(self) -> int | None:
        """By which signal the driver was asked to stop, if it was."""
        return self._signal


class _Driver:
    """Sends trials out, answers them, and takes in what became of them."""

    def __init__(
        self,
        ray: Any,
        options: Options,
        post: Any,
        take: Callable[[], Trial | None],
        ended: Callable[[Trial, Outcome], None],
        work: Work,
    ):
        self._ray, self._post = ray, post
        self._take, self._ended, self._work = take, ended, work
        self._jobs = options.jobs
        variables = {}
        if 0 < options.trial_gpus < 1:  # JAX takes most of a GPU's memory for each process
            share = f"{GPU_SHARE * options.trial_gpus:.3f}"
            variables = {"env_vars": {"XLA_PYTHON_CLIENT_MEM_FRACTION": share}}
        self._remote = ray.remote(
            num_cpus=options.trial_cpus,
            num_gpus=options.trial_gpus,
            max_retries=0,  # sent out again here, where attempts are counted
            runtime_env=variables or None,
        )(_train)
        self._extras = ray.put(ray.cloudpickle.dumps(work.extras))
        self._trials: dict[str, Trial] = {}  # by name, those that are out
        self._tasks: dict[Any, str] = {}
        self._attempts: collections.Counter[str] = collections.Counter()
        self._told_to_stop = False

    def run(self) -> None:
        """Returns when all trials that are out have come back, and there is none to take."""
        while True:
            number = self._work.request.signal
            if number is not None and not self._told_to_stop:
                self._told_to_stop = True
                self._ray.get(self._post.stop.remote(number))
                self._work.request.answered = True  # saving is the trials' business now
            while number is None and len(self._tasks) < self._room():
                trial = self._take()
                if trial is None:
                    break
                self._send(trial)
            if not self._tasks:
                return
            done, _ = self._ray.wait(list(self._tasks), timeout=INTERVAL)
            self._answer()
            for task in done:
                self._receive(task)

    def _room(self) -> int:
        """How many may be out: a few more than run, so that no node waits for the driver."""
        if self._jobs:
            return self._jobs
        return 1 + int(self._ray.cluster_resources().get("CPU", 1))

    def _send(self, trial: Trial) -> None:
        self._trials[trial.name] = trial
        self._attempts[trial.name] += 1
        folder = str(self._work.folder(trial).absolute())
        task = self._remote.remote(trial, folder, self._extras, self._post, list(sys.path))
        self._tasks[task] = trial.name

    def _answer(self) -> None:
        for name, history in self._ray.get(self._post.collect.remote()):
            if name in self._trials:
                promising = self._work.promising(self._trials[name], history)
                self._post.answer.remote(name, len(history), promising)

    def _receive(self, task: Any) -> None:
        trial = self._trials.pop(self._tasks.pop(task))
        try:
            outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError):
                if not isinstance(error.cause, InUseError):
                    raise _cause(error) from error
                said = first_line(error.cause)
            else:  # its process, or its node
                said = f"its process died {ATTEMPTS} times ({first_line(error)[:80]})"
            if self._attempts[trial.name] < ATTEMPTS and self._work.request.signal is None:
                self._send(trial)
                return
            outcome = outcomes.read(self._work.folder(trial))
            if self._attempts[trial.name] >= ATTEMPTS:
                outcome = outcome._replace(status=FAILED, reason=said)
        self._ended(trial, outcome)


def _cause(error: Any) -> BaseException:
    """What a trial raised in its process."""
    cause = error.cause
    known = isinstance(cause, InputError | RunError)
    return cause if known else RunError(f"a trial failed in its process: {first_line(cause)}")


def _train(trial: Trial, folder: str, extras: bytes, post: Any, path: list[str]) -> Outcome:
    """A task: trains one trial in this process."""
    import ray

    sys.path.extend(each for each in path if each not in sys.path)  # where experiments lie
    request, over = Request(), threading.Event()

    def look() -> None:
        while not over.wait(LOOKING):
            request.signal = ray.get(post.stopped.remote())
            if request.signal is not None:
                return

    work = Work(
        extras=ray.cloudpickle.loads(extras),
        request=request,
        folder=lambda trial: pathlib.Path(folder),
        promising=lambda trial, history: ray.get(post.promising.remote(trial.name, list(history))),
    )
    threading.Thread(target=look, daemon=True).start()
    began = time.monotonic()
    try:
        while True:
            try:
                return train(trial, work)
            except InUseError:  # of an earlier attempt, whose process is about to die
                if time.monotonic() - began > FREED:
                    raise
                time.sleep(1.0)
    finally:
        over.set()
