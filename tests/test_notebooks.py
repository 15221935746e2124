"""Notebooks are stored with outputs that a new run makes again, are small and name no machine."""

import importlib.util
import time
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST = 180  # seconds on two cores
TWO_MINUTES = ("02", "03", "04")  # the notebooks that take so long
LAST = {"05": "text/markdown"}  # what the last code cell shows, if not a picture

specification = importlib.util.spec_from_file_location("store", FOLDER / "store.py")
assert specification is not None and specification.loader is not None
store = importlib.util.module_from_spec(specification)
specification.loader.exec_module(store)


def read(path):
    return nbformat.read(path, as_version=4)


def notebook(*sources):
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources], metadata=metadata)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran_from_top_to_bottom(path):
    stored = read(path)
    assert store.problems_of(stored) == []
    assert [cell.execution_count for cell in store.code_cells(stored)] == [*range(1, len(store.code_cells(stored)) + 1)]
    kinds = store.kinds(stored)
    assert sum(kind == "image/png" for cell in kinds for kind in cell) >= 3
    assert LAST.get(path.stem[:2], "image/png") in kinds[-1]
    assert not any("<audio" in text for cell in store.code_cells(stored) for text in map(str, cell.outputs))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_how_to_open_it_what_it_teaches_and_its_time(path):
    first = read(path).cells[0].source
    assert "](README.md#open-a-notebook)" in first and "**You will learn**" in first and "**Time:**" in first
    assert "## Open a notebook" in (FOLDER / "README.md").read_text()


def test_speech_that_a_recogniser_hears_ends_the_notebook_about_speaking():
    (output,) = store.code_cells(read(FOLDER / "05_speak_and_edit.ipynb"))[-1].outputs
    rows = [line.split(" | ") for line in output.data["text/markdown"].splitlines() if line.startswith("| generated")]
    assert len(rows) >= 3
    for _, text, heard, errors, words in rows:
        assert len(text.split()) == int(words.rstrip(" |")) and heard
        assert int(errors) < len(text.split())
    assert "Word error rate: " in output.data["text/markdown"]


def test_sounds_are_not_stored_and_what_must_not_be_stored_is_reported():
    ran = store.execute(
        notebook(
            "print('first', flush=True)\nprint('second')",
            "import numpy as np\nfrom IPython.display import Audio\nAudio(np.linspace(-1, 1, 8000), rate=16000)",
            "import matplotlib.pyplot as plt\nplt.plot([0, 1]);",
            "import sys\nprint('careful', file=sys.stderr)",
            "print('/home/x/notes.txt')",
            "from pathlib import Path\nprint([*Path().iterdir()])",
        )
    )
    assert store.kinds(ran) == [["stdout"], ["text/markdown"], ["image/png"], ["stderr"], ["stdout"], ["stdout"]]
    assert store.SOUND in str(ran.cells[1].outputs) and ran.cells[5].outputs[0].text == "[]\n"
    problems = store.problems_of(ran)
    assert len(problems) == 2 and "careful" in problems[0] and "cell 5 prints a path" in problems[1]
    ran.cells[2].outputs[0].data["image/png"] = "A" * store.NOTEBOOK_BYTES
    assert any("picture of code cell 3" in problem for problem in store.problems_of(ran))
    assert any("it has" in problem for problem in store.problems_of(ran))


def test_a_notebook_shows_an_error_of_the_user_as_one_line():
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        store.execute(notebook("from sfjax import examples\nexamples.path('rain')"))
    shown = str(caught.value).split("------------------")[-1]
    assert "sfjax: unknown example 'rain'" in shown and "Traceback" not in shown and ".py" not in shown


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=path.stem, marks=pytest.mark.nightly if path.stem[:2] in TWO_MINUTES else pytest.mark.slow
        )
        for path in NOTEBOOKS
    ],
)
def test_a_new_run_of_a_notebook_has_the_stored_kinds_of_output(path):
    began = time.monotonic()
    ran = store.execute(read(path))
    assert time.monotonic() - began < LONGEST
    assert store.problems_of(ran) == []
    assert store.kinds(ran) == store.kinds(read(path))
