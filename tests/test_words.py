"""Docstrings, messages, help texts and pages are plain English: phrases that were hard to read do not come back."""

import ast
import re
from pathlib import Path

import pytest

import sfjax

ROOT = Path(sfjax.__file__).parents[1]
SOURCES = sorted(path for folder in ("sfjax", "configs", "launch") for path in (ROOT / folder).rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "sfjax").rglob("README.md") if "weights" not in path.parts),
]
PAGES += [ROOT / folder / "README.md" for folder in ("configs", "launch", "notebooks")]
BANNED = {  # a phrase as a regular expression, and what to write
    r"\bof which\b": "a sentence with its own subject",
    r"\b(is|are) told\b": "the verb of what happens: reported, listed, recognised",
    r"\bwant(s|ed)?\b": "needs, expected, must be",
    r"\b(goes|go) on\b": "resumes, continues",
    r"\bstands? beside\b": "the usual word: auxiliary, next to",
    r"\bmend\b": "correct, check",
    r"\bput right\b": "correct",
    r"\bwhat is (said|done|made)\b": "the thing's name",
    r"\bthat of\b": "the noun again, or a possessive",
    r"\bat one's\b": "you",
}


def prose(source: str) -> list[str]:
    """The docstrings, the texts of errors, and the help texts of a module."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            texts.append(ast.get_docstring(node) or "")
        spoken = []
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            spoken = node.exc.args
        if isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            spoken = [node.value]
        texts += [part.value for root in spoken for part in ast.walk(root) if is_text(part)]
    return texts


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def banned(texts: list[str]) -> list[str]:
    """What of the texts is banned, with its remedy."""
    plain = [" ".join(re.sub(r"`[^`]*`", "", text).split()) for text in texts]
    return [
        f"…{text[max(match.start() - 40, 0) : match.end() + 20]}… → {remedy}"
        for text in plain
        for phrase, remedy in BANNED.items()
        for match in re.finditer(phrase, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_is_in_plain_words(path):
    assert not banned(prose(path.read_text()))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_in_plain_words(path):
    assert not banned([re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)])


@pytest.mark.parametrize(
    "source",
    [
        '"""A run, of which some are saved."""',
        'def f():\n    """The loader wants 2 speakers."""',
        'raise UserError(f"{name} goes on where it was")',
        'parser.add_argument("--x", help="mend the name")',
    ],
)
def test_a_banned_phrase_is_found_wherever_a_reader_meets_it(source):
    assert len(banned(prose(source))) == 1
