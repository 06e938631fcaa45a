"""The examples that readers copy: those of the pages run, page by page, and those of docstrings."""

import doctest
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^( *)print\((.*)\)  # (.*)$", flags=re.MULTILINE)


def blocks(page: pathlib.Path) -> list[str]:
    return PYTHON.findall(page.read_text(encoding="utf-8"))


PAGES = {
    page.relative_to(ROOT).as_posix(): page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if blocks(page)
}
# Files of the package with examples, as modules.
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "rnn_jax").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples():
    assert {"README.md", "docs/getting_started.md", "docs/your_own_cell.md"} <= set(PAGES)
    assert len(MODULES) > 3


@pytest.mark.parametrize("name", PAGES)
def test_a_page_s_examples_run(name, config, tmp_path, monkeypatch):
    """In their order, with the names of those before; what a comment says of a printed value is
    what it starts with."""
    monkeypatch.chdir(tmp_path)
    page = "\n".join(blocks(PAGES[name]))
    if 'load("runs/bilstm")' in page:
        import rnn_jax

        rnn_jax.train.run(rnn_jax.replace(config, {"train.epochs": 1}), "runs/bilstm")

    def shown(value: object, comment: str) -> None:
        assert comment.startswith(str(value)), f"{comment!r} is said of {value}"

    program = SHOWN.sub(lambda found: f"{found[1]}shown({found[2]}, {found[3]!r})", page)
    exec(compile(program, name, "exec"), {"shown": shown, "__name__": "page"})


@pytest.mark.parametrize("name", MODULES)
def test_a_module_s_examples_are_right(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_site_s_own_examples_are_right(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    result = doctest.testmod(importlib.import_module("griffe_fields"))
    assert result.attempted > 0
    assert result.failed == 0
