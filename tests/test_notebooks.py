"""Notebooks as they are kept: without outputs, opening with what one will see, claiming something.

That they run from top to bottom is seen where the site is made (docs/notebooks.py, .ci/run).
"""

import ast
import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert {"course_chapter_one", "generation_and_forecasting", "your_own_cell"} <= {
        path.stem for path in NOTEBOOKS
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_clean_opens_with_words_and_asserts(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(cell["metadata"] == {} for cell in cells)
    opening = "".join(cells[0]["source"])
    assert opening.startswith("# ")
    assert "You will see" in opening
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in code))
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= 2
