"""What `mkdocs build` does besides: the options of a config in place of a marker, and a look at
the finished site, which must fetch nothing from other servers."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from mkdocs.exceptions import PluginError

OPTIONS = re.compile(r"<!-- options: (\w+) -->")  # of a task
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//(?![^>]*\brel=["']?canonical)"""
    r"""|url\(["']?(?:https?:)?//|@import\s+["'](?:https?:)?//""",
    flags=re.IGNORECASE,
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the tables of options into the page that asks for them."""
    return OPTIONS.sub(lambda found: options(found[1]), markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Refuses a site that would fetch something from another server when it is read."""
    site = pathlib.Path(config["site_dir"])
    for file in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        found = FETCHED.search(file.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{file.relative_to(site)} fetches from another server: {found[0]}")


def options(task: str) -> str:
    """A table for each section of a task's default config: option, default, values and meaning."""
    from rnn_jax import config as config_lib
    from rnn_jax.tasks import TASKS

    sections: dict[str, list[str]] = {}
    for name, field, value in config_lib.options(TASKS[task].config()):
        section, _, option = name.partition(".")
        cells = (f"`{option}`", f"`{value!r}`", values(field), escaped(field.metadata["help"]))
        sections.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    tables = []
    for section, rows in sections.items():
        head = "| option | default | values | meaning |\n| --- | --- | --- | --- |"
        tables.append(f"### `--config.{section}.`\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(tables)


def escaped(text: str) -> str:
    """A text in which no character means something in a table of Markdown."""
    return re.sub(r"([|*_<`])", r"\\\1", text)


def values(field: Any) -> str:
    """What values an option takes, in words."""
    bounds = field.metadata
    if bounds["choices"]:
        return ", ".join(f"`{choice}`" for choice in bounds["choices"])
    limits = []
    if bounds["minimum"] is not None:
        limits.append(f"at least {bounds['minimum']}")
    if bounds["below"] is not None:
        limits.append(f"below {bounds['below']}")
    return ", ".join([type(field.default).__name__, *limits])
