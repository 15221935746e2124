"""Read and write alignments: TextGrids of the Montreal Forced Aligner, and JSON Lines.

Everything between words is silence. The phone of an unknown word (spn) is a phone.
"""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import os
import re
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfjax import overwrite
from sfjax.data import manifest
from sfjax.errors import UserError
from sfjax.text.phones import RATE, SILENCE, Alignment, Line, Phone, Word

SILENCES = {"", SILENCE, "sil", "sp", "<sil>", "<eps>"}  # names of silent words and phones
OVERLAP = 0.02  # seconds; overlaps up to this come from rounding and are repaired
HAIR = 1e-4  # seconds; smaller differences come from the printing of times and are no gap or overlap


class _Interval(NamedTuple):
    start: float
    end: float
    label: str


def read_textgrid(path: str | os.PathLike) -> Alignment:
    """Read the tiers 'words' and 'phones' of a TextGrid (UTF-8 or UTF-16, long, short or JSON), in frames of 10 ms.

    Boundaries are rounded, so that intervals that meet in the file meet in frames. Where intervals overlap by up to
    20 ms, the later one is shortened; `repaired` counts this over both tiers. Raises `UserError` for larger overlaps,
    truncated files, missing tiers, words without phones and phones outside words.
    """
    tiers = _tiers(path)
    words, word_repairs, _ = _intervals(tiers, "words", path)
    phones, phone_repairs, end = _intervals(tiers, "phones", path)
    middles = np.array([(phone.start + phone.end) / 2 for phone in phones])
    aligned, next_phone = [], 0
    for word in words:
        first, last = np.searchsorted(middles, [word.start, word.end]).tolist()
        inside = phones[first:last]
        if not inside:
            raise UserError(f"{path}: the word {word.label!r} at {word.start:.2f} s has no phones; align it again")
        _refuse_outside(path, phones[next_phone:first])
        _refuse_outside(path, [p for p in inside if p.start < word.start - OVERLAP or p.end > word.end + OVERLAP])
        next_phone = last
        spoken = tuple(Phone(p.label, round(p.start * RATE), round(p.end * RATE)) for p in inside)
        aligned.append(Word(word.label, spoken))
    _refuse_outside(path, phones[next_phone:])
    return Alignment(tuple(aligned), round(end * RATE), word_repairs + phone_repairs)


def _refuse_outside(path: str | os.PathLike, outside: list[_Interval]) -> None:
    """Raise `UserError` if there are phones outside words."""
    if outside:
        phone = outside[0]
        raise UserError(f"{path}: the phone {phone.label!r} at {phone.start:.2f} s lies outside words; align it again")


SPACED = r"File type|Object class|class|name|xmin|xmax|text|mark|number"  # fields that praatio finds only with spaces


class _Tier(NamedTuple):
    name: str
    kind: str
    end: float
    intervals: list[_Interval]


def _tiers(path: str | os.PathLike) -> list[_Tier]:
    try:
        from praatio.utilities import errors, textgrid_io
    except ImportError:
        raise UserError(f"{path}: reading TextGrids needs praatio: pip install 'sfjax[text]'") from None
    try:
        # praatio's openTextgrid refuses even the smallest overlap
        tiers = textgrid_io.parseTextgridStr(_text(Path(path)), includeEmptyIntervals=True)["tiers"]
        return [
            _Tier(
                tier["name"],
                tier["class"],
                float(tier["xmax"]),
                [_Interval(float(entry[0]), float(entry[-2]), entry[-1].strip()) for entry in tier["entries"]],
            )
            for tier in tiers
        ]
    except OSError as error:
        raise UserError(f"{path}: expected a TextGrid ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: expected a TextGrid in UTF-8 or UTF-16, got another encoding (byte {error.start} fits neither); "
            "save it as UTF-8"
        ) from None
    except (errors.PraatioException, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path}: not readable as a TextGrid ({reason}); it is truncated or damaged") from None


def _text(path: Path) -> str:
    """Read a TextGrid as text, with the white space that praatio needs; UTF-16 may lack its byte order mark."""
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif content[:40:2].strip(b"\0") == b"" and content:
        encoding = "utf-16-be"
    elif content[1:40:2].strip(b"\0") == b"" and content[1:]:
        encoding = "utf-16-le"
    else:
        encoding = "utf-8-sig"
    text = "\n".join(content.decode(encoding).splitlines()).lstrip() + "\n"
    text = re.sub(rf"^([ \t]*(?:{SPACED}))[ \t]*=[ \t]*", r"\1 = ", text, flags=re.MULTILINE)
    return re.sub(r"^([ \t]*(?:item|intervals|points))[ \t]*\[", r"\1 [", text, flags=re.MULTILINE)


def _intervals(tiers: list[_Tier], name: str, path: str | os.PathLike) -> tuple[list[_Interval], int, float]:
    """Return the intervals of a tier without silences and overlaps, the number of overlaps, and the end in seconds."""
    matching = [tier for tier in tiers if tier.name == name and tier.kind == "IntervalTier"]
    if len(matching) != 1:
        names = ", ".join(repr(tier.name) for tier in tiers) or "none"
        raise UserError(f"{path}: expected one interval tier {name!r}, got the tiers {names}; export words and phones")
    tier = matching[0]
    intervals, repaired, previous_end = [], 0, 0.0
    for start, end, label in tier.intervals:
        location = f"{path}: {label!r} at {start:.2f} s of the tier {name!r}"
        if not start <= end:
            raise UserError(f"{location} ends before it starts; align it again")
        if start < previous_end - OVERLAP - HAIR:
            overlap = previous_end - start
            raise UserError(f"{location} starts {overlap:.3f} s before the previous interval ends; align it again")
        repaired += start < previous_end - HAIR
        start = previous_end if start < previous_end + HAIR else start
        previous_end = max(start, end)
        if label not in SILENCES:
            intervals.append(_Interval(start, previous_end, label))
    if abs(previous_end - tier.end) > OVERLAP + HAIR:
        raise UserError(
            f"{path}: the tier {name!r} must last {tier.end:.2f} s, but stops at {previous_end:.2f} s; "
            "the file is truncated, write it again with its empty intervals"
        )
    return intervals, repaired, tier.end


def write_textgrid(path: str | os.PathLike, line: Line) -> None:
    """Write a line as a TextGrid with the tiers 'words' and 'phones', in seconds; phones lose their positions.

    Silences are empty intervals. Phones and silences of no frames get no interval. The last line is a comment with a
    digest, so that a file that you have edited is not replaced (`sfjax.overwrite`).
    """
    try:
        from praatio import textgrid
        from praatio.utilities.constants import Interval
    except ImportError:
        raise UserError(f"{path}: writing TextGrids needs praatio: pip install 'sfjax[text]'") from None
    edges = [0, *itertools.accumulate(line.lengths)]
    silences = [(i, i + 1, "") for i, token in enumerate(line.phones) if token == SILENCE]
    grid = textgrid.Textgrid(0, edges[-1] / RATE)
    words = [(*group, word) for group, word in zip(line.groups(), line.words, strict=True)]
    phones = [(i, i + 1, token.rpartition("_")[0]) for i, token in enumerate(line.phones) if token != SILENCE]
    for name, spans in (("words", words), ("phones", phones)):
        intervals = [
            Interval(edges[first] / RATE, edges[end] / RATE, label)
            for first, end, label in spans + silences
            if edges[first] < edges[end]
        ]
        grid.addTier(textgrid.IntervalTier(name, intervals, 0, edges[-1] / RATE))
    with manifest.replacing(path) as part:
        grid.save(str(part), "long_textgrid", includeBlankSpaces=True)
        text = part.read_text(encoding="utf-8")
        part.write_text(overwrite.sign(f"{text}! {overwrite.UNSIGNED}\n"), encoding="utf-8", newline="")


def read_jsonl(path: str | os.PathLike) -> dict[str, Alignment]:
    """Read a list of alignments in JSON Lines, plain or compressed as .xz or .gz, and return them by id.

    A line is `{"id": …, "words": [[text, [[symbol, first frame, last frame + 1], …]], …]}` at 100 frames a second.
    Raises `UserError`, which names the line, if a line is anything else.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: expected a list of alignments, found no such file; check the path")
    alignments = {}
    try:
        with {".xz": lzma.open, ".gz": gzip.open}.get(Path(path).suffix, open)(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    name, alignment = _named_alignment(json.loads(text))
                    if name in alignments:
                        raise ValueError(f"the id {name!r} occurs twice")
                except ValueError as error:
                    raise UserError(f"{path}: line {number}: {error}; correct or remove it") from None
                alignments[name] = alignment
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: not readable after {len(alignments)} alignments ({error}); copy it again") from None
    if not alignments:
        raise UserError(f"{path}: expected alignments, one a line, found none; write it again")
    return alignments


def _named_alignment(entry: Any) -> tuple[str, Alignment]:
    """Return the id and the alignment of a line; raises `ValueError` if the line is anything else."""
    match entry:
        case {"id": str(name), "words": list(entries)} if name:
            words = [_word(word) for word in entries]
        case _:
            raise ValueError(f"expected an object with 'id' and 'words', got {_short(entry)}")
    ends = [phone.end for _, phones in words for phone in phones]
    spoken = []
    for text, phones in words:
        audible = tuple(phone for phone in phones if phone.symbol not in SILENCES)
        if bool(audible) == (text in SILENCES):
            expected = "only silence" if audible else "one phone or more that is not silent"
            symbols = _short([phone.symbol for phone in phones])
            raise ValueError(f"expected {expected} in the word {text!r}, got {symbols}")
        if audible:
            spoken.append(Word(text, audible))
    return name, Alignment(tuple(spoken), max(ends, default=0), 0)


def _word(word: Any) -> tuple[str, list[Phone]]:
    match word:
        case [str(text), list(phones)]:
            return text, [_phone(phone) for phone in phones]
    raise ValueError(f"expected a word as [text, phones], got {_short(word)}")


def _phone(phone: Any) -> Phone:
    match phone:
        case [str(symbol), int(start), int(end)] if 0 <= start <= end:
            return Phone(sys.intern(symbol), start, end)  # millions of phones share a few symbols
    raise ValueError(f"expected a phone as [symbol, first frame, last frame + 1], got {_short(phone)}")


def _short(value: Any) -> str:
    """Return the value as JSON for an error message, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]} …"
