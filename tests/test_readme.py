"""What the README says can be pasted can be pasted."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sfjax import overrides
from sfjax.verbs import CONFIGURED, VERBS
from sfjax.verbs.verb import parser

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The words of every sfjax command of a shell block, with the variables put in that any block sets."""
    for name, value in re.findall(r'^(\w+)="(.*)"$', "".join(BLOCKS), re.MULTILINE):
        block = block.replace(f"${name}", value.replace("(", "'(").replace(")", ")'"))
    parts = [part for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(part) for part in parts if part.strip().startswith("sfjax ")]


COMMANDS = [words for block in BLOCKS for words in commands(block)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_parses(words):
    arguments, rest = parser(VERBS).parse_known_args(words[1:])
    assert not rest or arguments.verb in CONFIGURED
    if arguments.verb in CONFIGURED:
        overrides.config(arguments.config, rest)


def test_every_verb_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [verb.name for verb in VERBS if f"`sfjax {verb.name}" not in text] == []


def test_continuous_integration_runs_the_readmes_test_command():
    script = (ROOT / ".ci/run").read_text()
    install, test = re.search(r"(pip install -e '\.\[test\]') && (python -m pytest)\n", "\n".join(BLOCKS)).groups()
    assert test in script and install.removeprefix("pip install ") in script


@pytest.mark.slow
def test_the_quickstart_goes_the_whole_way(tmp_path):
    # in a process of its own: the suite's quick compilation makes slow programs
    subprocess.run([sys.executable, "-m", "sfjax", "quickstart", "-o", str(tmp_path)], check=True)
    assert (tmp_path / "spectrograms.png").stat().st_size > 10_000
    assert len(list((tmp_path / "enhanced").iterdir())) == 6
    assert (tmp_path / "noisy.json").exists() and (tmp_path / "enhanced.json").exists()
