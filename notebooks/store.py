"""Run notebooks from top to bottom and store them with their outputs: `python notebooks/store.py [NOTEBOOK …]`.

Sounds are not stored: they are large, and most viewers do not play them.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

FOLDER = Path(__file__).parent
LONGEST = 600  # seconds for one cell, also on a busy machine
COLOURS = (96, 64, 48, 32, 24, 16, 12, 8)  # of a stored picture: the first number with which it is small enough
PICTURE_BYTES, NOTEBOOK_BYTES = 60_000, 400_000  # the largest stored picture and notebook
SOUND = "A sound. Run this cell to hear it."


def main(paths: list[str]) -> None:
    """Run the notebooks at `paths`, by default all of them, and replace each file when the notebook has run."""
    for path in map(Path, paths or sorted(FOLDER.glob("*.ipynb"))):
        notebook = execute(nbformat.read(path, as_version=4))
        if problems := problems_of(notebook):
            sys.exit(f"{path}: not stored: {'; '.join(problems)}")
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def execute(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder and a fresh process; return it with the outputs to store.

    Raises nbclient.exceptions.CellExecutionError if a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook, timeout=LONGEST, record_timing=False, resources={"metadata": {"path": folder}}
        )
        client.execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version of this machine
    for cell in code_cells(notebook):
        cell.outputs = [_stored(output) for output in _joined(cell.outputs)]
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return the kinds of output of each code cell: stdout, stderr, error, or the MIME type of what is displayed."""
    return [[_kind(output) for output in cell.outputs] for cell in code_cells(notebook)]


def problems_of(notebook: nbformat.NotebookNode) -> list[str]:
    """List why a notebook must not be stored: warnings, errors, paths of a machine, large pictures, a large file."""
    problems = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            text = output.get("text", "") + "".join(str(part) for part in output.get("data", {}).values())
            size = len(base64.b64decode(output.get("data", {}).get("image/png", "")))
            if _kind(output) in ("stderr", "error"):
                problems.append(f"code cell {number} has {_kind(output)}: {text[:200]}")
            if "image/png" not in output.get("data", {}) and re.search(r"/(home|root|tmp|Users|mnt)/", text):
                problems.append(f"code cell {number} prints a path of this machine")
            if size > PICTURE_BYTES:
                problems.append(f"the picture of code cell {number} has {size} bytes, more than {PICTURE_BYTES}")
    size = len(nbformat.writes(notebook).encode())
    if size > NOTEBOOK_BYTES:
        problems.append(f"it has {size} bytes, more than {NOTEBOOK_BYTES}")
    return problems


def _kind(output):
    if output.output_type == "stream":
        return output.name
    if output.output_type == "error":
        return "error"
    return next((kind for kind in ("image/png", "text/html", "text/markdown") if kind in output.data), "text/plain")


def _joined(outputs):
    """Join consecutive pieces of one stream: where the kernel cuts them depends on the time."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _stored(output):
    data = output.get("data", {})
    if "<audio" in data.get("text/html", ""):
        output.data = {"text/markdown": SOUND}
    if "image/png" in data:
        output.data = {"image/png": _smaller(data["image/png"])}
    return output


def _smaller(picture):
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    for colours in COLOURS:
        buffer = io.BytesIO()
        reduced = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        reduced.save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= PICTURE_BYTES:
            break
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])
