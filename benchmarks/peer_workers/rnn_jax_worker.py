"""Trains with rnn_jax: a worker of `epoch.py`.

It calls what `launch.py` calls, `rnn_jax.train.run`, checkpoints and records included, and holds
it between two epochs while others have their turn. Times and accuracies are those of the run's
records.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

import serving

from rnn_jax import config as config_lib
from rnn_jax import train
from rnn_jax.system import compilation
from rnn_jax.system.display import Display


class Turns(Display):
    """Shows nothing, and ends each epoch, when its line is due, with an answer and a wait."""

    def __init__(self, channel: serving.Channel, job: serving.Job, folder: pathlib.Path):
        super().__init__(quiet=True)
        self._channel, self._job, self._records = channel, job, folder / "metrics.jsonl"

    def line(self, text: str) -> None:
        if not text.startswith("epoch "):
            return
        memory = serving.peak_memory()
        lines = self._records.read_text(encoding="utf-8").splitlines()
        trained, validated = map(json.loads, lines[-2:])
        message = self._channel.exchange(
            seconds=trained["seconds"],
            accuracy=validated["accuracy"],
            padded=self._job.own_padding(trained["epoch"] - 1),
            peak_memory=memory,
            idle_share=self._channel.idle_share,
        )
        if message is None:
            sys.exit()


def main() -> None:
    compilation.return_memory()  # as launch.py does; its cache would hide the compilations
    channel = serving.Channel()
    job = serving.Job(**channel.receive())
    with tempfile.TemporaryDirectory() as folder:
        config = config_lib.from_dict(job.config)
        if channel.exchange(ready=True) is not None:
            train.run(config, folder, display=Turns(channel, job, pathlib.Path(folder)))


if __name__ == "__main__":
    main()
