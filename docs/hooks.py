"""What `mkdocs build` makes of the code: the options of a config, in place of a marker."""

from __future__ import annotations

from typing import Any

OPTIONS = "<!-- options -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the tables of options into the page that asks for them."""
    return markdown.replace(OPTIONS, options()) if OPTIONS in markdown else markdown


def options() -> str:
    """A table for each section of the default config, with flag, default, values and meaning."""
    from rnn_jax import config as config_lib

    sections: dict[str, list[str]] = {}
    for name, field, value in config_lib.options(config_lib.Config()):
        cells = (f"`--config.{name}`", f"`{value!r}`", values(field), field.metadata["help"])
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        sections.setdefault(name.partition(".")[0], []).append(f"| {row} |")
    tables = []
    for section, rows in sections.items():
        head = "| flag | default | values | meaning |\n| --- | --- | --- | --- |"
        tables.append(f"### {section}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(tables)


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
