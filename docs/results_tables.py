"""Puts the results of benchmarks into the pages that show them.

    python docs/results_tables.py           # rewrites the pages
    python docs/results_tables.py --check   # names pages that are out of date; then exit code 1

A table stands between `<!-- results: NAME -->` and `<!-- end -->`; NAME is a file of
`benchmarks/results/`, or `epochs`, which says how many times as long as rnn_jax the others take for
an epoch of each experiment. `<!-- results: NAME | columns: A; B | where: C = D -->` shows only
these columns, and only the rows whose column C says D. `<!-- times: TITLE -->` within a line has
the range of an entrant's times over all experiments.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "benchmarks"))

import record

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXPERIMENTS = ("simple_rnn", "masked_rnn", "lstm", "bilstm")
TABLE = re.compile(r"(<!-- results: ([^\n]*?) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
TIMES = re.compile(r"(<!-- times: ([^\n]*?) -->)[^\n]*?(<!-- end -->)")


def pages() -> list[pathlib.Path]:
    """All pages that may show results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A page's text with its results as the files have them."""
    text = TABLE.sub(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)
    return TIMES.sub(lambda found: f"{found[1]}{times(found[2])}{found[3]}", text)


def table(wanted: str) -> str:
    """The Markdown of a table.

    Args:
      wanted: what stands after "results:".

    Raises:
      ValueError: a column or a condition that the result does not have.
    """
    name, *options = (part.strip() for part in wanted.split("|"))
    result = epochs() if name == "epochs" else record.load(name)
    for option in options:
        kind, _, value = option.partition(":")
        if kind == "columns":
            result = _columns(result, [each.strip() for each in value.split(";")])
        elif kind == "where":
            column, _, cell = (each.strip() for each in value.partition("="))
            place = _place(result, column)
            rows = [row for row in result["rows"] if str(row[place]) == cell]
            if not rows:
                raise ValueError(f"{name}: no row has {column} = {cell}")
            result = result | {"rows": rows}
        else:
            raise ValueError(f"{name}: unknown option {option!r}")
    return record.markdown(result)


def epochs() -> dict[str, Any]:
    """How many times as long as rnn_jax each entrant takes for an epoch."""
    found: dict[str, list[Any]] = {}
    for experiment in EXPERIMENTS:
        result = record.load(f"epoch_{experiment}")
        title, ratio = _place(result, "trained by"), _place(result, "times rnn_jax")
        for row in result["rows"]:
            found.setdefault(row[title], []).append(row[ratio])
    columns = [{"name": "trained by", "format": "{}"}]
    columns += [{"name": f"`{experiment}`", "format": "{:.1f}"} for experiment in EXPERIMENTS]
    rows = [[title, *ratios] for title, ratios in found.items()]
    return {"columns": columns, "rows": rows}


def times(title: str) -> str:
    """The range of an entrant's times, "11 to 48"."""
    for name, *ratios in epochs()["rows"]:
        if name == title:
            return " to ".join(f"{ratio:.2g}" for ratio in (min(ratios), max(ratios)))
    raise ValueError(f"no entrant is called {title!r}")


def _columns(result: dict[str, Any], names: list[str]) -> dict[str, Any]:
    places = [_place(result, name) for name in names]
    return {
        "columns": [result["columns"][place] for place in places],
        "rows": [[row[place] for place in places] for row in result["rows"]],
    }


def _place(result: dict[str, Any], column: str) -> int:
    names = [each["name"] for each in result["columns"]]
    if column not in names:
        raise ValueError(f"no column is called {column!r}, there are {', '.join(names)}")
    return names.index(column)


def main(arguments: list[str]) -> int:
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if "--check" not in arguments:
                page.write_text(new, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"run python docs/results_tables.py: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
