"""What a kernel tells of its work is among the figures of every task with recurrent layers."""

import datetime

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import ForecastingConfig, TrainConfig, kernels, tasks, unroll
from rnn_jax.cells import gru
from rnn_jax.config import replace
from rnn_jax.system.display import Display
from rnn_jax.tasks import (
    AddingConfig,
    ClassificationConfig,
    CopyConfig,
    LanguageConfig,
    TranslationConfig,
    told,
)  # fmt: skip
from rnn_jax.train import run

FIGURES = {"newton_rounds", "newton_fell_back", "newton_exponent"}
CHANGES = {"model.cell": "gru", "model.hidden": 4, "model.kernel": "newton", "train.batch_size": 8}
CONFIGS = {
    "classification": (
        ClassificationConfig, {"model.embedding_size": 3, "data.take": 10, "data.vocab_size": 30}
    ),
    "language_model": (
        LanguageConfig, {"model.embedding_size": 4, "data.window": 5, "data.vocab_size": 30}
    ),
    "adding_problem": (AddingConfig, {"data.lag": 6, "data.train": 16, "data.held_out": 8}),
    "copy_memory": (CopyConfig, {"data.lag": 3, "data.train": 16, "data.held_out": 8}),
    "translation": (
        TranslationConfig, {"model.embedding_size": 4, "data.train": 16, "data.held_out": 8}
    ),
    "forecasting": (
        ForecastingConfig,
        {"data.source": "csv", "data.seasons": "24", "data.horizons": "1,6", "data.history": 8,
         "data.lags": 2, "data.held_out": 96, "data.stride": 5},
    ),
}  # fmt: skip


@pytest.fixture
def config_of(tmp_path):
    def config(name, kernel="newton"):
        make, own = CONFIGS[name]
        if name == "forecasting":
            file, begin = tmp_path / "hours.csv", datetime.datetime(2024, 1, 1)
            values = np.sin(np.arange(500) / 4) + 0.1 * np.cos(np.arange(500) ** 2)
            times = ((begin + datetime.timedelta(hours=n)).isoformat() for n in range(500))
            lines = [f"{time},{value:.4f}" for time, value in zip(times, values, strict=True)]
            file.write_text("\n".join(["time,load", *lines]) + "\n")
            own = own | {"data.path": str(file)}
        changes = CHANGES | own | {"model.kernel": kernel}
        return replace(make("told", train=TrainConfig(epochs=1, patience=0)), changes)

    return config


def test_every_kind_of_task_is_tested():
    assert set(CONFIGS) == set(tasks.TASKS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_figures_of_a_task(config_of, name):
    """They are means over the rows of a batch that hold an example, and only where it tells."""
    config = tasks.resolve(config_of(name)).config
    task = tasks.make(config, tasks.kind_of(config).facts(config))
    data = task.prepare(lambda line: None, None)
    batch, _ = next(iter(data.test.batches()))
    params = task.init(jax.random.key(0))
    _, sums, _ = jax.jit(task.evaluate)(params, task.initial_carry(), batch)
    trained = jax.jit(task.loss)(
        params, task.initial_carry(), batch, jax.random.key(1), task.rates
    )[1][1]
    like = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert like(sums) == like(trained) == like(task.sums)
    means = task.means(jax.device_get(sums))
    assert means.keys() >= FIGURES
    assert set(task.told) == FIGURES
    assert sums[told.ROWS] == sums["examples"]
    assert 1 <= means["newton_rounds"] <= 20
    assert means["newton_fell_back"] == 0
    assert means["newton_exponent"] < 0

    plain = tasks.make(tasks.resolve(config_of(name, "scan")).config, task.facts)
    _, others, _ = jax.jit(plain.evaluate)(params, plain.initial_carry(), batch)
    assert set(others) == set(sums) - {told.ROWS, *(told.PREFIX + each for each in FIGURES)}
    assert not FIGURES & plain.means(jax.device_get(others)).keys()
    np.testing.assert_allclose(others["loss"], sums["loss"], rtol=1e-4)


@pytest.mark.parametrize("name", ["copy_memory", "language_model"])
def test_they_reach_the_records_the_line_and_the_page(config_of, tmp_path, name, capsys):
    run(config_of(name), tmp_path / "run", display=Display(terminal=False))
    lines, page = (
        (tmp_path / "run" / name).read_text() for name in ("metrics.jsonl", "report.html")
    )
    below = next(line for line in capsys.readouterr().out.splitlines() if "newton" in line[:12])
    for figure in FIGURES:
        assert f'"{figure}"' in lines
        assert figure.replace("_", " ") in page.lower()
        assert figure.replace("_", " ") in below


def test_the_largest_of_several_layers_counts_and_rows_without_an_example_do_not():
    teller = told.teller(CONFIGS["copy_memory"][0]().model)
    assert teller.figures == ()  # `auto` tells nothing
    assert teller.sums({}, np.ones(2, bool)) == {}
    teller = told.Teller((("a", lambda report: report),))
    heard = told.largest({"a": jnp.float32([1, 5, 9])}, {"a": jnp.float32([2, 4, 9])})
    sums = teller.sums(heard, np.array([True, True, False]))
    assert {name: float(value) for name, value in sums.items()} == {told.ROWS: 2, "kernel's a": 7}
    assert told.told_means(sums) == {"a": 3.5}
    silent = teller.sums({}, np.ones(2, bool))  # of a network that keeps no report
    assert told.told_means(silent) == {}


def test_figures_of_a_report_are_finite():
    cell = gru(3)
    params = cell.init(jax.random.key(0), 2)
    inputs = jnp.full((2, 4, 2), jnp.nan)
    report = unroll(cell, params, inputs, kernel="newton", report=True)[2]
    for name, figure in kernels.newton().figures:
        assert np.isfinite(figure(report)).all(), name
