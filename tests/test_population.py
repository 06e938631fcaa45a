"""Members of a population against the runs that they are alone."""

import concurrent.futures
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import ROOT
from test_sweeps import StoppingAfter

from rnn_jax import tasks
from rnn_jax.config import replace
from rnn_jax.sweeps import Sweep
from rnn_jax.sweeps import run as sweep
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.watch import Watch
from rnn_jax.system.compilation import THOROUGH
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.train import plan as plan_lib
from rnn_jax.train import population as population_lib
from rnn_jax.train.company import ALONE
from rnn_jax.train.population import Population

MODELS = {
    "touched": {"model.cell": "simple_rnn", "model.masked": False, "model.dropout": 0.0},
    "delayed": {
        "optimizer.embedding_update": "delayed", "model.token_dropout": 0.3,
        "optimizer.schedule": "cosine",
    },
    "dense": {"optimizer.embedding_update": "dense", "optimizer.weight_decay": 0.1},
    "packed": {"model.pooling": "max", "data.pack": True, "model.bidirectional": True},
    "one-hot lstm": {
        "model.cell": "lstm", "model.pooling": "mean", "model.embedding_size": 0,
        "optimizer.warmup_steps": 3,
    },
}  # fmt: skip
MEMBERS = [
    {"train.seed": 5},
    {"optimizer.learning_rate": 0.1, "train.seed": 1},
    {"optimizer.clip_norm": 0.01, "optimizer.learning_rate": 0.003},
]


def plan_of(config, company=ALONE, manner=THOROUGH):
    resolved = tasks.resolve(config)
    task = tasks.make(resolved.config, tasks.kind_of(config).facts(config))
    return plan_lib.make(resolved.config, task, task.prepare(print, None), company, manner)


def after(plan, calls, steps=None):
    """A run's state after so many calls; with `steps`, of so many steps each."""
    state = plan.init_state()
    (window,) = plan.data.epochs.windows(0, 0)
    for entries in list(window.runs(0, plan.config.steps_per_call))[:calls]:
        count = np.int32(steps or len(entries))
        batches = window.assemble(entries)
        state, _ = plan.computed.train_steps(state, batches, count, plan.key, plan.numbers)
    return jax.device_get(plan.computed.settle(state, plan.numbers))


def together(configs, calls, steps=None, size=None):
    """The same of several runs in a population."""
    population = Population(size or len(configs))

    def one(config, member):
        with member as company:
            return after(plan_of(config, company), calls, steps)

    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(16) as pool:
        companies = [stack.enter_context(population.member()) for _ in configs]
        jobs = [
            pool.submit(one, config, contextlib.nullcontext(company))
            for config, company in zip(configs, companies, strict=True)
        ]
        return [job.result(timeout=100) for job in jobs]


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_member_is_the_run_alone_after_a_step_and_an_epoch(config, changes):
    few_shapes = changes | {"data.max_length": 8}
    configs = [replace(config, few_shapes | member) for member in MEMBERS]
    for calls, steps, tolerance in ((1, 1, 1e-6), (99, None, 1e-4)):
        for found, each in zip(together(configs, calls, steps), configs, strict=True):
            alone = after(plan_of(each), calls, steps)
            assert found.step == alone.step
            pairs = list(zip(*map(jax.tree.leaves, (found.params, alone.params)), strict=True))
            largest = max(np.abs(b).max() for _, b in pairs)
            assert max(np.abs(a - b).max() for a, b in pairs) < tolerance * largest
            for a, b in zip(*map(jax.tree.leaves, (found, alone)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3 * max(np.abs(b).max(), 1e-9))


def test_bits_do_not_depend_on_company(config):
    configs = [replace(config, MODELS["delayed"] | {"train.seed": n}) for n in range(9)]
    alone = [together([each], 4, size=9)[0] for each in configs[:2]]
    for order in ([0, 1], [2, 1, 0], [8, 7, 6, 5, 4, 3, 2, 1, 0]):
        found = dict(zip(order, together([configs[n] for n in order], 4, size=9), strict=True))
        jax.tree.map(np.testing.assert_array_equal, found[0], alone[0])
        jax.tree.map(np.testing.assert_array_equal, found[1], alone[1])


def test_one_program_for_each_shape_of_batches(config):
    configs = [replace(config, {"train.seed": n, "model.hidden": 5}) for n in range(3)]
    plan = plan_of(configs[0])
    shapes = set()
    for each in configs:
        (window,) = plan_of(each).data.epochs.windows(0, 0)
        shapes |= {entries[0][0] for entries in window.runs(0, each.train.steps_per_call)}
    together(configs, 99)
    from rnn_jax.optim import updates

    update = updates.make(configs[0].optimizer)
    program = population_lib._together(plan.task, update, True, THOROUGH)
    before = program._cache_size()
    assert before == len(shapes)
    other = [
        replace(config, {"model.hidden": 5, "train.seed": n, "optimizer.learning_rate": 0.5 / n})
        for n in (7, 8, 9)
    ]
    together(other, 1)
    assert program._cache_size() == before  # other numbers, no other program


RATES = "optimizer.learning_rate=[0.01,0.02]; train.seed=0..1"


def swept(config, path, population, axes=RATES, request=None):
    engine = local.make(Options(population=population))
    return sweep(Sweep(axes), config, path, engine=engine, watch=Watch(), request=request)


def test_interrupted_populations_go_on_bit_for_bit_in_one_of_their_size(
    config, tmp_path, without_times
):
    short = replace(config, {"train.epochs": 2})
    whole = swept(short, tmp_path / "whole", 4)
    for entry in whole.entries:
        assert (tmp_path / "whole" / "trials" / entry.trial.name / "report.html").exists()
    for looks in (25, 60):
        with pytest.raises(Interrupted):
            swept(short, tmp_path / str(looks), 4, request=StoppingAfter(looks))
        swept(short, tmp_path / str(looks), 4)
        for entry in whole.entries:
            name = f"trials/{entry.trial.name}"
            assert without_times(tmp_path / str(looks) / name) == without_times(
                tmp_path / "whole" / name
            )


def test_a_member_that_is_not_finite_or_out_of_patience_ends_alone(config, tmp_path):
    config = replace(config, {"optimizer.clip_norm": 0.0, "train.patience": 1, "train.epochs": 4})
    found = swept(config, tmp_path / "s", 4, "optimizer.learning_rate=[0.002,1e38,0.003,1e-30]")
    outcomes = [entry.outcome for entry in found.entries]
    assert [o.status for o in outcomes] == ["finished", "failed", "finished", "finished"]
    assert outcomes[0].epochs == 4
    assert outcomes[3].epochs < 4


def test_runs_of_other_shapes_share_a_population(config, tmp_path):
    short = replace(config, {"train.epochs": 1})
    found = swept(short, tmp_path / "s", 6, "model.hidden=[3,4]; train.seed=0..2")
    assert [entry.outcome.status for entry in found.entries] == ["finished"] * 6


def test_a_stack_that_is_too_small_takes_members_in_turn(config, tmp_path, monkeypatch):
    monkeypatch.setattr(population_lib, "_rows", lambda tree, size: 2)
    short = replace(config, {"train.epochs": 1})
    found = swept(short, tmp_path / "s", 5, "train.seed=0..4")
    assert [entry.outcome.status for entry in found.entries] == ["finished"] * 5


def test_an_error_in_the_program_reaches_every_member(config, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(population_lib, "_together", lambda *arguments: fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        together([replace(config, {"train.seed": n}) for n in range(3)], 1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_population_that_was_killed_in_an_epoch_goes_on_bit_for_bit(
    csv_folder, tmp_path, without_times
):
    flags = [
        sys.executable, str(ROOT / "launch.py"), "--experiment=gru", "--config.data.source=csv",
        f"--config.data.data_dir={csv_folder}", "--config.data.max_length=16",
        "--config.data.vocab_size=100", "--config.model.hidden=4", "--config.train.epochs=3",
        "--config.train.batch_size=2", "--config.train.checkpoint_steps=6",
        "--config.train.patience=0", "--config.train.steps_per_call=1",
        "--population=3", "--sweep=train.seed=0..2",
    ]  # fmt: skip
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*flags, f"--workdir={killed}"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(killed.glob("trials/*/checkpoints/0000*"))) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = shutil.copytree(killed, tmp_path / "kept")
    for path in (killed, whole):
        done = subprocess.run([*flags, f"--workdir={path}"], capture_output=True, timeout=100)
        assert done.returncode == 0, done.stderr
    names = [trial["name"] for trial in json.loads((whole / "sweep.json").read_text())["trials"]]
    for name in names:
        assert without_times(killed / "trials" / name) == without_times(whole / "trials" / name)
    assert not all((kept / "trials" / name / "report.html").exists() for name in names)
