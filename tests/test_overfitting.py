"""The study of overfitting, on made-up runs, and shrunk (its many small runs are slow:
`pytest -m slow`)."""

import json
from types import SimpleNamespace

import pytest
from test_sweeps import StoppingAfter

from rnn_jax import sweeps
from rnn_jax.config import InputError, replace
from rnn_jax.studies import OverfittingConfig, overfitting
from rnn_jax.studies.overfitting import figures, options, page, training, words
from rnn_jax.studies.overfitting.training import Run
from rnn_jax.system.interrupts import Interrupted, Request

CONFIG = OverfittingConfig("overfitting")
RUNS = [Run([1.0, 0.5, 0.1], [0.9, 0.6, 0.8], 0.75), Run([1.2, 0.7, 0.3], [1.0, 1.1, 1.2], 0.25)]


def test_figures_are_means_over_seeds_with_the_extremes():
    found = figures.of(RUNS)
    assert found.train == pytest.approx((0.2, 0.1, 0.3))
    assert found.best == pytest.approx((0.8, 0.6, 1.0))
    assert found.turn == (1.5, 1, 2)
    assert found.last == pytest.approx((1.0, 0.8, 1.2))
    assert found.accuracy == (0.5, 0.25, 0.75)
    assert found.epochs == 3
    assert (found.gap, found.lost) == pytest.approx((0.8, 0.2))
    assert figures.mean_curve([run.train for run in RUNS]) == pytest.approx([1.1, 0.6, 0.2])


@pytest.mark.parametrize(
    ("smallest", "largest", "sizes"),
    [(200, 1530, (200, 400, 800, 1530)), (100, 400, (100, 200, 400)), (7, 7, (7,))],
)
def test_sizes_double_and_end_with_the_largest(smallest, largest, sizes):
    study = options.StudyConfig(smallest=smallest, largest=largest)
    assert study.sizes == sizes
    assert options.StudyConfig(narrowest=2, widest=128).widths == (2, 8, 32, 128)


def test_every_run_makes_as_many_updates_whatever_its_stories():
    for stories in (200, 410, 1530):
        run = options.classifier(CONFIG, stories)
        batches = -(-stories // run.train.batch_size)
        updates = run.train.epochs * batches
        assert CONFIG.study.steps <= updates < CONFIG.study.steps + batches
        assert run.data.train_take == stories
        assert run.model == CONFIG.model


def test_options_out_of_order_are_named():
    with pytest.raises(InputError, match=r"study\.largest must be at least .*smallest, 200, not 9"):
        replace(CONFIG, {"study.largest": 9})
    with pytest.raises(InputError, match=r"study\.widest must be at least .*narrowest, 2, not 1"):
        replace(CONFIG, {"study.widest": 1})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"study.largest": 1531},
            r"study\.largest=1531, .* has 1530 stories; give 1530",
        ),
        ({"data.take": 300, "study.largest": 300}, r"study\.stories=400, .* has 300 stories"),
    ],
)
def test_more_stories_than_there_are_are_refused_before_any_run(
    monkeypatch, tmp_path, changes, said
):
    monkeypatch.setattr(sweeps, "run", None)
    with pytest.raises(InputError, match=said):
        overfitting.STUDY.run(replace(CONFIG, changes), tmp_path, lambda line: None, Request())


def facts():
    """Of runs in which less is learned by heart the more stories there are."""
    run = lambda end: Run([1.0, 0.4, 0.2], [0.9, 0.5, end], 0.8)
    made = lambda gap: [run(0.2 + gap + seed) for seed in (0, 0.1)]
    sizes = {200: made(0.6), 400: made(0.4), 1530: made(0.25)}
    rates = {rate: made(0.5 - rate / 2) for rate in training.RATES}
    varied = {"width": {2: made(0.1), 8: made(0.7)}, "dropout": rates, "token_dropout": rates}
    return page.Facts(CONFIG, sizes, varied)


def test_the_page_and_the_lines_tell_what_was_found(tmp_path):
    page.write(tmp_path, facts())
    text = (tmp_path / "report.html").read_text()
    for told in (
        "With 200 training stories the validation loss is lowest, 0.500, in epoch 2 of 3 and ends "
        "at 0.850, where the training loss is 0.200; test accuracy 0.800.",
        "Epochs after the best one added to the validation loss: 0.350 with 200, 0.150 with 400, "
        "0.025 with 1530.",
        "Dropout of words",
        "50% of features dropped",
        "8 units",
    ):
        assert told in text, told
    names = {file.stem for file in (tmp_path / "figures").glob("*.svg")}
    assert {"stories_200", "stories_summary", "width_8", "dropout_0.25", "token_dropout_0"} < names
    assert len(names) == 4 + 3 + 2 + 4 + 4
    assert "NaN" not in text
    found = page.summary(facts())
    assert found.lines[1] == (
        "stories  200: 0.200 / 0.500 / 0.850  400: 0.200 / 0.500 / 0.650  "
        "1530: 0.200 / 0.475 / 0.500"
    )
    assert found.line == (
        "lowest validation loss  0.500 with 200 training stories, 0.475 with 1530 training stories"
        "  (26 runs)"
    )


def test_a_chart_has_the_means_and_behind_them_the_seeds():
    chart = page._curves("x", RUNS)
    assert chart.series["validation"] == pytest.approx([0.95, 0.85, 1.0])
    assert list(chart.background) == [*(run.train for run in RUNS), *(r.validation for r in RUNS)]
    assert chart.mark == (2, "best epoch")


def test_words_say_which_value_was_best():
    settings = {value: figures.of(runs) for value, runs in facts().varied["width"].items()}
    (told,) = words.varied("width", settings)
    assert "The lowest validation loss, 0.350, is that of 2." in told


def test_a_run_that_did_not_end_is_named(monkeypatch, tmp_path):
    outcome = sweeps.outcomes.Outcome("failed", (), "not finite: train of epoch 1, step 3")
    entry = SimpleNamespace(trial=SimpleNamespace(name="abc", changes={}), outcome=outcome)
    monkeypatch.setattr(sweeps, "run", lambda *args, **named: SimpleNamespace(entries=[entry]))
    with pytest.raises(InputError, match=r"run abc in .* did not end .not finite: train of"):
        training.sized(CONFIG, 200, tmp_path, lambda line: None, Request())


SMALL = {
    "study.smallest": 20, "study.largest": 30, "study.stories": 20, "study.narrowest": 2,
    "study.widest": 2, "study.seeds": 1, "study.steps": 4, "data.vocab_size": 50,
    "data.max_length": 8, "train.batch_size": 10,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_study_goes_on_where_it_was_and_trains_nothing_twice(tmp_path, monkeypatch):
    small = replace(CONFIG, SMALL)
    with pytest.raises(Interrupted):
        overfitting.STUDY.run(small, tmp_path, lambda line: None, StoppingAfter(12))
    before = json.loads((tmp_path / "study.json").read_text())["parts"]
    found = overfitting.STUDY.run(small, tmp_path, lambda line: None, Request())
    after = json.loads((tmp_path / "study.json").read_text())["parts"]
    assert list(after) == ["stories 20", "stories 30", "width", "dropout", "token_dropout"]
    assert {name: after[name] for name in before} == before
    (run,) = after["stories 20"]
    assert [len(curve) for curve in run[:2]] == [2, 2]
    # The same setting in another sweep is the same run.
    assert after["dropout"][0] == [0.0, after["token_dropout"][0][1]]
    monkeypatch.setattr(sweeps, "run", None)
    assert overfitting.STUDY.run(small, tmp_path, lambda line: None, Request()) == found
