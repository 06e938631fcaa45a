"""Results as files: what a benchmark printed, and what it depends on.

A benchmark prints its table row by row and, with `--save`, writes it to
`benchmarks/results/NAME.json`. Pages show such a table between two comments, where
`docs/results_tables.py` puts it:

    <!-- results: NAME -->
    ...
    <!-- end -->

A file holds:

- command, date, commit: what was run, when, and the commit of the code (for copied figures: when
  and by which commit they were last put into a page).
- machine: processor, instruction_set, cores, and the versions of Python, JAX and what else was
  measured; null for what was not recorded.
- source: whether the command wrote the file, or the figures were copied from a printed table.
- note: what else belongs to it; may be missing.
- columns: a list of {"name", "format"}; the format is Python's, `"{:.2f} s"` for instance.
- rows: a list of lists, a value for each column; null where there is none.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
NONE = "\N{EN DASH}"
INSTRUCTION_SETS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}  # the widest first


class Table:
    """A table that prints itself as it grows."""

    def __init__(self, name: str, columns: Sequence[tuple[str, str]]):
        """
        Args:
          name: of the file, without its ending.
          columns: (heading, format) of each.
        """
        self.name = name
        self.columns = [{"name": heading, "format": form} for heading, form in columns]
        self.rows: list[list[Any]] = []
        self._headed = False

    def add(self, *values: Any) -> None:
        """Prints a row, after the heading if it is the first one."""
        if len(values) != len(self.columns):
            raise ValueError(f"{len(self.columns)} values are expected, got {len(values)}")
        self.rows.append([_plain(value) for value in values])
        lines = markdown({"columns": self.columns, "rows": self.rows}).splitlines()
        print("\n".join(lines[-1:] if self._headed else lines), flush=True)
        self._headed = True

    def save(
        self, folder: pathlib.Path = RESULTS, versions: Mapping[str, str] | None = None
    ) -> pathlib.Path:
        """Writes the table with the running command, today's date, the commit and the machine.

        Args:
          folder: where it goes.
          versions: of other libraries that were measured.
        """
        result = _origin("written by the command") | {"columns": self.columns, "rows": self.rows}
        result["machine"] |= versions or {}
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(dumps(result), encoding="utf-8")
        return path


def update(
    name: str, cells: Mapping[tuple[str, str], Any], folder: pathlib.Path = RESULTS
) -> pathlib.Path:
    """Sets single cells of a table that several commands fill, and leaves the others.

    Args:
      name: of an existing file.
      cells: {(first cell of a row, heading of a column): value}.

    Raises:
      ValueError: there is no such row or column.
    """
    result = load(name, folder)
    rows = {row[0]: row for row in result["rows"]}
    headings = [column["name"] for column in result["columns"]]
    for (row, heading), value in cells.items():
        if row not in rows or heading not in headings:
            raise ValueError(f"{name}.json has no row {row!r} with a column {heading!r}")
        rows[row][headings.index(heading)] = _plain(value)
    result |= _origin("some cells written by the command, the others by earlier ones")
    path = folder / f"{name}.json"
    path.write_text(dumps(result), encoding="utf-8")
    return path


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--save`."""
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/*.json, too")


def load(name: str, folder: pathlib.Path = RESULTS) -> dict[str, Any]:
    """The result of this name."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def dumps(result: dict[str, Any]) -> str:
    """A result as JSON, a line for each column and each row."""
    lines = []
    for name, value in result.items():
        if name in ("columns", "rows"):
            entries = ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in value)
            lines.append(f' "{name}": [\n{entries}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def markdown(result: dict[str, Any]) -> str:
    """The table of a result in Markdown; columns of numbers are set to the right."""
    columns, rows = result["columns"], result["rows"]
    numeric = [
        any(isinstance(row[place], int | float) for row in rows) for place in range(len(columns))
    ]
    lines = [
        _row(column["name"] for column in columns),
        _row("---:" if each else "---" for each in numeric),
    ]
    for row in rows:
        lines.append(
            _row(
                NONE if value is None else column["format"].format(value)
                for column, value in zip(columns, row, strict=True)
            )
        )
    return "\n".join(lines)


def command(argv: Sequence[str]) -> str:
    """The command line as one types it, without `--save`."""
    script = pathlib.Path(argv[0]).name
    return " ".join(["python", f"benchmarks/{script}", *(a for a in argv[1:] if a != "--save")])


def commit() -> str | None:
    """The commit of the code, with "+" where files differ from it; None outside of git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    import jax

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    device = jax.devices()[0]
    accelerator = {} if device.platform == "cpu" else {"accelerator": device.device_kind}
    return accelerator | {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "instruction_set": next(
            (name for flag, name in INSTRUCTION_SETS.items() if flag in flags), None
        ),
        "cores": allowed,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def _origin(source: str) -> dict[str, Any]:
    return {
        "command": command(sys.argv),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "source": source,
    }


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=RESULTS.parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def _cpuinfo() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = (line.partition(":") for line in file)
            return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}
    except OSError:
        return {}


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value
