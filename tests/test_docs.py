"""What is written for readers is finished: no gaps left to fill, no link into nothing."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

HEADING = re.compile(r"^#+ +(.*?) *$", flags=re.MULTILINE)
# [text](target), ![text](target "title"), and [name]: target
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", flags=re.MULTILINE)
TAG = re.compile(r"(?:src|href|srcset)=\"([^\"]+)\"")


def prose(page: pathlib.Path) -> str:
    """A page without its code, in which brackets are no links."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors(page: pathlib.Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    plain = lambda heading: re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return {plain(heading) for heading in HEADING.findall(text)}


def targets(page: pathlib.Path) -> list[str]:
    found = ["".join(groups) for groups in LINK.findall(prose(page))] + TAG.findall(prose(page))
    return [target for target in found if not re.match(r"[a-z][a-z+.-]*:", target)]


def test_the_pages_and_their_links_are_found():
    assert {"README.md", "docs/data.md", "benchmarks/README.md"} <= set(NAMES)
    assert sum(len(targets(page)) for page in PAGES) > 5
    assert "bbc_news" in anchors(ROOT / "docs" / "data.md")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_to_fill(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r".*@@.*", text) == []
    assert re.findall(r"<!--.*?-->", text, flags=re.DOTALL) == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    missing = []
    for target in targets(page):
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            missing.append(target)
    assert missing == []
