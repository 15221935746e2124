"""Who may import whom: the floors of the house, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sfjax

ROOT = Path(sfjax.__file__).parent
FLOORS = (
    "amplitude_loss audio audio_io containers masks "
    "model transformer separation_loss flow diffusion lora optim precision "
    "sharding metrics errors spectrogram_plot preemption weights worker_process compilation_cache overwrite watchdog "
    "examples configs",
    "tasks data text config objective networks train_step vocoder checkpoint export metric_writer validation "
    "run_overview",
    "train inference plan",
    "evaluation stablehlo",
    "__main__ __init__ quickstart web cli",
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts.split()}
APART = set(FLOORS[2].split())  # never each other
DEFAULTS = {
    "__main__",
    "checkpoint",
    "evaluation",
    "cli",
    "quickstart",
    "web",
}  # the only parts that read default values
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}


def imports(source: str) -> set[str]:
    """The parts of sfjax that a module imports anywhere, also inside functions: `data` for sfjax.data.manifest."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import has no floor; write its full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = (name.split(".") for name in names)
        found |= {part[1] if len(part) > 1 else "__init__" for part in parts if part[0] == "sfjax"}
    return found


def wrong(part: str, source: str) -> set[str]:
    """What a module of `part` imports though it must not."""
    above = {other for other in imports(source) if FLOOR[other] > FLOOR[part]}
    beside = {other for other in imports(source) & APART - {part} if part in APART}
    return above | beside | (imports(source) & {"configs"} if part not in DEFAULTS else set())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_floor_and_those_below(module):
    assert not wrong(module.split("/")[0], MODULES[module].read_text())


@pytest.mark.parametrize(
    "part, line",
    [
        ("audio", "from sfjax import tasks"),
        ("tasks", "import sfjax.train"),
        ("train", "from sfjax.inference import load"),
        ("inference", "def late():\n    from sfjax import audio, plan"),
        ("inference", "from sfjax.configs import default"),
        ("train", "import sfjax"),
    ],
)
def test_an_import_of_a_floor_above_or_a_neighbour_is_found(part, line):
    assert wrong(part, line)
    assert not wrong("__main__", line)


def test_scores_are_imported_without_jax():
    check = (
        "import sys, sfjax.metrics, sfjax.evaluation; sys.exit(str([m for m in sys.modules if m.startswith('jax.')]))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
