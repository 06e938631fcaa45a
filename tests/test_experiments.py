"""Every experiment, shrunk, through the real loop, on the embedded corpus or on drawn examples."""

import importlib
import json
import pathlib

import pytest

from rnn_jax import config as config_lib
from rnn_jax.studies import STUDIES

NAMES = sorted(
    file.stem
    for file in (pathlib.Path(__file__).parent.parent / "experiments").glob("*.py")
    if file.stem not in STUDIES  # tests/test_studies.py
)
# What an experiment's docstring says of its result, what shrinks it, and how its last line ends.
FIGURES = {
    "classification": "accuracy", "language_model": "perplexity", "adding_problem": "error",
    "copy_memory": "accuracy", "forecasting": "MASE",
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


@pytest.mark.parametrize("name", NAMES)
def test_a_shrunken_run(launch, tmp_path, name):
    (tmp_path / "series.csv").write_text(SERIES)
    shrunk = [
        flag.replace("=series.csv", f"={tmp_path}/series.csv") for flag in SHRUNK[task_of(name)]
    ]
    code, out, err = launch(
        f"--experiment={name}", f"--workdir={tmp_path / 'run'}", *shrunk,
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
