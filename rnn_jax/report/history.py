"""What the records of metrics.jsonl say of a run: its curves, its headline, its table of epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax.report.pieces import Chart, Prose, Seconds, Table, signed

Record = Mapping[str, Any]

# Figures of a record that are no measure of the model; every other one is charted.
BOOKKEEPING = {
    "step",
    "epoch",
    "split",
    "gradient_norm",
    "skipped",
    "examples",
    "tokens",
    "seconds",
}

HOW_MEASURED = (
    "Training values are means over the steps since the record before, each taken before its "
    "update and with any dropout on; validation values are taken without dropout, after those "
    "updates. Early on, validation may therefore look better than training."
)


class Tile(NamedTuple):
    """A headline figure: what it is, the figure (a string or a number), and a remark."""

    name: str
    value: Any
    remark: str


@dataclasses.dataclass(frozen=True)
class Run:
    """The records of a run, side by side.

    axis: what tells the rows apart: "epoch", or "step" where an epoch has several records.
    rows: for each place on the axis, in order, its records by split, train and validation.
    test: the test record, empty if there is none.
    best: the row whose parameters were kept; None if no validation loss is finite.
    measures: the names of what is measured, loss first.
    """

    axis: str
    rows: dict[int, dict[str, Record]]
    test: Record
    best: int | None
    measures: list[str]

    def values(self, split: str, name: str) -> list[float | None]:
        """A figure of a split, row for row; None where there is none."""
        return [figure(row.get(split, {}), name) for row in self.rows.values()]

    def last(self) -> int | None:
        """The last row that has both a training and a validation record."""
        both = [x for x, row in self.rows.items() if {"train", "validation"} <= row.keys()]
        return both[-1] if both else None

    def losses(self, x: int) -> tuple[float, float] | None:
        """Training and validation loss of row `x`; None where one is missing."""
        train, validation = (
            figure(self.rows[x].get(s, {}), "loss") for s in ("train", "validation")
        )
        return None if train is None or validation is None else (train, validation)

    def gap(self, x: int) -> float | None:
        """Validation loss less training loss in row `x`."""
        losses = self.losses(x)
        return None if losses is None else losses[1] - losses[0]


def figure(record: Record, name: str) -> float | None:
    """A figure of a record; None where there is none. JSON's null stands for NaN."""
    if name not in record:
        return None
    return float("nan") if record[name] is None else float(record[name])


def summarize(history: Sequence[Record], best_epoch: int | None = None) -> Run:
    """Sorts the records; of records for the same step and split the last one counts.

    Args:
      history: the records of metrics.jsonl.
      best_epoch: the epoch whose parameters were kept; None: that of the lowest validation loss.
    """
    records = {(r["split"], r["epoch"], r["step"]): r for r in history if r["split"] != "test"}
    test = next((r for r in reversed(history) if r["split"] == "test"), {})
    once = len({(split, epoch) for split, epoch, _ in records}) == len(records)
    axis = "epoch" if once else "step"
    rows: dict[int, dict[str, Record]] = {}
    for record in sorted(records.values(), key=lambda record: record[axis]):
        rows.setdefault(record[axis], {})[record["split"]] = record
    losses = {
        x: figure(row["validation"], "loss")
        for x, row in rows.items()
        if "validation" in row and best_epoch in (None, row["validation"]["epoch"])
    }
    finite = {x: loss for x, loss in losses.items() if loss is not None and math.isfinite(loss)}
    measured = [*(row["validation"] for row in rows.values() if "validation" in row), test]
    names = dict.fromkeys(
        name
        for record in measured
        for name, value in record.items()
        if name not in BOOKKEEPING and isinstance(value, float | None)  # counts are whole numbers
    )
    return Run(
        axis=axis,
        rows=rows,
        test=test,
        best=min(finite, key=finite.__getitem__, default=None),
        measures=["loss", *(name for name in names if name != "loss")],
    )


def curves(run: Run, clip_norm: float) -> list[Prose | Chart]:
    """Charts of all measures, of the gap between the two losses, of the gradient's norm.

    Args:
      run: what `summarize` returned.
      clip_norm: the norm to which longer gradients are scaled; 0 if they never are.
    """
    if not run.rows:
        return []
    x = list(run.rows)
    mark = None if run.best is None else (run.best, "best")

    def chart(title: str, series: Mapping[str, Sequence[float | None]], **choices: Any) -> Chart:
        return Chart(title, run.axis, x, series, mark=mark, **choices)

    charts = [
        chart(
            _title(name),
            {split: run.values(split, name) for split in ("train", "validation")},
            from_zero=name == "loss",
        )
        for name in run.measures
    ]
    gaps = {"gap": [run.gap(place) for place in x]}
    charts.append(
        chart(
            "Gap: validation loss less training loss", gaps, levels={"no gap": 0.0}, from_zero=True
        )
    )
    norms = run.values("train", "gradient_norm")
    if any(norm is not None for norm in norms):
        levels = {"clipping": clip_norm} if clip_norm else {}
        charts.append(
            chart(
                "Gradient norm, mean before clipping",
                {"norm": norms},
                levels=levels,
                from_zero=True,
            )
        )
    return [Prose(HOW_MEASURED), *charts]


def counted(run: Run) -> list[str]:
    """What the training records count, the unit of speed first."""
    trains = [row["train"] for row in run.rows.values() if "train" in row]
    found = [name for name in ("examples", "tokens") if any(name in each for each in trains)]
    return found or ["examples"]


def table(run: Run) -> Table:
    """All figures, row for row: what the curves show, and the time each pass took."""
    splits = ("train", "validation")
    short = {"train": "train", "validation": "valid."}
    names = [(split, name) for name in run.measures for split in splits]
    columns = [run.axis, *(f"{short[split]} {name.replace('_', ' ')}" for split, name in names)]
    columns += ["gap", "gradient norm", "train s", "valid. s"]
    counts = counted(run)
    columns += [f"{name}/s" for name in counts]
    skipped = any(run.values("train", "skipped"))
    rows = []
    for x, row in run.rows.items():
        train, validation = (row.get(split, {}) for split in splits)
        cells = [figure(row.get(split, {}), name) for split, name in names]
        cells += [run.gap(x), figure(train, "gradient_norm")]
        cells += [_seconds(train), _seconds(validation)]
        cells += [_rate([train], name) for name in counts]
        skips = [train.get("skipped")] if skipped else []
        rows.append([f"{x:,}" + (" (best)" if x == run.best else ""), *cells, *skips])
    return Table("", columns + ["skipped steps"] * skipped, rows)


def tiles(run: Run, parameters: Sequence[tuple[str, Any, str, int]]) -> list[Tile]:
    """The headline: results (validation's, as long as there is no test), gap, size, time, speed."""
    kept = {} if run.best is None else run.rows.get(run.best, {}).get("validation", {})
    at_best = f"at {run.axis} {run.best:,}" if run.best is not None else ""
    shown, split = (run.test, "test") if run.test else (kept, "validation")
    found = []
    for name in [*run.measures[1:], "loss"]:
        remark = at_best
        if run.test and figure(kept, name) is not None:
            remark = f"validation {figure(kept, name):.4f}"
        found.append(Tile(f"{split} {name.replace('_', ' ')}", figure(shown, name), remark))

    last = run.last()
    gap = run.gap(run.best) if run.best is not None else None
    later = run.gap(last) if last is not None and last != run.best else None
    remark = f"{_signed(later)} at {run.axis} {last:,}" if later is not None else ""
    found.append(Tile(f"loss gap {at_best}".strip(), _signed(gap), remark))

    total = sum(count for *_, count in parameters)
    largest = max(parameters, key=lambda row: row[-1], default=None)
    remark = f"{largest[-1] / total:.0%} of them in {largest[0]}" if largest and total else ""
    found.append(Tile("parameters", f"{total:,}", remark))

    trains = [row["train"] for row in run.rows.values() if "train" in row]
    rest = [row["validation"] for row in run.rows.values() if "validation" in row] + [run.test]
    learning, judging = (sum(_seconds(r) or 0.0 for r in group) for group in (trains, rest))
    found.append(Tile("time", duration(learning + judging), f"{duration(learning)} of it training"))
    unit = counted(run)[0]
    rate, steady = _rate(trains, unit), _rate(trains[1:], unit)
    remark = f"{steady:,} after the first {run.axis}" if steady is not None else ""
    found.append(Tile(f"{unit}/s in training", "—" if rate is None else f"{rate:,}", remark))
    return found


def story(run: Run, epochs: int | None, stopped_early: bool) -> list[str]:
    """What happened, in sentences: how far the run went, what was kept, whether it overfitted.

    Args:
      run: what `summarize` returned.
      epochs: how many were planned, if that is known.
      stopped_early: whether the validation loss ended the run before its last epoch.
    """
    done = len({row["train"]["epoch"] for row in run.rows.values() if "train" in row})
    if not done:
        return ["No epoch is finished yet."]
    count = f"{done:,} of {epochs:,} epochs" if epochs else f"{done:,} epochs"
    best = f"{run.axis} {run.best:,}" if run.best is not None else ""
    if stopped_early and best:
        said = [f"Stopped early after {count}: the validation loss had not fallen since {best}."]
    else:
        said = [f"Stopped early after {count}." if stopped_early else f"Trained for {count}."]
    if run.test:
        unit = counted(run)[0]
        examples = f" on {run.test[unit]:,} {unit}" if unit in run.test else ""
        kept = f"the parameters of {best}, which were kept" if best else "the last parameters"
        said.append(f"Tested{examples} with {kept}.")
    else:
        said.append("There is no test result yet.")
    return said + _overfitting(run)


def _overfitting(run: Run) -> list[str]:
    best, last = run.best, run.last()
    if best is None or last is None:
        return []
    first, final = run.losses(best), run.losses(last)
    if first is None or final is None:
        return []
    train, validation = zip(first, final, strict=True)
    gaps = [judged - learned for learned, judged in (first, final)]
    if not all(map(math.isfinite, gaps)):
        return []
    stand = [f"{abs(gap):.4f} {'above' if gap >= 0 else 'below'}" for gap in gaps]
    opening = f"At {run.axis} {best:,} the validation loss stood {stand[0]} the training loss"
    if last == best:
        return [f"{opening}. It was still falling: training longer may help."]
    said = [f"{opening}; at the last, {run.axis} {last:,}, {stand[1]}."]
    if train[1] < train[0] and validation[1] > validation[0]:
        said.append(
            f"In between the training loss fell by {train[0] - train[1]:.4f} while the validation "
            f"loss rose by {validation[1] - validation[0]:.4f}: the model overfitted."
        )
    return said


def warnings(run: Run) -> list[str]:
    """What a reader must not overlook: skipped steps, and losses that are not finite."""
    found = []
    skipped = sum(int(count or 0) for count in run.values("train", "skipped"))
    if skipped:
        found.append(f"{skipped:,} steps were skipped: their loss or gradient was not finite.")
    for split in ("train", "validation"):
        losses = zip(run.rows, run.values(split, "loss"), strict=True)
        bad = [f"{x:,}" for x, loss in losses if loss is not None and not math.isfinite(loss)]
        if bad:
            found.append(f"The {split} loss was not finite at {run.axis} {', '.join(bad)}.")
    return found


def duration(seconds: float) -> str:
    """`7.3 s`, `1 min 35 s` or `2 h 4 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _signed(gap: float | None) -> str:
    if gap is None:
        return "—"
    return signed(f"{gap:+.4f}") if math.isfinite(gap) else "not finite"


def _seconds(record: Record) -> Seconds | None:
    seconds = figure(record, "seconds")
    return None if seconds is None else Seconds(seconds)


def _rate(records: Sequence[Record], name: str) -> int | None:
    """Examples or tokens a second over all records; None where nothing was counted or timed."""
    seconds = sum(_seconds(record) or 0.0 for record in records)
    counts = [record[name] for record in records if record.get(name) is not None]
    return round(sum(counts) / seconds) if counts and seconds > 0 else None


def _title(name: str) -> str:
    """A figure's name over its chart; what is an abbreviation stays one.

    >>> _title("token_accuracy"), _title("MASE_48")
    ('Token accuracy', 'MASE 48')
    """
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
