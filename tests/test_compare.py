"""Several models over several seeds: the statistics against SciPy's, and the runs themselves."""

import csv
import itertools
import math

import numpy as np
import pytest
from scipy import stats

import rnn_jax
from rnn_jax.config import InputError
from rnn_jax.inspect import plots
from rnn_jax.studies import statistics
from rnn_jax.studies.comparison import Comparison
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.train import loop

DRAW = np.random.default_rng(0)
SMALL = {
    "data.lag": 4, "data.train": 40, "data.held_out": 20, "model.hidden": 3, "train.epochs": 1,
    "train.batch_size": 20, "train.patience": 0,
}  # fmt: skip


# --- statistics


@pytest.mark.parametrize("pairs", [2, 3, 6, 9])
def test_paired_tests_are_scipys(pairs):
    for shift in (0.0, 0.7, -3.0):
        first, second = DRAW.normal(shift, 1, pairs), DRAW.normal(0, 1, pairs)
        found = statistics.paired_t(first - second)
        assert found == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)
        exact = stats.permutation_test(
            (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), vectorized=True,
            permutation_type="samples", n_resamples=np.inf,
        )  # fmt: skip
        assert statistics.sign_flip(first - second) == pytest.approx(exact.pvalue, rel=1e-12)


def test_sign_flips_by_hand():
    # 1 + 2 + 4: of the 8 patterns only +++ and --- are so far from 0.
    assert statistics.sign_flip([1, 2, 4]) == 2 / 8
    # -1 + 2 + 4 = 5: besides it and its mirror image, +++ and ---.
    assert statistics.sign_flip([-1, 2, 4]) == 4 / 8
    assert statistics.sign_flip([0.1, 0.2, -0.3]) == 1.0  # a sum of 0, but for rounding
    for pairs in (1, 5, 6, 20):
        assert statistics.sign_flip(np.ones(pairs)) == statistics.smallest(pairs)


def test_many_pairs_are_drawn_and_close_to_what_is_exact(monkeypatch):
    values = DRAW.normal(0.4, 1, 12)
    exact = statistics.sign_flip(values)
    monkeypatch.setattr(statistics, "EXACT", 11)
    drawn = statistics.sign_flip(values)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact / statistics.DRAWN))
    assert statistics.sign_flip(np.ones(60)) == statistics.smallest(60) > 0


def test_what_cannot_be_tested_has_no_p_and_what_is_equal_has_1():
    assert math.isnan(statistics.paired_t([0.5]))
    assert math.isnan(statistics.sign_flip([]))
    assert statistics.paired_t([0, 0, 0]) == statistics.sign_flip([0, 0, 0]) == 1
    assert statistics.paired_t([0.5, 0.5]) == 0


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and none below the one before it.
    found = statistics.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    np.testing.assert_allclose(statistics.holm([0.6, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(statistics.holm([np.nan, 0.01]), [np.nan, 0.02])
    assert statistics.holm([]).shape == (0,)


def test_holm_keeps_its_promise():
    """Of many families without any difference, at most 5% have a p below 5%."""
    draw = np.random.default_rng(1)
    families = draw.uniform(size=(4000, 3))
    wrong = np.mean([(statistics.holm(each) < 0.05).any() for each in families])
    assert 0.035 < wrong < 0.06
    assert np.mean((families < 0.05).any(axis=1)) > 0.12  # without it


# --- what a comparison says


def made(scores, failures=()):
    variants = tuple("abcd"[: len(scores)])
    seeds = tuple(range(len(scores[0])))
    figures = {"accuracy": np.array(scores, float), "loss": -np.array(scores, float)}
    return Comparison(
        variants, seeds, "accuracy", figures, dict(failures), dict.fromkeys(
            itertools.product(variants, seeds)
        ),
    )  # fmt: skip


SCORES = [[0.5, 0.6, 0.7, 0.6], [0.7, 0.7, 0.9, 0.8], [0.5, 0.4, 0.8, 0.9]]


def test_means_intervals_and_differences_are_scipys():
    found = made(SCORES)
    for each, values in zip(found.summaries(), np.array(SCORES), strict=True):
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert each[1:] == pytest.approx((values.mean(), *interval))
    pairs = found.differences()
    assert [each[:2] for each in pairs] == [("b", "a"), ("c", "a"), ("c", "b")]
    rows = dict(zip("abc", np.array(SCORES), strict=True))
    for each in pairs:
        test = stats.ttest_rel(rows[each.first], rows[each.second])
        assert each.t == pytest.approx(test.pvalue)
        assert (each.low, each.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert each.mean == pytest.approx(rows[each.first].mean() - rows[each.second].mean())
    for name in ("t", "flip"):
        alone = [getattr(each, name) for each in pairs]
        together = [getattr(each, f"{name}_holm") for each in pairs]
        np.testing.assert_allclose(together, statistics.holm(alone))
    assert [each[:2] for each in found.differences("b")] == [("a", "b"), ("c", "b")]
    assert found.by("loss").differences()[0].mean == pytest.approx(-pairs[0].mean)


def test_print_shows_every_score_and_what_seeds_cannot_show():
    text = str(made(SCORES))
    for value in np.ravel(SCORES):
        assert f"{value:.4f}" in text
    assert "Holm's correction for 3 differences" in text
    assert "with 4 seeds no p by sign flips is below 0.38 here" in text  # 3 * 2 / 2^4
    assert len(repr(made(SCORES))) < 100


def test_a_run_that_failed_is_told_and_not_left_out_of_a_mean():
    found = made([[0.5, np.nan], [0.7, 0.9]], {("a", 1): "not finite: train of epoch 1"})
    assert math.isnan(found.summaries()[0].mean)
    assert found.summaries()[1].mean == pytest.approx(0.8)
    (pair,) = found.differences()
    assert all(math.isnan(value) for value in pair[2:])
    assert "a with seed 1 failed: not finite" in str(found)
    assert "1 runs failed" in repr(found)


def test_of_one_seed_there_is_no_interval():
    found = made([[0.5], [0.7]])
    assert math.isnan(found.summaries()[0].low)
    assert "difference" not in str(found)


def test_names_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="against must be one of a, b, c, not 'x'"):
        made(SCORES).differences("x")
    with pytest.raises(ValueError, match="figure must be one of accuracy, loss, not 'x'"):
        made(SCORES).by("x")


@pytest.mark.parametrize("scores", [SCORES, SCORES[:1], [[0.5], [0.7]]])
def test_the_plot_has_a_dot_for_each_score(scores):
    figure = made(scores).plot()
    shown = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "."]
    np.testing.assert_array_equal(shown, scores)
    assert len(figure.axes) == (2 if len(scores) > 1 < len(scores[0]) else 1)
    plots.pyplot().close(figure)


# --- runs


@pytest.fixture(scope="module")
def base():
    return rnn_jax.replace(rnn_jax.AddingConfig("adding"), SMALL)


def leaky(model):
    import jax.numpy as jnp

    def step(params, h, x):
        h = 0.5 * h + 0.5 * x
        return h, h

    return rnn_jax.Cell(
        init=lambda key, features: {"kernel": jnp.ones((features, model.hidden))},
        project=lambda params, inputs, noise=None: inputs @ params["kernel"],
        step=step,
        initial_carry=lambda params, batch: jnp.zeros((batch, model.hidden)),
        spec=("leaky", model.hidden),
    )


def test_runs_are_those_alone_and_are_not_trained_twice(base, tmp_path, monkeypatch):
    cells = {"leaky": leaky}
    found = rnn_jax.compare(base, ["leaky", "gru"], tmp_path / "two", seeds=2, cells=cells)
    assert found.scores.shape == (2, 2)
    alone = loop.run(
        rnn_jax.replace(base, {"model.cell": "gru", "train.seed": 1}), tmp_path / "alone"
    )
    assert found.scores[1, 1] == alone.history[-1]["loss"]
    assert found.scores[1, 0] != found.scores[1, 1]
    with (tmp_path / "two" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == found.scores.ravel().tolist()
    assert all((tmp_path / "two" / row["run"] / "config.json").exists() for row in rows)

    trained = []
    run = loop.run
    monkeypatch.setattr(loop, "run", lambda c, *a, **k: trained.append(c) or run(c, *a, **k))
    more = rnn_jax.compare(
        base, {"gru": {"model.cell": "gru"}, "wide": {"model.hidden": 5}}, tmp_path / "two",
        seeds=(1, 0),
    )  # fmt: skip
    np.testing.assert_array_equal(more.scores[0], found.scores[1, ::-1])
    assert [each.model.hidden for each in trained] == [5, 5]


def test_interrupted_it_goes_on(base, tmp_path):
    import contextlib

    from test_sweeps import StoppingAfter

    stopping = StoppingAfter(12)
    with pytest.raises(Interrupted):
        rnn_jax.compare(
            base, ["gru"], tmp_path / "a", seeds=3, jobs=1,
            deferred=lambda: contextlib.nullcontext(stopping),
        )  # fmt: skip
    found = rnn_jax.compare(base, ["gru"], tmp_path / "a", seeds=3)
    whole = rnn_jax.compare(base, ["gru"], tmp_path / "b", seeds=3)
    np.testing.assert_array_equal(found.scores, whole.scores)


@pytest.mark.parametrize(
    ("variants", "how", "said"),
    [
        ([], {}, "variants must name what is compared"),
        ("gru", {}, "variants must name what is compared"),
        (["gruu"], {}, "gruu"),
        ({"a": 3}, {}, r"variants\['a'\] must be a config or options"),
        ({"a": {"model.hiden": 3}}, {}, r"variants\['a'\]: .*did you mean"),
        ({"a": {"train.seed": 3}}, {}, r"variants\['a'\] sets train.seed"),
        ({"a": {}, "b": {}}, {}, "'a' and 'b' have the same config"),
        ({"a": {}, "b": rnn_jax.CopyConfig("copy")}, {}, "'a' and 'b' are of different tasks"),
        (["gru"], {"seeds": 0}, "seeds must be a number of at least 1"),
        (["gru"], {"seeds": (1, 1)}, "seeds must be a number of at least 1"),
        (["gru"], {"seeds": (-1,)}, "seed"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    base, tmp_path, variants, how, said
):
    with pytest.raises(InputError, match=said) as found:
        rnn_jax.compare(base, variants, tmp_path / "a", **how)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "a").exists()


def test_a_figure_that_no_test_has_and_the_folder_of_a_run_are_refused(base, tmp_path):
    with pytest.raises(InputError, match=r"no 'accuracy' \(there are loss"):
        rnn_jax.compare(base, ["gru"], tmp_path, seeds=1, figure="accuracy")
    (run,) = (tmp_path / "runs").iterdir()
    with pytest.raises(InputError, match="holds a run, and a comparison needs a folder"):
        rnn_jax.compare(base, ["gru"], run, seeds=1)


def test_a_run_that_is_not_finite_is_reported(base, tmp_path):
    found = rnn_jax.compare(
        base, {"gru": {}, "wild": {"optimizer.learning_rate": 1e30}}, tmp_path, seeds=1
    )
    assert np.isfinite(found.scores[0]).all()
    assert np.isnan(found.scores[1]).all()
    assert found.failures["wild", 0].startswith("not finite")
