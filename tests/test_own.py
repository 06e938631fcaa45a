"""A cell, a network and a whole task that an experiment's file brings with it, as the guide shows
them: nothing of the package is touched, and they get flags, resume, report and predictions."""

import json
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest

import rnn_jax
from rnn_jax import train
from rnn_jax.config import InputError, replace

ROOT = pathlib.Path(__file__).resolve().parent.parent


def file_in(page: str, name: str) -> str:
    """An experiment's file as a page of the guide shows it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (found,) = re.findall(
        rf"^`experiments/{name}.py`:\n\n```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL
    )
    return found


FILES = {
    "own_cell": file_in("your_own_cell.md", "own_cell"),
    "own_network": file_in("add_a_task.md", "own_network"),
    "own_task": file_in("add_a_task.md", "own_task"),
}


@pytest.fixture
def experiments(launch, tmp_path, monkeypatch):
    """The program, in a checkout that has these experiments too."""
    import launch as program

    (tmp_path / "experiments").mkdir()
    for name, text in FILES.items():
        (tmp_path / "experiments" / f"{name}.py").write_text(text)
    (tmp_path / "experiments" / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "experiments" / "._own_cell.py").write_bytes(b"\x00\xff")
    (tmp_path / "experiments" / ".#own_cell.py").symlink_to("nobody@nowhere.1")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "experiments"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["own_cell", "own_network"])
def test_an_experiment_brings_a_cell_or_a_network_of_its_own(
    launch, experiments, small, name, signal_at, without_times
):
    flags, folder = small, small[-1].partition("=")[2]
    signal_at(3)
    code, _, err = launch(f"--experiment={name}", *flags)
    assert code == 130, err
    signal_at(10**6)
    code, out, err = launch(f"--experiment={name}", *flags)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("test accuracy ")
    assert "Learning curves" in (experiments / "run" / "report.html").read_text()
    code, again, _ = launch("--mode=evaluate", f"--workdir={folder}")
    assert (code, again.strip()) == (0, out.splitlines()[-1])
    code, answer, _ = launch("--mode=predict", f"--workdir={folder}", "--text=the cat")
    assert (code, sorted(json.loads(answer))) == (0, ["label", "probabilities"])
    assert launch("--mode=explain", f"--workdir={folder}", "--text=the cat")[0] == 0
    page = (experiments / "run" / "explain.html").read_text()
    assert "The words that count" in page
    assert ("What the gates do: layer 1, forward" in page) == (name == "own_cell")
    # Without the experiment's file nothing of it is known, and nothing is imported from the run.
    message = {
        "own_cell": r"must be one of .* not 'leaky'.*cells=\{'leaky': \.\.\.\}",
        "own_network": r"unknown task 'bag'.*tasks=\{'bag': \.\.\.\}",
    }
    with pytest.raises(InputError, match=message[name]):
        rnn_jax.load(folder)
    own = __import__(f"experiments.{name}", fromlist=["x"])
    given = {key.lower(): getattr(own, key) for key in ("CELLS", "TASKS") if hasattr(own, key)}
    predictor = rnn_jax.load(folder, **given)
    assert predictor("the cat").label == json.loads(answer)["label"]
    # The same from a notebook, with the same bits.
    config = own.get_config()
    options = dict(
        flag.removeprefix("--config.").split("=") for flag in flags if flag.startswith("--config")
    )
    typed = {key: int(value) if value.isdigit() else value for key, value in options.items()}
    result = train.run(replace(config, typed), experiments / "notebook", **given)
    assert result.line == out.splitlines()[-1]
    assert without_times(experiments / "notebook") == without_times(experiments / "run")


def test_an_experiment_brings_a_task_of_its_own(launch, experiments, signal_at):
    flags = [
        "--experiment=own_task", "--config.train.epochs=30", "--config.train.batch_size=7",
        "--config.optimizer.learning_rate=0.1", f"--workdir={experiments / 'run'}",
    ]  # fmt: skip
    signal_at(5)
    assert launch(*flags)[0] == 130
    signal_at(10**6)
    code, out, err = launch(*flags)
    assert code == 0, err
    loss = float(out.splitlines()[-1].removeprefix("test loss "))
    assert loss < 0.03  # the numbers' variance is 0.01
    assert re.search(r"^epoch \d+/30  loss [0-9.]+ val [0-9.]+  [0-9.]+ s", out, re.MULTILINE)
    code, answer, _ = launch("--mode=predict", flags[-1], "--text=2.9")
    assert json.loads(answer) == {"nearest": pytest.approx(3, abs=0.1), "to": "2.9"}
    assert "Learning curves" in (experiments / "run" / "report.html").read_text()
    code, out, _ = launch("--experiment=own_task", "--help")
    assert "--config.data.centre" in out
    assert "--config.data.source" not in out  # it has its own options and no others
    assert "--config.model" not in out
    code, _, err = launch(*flags[:-1], "--config.data.center=1", f"--workdir={experiments / 'x'}")
    assert (code, "did you mean 'config.data.centre'" in err) == (2, True)


@pytest.mark.parametrize("name", ["own_cell", "own_network"])
def test_an_own_step_that_is_not_finite_is_laid_open(launch, experiments, small, name):
    flags = [*small, "--config.optimizer.learning_rate=1e38", "--config.optimizer.clip_norm=0"]
    code, _, err = launch(f"--experiment={name}", *flags)
    assert (code, err.count("\n")) == (1, 1), err
    assert "not finite" in err
    failure = json.loads((experiments / "run" / "failure.json").read_text())
    assert failure["examples"]
    code, _, err = launch(
        f"--experiment={name}", *small, "--overwrite", "--config.train.check_numerics"
    )
    assert code == 0, err


def test_a_mode_that_a_task_does_not_have_is_refused(launch, experiments):
    file = experiments / "experiments" / "own_task.py"
    file.write_text(
        file.read_text().replace('noun="a mean"', 'noun="a mean", modes=("train", "evaluate")')
    )
    flags = ["--experiment=own_task", "--config.train.epochs=1", f"--workdir={experiments / 'run'}"]
    code, out, err = launch(*flags)
    assert code == 0, err
    assert launch("--mode=evaluate", flags[-1])[:2] == (0, f"{out.splitlines()[-1]}\n")
    for mode in ("predict", "summary"):
        code, out, err = launch("--experiment=own_task", f"--mode={mode}", flags[-1])
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"a mean, for which there is no --mode={mode}; it has --mode=train, evaluate" in err


def test_a_split_without_examples_is_named(launch, experiments):
    file = experiments / "experiments" / "own_task.py"
    file.write_text(file.read_text().replace("numbers[40:50]", "numbers[40:40]"))
    code, _, err = launch("--experiment=own_task", f"--workdir={experiments / 'run'}")
    assert (code, err) == (2, "launch.py: the validation split has no example\n")


def test_a_config_of_a_class_of_its_own_must_name_a_task_of_its_own(launch, experiments):
    file = experiments / "experiments" / "own_network.py"
    file.write_text(file.read_text().replace('    task = "bag"\n', "    pass\n"))
    code, out, err = launch("--experiment=own_network", f"--workdir={experiments / 'x'}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the row 'bag' of TASKS must have the name of its configs' task, 'classification'" in err
    file.write_text(
        FILES["own_network"].replace('    task = "bag"\n', "    pass\n") + "\nTASKS = {}\n"
    )
    del sys.modules["experiments.own_network"]
    code, _, err = launch("--experiment=own_network", f"--workdir={experiments / 'x'}")
    assert (code, "BagConfig says that its task is 'classification'" in err) == (2, True)
    file.write_text(FILES["own_network"].replace('    "bag": ', '    "sack": '))
    del sys.modules["experiments.own_network"]
    code, _, err = launch("--experiment=own_network", f"--workdir={experiments / 'x'}")
    assert code == 2
    assert "the row 'sack' of TASKS must have the name of its configs' task, 'bag'" in err
    assert not (experiments / "x").exists()


def test_one_broken_file_stops_only_its_own_experiment(launch, experiments):
    code, out, _ = launch("--list_experiments")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["broken", *FILES]
    code, out, err = launch("--experiment=broken")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "experiments/broken.py" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(:\n", "broken.py:1: SyntaxError: invalid syntax"),
        (
            "\nimport no_such_module\n",
            "broken.py:2: ModuleNotFoundError: No module named 'no_such_",
        ),
        ("\n\nfrom rnn_jax import LSTN\n", "broken.py:3: ImportError: cannot import name 'LSTN'"),
        ("from experiments import helper\n", "broken.py:1: ZeroDivisionError: division by zero"),
        ("def get_config():\n    return Config()", "broken.py:2: NameError: name 'Config' is not"),
        ("x = '\0'\n", "broken.py"),
        ("x = 1\n", "broken.py has no function get_config that returns a Config"),
        ("def get_config():\n    return 3", "broken.py has no function get_config that returns"),
    ],
)
def test_a_broken_experiment_is_one_line_with_its_place(launch, experiments, text, said):
    (experiments / "experiments" / "broken.py").write_text(text)
    (experiments / "experiments" / "helper.py").write_text("def get_config():\n    pass\n\n1 / 0\n")
    code, out, err = launch("--experiment=broken")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_copy_of_an_experiment_is_an_experiment(launch, experiments, small):
    shutil.copy(ROOT / "experiments" / "masked_rnn.py", experiments / "experiments" / "mine.py")
    code, out, err = launch("--experiment=mine", *small)
    assert code == 0, err
    for name in ([], ["--experiment=mine"]):
        code, again, err = launch(*name, "--mode=evaluate", small[-1])
        assert (code, again.strip()) == (0, out.splitlines()[-1]), err
    assert launch("--experiment=mine", *small)[0] == 0  # and goes on with its own runs
    assert "of experiment 'mine', not 'own_cell'" in launch("--experiment=own_cell", *small)[2]


def test_a_cell_that_is_not_there_is_refused_before_anything_is_written(launch, tmp_path):
    code, _, err = launch(
        "--experiment=lstm", "--config.model.cell=lsmt", f"--workdir={tmp_path / 'run'}"
    )
    assert code == 2
    known = "simple_rnn, lstm, gru, min_gru, min_lstm, lru, rg_lru"
    assert f"--config.model.cell must be one of {known}, not 'lsmt'" in err
    assert not (tmp_path / "run").exists()


def test_what_the_loop_reads_of_arrays_is_every_example_once():
    from rnn_jax.data.arrays import ArrayEpochs, ArrayPass
    from rnn_jax.data.batching import Dealing

    numbers = np.arange(10, dtype=np.float32) + 1
    epochs = ArrayEpochs({"x": numbers}, Dealing(batch_size=4, steps_per_call=2, seed=3))
    seen = []
    for epoch in (0, 1):
        (window,) = epochs.windows(epoch, 0)
        batches = [window.assemble(entries) for entries in window.runs(0, 2)]
        assert [batch.arrays["x"].shape for batch in batches] == [(2, 4), (2, 4)]
        together = np.concatenate([batch.arrays["x"].ravel() for batch in batches])
        weights = np.concatenate([batch.weights.ravel() for batch in batches])
        np.testing.assert_array_equal(together > 0, weights > 0)
        assert sorted(together[weights > 0]) == numbers.tolist()
        np.testing.assert_array_equal(window.batch(2).arrays["x"], together[8:12])
        assert window.shown(2)["examples"] == (together[8:10] - 1).tolist()
        seen.append(together.tolist())
    assert seen[0] != seen[1]
    (late,) = [list(window.runs(1, 1)) for window in epochs.windows(0, 1)]
    assert len(late) == 2
    read = [
        batch.arrays[members - members[0]] for batch, members in ArrayPass(numbers, 4).batches()
    ]
    np.testing.assert_array_equal(np.concatenate(read), numbers)
