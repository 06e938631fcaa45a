"""The page: a run's records and a task's sections in, one HTML document out."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_jax.report import history as records
from rnn_jax.report.charts import HEIGHT, LEFT, layout
from rnn_jax.report.limits import within
from rnn_jax.report.maps import heat
from rnn_jax.report.pieces import Chart, Command, Prose, Seconds, Section, Share, Table, signed
from rnn_jax.report.planes import parallel, scatter
from rnn_jax.system.files import write_atomically

ON_DEFAULTS = "Where an option differs from its default, the default stands beside it."

# A picture of its own has its title within, and a ground.
_CAPTION = 24
_ASIDE = 8  # more room for wide ticks: a picture cuts off what a page lets stand over
_ALONE = """
svg { color: var(--ink); background: var(--paper); margin: 0;
  font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif; }
"""

# HTML allows no control character but white space, UTF-8 no half of a surrogate pair, and overrides
# of the direction of writing (0x202D, 0x202E) would let a text disguise what follows in it.
_UNPRINTABLE = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), 0x202D, 0x202E} - {0x09, 0x0A},
    "\ufffd",
)
_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"


def render(
    *,
    experiment: str,
    config: Mapping[str, Any],
    options: Mapping[str, dataclasses.Field] | None = None,
    environment: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    parameters: Sequence[tuple[str, Sequence[int], str, int]],
    sections: Sequence[Section] = (),
    command: str = "",
    best_epoch: int | None = None,
    stopped_early: bool = False,
    date: str = "",
) -> str:
    """The page of a run, a pure function of its arguments.

    Args:
      experiment: the experiment's name.
      config: what `config.to_dict` returns.
      options: the field of each option, by its dotted name: for its meaning and default.
      environment: versions, device, threads and the like; a dictionary, which may be nested.
      history: the records of metrics.jsonl, of a finished or an interrupted run. Each figure of the
        validation records that is no book-keeping (steps, seconds, ...) gets a chart.
      parameters: a row (layer, shape, dtype, count) for each parameter.
      sections: what the task has to show, in order.
      command: how the run was started; "" where there is no such.
      best_epoch: the epoch whose parameters were kept; None: that of the lowest validation loss.
      stopped_early: whether the validation loss ended the run before its last epoch.
      date: shown as it is; the page has no date of its own.

    Returns:
      One self-contained HTML document; all text from outside is escaped.
    """
    run = records.summarize(history, best_epoch)
    charts = records.curves(run, config.get("optimizer", {}).get("clip_norm", 0.0))
    whole = [
        Section("Learning curves", charts),
        *sections,
        Section("Epochs", [records.table(run)]),
        Section("Parameters", [_parameter_table(parameters)]),
        Section("Command", [Command(command)] if command else []),
        Section("Configuration", [Prose(ON_DEFAULTS), _config_table(config, options or {})]),
        Section("Environment", [_environment_table(environment)]),
    ]
    return draw(
        title=experiment,
        what="run report",
        date=date,
        tiles=records.tiles(run, parameters),
        story=records.story(run, config.get("train", {}).get("epochs"), stopped_early),
        warnings=records.warnings(run),
        sections=whole,
    )


def draw(
    *,
    title: str,
    what: str,
    story: Sequence[str],
    tiles: Sequence[records.Tile],
    sections: Sequence[Section],
    warnings: Sequence[str] = (),
    date: str = "",
) -> str:
    """A page of any kind.

    Args:
      title: its heading.
      what: what kind of page it is, in two words.
      story: sentences below the heading.
      tiles: the figures to be seen first.
      sections: its parts; those without pieces are left out.
      warnings: sentences that must be seen.
      date: as for `render`.

    Returns:
      As `render`.
    """
    page = _template().render(
        experiment=title,
        what=what,
        date=date,
        tiles=tiles,
        story=story,
        warnings=warnings,
        sections=[
            Section(section.title, [within(piece) for piece in section.pieces])
            for section in sections
            if section.pieces
        ],
    )
    return page.lstrip() + "\n"


def drawing(chart: Chart) -> str:
    """A chart as a picture of its own, with its title: an SVG document in the page's style, which
    follows light and dark."""
    source = _source()
    style = source.partition("<style>")[2].partition("</style>")[0]
    macros = _templates().from_string(source.partition("{% set draw = ")[0]).module
    figure = str(vars(macros)["chart"](chart))
    caption = figure.partition("<figcaption>")[2].partition("</figcaption>")[0]
    caption = caption.replace("<small>", "").replace("</small>", "")
    _, _, rest = figure.partition("<svg ")
    attributes, _, content = rest.partition(">")
    across = int(attributes.partition('viewBox="0 0 ')[2].partition(" ")[0])
    attributes = attributes.replace(
        f'viewBox="0 0 {across} {HEIGHT}"',
        f'viewBox="-{_ASIDE} -{_CAPTION} {across + _ASIDE} {HEIGHT + _CAPTION}"',
    )
    content = content.partition("</svg>")[0]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>\n<style>{style}{_ALONE}</style>\n'
        f'<text class="name" x="{LEFT}" y="-8">{caption}</text>{content}</svg>\n'
    )


@functools.cache
def _source() -> str:
    return Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8")


@functools.cache
def _template() -> Any:
    return _templates().from_string(_source())


@functools.cache
def _templates() -> Any:
    import jinja2  # not at the top: a run imports this module at its start and draws at its end

    templates = jinja2.Environment(
        autoescape=True,
        finalize=_printable,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters |= {
        "cell": cell,
        "layout": layout,
        "scatter": scatter,
        "parallel": parallel,
        "heat": heat,
    }
    templates.tests["share"] = lambda value: isinstance(value, Share)
    return templates


def write(path: str | os.PathLike[str], **arguments: Any) -> None:
    """Writes `render(**arguments)` to `path`, whole or not at all.

    Raises:
      OSError: the folder is missing, read-only or full; a page that stood there before stays.
    """
    write_atomically(path, render(**arguments))


def cell(value: Any, digits: int = 4) -> str:
    """A figure or word as the page shows it: `1,024`, `0.2011`, `2.1e-05`, `NaN`, `—` for None;
    below zero with a minus sign, not a hyphen."""
    return value if isinstance(value, str) else signed(_figure(value, digits))


def _figure(value: Any, digits: int) -> str:
    if value is None:
        return "—"
    if isinstance(value, Share):
        return "—" if math.isnan(value) else f"{value:.1%}"
    if isinstance(value, Seconds):
        return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "∞")
    if value and not 10.0**-digits <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def _printable(value: Any) -> Any:
    """What the template puts out, without the characters that no HTML page may hold."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return value.translate(_UNPRINTABLE) if is_text else value


def _parameter_table(parameters: Sequence[tuple[str, Sequence[int], str, int]]) -> Table:
    total = sum(count for *_, count in parameters)
    rows = [
        [
            name,
            _TIMES.join(map(str, shape)) or "scalar",
            str(dtype),
            int(count),
            Share(count / total),
        ]
        for name, shape, dtype, count in parameters
    ]
    columns = ["layer", "shape", "type", "parameters", "share"]
    return Table("", columns, rows, footer=["total", "", "", int(total), None])


def _config_table(config: Mapping[str, Any], options: Mapping[str, dataclasses.Field]) -> Table:
    """Every option with its meaning, and its default where the run has another value."""
    rows = []
    for name, value in _flat(config):
        field = options.get(name)
        default = _shown(field.default) if field and value != field.default else ""
        rows.append([name, _shown(value), default, field.metadata["help"] if field else ""])
    return Table("", ["option", "value", "default", "meaning"], rows)


def _environment_table(environment: Mapping[str, Any]) -> Table:
    return Table(
        "", ["what", "value"], [[name, _shown(value)] for name, value in _flat(environment)]
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields `("data.source", value)` for every leaf of nested dictionaries."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return "(empty)" if value == "" else str(value)
