"""The commands of all pages parse, links lead somewhere, and README stays short."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sfjax.cli import CONFIGURED, VERBS
from sfjax.cli.config_file import load_config
from sfjax.cli.verb import parser

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text() for path in sorted(ROOT.glob("**/README.md")) if "weights" not in path.parts}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def commands(block: str) -> list[list[str]]:
    """The words of every sfjax command of a shell block, with the variables put in that any block sets."""
    for name, value in re.findall(r'^(\w+)="(.*)"$', "".join(BLOCKS), re.MULTILINE):
        block = block.replace(f"${name}", value.replace("(", "'(").replace(")", ")'"))
    parts = [part for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(part) for part in parts if part.strip().startswith("sfjax ")]


COMMANDS = [words for block in BLOCKS for words in commands(block)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_of_a_page_parses(words):
    arguments, rest = parser(VERBS).parse_known_args(words[1:])
    assert not rest or arguments.verb in CONFIGURED
    if arguments.verb in CONFIGURED:
        load_config(arguments.config, rest)


def test_every_verb_is_in_the_page_of_commands():
    text = PAGES[ROOT / "sfjax/cli/README.md"]
    assert [verb.name for verb in VERBS if f"`sfjax {verb.name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file(page):
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]*)\)", PAGES[page]) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_readme_is_short():
    assert len(PAGES[ROOT / "README.md"].splitlines()) <= 200


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
