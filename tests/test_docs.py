"""What is written for readers is finished: no gaps left to fill, no link into nothing, no command
or option that is not there, and every public name in the reference."""

import ast
import importlib
import pathlib
import re
import shlex
import sys

import pytest

import rnn_jax

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # for its scripts
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

HEADING = re.compile(r"^#+ +(.*?) *$", flags=re.MULTILINE)
# [text](target), ![text](target "title"), and [name]: target
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", flags=re.MULTILINE)
TAG = re.compile(r"(?:src|href|srcset)=\"([^\"]+)\"")
MARKER = re.compile(r"<!-- (?:(?:results|times): [^\n]+|end|options: \w+) -->")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


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


def commands(name: str) -> list[list[str]]:
    """The words of each `python ...` command on a page, without comments and redirections."""
    lines = []
    for language, block in FENCED.findall(text_of(name)):
        if language in ("", "sh", "bash"):
            variables = dict(re.findall(r'^(\w+)="(.*)"$', block, flags=re.MULTILINE))
            for variable, value in variables.items():
                block = block.replace(f"${variable}", value)
            lines += block.replace("\\\n", " ").splitlines()
    unfenced = FENCED.sub("", text_of(name))
    lines += re.findall(r"`(python (?:launch|benchmarks|docs)[^`]*)`", unfenced)
    found = []
    for line in lines:
        for part in re.split(r" && | \| ", line):
            if re.match(r"python \S+\.py\b", part):
                found.append(shlex.split(part.partition(" < ")[0], comments=True)[1:])
    return found


def test_the_pages_and_their_links_are_found():
    assert {"README.md", "docs/data.md", "docs/api/cells.md", "benchmarks/README.md"} <= set(NAMES)
    assert sum(len(targets(page)) for page in PAGES) > 5
    assert "bbc_news" in anchors(ROOT / "docs" / "data.md")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_to_fill(name):
    text = MARKER.sub("", text_of(name))
    assert re.findall(r".*@@.*", text) == []
    assert re.findall(r"<!--.*?-->", text, flags=re.DOTALL) == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    missing = []
    for target in targets(page):
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        if to.parent == ROOT / "docs" / "notebooks":  # docs/notebooks.py makes a page of each
            to = ROOT / "notebooks" / f"{to.stem}.ipynb"
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            missing.append(target)
    assert missing == []


def test_the_commands_are_found():
    assert ["launch.py", "--list_experiments"] in commands("README.md")
    epoch = next(words for words in commands("docs/performance.md") if "simple_rnn" in words)
    assert epoch[:2] == ["benchmarks/epoch.py", "--source=ag_news_subset"]


@pytest.mark.parametrize("name", NAMES)
def test_commands_have_flags_that_exist(name, monkeypatch):
    from rnn_jax import commands as program

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    for script, *arguments in commands(name):
        text = text_of(script)
        own, after = arguments, []
        if script == "launch.py":
            own, after = [], arguments
        elif "--" in arguments:
            place = arguments.index("--")
            own, after = arguments[:place], ["--experiment=bilstm", *arguments[place + 1 :]]
        # Words in capitals stand for the reader's own; the guide's own experiments run in test_own.
        after = [
            re.sub(r"^--experiment=(NAME|X|own_\w+)$", "--experiment=bilstm", word)
            for word in after
        ]
        after = [word for word in after if not word.startswith("--config.data.centre")]
        program.parse(["launch.py", *after], ROOT)  # raises what the program would say
        if 'f"--{field.name}"' in text:  # a flag for each option of the data
            known = {f"--{name}" for name in rnn_jax.DataConfig.__dataclass_fields__}
        else:
            known = set()
        if "record.add_flag(" in text:
            known.add("--save")
        flags = {word.partition("=")[0] for word in own if word.startswith("--")}
        assert {flag for flag in flags - known if f'"{flag}"' not in text} == set(), script


@pytest.mark.parametrize("name", NAMES)
def test_extras_that_are_installed_exist(name):
    project = text_of("pyproject.toml").partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\S+) = \[", project.partition("[tool.")[0], flags=re.MULTILINE))
    # As packages' metadata writes names: of others, older versions of pip install nothing.
    assert {extra for extra in extras if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", extra)} == set()
    named = re.findall(r"pip install (?:-e )?'[\w.]+\[([^\]]+)\]'", text_of(name))
    assert {extra for several in named for extra in several.split(",")} <= extras


def test_troubleshooting_quotes_what_the_program_says():
    """Of each message, the longest part without what differs from case to case is in the code."""
    said = []
    for file in [ROOT / "launch.py", *sorted((ROOT / "rnn_jax").rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    differs = r"'[^']*'|\b(?!UTF)[A-Z]{3,}\b|[\d.]+|\([^)]*\)|\[[^\]]*\]|[:;,=]"
    page = text_of("docs/troubleshooting.md")
    messages = re.findall(r"^\*\*`(.*)`\*\*", page, flags=re.MULTILINE)
    assert len(messages) > 20
    longest = [max(re.split(differs, message), key=len).strip() for message in messages]
    assert min(map(len, longest)) >= 8
    assert [part for part in longest if not any(part in text for text in said)] == []


def test_the_readme_has_the_two_commands():
    lines = text_of("README.md").splitlines()
    assert "pip install -e . && python launch.py --experiment=bilstm" in lines
    assert "pip install -e '.[test]' && pytest" in lines


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: rnn_jax\.(\w+)", pages, flags=re.MULTILINE))
    assert shown >= set(rnn_jax.__all__) - {"__version__", "Config"}  # ClassificationConfig
    missing = [name for name in shown if not hasattr(rnn_jax, name)]
    assert missing == []


def test_every_page_is_in_the_site():
    site = text_of("mkdocs.yml").partition("\nnav:")[2]
    listed = set(re.findall(r": (\S+\.md)$", site, flags=re.MULTILINE))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    pages |= {f"notebooks/{page.stem}.md" for page in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == pages


def test_the_options_of_cells_are_all_named():
    """The table of options that all cells share names what all three factories take."""
    support = importlib.import_module("support_matrix")
    shared = set.intersection(*(set(support._options(cell)) for cell in support.CELLS.values()))
    table = text_of("docs/api/cells.md").partition("::: rnn_jax")[0]
    assert shared == {
        word
        for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }


def test_the_support_matrix_is_what_the_kernels_say():
    support = importlib.import_module("support_matrix")
    try:
        page = support.page()
    except RuntimeError as error:  # without a compiler nobody can tell
        pytest.skip(str(error))
    assert text_of("docs/support.md") == page


def test_the_support_matrix_shows_refusals():
    """It would not do to take every refusal for support, or the other way round."""
    page = text_of("docs/support.md")
    assert "| `remat_chunk` | yes | no | no | no | no | no |" in page
    assert "| `lstm`, `peepholes=True` | yes | yes | no | no | no | no |" in page
    assert "| `jax.jvp`, `jacfwd`, `hessian` | yes | no | no | no | no | no |" in page
    assert "| GPU | yes | yes | yes | yes | yes | no |" in page
