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
from rnn_jax.train import plan as plan_lib

NAMES = sorted(
    file.stem
    for file in (pathlib.Path(__file__).parent.parent / "experiments").glob("*.py")
    if file.stem not in STUDIES  # tests/test_studies.py
)
# What an experiment's docstring says of its result, what shrinks it, and how its last line ends.
FIGURES = {
    "classification": "accuracy", "language_model": "perplexity", "adding_problem": "error",
    "copy_memory": "accuracy", "translation": "exact match",
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
}  # fmt: skip
ENDS = {
    "classification": "(bbc_news, 20 examples)",
    "language_model": " tokens)",
    "adding_problem": "  (adding, lag 4, 10 examples)",
    "copy_memory": "  (copy, lag 4, 10 examples)",
    "translation": "  (numbers, 10 pairs)",
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


@pytest.mark.parametrize("name", NAMES)
def test_a_shrunken_run(launch, tmp_path, name):
    code, out, err = launch(
        f"--experiment={name}", f"--workdir={tmp_path}", *SHRUNK[task_of(name)],
        "--config.train.epochs=1",
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[-1].endswith(ENDS[task_of(name)])
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["split"] for record in records] == ["train", "validation", "test"]
    if task_of(name) != "language_model":
        assert records[0]["examples"] == 20


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("course_")])
def test_its_step_can_be_compiled_for_gpus_and_tpus(monkeypatch, name):
    """All of it: no call that only a CPU has is on the way, and `auto` takes another kernel."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    flags = (f"--experiment={name}", *SHRUNK[task_of(name)])
    config = commands.parse(["launch.py", *flags], ROOT).config
    resolved = tasks.resolve(config)
    assert resolved.environment["kernel"] in ("fused", "scan")
    task = tasks.make(resolved.config, tasks.kind_of(config).facts(config))
    data = task.prepare(lambda line: None, None)
    plan = plan_lib.make(resolved.config, task, data)
    (window,) = data.epochs.windows(0, 0)
    batches = window.assemble(next(iter(window.runs(0, 1))))
    export = jax.export.export(plan.computed.train_steps, platforms=("cuda", "tpu"))
    arguments = (plan.init_state(), batches, np.int32(1), plan.key, plan.numbers)
    assert export(*arguments).platforms == ("cuda", "tpu")  # raises for calls that one has not
