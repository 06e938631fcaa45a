"""Results of benchmarks as files: what they hold, and that pages show what they hold."""

import importlib
import json
import pathlib
import re
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # for its scripts
FILES = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def tables():
    return importlib.import_module("results_tables")


@pytest.fixture(scope="module")
def record(tables):
    return tables.record


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_where_its_figures_come_from(path, record):
    text = path.read_text(encoding="utf-8")
    result = json.loads(text)
    assert {"command", "date", "commit", "machine", "source", "columns", "rows"} <= set(result)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", result["date"])
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", result["commit"])
    assert set(result["machine"]) >= {"processor", "instruction_set", "cores"}
    assert (ROOT / result["command"].split()[1]).exists()
    assert result["rows"]
    assert {len(row) for row in result["rows"]} == {len(result["columns"])}
    assert text == record.dumps(result)


def test_every_file_is_shown_and_every_page_is_up_to_date(tables):
    text = "".join(page.read_text(encoding="utf-8") for page in tables.pages())
    shown = set(re.findall(r"<!-- results: (\w+)", text))
    assert shown - {"epochs"} == {path.stem for path in FILES}
    for page in tables.pages():
        assert page.read_text(encoding="utf-8") == tables.filled(page.read_text(encoding="utf-8"))


def test_a_figure_that_was_changed_by_hand_is_found(tables):
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    wrong = page.replace("| Keras, as documented | 38.2 |", "| Keras, as documented | 83.2 |")
    assert wrong != page
    assert tables.filled(wrong) == page
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    wrong = readme.replace("-->11 to 48<!--", "-->11 to 84<!--")
    assert wrong != readme
    assert tables.filled(wrong) == readme


def test_figures_in_sentences_are_those_of_the_files(tables):
    """The README's first result, and what each experiment's docstring says that it gave."""
    rows = {row[0].strip("`"): row for row in tables.record.load("bbc_news")["rows"]}
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    _, _, mean, span, seconds = rows["bilstm"]
    said = (
        f"test accuracy {mean:.4f} (mean of five seeds, {span}), in {seconds} s of processor time"
    )
    assert said in readme
    for name, (_, _, mean, span, seconds) in rows.items():
        text = " ".join((ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8").split())
        said = f"test accuracy {mean:.4f} on the embedded BBC stories (mean of five seeds, {span})"
        assert f"{said}, in {seconds} s of processor time" in text
    widest = max(rows.values(), key=_width)
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"seeds differ by up to {_width(widest):.2f} ({widest[0]})" in " ".join(text.split())


def _width(row: list) -> float:
    low, high = map(float, row[3].split(" to "))
    return high - low


def test_figures_in_the_pages_sentences_are_those_of_the_files(tables):
    """What sentences say beside the tables: ratios, differences and sums of their figures."""

    def column(name: str, heading: str, **where: object) -> list:
        result = tables.record.load(name)
        headings = [each["name"] for each in result["columns"]]
        rows = [dict(zip(headings, row, strict=True)) for row in result["rows"]]
        return [row[heading] for row in rows if all(row[k] == v for k, v in where.items())]

    pages = {
        page.stem: " ".join(page.read_text(encoding="utf-8").split()) for page in tables.pages()
    }
    flax = column("layer", "flax / rnn_jax", cell="gru", **{"pass": "forward"})
    faster = sorted(ratio for ratio in flax if ratio < 1)
    assert (len(faster), len(flax)) == (3, 4)
    said = f"({faster[0]:.2f} to {faster[-1]:.2f} of the time in three of four shapes)"
    assert said in pages["performance"]
    native, fused = (
        column("scaling", each, batch=16, hidden=512)[0] for each in ("native", "fused")
    )
    assert f"({native / fused:.2f} times at 16 rows)" in pages["performance"]
    torch, ours = (
        column("epoch_simple_rnn", "best of 5", **{"trained by": entrant})[0]
        for entrant in ("PyTorch, as documented", "rnn_jax")
    )
    assert (
        f"`simple_rnn` ends {torch - ours:.3f} below PyTorch as documented"
        in (pages["performance"])
    )
    words = "TF-IDF + logistic regression, first 200 words"
    yardstick = column("yardsticks", "BBC News", model=words)[0]
    assert f"reaches {yardstick:.4f} on the same words" in pages["README"]
    assert f"{sum(column('kill_runs', 'kills'))} kills, 0 runs lost" in pages["reliability"]


def test_a_part_of_a_table(tables, monkeypatch):
    result = {
        "columns": [
            {"name": "cell", "format": "`{}`"},
            {"name": "pass", "format": "{}"},
            {"name": "time", "format": "{:.1f} ms"},
        ],
        "rows": [["lstm", "forward", 1.25], ["lstm", "both", None], ["gru", "both", 3]],
    }
    monkeypatch.setattr(tables.record, "load", lambda name: result)
    assert tables.table("any | where: pass = both | columns: time; cell").splitlines() == [
        "| time | cell |",
        "| ---: | --- |",
        "| \N{EN DASH} | `lstm` |",
        "| 3.0 ms | `gru` |",
    ]
    with pytest.raises(ValueError, match="no column is called 'speed', there are cell, pass, time"):
        tables.table("any | columns: speed")
    with pytest.raises(ValueError, match="any: no row has pass = backward"):
        tables.table("any | where: pass = backward")


def test_a_benchmark_prints_its_table_and_saves_it(record, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/benchmarks/layer.py", "--rounds=2", "--save"])
    table = record.Table("layer", [("cell", "{}"), ("time", "{:,.1f} ms")])
    table.add("lstm", np.float32(1234.25))
    table.add("gru", None)
    with pytest.raises(ValueError, match="2 values are expected, got 1"):
        table.add("gru")
    assert capsys.readouterr().out.splitlines() == [
        "| cell | time |",
        "| --- | ---: |",
        "| lstm | 1,234.2 ms |",
        "| gru | \N{EN DASH} |",
    ]
    assert table.save(tmp_path) == tmp_path / "layer.json"
    saved = record.load("layer", tmp_path)
    assert saved["command"] == "python benchmarks/layer.py --rounds=2"
    assert saved["source"] == "written by the command"
    assert saved["rows"] == [["lstm", 1234.25], ["gru", None]]
    assert saved["machine"]["cores"] >= 1
    assert saved["machine"]["processor"]
    table.save(tmp_path, versions={"torch": "2.13.0"})
    assert record.load("layer", tmp_path)["machine"] == saved["machine"] | {"torch": "2.13.0"}


def test_numbers_that_come_after_a_missing_one_are_set_to_the_right(record, capsys):
    table = record.Table("any", [("time", "{:.0f} s")])
    table.add(None)
    table.add(2.0)
    assert capsys.readouterr().out.splitlines()[-1] == "| 2 s |"
    assert record.markdown({"columns": table.columns, "rows": table.rows}).splitlines()[1] == (
        "| ---: |"
    )


def test_single_cells_are_set(record, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks/padding.py", "--field=title", "--save"])
    table = record.Table("padding", [("batches", "{}"), ("text", "{:.1%}"), ("titles", "{:.1%}")])
    table.add("packed", 0.25, 0.5)
    table.add("pool of 1", 0.75, 1.0)
    table.save(tmp_path)
    record.update("padding", {("packed", "titles"): np.float64(0.125)}, tmp_path)
    saved = record.load("padding", tmp_path)
    assert saved["rows"] == [["packed", 0.25, 0.125], ["pool of 1", 0.75, 1.0]]
    assert saved["source"].startswith("some cells written by the command")
    for row, column in (("sorted", "titles"), ("packed", "words")):
        with pytest.raises(ValueError, match=f"no row '{row}' with a column '{column}'"):
            record.update("padding", {(row, column): 1.0}, tmp_path)
    assert record.load("padding", tmp_path) == saved


@pytest.fixture(scope="module")
def sweep(tables):
    return importlib.import_module("sweep")  # beside `record`


def test_trials_that_were_not_run_take_as_long_as_those_that_start_nothing(sweep):
    assert sweep.extrapolated(20.0, [10.0, 4.0, 2.0], trials=3) == 20
    assert sweep.extrapolated(20.0, [10.0, 4.0, 2.0], trials=5) == 26
    assert sweep.extrapolated(20.0, [10.0, 0.0, 4.0, 2.0], trials=6, at_once=2) == 26
    assert sweep.extrapolated(12.0, [10.0], trials=3) == 32


def test_sweeps_flags_make_the_config_of_the_peers(sweep, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    for name in sweep.EXPERIMENTS:
        default = sweep.epoch.default_config(name)
        config = sweep.config_lib.replace(default, {"train.epochs": 2, "data.validation": "test"})
        assert set(sweep.flags(config, default)) == {
            "--config.train.epochs=2",
            "--config.data.validation=test",
        }


def test_a_sweeps_trials_are_read_and_compared_with_the_same_ones(sweep, tmp_path):
    points = [{"optimizer.learning_rate": 0.002, "train.seed": seed} for seed in (0, 1)]
    names = ("a", "b")
    for name, best in zip(names, (0.5, 0.75), strict=True):
        folder = tmp_path / "trials" / name
        folder.mkdir(parents=True)
        kinds = [("validation", 10, 0.1), ("validation", 20, best), ("test", 20, 0.9)]
        lines = [
            json.dumps({"split": split, "step": step, "accuracy": accuracy})
            for split, step, accuracy in kinds
        ]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    trials = [{"name": name, "changes": each} for name, each in zip(names, points, strict=True)]
    (tmp_path / "sweep.json").write_text(json.dumps({"trials": trials}))
    found = sweep.swept(tmp_path)
    assert found == [sweep.Trial(0.002, 0, 0.5, 20), sweep.Trial(0.002, 1, 0.75, 20)]
    ours = sweep.Measured(sweep.OURS, 2, 4.0, found)
    peer = sweep.Measured("peer", 2, 40.0, [sweep.Trial(0.002, 1, 0.7, 20)])
    rows = [sweep.row("lstm", each, ours) for each in (ours, peer)]
    assert rows[0] == ("lstm", "rnn_jax", 2, "all", 2.0, 1800.0, 1.0, 20, 0.625, 0.625)
    assert rows[1][3:] == ("1, extrapolated", 20.0, 180.0, 10.0, 20, 0.7, 0.75)
    assert {len(row) for row in rows} == {len(sweep.COLUMNS)}
