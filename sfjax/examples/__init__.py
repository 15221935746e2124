"""Two short recordings to try the models: a voice, and the same voice in rain. README.md states their licence."""

from __future__ import annotations

from pathlib import Path

from sfjax.errors import UserError

FOLDER = Path(__file__).parent
TEXT = "I'll tell you, the librarian said with a brightening face."  # the words of both recordings


def path(name: str) -> Path:
    """Return the path of an example: `voice` or `noisy`, FLAC files of 4 s at 16 kHz, equal but for the noise.

    Raises UserError for another name.
    """
    names = [file.stem for file in sorted(FOLDER.glob("*.flac"))]
    if name not in names:
        raise UserError(f"unknown example {name!r}; choose from {', '.join(names)}")
    return FOLDER / f"{name}.flac"
