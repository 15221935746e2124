"""Read text in UTF-8; other encodings and half characters are errors that name the place."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path
from typing import Any

from sfjax.errors import UserError

SURROGATE = re.compile("[\ud800-\udfff]")


def decode(content: bytes, source: str | os.PathLike) -> str:
    """Return bytes in UTF-8 as text; raises `UserError`, which names `source`, for other encodings."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{source}: expected text in UTF-8, got UTF-16; convert it: iconv -f utf-16 -t utf-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{source}: line {line}: expected text in UTF-8, got the byte 0x{content[error.start]:02x}; convert it, "
            "for example from Latin-1: iconv -f latin1 -t utf-8"
        ) from None


def read_text(path: str | os.PathLike) -> str:
    """Return the text of a file in UTF-8; raises `UserError` for other encodings and `OSError` as `open` does."""
    return decode(Path(path).read_bytes(), path)


def check_characters(text: Any) -> None:
    """Raise `UserError` for half a character: a lone surrogate, as in a cut emoji or an argument in Latin-1.

    Also raises it for something else than a `str`.
    """
    if not isinstance(text, str):
        raise UserError(f"expected a text as str, got {type(text).__name__}; give the words")
    if half := SURROGATE.search(text):
        raise UserError(
            f"expected text in UTF-8, got half of a character, {half[0]!a}, at character {half.start() + 1}; "
            "write the whole character or remove it"
        )
