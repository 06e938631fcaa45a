"""Data flows one way: docs/architecture.md's table, row by row, against the code's own imports."""

import ast
import graphlib
import pathlib
import re
import sys

from rnn_jax import tasks

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rnn_jax"


def table() -> list[str]:
    """The table's first column, in order."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(rnn_jax/[^`]*)` \|", text, flags=re.MULTILINE)


def row_of(file: pathlib.Path, rows: list[str]) -> int:
    """The row that holds a file: its own, or its folder's."""
    name = file.relative_to(ROOT).as_posix()
    found = [
        i
        for i, row in enumerate(rows)
        if row == name or (row.endswith("/") and name.startswith(row))
    ]
    assert len(found) == 1, f"{name} stands in {len(found)} rows of docs/architecture.md"
    return found[0]


def imported(file: pathlib.Path) -> set[pathlib.Path]:
    """The package's files that a file imports, wherever in it."""

    def resolve(module: str, name: str = "") -> pathlib.Path:
        path = ROOT.joinpath(*module.split("."))
        for candidate in (path / f"{name}.py", path / name / "__init__.py"):
            if name and candidate.exists():
                return candidate
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {resolve(a.name) for a in node.names if a.name.split(".")[0] == "rnn_jax"}
            assert not any(a.name.split(".")[0] in ("experiments", "launch") for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            assert node.module.split(".")[0] not in ("experiments", "launch")
            if node.module.split(".")[0] == "rnn_jax":
                found |= {resolve(node.module, alias.name) for alias in node.names}
    return found


def test_a_file_imports_only_from_rows_above_it_or_from_its_own_package():
    rows = table()
    assert len(rows) == 27
    for file in PACKAGE.rglob("*.py"):
        row = row_of(file, rows)
        for other in imported(file):
            above = row_of(other, rows)
            in_own_package = above == row and rows[row].endswith("/")
            assert above < row or in_own_package, (
                f"{file.relative_to(ROOT)} imports {other.relative_to(ROOT)}, which stands below it"
            )


def test_no_files_import_each_other_in_a_circle():
    # A package's __init__ re-exports what its files hold, and importing from it is importing them.
    graph = {file: imported(file) - {file} for file in PACKAGE.rglob("*.py")}
    for file in graph:
        if file.name == "__init__.py":
            graph[file] = {other for other in graph[file] if file.parent not in other.parents}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_loop_the_folder_and_the_page_know_no_task():
    names = {name for row in tasks.TASKS for name in (row, row.removesuffix("ion"))}
    words = {*names, "classif", "accuracy"}
    files = [
        *(PACKAGE / "train").rglob("*.py"), *(PACKAGE / "runs").rglob("*.py"),
        *(PACKAGE / "commands").rglob("*.py"), PACKAGE / "report" / "page.py", ROOT / "launch.py",
    ]  # fmt: skip
    assert len(files) > 22
    for file in files:
        text = file.read_text(encoding="utf-8").lower()
        text = text.replace(".translate(", "")  # the method of strings
        assert not [word for word in words if word in text], file


def test_every_row_exists():
    for row in table():
        assert (ROOT / row).exists(), row


def test_files_stay_small_enough_to_read_in_one_sitting():
    lengths = {
        file.relative_to(ROOT).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_what_a_command_does_not_need_is_imported_late():
    """Each of these takes most of a second: every command and notebook would wait for it."""
    first = {"absl", "flax", "jax", "jaxlib", "num2words", "numpy", "optax", "rnn_jax", "tqdm"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            if isinstance(node, ast.Import | ast.ImportFrom):
                tops = {name.partition(".")[0] for name in names}
                assert tops <= first | sys.stdlib_module_names, file
