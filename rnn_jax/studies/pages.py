"""What the pages of all studies have in common."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from rnn_jax import config as config_lib
from rnn_jax import report
from rnn_jax.config import Config
from rnn_jax.report import Chart, Section, Table
from rnn_jax.runs.folder import REPORT
from rnn_jax.system import files

FIGURES = "figures"


def write(path: pathlib.Path, page: str, charts: Mapping[str, Chart]) -> None:
    """Writes a study's page, and each of its charts as a file in `figures/`.

    Args:
      path: the study's folder.
      page: report.html.
      charts: by the names of their files.
    """
    (path / FIGURES).mkdir(exist_ok=True)
    for name, chart in charts.items():
        files.write_atomically(path / FIGURES / f"{name}.svg", report.drawing(chart))
    files.write_atomically(path / REPORT, page)


def settings(config: Config) -> Section:
    """The section with all options and what they mean."""
    rows = [
        [name, str(value), field.metadata["help"]]
        for name, field, value in config_lib.options(config)
    ]
    return Section("Settings", [Table("", ["option", "value", "meaning"], rows)])
