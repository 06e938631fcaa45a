"""The libraries that rnn_jax is compared with: their environments, and worker processes in them.

    python benchmarks/peers.py

makes all environments. Each is made once, in the user's cache folder; to use an environment that
you have instead, set RNN_JAX_PEER_TORCH or RNN_JAX_PEER_KERAS to its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "flax": (),  # what rnn_jax itself is installed with
    "keras": (
        "keras==3.15.1",
        "tensorflow-cpu==2.21.0",
        "keras-tuner==1.4.8",
        "tensorboard==2.21.0",  # KerasTuner imports it
    ),
    "neuralforecast": ("neuralforecast==3.3.0", "torch==2.13.0", "numpy>=2.0"),
    "statsforecast": ("statsforecast==2.1.1", "numpy>=2.0"),
    "torch": ("torch==2.13.0", "numpy>=2.0", "optuna==5.0.0"),
}


def ensure(name: str) -> pathlib.Path:
    """The Python of a peer's environment, which is made if it is missing.

    Args:
      name: "flax", "keras", "neuralforecast", "statsforecast" or "torch".

    Raises:
      ValueError: another name, or a variable that names no environment.
      subprocess.CalledProcessError: the installation failed.
    """
    if name not in REQUIREMENTS:
        raise ValueError(f"name must be one of {', '.join(REQUIREMENTS)}, not {name!r}")
    if not REQUIREMENTS[name]:
        return pathlib.Path(sys.executable)
    variable = f"RNN_JAX_PEER_{name.upper()}"
    if given := os.environ.get(variable):
        python = pathlib.Path(given) / "bin" / "python"
        if not python.exists():
            raise ValueError(f"{variable} must be the folder of an environment, not {given!r}")
        return python
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "rnn_jax" / "peers" / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(folder, REQUIREMENTS[name])
    return folder / "bin" / "python"


def _install(folder: pathlib.Path, requirements: Sequence[str]) -> None:
    installed = folder / "installed.txt"  # written last: without it the environment is not whole
    wanted = "\n".join(requirements) + "\n"
    if installed.exists() and installed.read_text() == wanted:
        return
    print(f"making {folder}: {', '.join(requirements)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
    installed.write_text(wanted)


class Worker(contextlib.AbstractContextManager):
    """A process that answers JSON lines: the other end of `peer_workers/serving.py`."""

    def __init__(self, script: str, python: pathlib.Path):
        """Args:
        script: a file in `peer_workers`.
        python: what runs it.
        """
        self._process = subprocess.Popen(
            [python, HERE / "peer_workers" / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._name = script

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Sends a message and waits for its answer.

        Raises:
          RuntimeError: the worker ended instead; standard error has its traceback.
        """
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}")
        return json.loads(answer)

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # a worker ends when its input does
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    for peer in REQUIREMENTS:
        print(peer, ensure(peer))
