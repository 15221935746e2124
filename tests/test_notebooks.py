"""Notebooks are stored without outputs and run from top to bottom without warnings."""

import time
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted(Path(__file__).parents[1].joinpath("notebooks").glob("*.ipynb"))
LONGEST = 180  # seconds on two cores
TWO_MINUTES = ("02", "03")  # the notebooks that take so long


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=pytest.mark.nightly if path.stem[:2] in TWO_MINUTES else pytest.mark.slow
        )
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_to_its_end_in_three_minutes_and_draws(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    nbclient.NotebookClient(notebook, timeout=2 * LONGEST, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert time.monotonic() - began < LONGEST
    made = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in made) >= 3
    assert not [output.text for output in made if output.get("name") == "stderr"]  # no warnings
