"""The notebooks as pages of the site: with what they print and draw if RNN_JAX_NOTEBOOKS=run, in
which case they are run from top to bottom, and an error in one is an error of the site."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
LIMIT = 600  # seconds for one cell


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds a page for each notebook, and its pictures."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        for name, content in rendered(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def rendered(path: pathlib.Path) -> dict[str, str | bytes]:
    """A notebook's page and pictures, by their file names.

    Raises:
      PluginError: it was run, and a cell raised.
    """
    import nbconvert
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    if os.environ.get("RNN_JAX_NOTEBOOKS") == "run":
        run(notebook, path)
    for cell in notebook.cells:
        if cell["cell_type"] == "code":  # without bars and warnings of libraries
            cell["outputs"] = [each for each in cell["outputs"] if each.get("name") != "stderr"]
    exporter = nbconvert.MarkdownExporter()
    page, resources = exporter.from_notebook_node(
        notebook, {"unique_key": path.stem, "output_files_dir": ""}
    )
    # Links lead from the notebook's folder; the site has the pages one level higher.
    page = page.replace("](../docs/", "](../")
    return {f"{path.stem}.md": page, **resources.get("outputs", {})}


def run(notebook: Any, path: pathlib.Path) -> None:
    """Runs a notebook in place, in its folder, on CPUs."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    where = {"metadata": {"path": path.parent}}
    client = NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources=where)
    try:
        client.execute()
    except CellExecutionError as error:
        raise PluginError(f"{path.relative_to(ROOT)}: {error}") from error
