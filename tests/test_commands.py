"""The commands of README and pages, in their order, on one machine: each does what it says after
those before it."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from conftest import ROOT
from test_docs import commands
from test_experiments import SERIES, SHRUNK

from rnn_jax import commands as program
from rnn_jax import tasks
from rnn_jax.commands import dispatch
from rnn_jax.commands.base import Command
from rnn_jax.config import InputError
from rnn_jax.runs import comparison
from rnn_jax.studies import STUDIES

README = "README.md"


def pages() -> list[str]:
    """README, then the site's pages in the order in which it lists them."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = [f"docs/{name}" for name in re.findall(r": (\S+\.md)$", nav, flags=re.MULTILINE)]
    return [README, *(name for name in listed if (ROOT / name).exists())]


def launched(name: str) -> list[list[str]]:
    """What a page gives to launch.py, but for commands in which NAME stands for any experiment."""
    return [
        words
        for script, *words in commands(name)
        if script == "launch.py" and "--experiment=NAME" not in words
    ]


def read(words: list[str]) -> Command:
    """The command as the program reads it. The guides' own experiments, which tests/test_own.py
    trains, are taken for another."""
    own = re.search(r"--experiment=(own_\w+)", " ".join(words))
    if own:
        words = [word for word in words if not word.startswith("--config.data.centre")]
        words = [word.replace(own[1], "bilstm") for word in words] + [f"--workdir=runs/{own[1]}"]
    command = program.parse(["launch.py", *words], ROOT)
    dispatch._check_flags(command)
    return command


class Machine:
    """What the folders of a machine hold, after some commands."""

    def __init__(self) -> None:
        self.folders: dict[str, tuple[str, Command]] = {}

    def take(self, words: list[str]) -> None:
        """Does a command, but for the training.

        Raises:
          InputError: the program would refuse it.
        """
        command = read(words)
        values, config = command.values, command.config
        if values.help or values.list_experiments:
            return
        if command.mode.needs == "run":
            if command.workdir not in self.folders:
                raise InputError(f"{command.workdir} holds no run")
            _, trained = self.folders[command.workdir]
            modes = tasks.kind_of(trained.config, trained.extras).modes
            if command.mode.name not in modes:
                raise InputError(f"{command.workdir} has no --mode={command.mode.name}")
            return
        if values.experiment is None:
            raise InputError("--experiment is missing")
        if command.mode.name != "train":
            return
        what = "a study" if config.task in STUDIES else "a sweep" if values.sweep else "a run"
        before, trained = self.folders.get(command.workdir, (what, command))
        if before != what:
            raise InputError(f"{command.workdir} holds {before}, not {what}")
        if what == "a sweep":  # which may grow
            same = trained.config.experiment == config.experiment
            if not same:
                raise InputError(f"{command.workdir} holds a sweep of another experiment")
        elif not values.overwrite:
            comparison.compare(command.workdir, trained.config, config)
        self.folders[command.workdir] = what, command


def test_the_commands_of_all_pages_are_done_in_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    machine, wrong, count = Machine(), [], 0
    for name in pages():
        for words in launched(name):
            count += 1
            try:
                machine.take(words)
            except InputError as error:
                wrong.append(f"{name}: {' '.join(words)}: {error}")
    assert wrong == []
    assert count > 40


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["--experiment=bilstm", "--experiment=bilstm --config.model.hidden=3"], "another config"),
        (["--experiment=bilstm", "--experiment=gru --workdir=runs/bilstm"], "'bilstm', not 'gru'"),
        (
            ["--experiment=gru", "--experiment=gru --sweep=train.seed=0..1 --workdir=runs/gru"],
            "a run, not a sweep",
        ),
        (["--experiment=bilstm --workdir=x", "--mode=evaluate --workdir=runs/bilstm"], "no run"),
        (["--experiment=bilstm", "--mode=generate --workdir=runs/bilstm"], "no --mode=generate"),
        (["--experiment=bilstm --text=a"], "--text is for"),
        (["--experiment=bilstm", "--mode=predict --workdir=runs/bilstm --txt=a"], "unknown flag"),
        (["--experiment=bilstm --config.train.epochs=0"], "at least 1"),
    ],
)
def test_a_wrong_command_is_found(lines, message):
    machine = Machine()
    *before, last = (line.split() for line in lines)
    for words in before:
        machine.take(words)
    with pytest.raises(InputError, match=message):
        machine.take(last)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_readme_s_commands_are_done_from_top_to_bottom(launch, tmp_path, csv_folder, monkeypatch):
    """Really, but for the sizes: fewer stories, smaller networks, an epoch, three trials; and what
    would be downloaded comes from a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "series.csv").write_text(SERIES)
    own = {
        "--config.data.source=ag_news_subset": "--config.data.source=csv",
        "--config.data.data_dir=FOLDER": f"--config.data.data_dir={csv_folder}",
        "--trials=24": "--trials=3",
    }
    done = []
    for words in launched(README):
        command = read(words)
        given = [own.get(word, word) for word in words]
        trains = command.mode.name == "train" and command.values.experiment
        if trains and not command.values.help:
            small = [*SHRUNK[command.config.task], "--config.train.epochs=1"]
            given += [flag for flag in small if flag.partition("=")[0] not in " ".join(given)]
            if "--config.data.source=ag_news_subset" in words:
                given.append(f"--config.data.data_dir={csv_folder}")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
        code, out, err = launch(*given)
        assert code == 0, (given, err)
        if command.mode.name == "predict":
            assert all(json.loads(line) for line in out.splitlines())
        done.append(command.mode.name)
    assert {"train", "summary", "evaluate", "predict", "explain", "generate"} == set(done)
