"""Forecasting: simple forecasts, the network, the loss, a run from Enter to JSON lines."""

import dataclasses
import datetime
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import (
    AdamConfig,
    ForecasterConfig,
    ForecastingConfig,
    InputError,
    SeriesConfig,
    TrainConfig,
    tasks,
    train,
)
from rnn_jax.config import replace
from rnn_jax.data.arrays import ArrayBatch
from rnn_jax.data.series import preparation, windows
from rnn_jax.data.series.windows import Windows
from rnn_jax.models import simple_forecasts
from rnn_jax.models.forecaster import levels_of
from rnn_jax.report import forecasting as pages
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.tasks import forecast_report, forecasting
from rnn_jax.tasks.base import outputs_in_order

HOURS = 24 * 30


def demand(seed: int = 0) -> np.ndarray:
    """A month of hours with a day's and a week's shape, a level that wanders, and noise."""
    draw, hours = np.random.default_rng(seed), np.arange(HOURS)
    shape = 10 * np.sin(hours * 2 * np.pi / 24) * (1 + (hours // 24 % 7 < 5))
    return 100 + shape + np.cumsum(draw.normal(0, 0.2, HOURS)) + draw.normal(0, 1, HOURS)


def written(path, columns: dict[str, np.ndarray], first: int = 0, last: int = HOURS) -> None:
    start = datetime.datetime(2024, 1, 1)
    lines = [",".join(["time", *columns])]
    for hour in range(first, last):
        cells = [f"{values[hour]:.4f}" for values in columns.values()]
        lines.append(",".join([(start + datetime.timedelta(hours=hour)).isoformat(), *cells]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("series") / "demand.csv"
    written(file, {"north": demand(), "south": 3 * demand(1) + 50})
    return ForecastingConfig(
        "test",
        data=SeriesConfig(
            source="csv", path=str(file), seasons="24", horizons="1,6", history=8, lags=2,
            held_out=96, stride=3, test_stride=5,
            smoothed=2,
        ),
        model=ForecasterConfig(
            cell="gru", hidden=4, width=6, differences=2, quantiles="0.1,0.5,0.9", dropout=0.1,
            kernel="scan",
        ),
        optimizer=AdamConfig(learning_rate=0.02),
        train=TrainConfig(epochs=2, batch_size=32, steps_per_call=4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def task(config):
    return made(config)


@pytest.fixture(scope="module")
def params(task):
    """Parameters of which none is 0."""
    drawn = jax.jit(task.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def made(config):
    resolved = tasks.resolve(config)
    return tasks.make(resolved.config, tasks.kind_of(config).facts(resolved.config))


def batch_of(config, count: int = 32) -> ArrayBatch:
    split = preparation.prepare(config.data).train
    members = np.arange(count) * 7
    cut = Windows(*(leaf[members] for leaf in split.windows))
    return ArrayBatch(cut, np.ones(count, np.float32))


def test_simple_forecasts_by_hand():
    names = simple_forecasts.names((2, 3), 2)
    assert [str(name) for name in names] == [
        "the last value",
        "the mean of the last 2",
        "2 steps before",
        "2 steps before, moved to the last value",
        "4 steps before, moved to the last value",
        "3 steps before",
        "3 steps before, moved to the last value",
        "6 steps before, moved to the last value",
    ]
    values = jnp.array([[1.0, 2, 3, 4, 2, 4, 6, 9]])
    found = simple_forecasts.simple_forecasts(values, values > 0, (2, 3), 2, horizon=3)
    assert found.made.all()
    expected = [
        [9, 9, 9],
        [7.5, 7.5, 7.5],
        [6, 9, 6],
        [6 + 5, 9 + 5, 6 + 5],
        [2 + 5, 4 + 5, 2 + 5],
        [4, 6, 9],
        [4 + 7, 6 + 7, 9 + 7],
        [3 + 7, 4 + 7, 2 + 7],
    ]
    np.testing.assert_allclose(found.values[0].T, expected, rtol=1e-6)


def test_simple_forecasts_of_what_is_missing():
    values = jnp.array([[1.0, 2, 3, 4, 2, jnp.nan, 6, 9]])
    seen = jnp.isfinite(values)
    found = simple_forecasts.simple_forecasts(values, seen, (2, 3), 1, horizon=3)
    assert found.last.tolist() == [9]
    assert jnp.isfinite(found.values).all()
    assert found.made[0].T.tolist() == [
        [True] * 3, [True] * 3, [True] * 3, [False] * 3, [False, True, True],
        [False, True, True],
    ]  # fmt: skip
    end = simple_forecasts.simple_forecasts(values[:, :6], seen[:, :6], (2, 3), 1, horizon=3)
    assert end.last.tolist() == [2]
    assert end.made[0].T.tolist() == [
        [True] * 3, [True] * 3, [True, False, True], [False] * 3, [True, True, False],
        [False] * 3,
    ]  # fmt: skip
    none = simple_forecasts.simple_forecasts(values, jnp.zeros_like(seen), (2, 3), 1, horizon=3)
    assert not none.made.any()
    assert not none.values.any()


def test_the_pinball_loss_by_hand():
    quantiles = jnp.array([[[1.0, 2.0, 4.0]]])
    for came, expected in ((3.0, (0.1 * 2 + 0.5 * 1 + 0.1 * 1)), (0.0, 0.9 + 1.0 + 0.1 * 4)):
        found = forecasting.pinball(quantiles, jnp.array([[came]]), (0.1, 0.5, 0.9))
        assert float(found[0, 0]) == pytest.approx(2 * expected / 3, rel=1e-6)
    # Its minimum is the quantile.
    sample = jnp.arange(1000.0)[:, None]
    losses = [
        float(jnp.mean(forecasting.pinball(jnp.full((1000, 1, 1), place), sample, (0.9,))))
        for place in (850.0, 899.5, 950.0)
    ]
    assert losses[1] == min(losses)


def test_which_interval_is_counted():
    assert forecasting.interval((0.05, 0.1, 0.5, 0.9, 0.95)) == (1, 3)
    assert forecasting.interval((0.25, 0.5, 0.75)) == (0, 2)
    np.testing.assert_allclose(forecasting.lead_weights(400).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("text", ["", "0.5", "0.1,0.9", "0.1,0.5,0.8", "0.9,0.5,0.1", "0,0.5,1"])
def test_bad_quantiles(text):
    with pytest.raises(InputError, match=r"--config.model.quantiles must be numbers between"):
        levels_of(text)


def test_quantiles_do_not_cross_and_a_forecast_reads_nothing_that_came(config, task, params):
    batch = batch_of(config)
    evaluate = jax.jit(task.evaluate)
    _, sums, found = evaluate(params, None, batch)
    assert found.shape == (32, 6, 3)
    assert (np.diff(found, axis=-1) > 0).all()
    values = np.array(batch.arrays.values)
    values[:, -6:] += 1000
    _, other, again = evaluate(
        params, None, batch._replace(arrays=batch.arrays._replace(values=values))
    )
    np.testing.assert_array_equal(found, again)
    # Where no smoothed forecast can be made, the others make it.
    smoothed = np.array(batch.arrays.smoothed)
    smoothed[::2] = np.nan
    without = batch.arrays._replace(smoothed=smoothed)
    _, _, again = evaluate(params, None, batch._replace(arrays=without))
    assert np.isfinite(again).all()
    np.testing.assert_array_equal(again[1::2], found[1::2])
    assert (again[::2] != found[::2]).all()
    # The sums are those of a plain computation.
    came = np.asarray(batch.arrays.values)[:, -6:]
    errors = np.abs(came - np.asarray(found)[..., 1])
    assert float(sums["error_6"]) == pytest.approx(errors.sum(), rel=1e-5)
    assert float(sums["error_1"]) == pytest.approx(errors[:, 0].sum(), rel=1e-5)
    inside = (came >= found[..., 0]) & (came <= found[..., 2])
    assert int(sums["covered"]) == inside.sum()
    assert int(other["covered"]) == 0
    off = came[..., None] - np.asarray(found)
    levels = np.array([0.1, 0.5, 0.9])
    losses = 2 * np.maximum(levels * off, (levels - 1) * off).mean(axis=-1)
    losses *= forecasting.lead_weights(6) / np.asarray(batch.arrays.typical)
    assert float(sums["loss"]) == pytest.approx(losses.sum(), rel=1e-5)
    means = task.means({name: np.asarray(value) for name, value in sums.items()})
    assert means["MASE"] == pytest.approx(errors.mean(), rel=1e-5)


def test_what_is_missing_changes_no_bit_and_rows_that_fill_a_batch_count_for_nothing(
    config, task, params
):
    batch = batch_of(config)
    seen = np.array(batch.arrays.seen)
    seen[::2, -9] = seen[1::2, -2] = False  # before the forecast, and within
    seen[3, :-6] = False  # nothing at all is known
    weights = np.ones(32, np.float32)
    weights[-5:] = 0
    step = jax.jit(
        jax.value_and_grad(
            lambda p, b: task.loss(p, None, b, jax.random.key(0), task.rates), has_aux=True
        )
    )

    def with_values(filler: float):
        values = np.where(seen, batch.arrays.values, filler).astype(np.float32)
        values[-5:] = 7 * filler
        changed = batch.arrays._replace(values=values, seen=seen)
        return step(params, ArrayBatch(changed, weights))

    one, other = with_values(0.0), with_values(123.0)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    (_, (_, sums)), grads = one
    assert int(sums["examples"]) == 27
    assert int(sums["steps_6"]) == 27 * 6 - 13
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    untouched = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(grads)
                 if not np.abs(leaf).max() > 0]  # fmt: skip
    assert untouched == ["['calibration']"]  # which is found after training
    assert task.held.marks["calibration"] is True


def test_smoothed_forecasts_need_a_season(config):
    known = preparation.prepare(config.data).known
    parts, values = preparation.layout_of(config.data, (24,)), demand()[:, None] * [1, 3]
    series = np.arange(2)
    for length, made_ in ((23, False), (24, True)):
        scaled = known.scaled(values[-length:], HOURS - length, parts, ahead=6)
        cut = windows.cut(scaled, parts, series, np.full(2, length))
        assert (np.isfinite(cut.smoothed[series]) == made_).all()


def test_a_recurrent_decoder_goes_on_from_the_encoder_s_state(config):
    config = replace(config, {"model.decoder": "recurrent", "model.dropout": 0.0})
    task, batch = made(config), batch_of(config, 8)
    params = jax.jit(task.init)(jax.random.key(0))
    assert {"encoder", "decoder", "head"} <= set(params)
    params["head"]["kernel"] += 0.1
    grads, found = jax.jit(
        lambda p: (
            jax.grad(lambda p: task.loss(p, None, batch, jax.random.key(0), task.rates)[0])(p),
            task.evaluate(p, None, batch)[2],
        )
    )(params)
    assert (np.diff(found, axis=-1) > 0).all()
    for name in ("encoder", "decoder"):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads[name]))


def test_what_was_not_measured_has_no_figure_in_the_report():
    came = np.array([[1.0, np.nan], [5.0, np.nan]])
    outputs = np.array([[0.0, 1, 2], [0, 1, 2]])[:, None] * np.ones((2, 2, 1))
    inside = pages.coverage_by_lead(outputs, came, (0.1, 0.5, 0.9))
    np.testing.assert_array_equal(inside["80%"], [0.5, np.nan])
    errors = {"a": np.abs(came - 1), "b": np.full((2, 2), np.nan)}
    table = pages.comparison(errors, (1, 2), season=2, count=2).pieces[1]
    assert table.rows == [["a", 2.0, 2.0], ["b", None, None]]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return train.run(replace(config, {"train.epochs": 5}), folder)


def test_a_run_s_line_report_and_evaluation(config, run, launch):
    record = run.history[-1]
    assert run.line == (
        f"test MASE {record['MASE']:.3f}  coverage {record['coverage']:.3f}  (csv, 6 steps ahead; "
        f"1: {record['MASE_1']:.3f}; season 24, 38 origins)"
    )
    assert record["MASE"] < 1
    page = (run.folder / "report.html").read_text()
    for heading in ("Beside simple forecasts", "By step ahead", "By hour", "Coverage", "By series"):
        assert f">{heading}<" in page
    assert page.count('class="area"') >= 3
    assert "seasonal naive with drift" in page
    code, out, err = launch("--mode=evaluate", f"--workdir={run.folder}")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[-1] == run.line
    assert lines[1].split() == ["this", "model", "1:", f"{record['MASE_1']:.3f}", "6:",
                                f"{record['MASE']:.3f}"]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[2:-1]] == [
        "seasonal naive", "seasonal naive with drift", "last value", "exponential smoothing",
    ]  # fmt: skip


def test_what_comes_next_as_json_lines(config, run, launch, tmp_path):
    workdir = f"--workdir={run.folder}"
    code, out, err = launch("--mode=predict", workdir)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["series"] for row in rows] == ["north"] * 6 + ["south"] * 6
    assert rows[0]["time"] == "2024-01-31T00:00:00"
    assert rows[5]["time"] == "2024-01-31T05:00:00"
    assert [row["step"] for row in rows[:6]] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        low, middle, high = row["quantiles"].values()
        assert low < middle < high
    # The same from a file with columns in another order.
    columns = {"south": 3 * demand(1) + 50, "north": demand()}
    written(tmp_path / "other.csv", columns)
    assert launch("--mode=predict", workdir, f"--file={tmp_path / 'other.csv'}")[:2] == (0, out)
    # A day earlier the times are a day earlier.
    written(tmp_path / "early.csv", columns, last=HOURS - 24)
    code, out, err = launch("--mode=predict", workdir, f"--file={tmp_path / 'early.csv'}")
    assert json.loads(out.splitlines()[0])["time"] == "2024-01-30T00:00:00"


def test_forecasts_are_those_of_the_test(config, run):
    """A history that ends where a test window begins gives what the run gave for it."""
    predictor, data = rnn_jax.load(run.folder), preparation.prepare(config.data)
    split, task = data.test, made(config)
    cut = Windows(*(leaf[np.arange(len(split.origins))] for leaf in split.windows))
    batch = ArrayBatch(cut, np.ones(len(split.origins), np.float32))
    _, _, outputs = jax.jit(task.evaluate)(run.params, None, batch)
    origin = int(split.origins[3])
    found = predictor.forecast(data.found.values[:origin], "2024-01-01")
    assert found.times is not None
    assert found.times[0] == np.datetime64("2024-01-01") + np.timedelta64(origin, "h")
    for series in (0, 1):
        place = np.flatnonzero((split.series == series) & (split.origins == origin))[0]
        scaled = (found.values[series] - data.known.centres[series]) / data.known.scales[series]
        np.testing.assert_allclose(scaled, outputs[place], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.median, found.values[..., 1])
    # None is the run's own end; of a series as short as this one all is remembered.
    whole = predictor.forecast(data.found.values)
    np.testing.assert_array_equal(whole.values, predictor.forecast().values)
    tail = predictor.forecast(data.found.values[-20 * 24 :])
    # Smoothing that begins elsewhere is within the error of the seasonal naive forecast.
    scales = data.known.scales[:, None, None]
    np.testing.assert_allclose(tail.values / scales, whole.values / scales, rtol=0, atol=1)
    earlier = predictor.forecast(data.found.values[:-12])  # half a day: far more
    assert (np.abs(earlier.values - whole.values) / scales > 1).mean() > 0.5


@pytest.mark.parametrize(
    ("history", "start", "said"),
    [
        (np.ones(50), None, r"must be \[time, 2\] \(north, south\), got the shape \(50,\)"),
        (np.full((50, 2), np.nan), None, "no value of north in its last 8 steps"),
        (np.full((50, 2), np.inf), None, "or NaN where nothing was measured"),
        (np.ones((50, 2)), "2024-01-01T00:30", "is between two steps: they are 3600 seconds"),
        (None, "2024-01-01", "start belongs to a history"),
    ],
)
def test_bad_histories(run, history, start, said):
    with pytest.raises(ValueError, match=said):
        run.predictor.forecast(history, start)


def test_bad_questions_are_one_line(run, launch, tmp_path):
    file = tmp_path / "file.csv"
    north, south = demand(), demand(1)

    def refused(*flags: str) -> str:
        code, out, err = launch("--mode=predict", f"--workdir={run.folder}", *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "a forecaster reads no text" in refused("--text=a")
    known = run.predictor.known
    ended = known._replace(
        tail=np.where(np.arange(len(known.tail))[:, None] < 200, known.tail, np.nan)
    )
    with pytest.raises(InputError, match="run's series: history has no value of north in its last"):
        dataclasses.replace(run.predictor, known=ended).lines(None)
    assert "--file is empty" in refused("--file=")
    assert "is missing" in refused(f"--file={file}")
    written(file, {"north": north, "west": south})
    assert "has the series north, west, the run was made with north, south" in refused(
        f"--file={file}"
    )
    file.write_text("time,north,south\n2024-01-01,1,2\n2024-01-02,3,1\n")
    assert "has time steps of 86400 seconds, the run's are of 3600 s" in refused(f"--file={file}")
    file.write_text("time,north,south\n2024-01,1,2\n2024-02,3,1\n")
    assert "has time steps of 1 months, the run's are of 3600 s" in refused(f"--file={file}")
    file.write_text("north,south\n1,2\n3,1\n")
    assert "has no times, the run's series have some" in refused(f"--file={file}")


def test_the_best_parameters_are_calibrated_and_those_that_training_goes_on_from_are_not(
    config, run, tmp_path
):
    data, task = preparation.prepare(config.data), made(config)
    split = forecasting.SeriesPass(data, data.validation, 32)
    found = run.params["calibration"]
    assert found.shape == (6, 1)
    # Validation holds 19 forecasts five steps apart, and 10 that are six.
    assert ((found != 1)[:, 0] == (np.arange(6) < 5)).all()
    say = lambda params: np.stack(outputs_in_order(task, params, split))
    again = task.calibrate(run.params, say, split)  # as after a kill
    jax.tree.map(np.testing.assert_array_equal, again, run.params)
    # It is on those forecasts that intervals hold four fifths, and barely more.
    came = forecast_report.scaled_came(data, data.validation)
    said = say(run.params)
    inside = (came >= said[..., 0]) & (came <= said[..., 2])
    assert 0.8 <= inside[:, 0].mean() < 0.85
    longer = train.run(replace(config, {"train.epochs": 7}), tmp_path / "longer")
    shutil.copytree(run.folder, tmp_path / "extended")
    extended = train.run(replace(config, {"train.epochs": 7}), tmp_path / "extended")
    jax.tree.map(np.testing.assert_array_equal, extended.params, longer.params)
    assert extended.line == longer.line


def test_without_calibration_intervals_are_as_they_were_learned(config, run, tmp_path):
    config = replace(config, {"train.epochs": 5, "model.calibration": "none"})
    plain = train.run(config, tmp_path / "plain")
    assert "calibration" not in plain.params
    network = {name: leaf for name, leaf in run.params.items() if name != "calibration"}
    jax.tree.map(np.testing.assert_array_equal, network, plain.params)
    found, learned = run.predictor.forecast().values, plain.predictor.forecast().values
    np.testing.assert_array_equal(found[..., 1], learned[..., 1])
    widths = (found[..., 2] - found[..., 0]) / (learned[..., 2] - learned[..., 0])
    expected = np.broadcast_to(run.params["calibration"][:, 0], (2, 6))
    np.testing.assert_allclose(widths, expected, rtol=1e-3)


def test_a_run_that_is_stopped_ends_with_the_bits_of_one_that_is_not(
    config, run, tmp_path, signal_at, without_times
):
    config = replace(config, {"train.epochs": 5})
    for number in (3, 6):
        signal_at(number)
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "stopped")
    signal_at(10**6)
    stopped = train.run(config, tmp_path / "stopped")
    assert without_times(stopped.folder) == without_times(run.folder)
    jax.tree.map(np.testing.assert_array_equal, stopped.params, run.params)
