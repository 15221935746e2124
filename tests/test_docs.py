"""Every public name has a docstring, the examples in docstrings run, and the documentation builds without warnings."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sfjax
from sfjax import audio, flow, inference, metrics, tasks
from sfjax.configs import default

NAMES = dict(
    sfjax=sfjax, audio=audio, flow=flow, metrics=metrics, tasks=tasks, default=default, jax=jax, jnp=jnp, np=np
)
MODELS = (inference.load, inference.Model.enhance, inference.Model.separate)


def undocumented(body, name):
    """Public classes and functions in a module or class that have no docstring."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield f"{name}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, f"{name}.{node.name}")


def test_every_public_name_has_a_docstring():
    missing = []
    for path in Path(sfjax.__file__).parent.rglob("*.py"):
        module = ast.parse(path.read_text())
        missing += [] if ast.get_docstring(module) else [path.name]
        missing += undocumented(module.body, path.stem)
    assert not missing


@pytest.mark.parametrize(
    "function",
    [flow.loss, flow.sample, tasks.choose, audio.log_mel, metrics.score]
    + [pytest.param(function, marks=pytest.mark.slow) for function in MODELS],
    ids=lambda function: function.__qualname__,
)
def test_the_example_in_a_docstring_runs(function):
    (example,) = re.findall(r"```python\n(.*?)```", inspect.getdoc(function), re.DOTALL)
    exec(example, dict(NAMES))


@pytest.mark.slow
def test_the_documentation_builds_without_warnings(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, "-m", "pdoc", "sfjax", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Warn" not in done.stdout + done.stderr
    assert (tmp_path / "sfjax" / "inference.html").exists()
