"""Every notebook runs from top to bottom on a small demo lake, and is stored without outputs."""

import warnings
from pathlib import Path

import nbformat
import pytest

from pipeline.demo.run import Demo, run_demo
from tests.factories import NOW

with warnings.catch_warnings():
    # The kernel's own packages deprecate one another on import.
    warnings.simplefilter("ignore")
    from nbclient import NotebookClient

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    run_demo(Demo(1_200, 7, folder / "demo-lake", NOW), lambda line: None)
    return folder


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_and_shows_the_widened_scope(path, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))
    notebook = nbformat.read(path, as_version=4)

    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()

    text = "".join(str(output.get("text", "")) for output in outputs(notebook))
    assert "WIDENED by deploy.prod" in text
    assert "text/html" in str(outputs(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)

    assert outputs(notebook) == []
    assert {cell.get("execution_count") for cell in notebook.cells} == {None}
