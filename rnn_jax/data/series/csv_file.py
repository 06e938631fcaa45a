"""Series in a CSV file of one's own: one row a time step, the first line the columns' names.

In wide form each series has a column. In long form (`id`) a row is one series' value at one time. A
column of times is ISO 8601, sorted; its most common distance is the time step, and what is missing
in between is missing, not invented. An empty cell is missing, too. What a reader might have to
guess is refused, with file and line.
"""

from __future__ import annotations

import csv
import datetime
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np

from rnn_jax.config import InputError, nearest
from rnn_jax.data import labelled_folder
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.table import DAY, Clock, Series, usual_seasons

MISSING = ("", "na", "nan", "null", "none")  # cells, in small letters
MOST_SERIES = 1000
MOST_STEPS = 2**24  # of all series together
SPARSE = 20  # times as many steps as rows: the time step is none


class Rows(NamedTuple):
    """The rows of a file.

    lines: int[rows], where each starts, from 1.
    stamps: what the time column says, as numbers; None without one.
    utc: whether times name their time zone.
    cells: the other columns' text, by name.
    """

    lines: np.ndarray
    stamps: list[datetime.datetime] | None
    utc: bool
    cells: dict[str, list[str]]


def read(config: SeriesConfig) -> Series:
    """The series of the file that a config names.

    Raises:
      InputError: it is missing or malformed; the message has file and line.
    """
    path = pathlib.Path(os.path.expanduser(config.path))
    rows = _rows(path, config)
    chosen = _chosen(path, config, rows)
    if config.id:
        return _long(path, config, rows, chosen)
    values = np.stack([_numbers(path, rows, name) for name in chosen], axis=1)
    if rows.stamps is None:
        return Series(chosen, values, None, (), str(path))
    clock, places = _clock(path, rows, [np.arange(len(rows.lines))])
    whole = np.full((int(places.max()) + 1, len(chosen)), np.nan)
    whole[places] = values
    return Series(chosen, whole, clock, usual_seasons(clock), str(path))


def _long(path: pathlib.Path, config: SeriesConfig, rows: Rows, chosen: tuple[str, ...]) -> Series:
    if rows.stamps is None:
        raise InputError(f"{path}: the long form needs times: give --config.data.time=COLUMN")
    if len(chosen) != 1:
        raise InputError(
            f"{path}: the long form has one column with values, not {', '.join(chosen)}: give "
            "--config.data.columns=COLUMN"
        )
    values = _numbers(path, rows, chosen[0])
    members: dict[str, list[int]] = {}
    for index, name in enumerate(rows.cells[config.id]):
        if not name.strip():
            raise InputError(f"{path}:{rows.lines[index]}: {config.id} is empty")
        members.setdefault(name.strip(), []).append(index)
    if len(members) > MOST_SERIES:
        raise InputError(f"{path}: more than {MOST_SERIES} series in the column {config.id}")
    groups = [np.array(each) for each in members.values()]
    clock, places = _clock(path, rows, groups)
    steps = int(places.max()) + 1
    if steps * len(groups) > MOST_STEPS:
        raise InputError(f"{path}: {len(groups)} series of {steps} steps are too many")
    whole = np.full((steps, len(groups)), np.nan)
    for column, group in enumerate(groups):
        whole[places[group], column] = values[group]
    return Series(tuple(members), whole, clock, usual_seasons(clock), str(path))


def _rows(path: pathlib.Path, config: SeriesConfig) -> Rows:
    source = labelled_folder.lines(path)
    first = next(source, "")
    mark = max(",;\t", key=first.count)
    try:
        header = [name.strip() for name in next(csv.reader([first], delimiter=mark), [])]
    except csv.Error as error:
        raise InputError(f"{path}:1: {error}") from error
    if not header:
        raise InputError(f"{path} is empty; its first line must name the columns")
    if all(_number(name) is not None for name in header if name):
        raise InputError(f"{path}:1: the first line must name the columns, but it holds numbers")
    for index, name in enumerate(header):
        if not name or name in header[:index]:
            what = f"the name {name!r} is there twice" if name else "a column has no name"
            raise InputError(f"{path}:1: {what}")
    for option in ("time", "id"):
        _check_known(path, option, getattr(config, option), header)
    lines, table, reader = [], [], csv.reader(source, delimiter=mark, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise InputError(f"{path}:{line}: {error}") from error
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(
                f"{path}:{line}: expected {len(header)} cells ({', '.join(header)[:100]}), found "
                f"{len(row)}"
            )
        lines.append(line)
        table.append(row)
        if len(table) * len(header) > MOST_STEPS:
            raise InputError(f"{path}:{line}: more than {MOST_STEPS} cells")
    if not table:
        raise InputError(f"{path} has no rows below the columns' names")
    cells = {name: [row[place] for row in table] for place, name in enumerate(header)}
    time = config.time or (header[0] if _time(table[0][0]) is not None else "")
    if not time:
        return Rows(np.array(lines), None, False, cells)
    if time == config.id:
        raise InputError(
            f"--config.data.id={config.id} is the column of the times, but must name the column "
            "with the series' names (--config.data.time names that of the times)"
        )
    stamps, utc = _stamps(path, time, lines, cells.pop(time))
    return Rows(np.array(lines), stamps, utc, cells)


def _stamps(
    path: pathlib.Path, name: str, lines: list[int], texts: list[str]
) -> tuple[list[datetime.datetime], bool]:
    found, zoned = [], None
    for line, text in zip(lines, texts, strict=True):
        time = _time(text)
        if time is None:
            raise InputError(
                f"{path}:{line}: the column {name} has {text[:40]!r}, which is no time as ISO 8601 "
                "writes it, such as 2016-02-15T00:30"
            )
        aware = time.tzinfo is not None
        if zoned not in (None, aware):
            raise InputError(f"{path}:{line}: {text[:40]!r}: some times name a time zone, some not")
        zoned = aware
        time = time.replace(tzinfo=None)
        if time.microsecond:
            raise InputError(f"{path}:{line}: {text[:40]!r}: times must be whole seconds")
        found.append(time)
    return found, bool(zoned)


def _clock(path: pathlib.Path, rows: Rows, groups: list[np.ndarray]) -> tuple[Clock, np.ndarray]:
    """The common clock, and each row's step: int64[rows].

    Args:
      path: for messages.
      rows: with times.
      groups: int[rows of it] for each series, in the file's order.
    """
    assert rows.stamps is not None
    stamps = np.array(rows.stamps, "datetime64[s]")
    gaps = []
    for group in groups:
        times = stamps[group]
        gap = np.diff(times).astype(np.int64)
        bad = np.flatnonzero(gap <= 0)
        if len(bad):
            before, index = rows.lines[group[bad[0]]], group[bad[0] + 1]
            where = f"{path}:{rows.lines[index]}: the time {stamps[index]}"
            if gap[bad[0]]:
                raise InputError(f"{where} is before that of line {before}; sort the rows by time")
            raise InputError(f"{where} is that of line {before}, too; leave one of them out")
        gaps.append(gap)
    distances = np.concatenate(gaps)
    if not len(distances):
        raise InputError(f"{path} has one time step; there is nothing to forecast from")
    start = stamps.min()
    months = stamps.astype("datetime64[M]")
    into = stamps - months.astype("datetime64[s]")
    day = into.astype(np.int64) // DAY
    if distances.min() >= 28 * DAY and len(set(into.astype(np.int64))) == 1 and day[0] < 28:
        numbers = (months - months.min()).astype(np.int64)
        step = int(np.gcd.reduce(numbers))
        clock = Clock(start, np.timedelta64(step, "M"), rows.utc)
    else:
        sizes, counts = np.unique(distances, return_counts=True)
        step = int(sizes[np.argmax(counts)])
        numbers = (stamps - start).astype(np.int64)
        clock = Clock(start, np.timedelta64(step, "s"), rows.utc)
    odd = np.flatnonzero(numbers % step)
    if len(odd):
        raise InputError(
            f"{path}:{rows.lines[odd[0]]}: the time {stamps[odd[0]]} is no whole number of steps "
            f"of {clock.step} after the first, {start}: times must be even (steps may be missing)"
        )
    places = numbers // step
    steps = int(places.max()) + 1
    if steps > max(SPARSE * len(stamps), 1000):
        widest = int(np.argmax(np.diff(np.sort(places))))
        raise InputError(
            f"{path}: {len(stamps)} rows over {steps} steps of {clock.step}; look at the times "
            f"around {np.sort(stamps)[widest]}"
        )
    return clock, places


def _numbers(path: pathlib.Path, rows: Rows, name: str) -> np.ndarray:
    """float64[rows]: a column, NaN where a cell is missing."""
    found = np.full(len(rows.lines), np.nan)
    for index, text in enumerate(rows.cells[name]):
        if text.strip().lower() in MISSING:
            continue
        number = _number(text)
        if number is None:
            raise InputError(
                f"{path}:{rows.lines[index]}: the column {name} has {text[:40]!r}, which is no "
                "number; leave the cell empty if it is missing"
            )
        found[index] = number
    if not np.isfinite(found).any():
        raise InputError(f"{path}: the column {name} has no number")
    return found


def _chosen(path: pathlib.Path, config: SeriesConfig, rows: Rows) -> tuple[str, ...]:
    """The columns with values."""
    others = [name for name in rows.cells if name != config.id]
    asked = [name.strip() for name in config.columns.split(",") if name.strip()]
    for name in asked:
        _check_known(path, "columns", name, others)
    if len(set(asked)) < len(asked):
        raise InputError(f"--config.data.columns={config.columns} names a column twice")
    if not (asked or others):
        raise InputError(f"{path} has no column besides the times")
    if len(asked or others) > MOST_SERIES:
        raise InputError(f"{path}: more than {MOST_SERIES} columns; choose --config.data.columns")
    return tuple(asked or others)


def _check_known(path: pathlib.Path, option: str, name: str, known: list[str]) -> None:
    if name and name not in known:
        raise InputError(
            f"--config.data.{option}: {path} has no column {name!r}{nearest(name, known)} "
            f"(there are {', '.join(known)[:200]})"
        )


def _number(text: str) -> float | None:
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e30 else None


def _time(text: str) -> datetime.datetime | None:
    """A time, in UTC if it names its time zone; None if it is none."""
    text = text.strip()
    if text.isdigit():  # 2016 could be a number as well as a year
        return None
    if len(text) == 7 and text[4:5] == "-":
        text += "-01"  # a month
    try:
        time = datetime.datetime.fromisoformat(text)
        return time.astimezone(datetime.UTC) if time.tzinfo is not None else time
    except (ValueError, OverflowError):  # no time in UTC: before year 1 or after 9999
        return None
