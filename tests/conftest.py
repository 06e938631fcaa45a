"""What all tests share: caches of their own, a small data set in memory and on the disk, the
program as a function."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The user's cache of compiled programs is neither read nor written.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="rnn_jax_tests_")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # half a second for each process that is started
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers have what is set here
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rnn_jax_tests_")


def known_flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the installed XLA has: it ends a process that names another, and they come and go.

    Found out once for all workers, whose environment says it.
    """

    def starts(*flags: str) -> bool:
        environment = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", "import jax; jax.devices()"]
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    return flags if starts(*flags) else tuple(filter(starts, flags))


# Most of the tests' time is XLA compiling small programs that run once; how well does not matter. A
# part of them runs once more as users' programs do.
if "RNN_JAX_TEST_QUICK_XLA" not in os.environ:
    os.environ["RNN_JAX_TEST_QUICK_XLA"] = " ".join(
        known_flags(
            (
                "--xla_backend_optimization_level=0",
                "--xla_cpu_use_fusion_emitters=false",  # the older emitter takes half the time
                "--xla_cpu_parallel_codegen_split_count=1",
                "--xla_llvm_disable_expensive_passes=true",
            )
        )
    )
QUICK_XLA = tuple(os.environ["RNN_JAX_TEST_QUICK_XLA"].split())
_FLAGS = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
if os.environ.get("RNN_JAX_TEST_XLA") != "production":
    _FLAGS += QUICK_XLA
os.environ["XLA_FLAGS"] = " ".join(_FLAGS)

CLASSES = ("animals", "weather")
STORIES = {
    "animals": ("the cat sleeps", "a dog and a cat play in the garden all day"),
    "weather": ("rain again", "wind and rain, later sun over the hills in the north"),
}


@pytest.fixture(scope="session")
def csv_folder(tmp_path_factory) -> pathlib.Path:
    """A data set in the csv layout: 40 training and 10 test stories of two classes."""
    folder = tmp_path_factory.mktemp("csv")
    for name, count in (("train", 40), ("test", 10)):
        rows = []
        for index in range(count):
            label = index % 2
            title, text = STORIES[CLASSES[label]]
            # Told apart by their words, of many lengths, no two alike.
            rows.append(f'"{label + 1}","{title} {name}{index}","{text} {"so " * (index % 7)}"\n')
        (folder / f"{name}.csv").write_text("".join(rows), encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def config(csv_folder):
    """A run that takes a second or two, with dropout and several batches in a call."""
    from rnn_jax import Config
    from rnn_jax.config import replace

    changes = {
        "data.source": "csv",
        "data.data_dir": str(csv_folder),
        "data.vocab_size": 100,
        "data.max_length": 16,
        "model.cell": "gru",
        "model.hidden": 4,
        "model.embedding_size": 8,
        "model.dropout": 0.2,
        "optimizer.learning_rate": 0.02,
        "train.epochs": 3,
        "train.batch_size": 4,
        "train.steps_per_call": 2,
    }
    return replace(Config(experiment="test"), changes)


@pytest.fixture(scope="session")
def story_folder(csv_folder, tmp_path_factory) -> pathlib.Path:
    """As `csv_folder`, but no two stories open alike."""
    folder = shutil.copytree(csv_folder, tmp_path_factory.mktemp("stories") / "csv")
    with open(folder / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with open(folder / "train.csv", "w", newline="", encoding="utf-8") as file:
        for index, (label, title, description) in enumerate(rows):
            csv.writer(file).writerow((label, title, f"s{index % 9} {index} {description}"))
    return folder


@pytest.fixture(scope="session")
def streamed(config, story_folder, tmp_path_factory):
    """`config` from the disk, in windows of three batches; 40 stories less those that are
    validated on."""
    from rnn_jax.config import replace

    changes = {
        "data.stream": True,
        "data.window": 12,
        "data.cache_dir": str(tmp_path_factory.mktemp("cache")),
        "data.data_dir": str(story_folder),
        "data.validation_share": 0.2,
        "train.epochs": 2,
    }
    return replace(config, changes)


@pytest.fixture(scope="session")
def without_times():
    """`without_times(folder)`: a run's metrics.jsonl but for what the clock said."""

    def read(folder: pathlib.Path) -> list[dict]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    return read


@pytest.fixture
def launch(capsys, monkeypatch):
    """`launch(*arguments) -> (exit code, standard output, standard error)`, in this process."""
    monkeypatch.chdir(ROOT)
    import launch as program
    from rnn_jax.system import compilation

    for name in ("use_cache", "return_memory", "announce"):  # settings of the whole process
        monkeypatch.setattr(compilation, name, lambda *arguments: None)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = program.main(["launch.py", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def strict_promotion():
    """Types that meet must agree, as those that call us may have asked of JAX."""
    import jax

    jax.config.update("jax_numpy_dtype_promotion", "strict")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def float64(strict_promotion):
    """64-bit types, which never meet 32-bit ones unasked."""
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def signal_at(monkeypatch):
    """`signal_at(number)`: the loop's question "was there a signal?", counted from now on, is
    answered with yes from that time on."""
    from rnn_jax.system.interrupts import Request

    def arrange(number: int) -> None:
        asked = 0

        def get(self):
            nonlocal asked
            asked += 1
            return 2 if asked >= number else None

        answer = property(get, lambda self, value: None)
        monkeypatch.setattr(Request, "signal", answer, raising=False)

    return arrange


@pytest.fixture
def small(csv_folder, tmp_path):
    """Flags of a run that takes a second or two."""
    return [
        "--config.data.source=csv",
        f"--config.data.data_dir={csv_folder}",
        "--config.data.vocab_size=100",
        "--config.data.max_length=16",
        "--config.train.epochs=2",
        "--config.train.batch_size=4",
        f"--workdir={tmp_path / 'run'}",
    ]
