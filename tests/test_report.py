"""The report: right numbers on it, one safe file for whatever input, and charts that always fit."""

import html.parser
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax import Config, report
from rnn_jax.config import options, replace, to_dict
from rnn_jax.report import charts, history, limits, pieces
from rnn_jax.report.page import cell

CLASSES = ["business", "sport", "tech"]
HOSTILE = '<script>alert("1")</script>\'&amp; שלום \u202etxt\x00\x1b\ud800 end'


class Page(html.parser.HTMLParser):
    """What a browser would see: text, attributes, and whether every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


def record(split, epoch, loss, step=None, **figures):
    step = 10 * epoch if step is None else step
    return {"split": split, "epoch": epoch, "step": step, "loss": loss, **figures}


def run_of(train, validation, test=None, **figures):
    """A history with one pair of records an epoch."""
    records = []
    for epoch, losses in enumerate(zip(train, validation, strict=True), start=1):
        for split, loss in zip(("train", "validation"), losses, strict=True):
            common = {"accuracy": 0.5, "examples": 40, "tokens": 400, "seconds": 2.0, **figures}
            if split == "train":
                common |= {"gradient_norm": 0.25, "skipped": 0}
            records.append(record(split, epoch, loss, **common))
    if test is not None:
        records.append(record("test", len(train), test, accuracy=0.9412, examples=425, seconds=1.0))
    return records


def arguments(**changes):
    labels = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.2, 0.7, 0.1],
            [0.9, 0.1, 0.0],
            [0.1, 0.8, 0.1],
            [0.3, 0.6, 0.1],
            [0.5, 0.48, 0.02],
        ]
    )
    texts = [f"story {i}" for i in range(6)]
    plain = {
        "experiment": "bilstm",
        "config": to_dict(replace(Config("bilstm"), {"train.epochs": 7})),
        "options": {name: field for name, field, _ in options(Config())},
        "environment": {"versions": {"jax": "0.10.2"}, "threads": 2},
        "history": run_of([1.0, 0.5, 0.2], [1.1, 0.6, 0.75], test=0.2011),
        "parameters": [("embed", (20000, 64), "float32", 1_280_000), ("bias", (4,), "float32", 4)],
        "sections": report.classification_sections(labels, probabilities, texts, CLASSES),
    }
    return plain | changes


def test_page_needs_nothing_else_and_runs_nothing():
    page = report.render(**arguments())
    seen = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(seen.tags)
    assert not {"src", "href", "srcset", "action", "xlink:href"} & {
        name for name, _ in seen.attributes
    }
    assert "@import" not in page
    assert "url(" not in page
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert policy in seen.values("content")
    ids = seen.values("id")
    assert len(ids) == len(set(ids)) > 5
    assert set(seen.values("aria-labelledby")) <= set(ids)
    assert set(seen.values("scope")) == {"col", "row", "colgroup"}


def test_same_input_gives_same_page_and_no_date_of_its_own():
    assert report.render(**arguments()) == report.render(**arguments())
    assert "2031-05-06" in report.render(**arguments(date="2031-05-06"))
    assert not re.search(r"\b20\d\d-\d\d", report.render(**arguments()))


def test_page_shows_the_run():
    text = Page(report.render(**arguments(stopped_early=True))).text
    assert "0.9412" in text
    assert "0.2011" in text
    assert "1,280,004" in text
    assert "100% of them in embed" in text
    assert "20000\xa0\xd7\xa064" in text
    assert "Stopped early after 3 of 7 epochs" in text
    assert "story 5" in text
    assert "versions.jax" in text
    # An option that is not at its default shows both values.
    assert re.search(r"train\.epochs\s*7\s*10\s*passes over", text)


@pytest.mark.parametrize(
    "place", ["experiment", "config", "environment", "parameters", "texts", "measure"]
)
def test_text_from_outside_stays_text(place):
    changes = {
        "experiment": {"experiment": HOSTILE},
        "config": {"config": {HOSTILE: {HOSTILE: HOSTILE}}},
        "environment": {"environment": {HOSTILE: HOSTILE}},
        "parameters": {"parameters": [(HOSTILE, (2,), HOSTILE, 2)]},
        "texts": {
            "sections": report.classification_sections(
                np.array([0]), np.array([[0.1, 0.9]]), [HOSTILE], [HOSTILE, HOSTILE + "2"]
            )
        },
        "measure": {"history": run_of([1.0], [1.0], **{HOSTILE: 0.5})},
    }[place]
    page = report.render(**arguments(**changes))
    clean = Page(page)
    expected = HOSTILE
    for removed in "\u202e\x00\x1b\ud800":
        expected = expected.replace(removed, "\ufffd")
    assert expected.replace("_", " ").lower() in " ".join(clean.text.split()).lower()
    assert "script" not in clean.tags
    assert {name for name, _ in clean.attributes} == {
        name for name, _ in Page(report.render(**arguments())).attributes
    }
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]", page)
    page.encode("utf-8")


def test_confusion_and_scores_by_hand():
    # business: 2 right, 1 taken for sport; sport: 2 right; tech: taken for business; arts: absent.
    labels, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]
    first, _ = report.classification_sections(
        np.array(labels), np.eye(4)[predicted], [""] * 6, [*CLASSES, "arts"]
    )
    prose, overall, confusion, scores = first.pieces
    assert prose.text.startswith("4 of 6 test examples were classified correctly.")
    assert "business predicted as sport, 1 of 3" in prose.text
    assert [row[0] for row in overall.rows][-1] == "accuracy if business were always predicted"
    shares = [row[1] for row in overall.rows]
    np.testing.assert_allclose(
        shares, [4 / 6, 5 / 9, 4 / 9, (2 / 3 + 4 / 5) / 3, 1 / 2], rtol=1e-12
    )
    assert confusion.counts == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    expected = [
        ["business", 2 / 3, 2 / 3, 2 / 3, 3],
        ["sport", 1, 2 / 3, 4 / 5, 2],
        ["tech", 0, 0, 0, 1],
        ["arts", math.nan, math.nan, math.nan, 0],
        ["mean", 5 / 9, 4 / 9, (2 / 3 + 4 / 5) / 3, 6],
    ]
    for row, right in zip([*scores.rows, scores.footer], expected, strict=True):
        assert row[0] == right[0]
        np.testing.assert_allclose(row[1:], right[1:], rtol=1e-12)


def test_hardest_mistakes_come_first_and_none_that_is_right():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(8), 60)
    labels = rng.integers(0, 8, 60)
    labels[:20] = probabilities[:20].argmax(axis=1)
    names = [f"class {i}" for i in range(8)]
    texts = [f"text {i}" for i in range(60)]
    _, hardest = report.classification_sections(labels, probabilities, texts, names)
    shown = [int(case.text.split()[1]) for case in hardest.pieces[1:]]
    wrong = [i for i in range(60) if probabilities[i].argmax() != labels[i]]
    assert shown == sorted(wrong, key=lambda i: probabilities[i, labels[i]])[:12]
    case = hardest.pieces[1]
    true, predicted = labels[shown[0]], probabilities[shown[0]].argmax()
    assert case.title == f"class {true}, predicted as class {predicted}"
    values = [value for _, value, _ in case.bars]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)
    remarks = {name: remark for name, _, remark in case.bars if remark}
    assert remarks == {f"class {true}": "true", f"class {predicted}": "predicted"}


def test_long_text_is_cut_between_words_and_empty_text_is_named():
    texts = ["many  words\n" * 100, "x" * 1000, ""]
    _, hardest = report.classification_sections(
        np.zeros(3, int), np.array([[0.1, 0.9]] * 3), texts, ["a", "b"]
    )
    many, long, empty = (case.text for case in hardest.pieces[1:])
    assert re.fullmatch(r"(many words )+(many )?…", many)
    assert 300 < len(many) <= 322
    assert long == "x" * 320 + " …"
    assert empty == "(empty text)"


def test_classifier_without_mistake_or_example():
    _, hardest = report.classification_sections(np.array([1]), np.array([[0, 1]]), ["t"], "ab")
    assert [piece.text for piece in hardest.pieces] == ["No mistake among 1 examples."]
    sections = report.classification_sections(np.zeros(0, int), np.zeros((0, 2)), [], ["a", "b"])
    Page(report.render(**arguments(sections=sections)))


@pytest.mark.parametrize(
    ("labels", "shape", "count", "message"),
    [
        ([0, 1], (2, 4), 2, r"probabilities have shape \(2, 4\); expected \[examples, 3\]"),
        ([0, 1], (3, 3), 3, "same examples"),
        ([0, 1], (2, 3), 1, "same examples"),
        ([0, 3], (2, 3), 2, "labels must be from 0 to 2, not from 0 to 3"),
        ([-1, 0], (2, 3), 2, "not from -1 to 0"),
    ],
)
def test_results_that_do_not_fit_are_refused(labels, shape, count, message):
    with pytest.raises(ValueError, match=message):
        report.classification_sections(np.array(labels), np.zeros(shape), ["t"] * count, CLASSES)


def test_history_finds_best_and_gap_and_drops_repeated_records():
    records = run_of([1.0, 0.5, 0.2], [1.1, 0.6, 0.75])
    repeated = [record("validation", 2, 9.0), *records]
    run = history.summarize(repeated)
    assert (run.axis, list(run.rows), run.best) == ("epoch", [1, 2, 3], 2)
    assert run.values("validation", "loss") == [1.1, 0.6, 0.75]
    assert run.gap(2) == pytest.approx(0.1)
    assert run.gap(3) == pytest.approx(0.55)
    assert history.summarize(records, best_epoch=3).best == 3
    # Of equal losses the first counts, as for the training that keeps only what is better.
    assert history.summarize(run_of([1, 1], [0.5, 0.5])).best == 1


def test_several_records_an_epoch_are_told_apart_by_step():
    records = [
        record("train", 1, 3.0, step=5),
        record("train", 1, 2.0, step=10),
        record("validation", 1, 2.5, step=10),
        record("train", 2, 1.0, step=15),
    ]
    run = history.summarize(records)
    assert (run.axis, list(run.rows), run.best) == ("step", [5, 10, 15], 10)
    assert run.values("validation", "loss") == [None, 2.5, None]
    assert "Trained for 2 of 7 epochs." in Page(report.render(**arguments(history=records))).text


@pytest.mark.parametrize(
    ("train", "validation", "stopped", "expected"),
    [
        ([1, 0.5, 0.2], [1.1, 0.6, 0.75], True, "had not fallen since epoch 2"),
        (
            [1, 0.5, 0.2],
            [1.1, 0.6, 0.75],
            False,
            "At epoch 2 the validation loss stood 0.1000 above the training loss; at the last, "
            "epoch 3, 0.5500 above. In between the training loss fell by 0.3000 while the "
            "validation loss rose by 0.1500: the model overfitted.",
        ),
        ([1, 0.5], [0.9, 0.4], False, "0.1000 below the training loss. It was still falling"),
        ([0.5, 0.6], [0.6, 0.7], False, "at the last, epoch 2, 0.1000 above."),
        ([math.nan], [math.nan], False, "Trained for 1 of 7 epochs. There is no test result yet."),
        ([], [], False, "No epoch is finished yet."),
    ],
)
def test_story_says_what_happened(train, validation, stopped, expected):
    run = history.summarize(run_of(train, validation))
    sentences = history.story(run, 7, stopped)
    told = " ".join(sentences)
    assert expected in told
    assert ("overfitted" in told) == (train[-1:] == [0.2])


def test_headline_of_a_finished_and_of_an_interrupted_run():
    parameters = [("a", (3,), "float32", 3), ("b", (1,), "float32", 1)]
    done = history.summarize(run_of([1.0, 0.5], [1.1, 0.6], test=0.2))
    tiles = {tile.name: (tile.value, tile.remark) for tile in history.tiles(done, parameters)}
    assert tiles == {
        "test accuracy": (0.9412, "validation 0.5000"),
        "test loss": (0.2, "validation 0.6000"),
        "loss gap at epoch 2": ("+0.1000", ""),
        "parameters": ("4", "75% of them in a"),
        "time": ("9.0 s", "4.0 s of it training"),
        "examples/s in training": ("20", "20 after the first epoch"),
    }
    cut = history.summarize(run_of([1.0, 0.5], [0.6, 1.1]))
    tiles = {tile.name: (tile.value, tile.remark) for tile in history.tiles(cut, parameters)}
    assert tiles["validation loss"] == (0.6, "at epoch 1")
    assert tiles["loss gap at epoch 1"] == ("\N{MINUS SIGN}0.4000", "+0.6000 at epoch 2")


def test_another_task_brings_its_own_measures_and_sections():
    records = [record(split, 1, 2.0, perplexity=7.25) for split in ("train", "validation", "test")]
    lines = {"truth": [1.0, 2.0], "forecast": [1.0, 3.0]}
    sections = [report.Section("Samples", [report.Case("after 1 epoch", "once upon")])]
    sections += [report.Section("Forecast", [report.Chart("Load", "hour", [0, 1], lines)])]
    text = Page(report.render(**arguments(history=records, sections=sections))).text
    assert "test perplexity7.2500" in text
    assert "Perplexity" in text
    assert "once upon" in text
    assert "forecast, hour 1: 3" in text
    assert "accuracy" not in text


def test_interrupted_and_exploding_runs_have_a_page():
    assert "No epoch is finished yet." in report.render(**arguments(history=[], parameters=[]))
    records = run_of([1.0, math.nan, math.inf], [2.0, None, 1e300], skipped=0)
    records[2] |= {"skipped": 3, "gradient_norm": None}
    page = report.render(**arguments(history=records))
    seen = Page(page)
    assert "3 steps were skipped" in seen.text
    assert "The train loss was not finite at epoch 2, 3." in seen.text
    assert seen.values("class").count("lost") == 4 + 2 + 1  # losses, gaps, the norm
    drawn = [value for name in ("d", "x", "y", "cx", "cy") for value in seen.values(name)]
    assert len(drawn) > 50
    assert not any("nan" in value or "inf" in value for value in drawn)


any_float = st.one_of(st.none(), st.floats(), st.floats(-10, 10), st.floats(1e-9, 1e9))


def test_long_names_at_the_lines_ends_and_wide_ticks_are_not_cut_off():
    name = "seasonal naive with drift"
    chart = report.Chart("t", "step", [1, 2], {name: [15_000.0, 40_000.0], "short": [2e4, 3e4]})
    width = charts.layout(chart)["width"]
    assert width >= charts.RIGHT + 8 + 6.5 * len(name)  # letters of 12 pixels, in bold
    box = re.search(r'viewBox="(.*?)"', report.drawing(chart))[1]
    left, top, across, down = map(int, box.split())
    assert (left + across, top + down) == (width, charts.HEIGHT)
    assert left < 0 > top


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.tuples(any_float, any_float, any_float), max_size=4),
    levels=st.lists(st.floats(), max_size=2),
    from_zero=st.booleans(),
)
def test_everything_drawn_lies_within_the_drawing(lines, levels, from_zero):
    series = {f"line {i}": line for i, line in enumerate(lines)}
    named = {f"level {i}": level for i, level in enumerate(levels)}
    chart = report.Chart("t", "step", [1, 2, 7], series, named, (2, "best"), from_zero)
    at = charts.layout(chart)
    assert at["width"] == charts.WIDTH
    across = [x for line in at["lines"] for x, *_ in line["points"] + line["lost"]]
    across += [at["mark"][0], *(x for x, _ in at["x_ticks"])]
    assert all(charts.LEFT <= x <= charts.RIGHT for x in across)
    down = [y for line in at["lines"] for _, y, _ in line["points"] + line["lost"]]
    down += [y for y, _ in at["y_ticks"] + at["levels"]]
    assert all(charts.TOP <= y <= charts.BOTTOM for y in down)
    heights = [y for y, *_ in at["names"]]
    gaps = np.diff(heights)
    assert (gaps >= charts.LINE_HEIGHT - 0.11).all()
    drawable = [v for line in lines for v in line if v is not None and abs(v) <= charts.LARGEST]
    assert sum(len(line["points"]) for line in at["lines"]) == len(drawable)


@pytest.mark.parametrize(
    ("low", "high", "choices", "expected"),
    [
        (0, 1, {}, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.13, 1.62, {}, [0, 0.5, 1, 1.5, 2]),
        (-0.3, 0.9, {}, [-0.5, 0, 0.5, 1]),
        (1, 3, {"count": 7, "smallest": 1}, [1, 2, 3]),
        (0, 4321, {}, [0, 1000, 2000, 3000, 4000, 5000]),
        (5, 5, {}, [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, choices, expected):
    np.testing.assert_allclose(charts.ticks(low, high, **choices), expected, atol=1e-12)


def test_values_of_very_different_size_get_a_logarithmic_axis():
    at = charts.layout(report.Chart("t", "epoch", [1, 2, 3], {"train": [1.0, 100.0, 10000.0]}))
    assert [label for _, label in at["y_ticks"]] == ["1", "10", "100", "1,000", "10,000"]
    heights = [y for _, y, _ in at["lines"][0]["points"]]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert at["logarithmic"]
    flat = charts.layout(report.Chart("t", "epoch", [1, 2], {"train": [0.0, 10000.0]}))
    assert not flat["logarithmic"]
    asked = report.Chart("t", "epoch", [1, 2], {"train": [1.0, 10000.0]}, linear=True)
    assert not charts.layout(asked)["logarithmic"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (1_281_364, "1,281,364"),
        (np.int64(5), "5"),
        (0.20114, "0.2011"),
        (0.0, "0.0000"),
        (2.1e-5, "2.1e-05"),
        (math.nan, "NaN"),
        (-math.inf, "\N{MINUS SIGN}∞"),
        (-0.5, "\N{MINUS SIGN}0.5000"),
        ("-", "-"),
        (report.Share(0.947), "94.7%"),
        (report.Share("nan"), "—"),
        (report.Seconds(12.345), "12.3"),
        (report.Seconds(0.1009), "0.10"),
        (True, "True"),
    ],
)
def test_figures_are_readable(value, shown):
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (95.4, "1 min 35 s"), (7449, "2 h 4 min")]
)
def test_durations_are_readable(seconds, shown):
    assert history.duration(seconds) == shown


def test_write_replaces_the_page_only_by_a_whole_one(tmp_path):
    path = tmp_path / "report.html"
    report.write(path, **arguments())
    assert path.read_text(encoding="utf-8") == report.render(**arguments())
    with pytest.raises(TypeError):
        report.write(path, **arguments(parameters=[("a", (1,), "float32", None)]))
    assert path.read_text(encoding="utf-8") == report.render(**arguments())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="missing"):
        report.write(tmp_path / "missing" / "report.html", **arguments())


def test_a_page_stays_below_5_megabytes_whatever_comes_in():
    """1,000 classes with long names, and 20,000 epochs; what matters most stays."""
    rng = np.random.default_rng(0)
    classes = [f"{n:04d} " + "name " * 15 for n in range(1000)]
    labels = rng.integers(0, 1000, 5000)
    predicted = np.where(rng.random(5000) < 0.5, labels, rng.integers(0, 1000, 5000))
    predicted[labels == 7] = 8
    probabilities = np.eye(1000)[predicted]
    sections = report.classification_sections(labels, probabilities, ["text"] * 5000, classes)
    _, overall, confusions, scores = sections[0].pieces
    assert len(overall.rows) == 5
    assert confusions.rows[0][0].startswith("0007 name")
    assert confusions.rows[0][1].startswith("0008 name")
    assert confusions.rows[0][2:] == [int((labels == 7).sum()), 1.0]
    assert scores.rows[0][1:4] == [0.0, 0.0, 0.0]
    losses = rng.random(20_000)
    losses[12_345] = 0.0
    page = report.render(**arguments(sections=sections, history=run_of(losses, losses)))
    assert len(page.encode()) < 5e6
    text = Page(page).text
    assert "12,346" in text  # the best epoch's number
    assert "… 19,600 more" in text
    assert "… 600 more" in text


def test_what_a_page_leaves_out_is_said_and_what_stands_out_stays():
    axis = lambda: pieces.Axis("rate", list(range(5000)))
    scatter = limits.within(pieces.Scatter("t", axis(), axis(), list(map(str, range(5000))), 1234))
    assert len(scatter.tips) == len(scatter.x.values) == len(scatter.y.values) <= 1001
    assert scatter.tips[scatter.best] == "1234"
    assert {"0", "4999"} <= set(scatter.tips)
    wide = pieces.Parallel("t", [axis(), axis()], list(map(str, range(5000))), 1234)
    parallel = limits.within(wide)
    assert parallel.tips[parallel.best] == "1234"
    assert {len(each.values) for each in parallel.axes} == {len(parallel.tips)}
    line = [0.0] * 5000
    line[77] = math.inf
    chart = report.Chart("t", "step", range(5000), {"a": line}, mark=(4321, "best"))
    chart = limits.within(chart)
    assert math.inf in chart.series["a"]
    assert 4321 in chart.x
    assert len(chart.x) < 510
    assert limits.within(pieces.Lines(["x"] * 1000)).texts[-1] == "… 700 more"
    table = limits.within(report.Table("", ["a", "b"], [[str(n), n] for n in range(1000)]))
    assert [row[0] for row in table.rows[199:202]] == ["199", "… 600 more", "800"]
    long = limits.within(report.Table("", ["a"], [["x" * 10_000]]))
    assert len(long.rows[0][0]) == limits.CHARACTERS


def test_the_command_and_the_date_are_on_the_page():
    command = "python launch.py --experiment=bilstm"
    text = Page(report.render(**arguments(command=command, date="2026-01-02"))).text
    assert command in text
    assert "2026-01-02" in text
