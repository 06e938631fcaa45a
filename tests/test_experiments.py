"""Every experiment, shrunk, through the real loop, on the embedded corpus or on drawn examples."""

import importlib
import json
import pathlib

import jax
import jax.export
import numpy as np
import pytest
from conftest import ROOT

from rnn_jax import commands, tasks
from rnn_jax import config as config_lib
from rnn_jax.studies import STUDIES
from rnn_jax.train import accumulation
from rnn_jax.train import plan as plan_lib

NAMES = sorted(
    file.stem
    for file in (pathlib.Path(__file__).parent.parent / "experiments").glob("*.py")
    if file.stem not in STUDIES  # tests/test_studies.py
)
# What an experiment's docstring says of its result, what shrinks it, and how its last line ends.
FIGURES = {
    "classification": "accuracy", "language_model": "perplexity", "adding_problem": "error",
    "copy_memory": "accuracy", "translation": "exact match", "forecasting": "MASE",
}  # fmt: skip
DRAWN = (
    "--config.data.lag=4", "--config.data.train=20", "--config.data.held_out=10",
    "--config.model.hidden=4",
)  # fmt: skip
SHRUNK = {
    "classification": (
        "--config.data.take=20", "--config.data.max_length=8", "--config.data.vocab_size=60",
    ),
    "language_model": (
        "--config.data.take=20", "--config.data.vocab_size=60", "--config.data.window=16",
        "--config.model.hidden=8", "--noconfig.data.yardsticks",
    ),
    "adding_problem": DRAWN,
    "copy_memory": DRAWN,
    "translation": (
        "--config.data.train=20", "--config.data.held_out=10", "--config.data.buckets=1",
        "--config.model.hidden=4", "--config.model.embedding_size=4",
        "--config.model.upper_layers=0",
    ),
    "forecasting": (
        "--config.data.source=csv", "--config.data.path=series.csv", "--config.data.seasons=4",
        "--config.data.horizons=1,3", "--config.data.history=4", "--config.data.lags=1",
        "--config.data.stride=1", "--config.model.hidden=4", "--config.model.width=4",
    ),
}  # fmt: skip
SERIES = "a\n" + "".join(f"{day % 4 + day % 7}\n" for day in range(50))
ENDS = {
    "classification": "(bbc_news, 20 examples)",
    "language_model": " tokens)",
    "adding_problem": "  (adding, lag 4, 10 examples)",
    "copy_memory": "  (copy, lag 4, 10 examples)",
    "translation": "  (numbers, 10 pairs)",
    "forecasting": "; season 4, 1 origins)",
}


def task_of(name):
    return importlib.import_module(f"experiments.{name}").get_config().task


@pytest.mark.parametrize("name", NAMES)
def test_config_is_named_after_its_file_and_its_docstring_says_how(name):
    module = importlib.import_module(f"experiments.{name}")
    config = module.get_config()
    config_lib.check(config)
    assert config.experiment == name
    assert f"python launch.py --experiment={name}" in module.__doc__
    assert FIGURES[config.task] in module.__doc__


def shrunken(name, folder):
    """Flags that make an experiment small."""
    (folder / "series.csv").write_text(SERIES)
    return [flag.replace("=series.csv", f"={folder}/series.csv") for flag in SHRUNK[task_of(name)]]


def prepared(name, folder):
    """The plan of a small experiment, and its first batches."""
    config = commands.parse(
        ["launch.py", f"--experiment={name}", *shrunken(name, folder)], ROOT
    ).config
    resolved = tasks.resolve(config)
    task = tasks.make(resolved.config, tasks.kind_of(config).facts(config))
    plan = plan_lib.make(resolved.config, task, task.prepare(lambda line: None, None))
    (window,) = plan.data.epochs.windows(0, 0)
    return plan, window.assemble(next(iter(window.runs(0, 1)))), resolved.environment["kernel"]


# Shrunken, they compute what another experiment does.
ALIKE = [name for name in NAMES if name.startswith("course_")] + ["language_model_large"]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in NAMES],
)
def test_a_shrunken_run(launch, tmp_path, name):
    code, out, err = launch(
        f"--experiment={name}", f"--workdir={tmp_path / 'run'}", *shrunken(name, tmp_path),
        "--config.train.epochs=1",
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[-1].endswith(ENDS[task_of(name)])
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [record["split"] for record in records] == ["train", "validation", "test"]
    if task_of(name) != "language_model":
        assert records[0]["examples"] == 20


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALIKE])
def test_its_step_can_be_compiled_for_gpus_and_tpus(monkeypatch, tmp_path, name):
    """All of it: no call that only a CPU has is on the way, and `auto` takes another kernel."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    plan, batches, kernel = prepared(name, tmp_path)
    assert kernel in ("fused", "scan", "associative")
    export = jax.export.export(plan.computed.train_steps, platforms=("cuda", "tpu"))
    arguments = (plan.init_state(), batches, np.int32(1), plan.key, plan.numbers)
    assert export(*arguments).platforms == ("cuda", "tpu")  # raises for calls that one has not


@pytest.mark.parametrize("name", ["adding", "time_series", "translation"])
def test_a_batch_s_parts_make_the_gradient_of_the_whole(tmp_path, name):
    """Whatever a task's loss is a mean over; a language model and classifiers: test_parts.py."""
    plan, batches, _ = prepared(name, tmp_path)
    batch = jax.tree.map(lambda leaf: leaf[0], batches)
    rates = jax.tree.map(lambda rate: None, plan.task.rates)
    parts = accumulation.in_parts(plan.task, 2)

    def of(task):
        gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
        return gradient(plan.init_state().params, None, batch, plan.key, rates)

    (loss, (_, sums)), grads = of(plan.task)
    (loss_in_parts, (_, sums_in_parts)), grads_in_parts = of(parts)
    assert float(loss_in_parts) == pytest.approx(float(loss), rel=1e-5)
    for one, other in zip(
        jax.tree.leaves((sums, grads)),
        jax.tree.leaves((sums_in_parts, grads_in_parts)),
        strict=True,
    ):
        np.testing.assert_allclose(other, one, atol=1e-5 * max(np.max(np.abs(one)), 1e-6))
