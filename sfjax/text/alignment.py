"""Alignments in files: TextGrids, as the Montreal Forced Aligner writes them, and lists with one utterance a line.

Silence is what lies between words. An unknown word's phone (spn) is a phone.
"""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import os
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfjax.data import manifest
from sfjax.errors import UserError
from sfjax.text.phones import RATE, SILENCE, Alignment, Line, Phone, Word

SILENCES = {"", SILENCE, "sil", "sp", "<sil>", "<eps>"}  # of words and of phones
OVERLAP = 0.02  # seconds up to which intervals that overlap are taken for rounding, and mended
HAIR = 1e-4  # seconds: less than this is how times are printed, and no gap or overlap


class _Interval(NamedTuple):
    start: float
    end: float
    label: str


def read_textgrid(path: str | os.PathLike) -> Alignment:
    """The tiers 'words' and 'phones' of a TextGrid (UTF-8 or UTF-16, long, short or JSON), in frames of 10 ms.

    Boundaries are rounded, so that what meets in the file meets in frames; where intervals overlap by up to 20 ms the
    later one is shortened, which `repaired` counts over both tiers. `UserError` for larger overlaps, files that are
    cut, missing tiers, words without phones and phones outside words.
    """
    tiers = _tiers(path)
    words, word_repairs, _ = _intervals(tiers, "words", path)
    phones, phone_repairs, end = _intervals(tiers, "phones", path)
    middles = np.array([(phone.start + phone.end) / 2 for phone in phones])
    found, next_phone = [], 0
    for word in words:
        first, last = np.searchsorted(middles, [word.start, word.end]).tolist()
        mine = phones[first:last]
        if not mine:
            raise UserError(f"{path}: the word {word.label!r} at {word.start:.2f} s has no phones; align it again")
        _refuse(path, phones[next_phone:first])
        _refuse(path, [p for p in mine if p.start < word.start - OVERLAP or p.end > word.end + OVERLAP])
        next_phone = last
        found.append(Word(word.label, tuple(Phone(p.label, round(p.start * RATE), round(p.end * RATE)) for p in mine)))
    _refuse(path, phones[next_phone:])
    return Alignment(tuple(found), round(end * RATE), word_repairs + phone_repairs)


def _refuse(path: str | os.PathLike, outside: list[_Interval]) -> None:
    if outside:
        phone = outside[0]
        raise UserError(f"{path}: the phone {phone.label!r} at {phone.start:.2f} s lies outside words; align it again")


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
        # praatio's own opening of files refuses every overlap, by however little
        start = Path(path).read_bytes()[:2]
        text = Path(path).read_text(encoding="utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        found = textgrid_io.parseTextgridStr(text, includeEmptyIntervals=True)["tiers"]
        return [
            _Tier(
                tier["name"],
                tier["class"],
                float(tier["xmax"]),
                [_Interval(float(entry[0]), float(entry[-2]), entry[-1].strip()) for entry in tier["entries"]],
            )
            for tier in found
        ]
    except OSError as error:
        raise UserError(f"{path}: expected a TextGrid ({error.strerror}); check the path") from None
    except (errors.PraatioException, ValueError, LookupError, TypeError, AttributeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path}: not readable as a TextGrid ({why}); it is cut short or damaged") from None


def _intervals(tiers: list[_Tier], name: str, path: str | os.PathLike) -> tuple[list[_Interval], int, float]:
    """The intervals of a tier that are not silent, overlaps taken away; how many there were; the end in seconds."""
    named = [tier for tier in tiers if tier.name == name and tier.kind == "IntervalTier"]
    if len(named) != 1:
        have = ", ".join(repr(tier.name) for tier in tiers) or "none"
        raise UserError(f"{path}: wants one interval tier {name!r}, its tiers are {have}; export words and phones")
    found, repaired, done = [], 0, 0.0
    for start, end, label in named[0].intervals:
        place = f"{path}: {label!r} at {start:.2f} s of the tier {name!r}"
        if not start <= end:
            raise UserError(f"{place} ends before it starts; align it again")
        if start < done - OVERLAP - HAIR:
            raise UserError(f"{place} starts {done - start:.3f} s before what precedes it ends; align it again")
        repaired += start < done - HAIR
        start = done if start < done + HAIR else start
        done = max(start, end)
        if label not in SILENCES:
            found.append(_Interval(start, done, label))
    if abs(done - named[0].end) > OVERLAP + HAIR:
        what = f"the tier {name!r} stops at {done:.2f} s and should last {named[0].end:.2f} s"
        raise UserError(f"{path}: {what}; the file is cut short, write it again with its empty intervals")
    return found, repaired, named[0].end


def write_textgrid(path: str | os.PathLike, line: Line) -> None:
    """Writes a line as a TextGrid with the tiers 'words' and 'phones', in seconds; phones lose their positions.

    Silences are empty intervals. What lasts no frames, as a ghost does, has no interval.
    """
    try:
        from praatio import textgrid
    except ImportError:
        raise UserError(f"{path}: writing TextGrids needs praatio: pip install 'sfjax[text]'") from None
    edges = [0, *itertools.accumulate(line.lengths)]
    silences = [(i, i + 1, "") for i, token in enumerate(line.phones) if token == SILENCE]
    grid = textgrid.Textgrid(0, edges[-1] / RATE)
    for name, spans in {
        "words": [(*group, word) for group, word in zip(line.groups(), line.words, strict=True)],
        "phones": [(i, i + 1, token.rpartition("_")[0]) for i, token in enumerate(line.phones) if token != SILENCE],
    }.items():
        shown = [
            (edges[first] / RATE, edges[end] / RATE, label)
            for first, end, label in spans + silences
            if edges[first] < edges[end]
        ]
        grid.addTier(textgrid.IntervalTier(name, shown, 0, edges[-1] / RATE))
    with manifest.replacing(path) as part:
        grid.save(str(part), "long_textgrid", includeBlankSpaces=True)


def read_jsonl(path: str | os.PathLike) -> dict[str, Alignment]:
    """The alignments of a list, plain or packed as .xz or .gz, by their ids.

    A line is `{"id": …, "words": [[text, [[symbol, first frame, last frame + 1], …]], …]}` at 100 frames a second.
    `UserError` names the line that is something else.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: expected a list of alignments, found no such file; check the path")
    found = {}
    try:
        with {".xz": lzma.open, ".gz": gzip.open}.get(Path(path).suffix, open)(path, "rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    name, alignment = _entry(json.loads(text))
                    if name in found:
                        raise ValueError(f"the id {name!r} came before")
                except ValueError as error:
                    raise UserError(f"{path}: line {number}: {error}; mend or drop it") from None
                found[name] = alignment
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read on after {len(found)} alignments ({error}); copy it again") from None
    if not found:
        raise UserError(f"{path}: expected alignments, one a line, found none; write it again")
    return found


def _entry(entry: Any) -> tuple[str, Alignment]:
    match entry:
        case {"id": str(name), "words": list(listed)} if name:
            words = [_word(word) for word in listed]
        case _:
            raise ValueError(f"wanted an object with 'id' and 'words', found {_short(entry)}")
    ends = [phone.end for _, phones in words for phone in phones]
    spoken = []
    for text, phones in words:
        heard = tuple(phone for phone in phones if phone.symbol not in SILENCES)
        if bool(heard) == (text in SILENCES):
            wanted = "silence alone" if heard else "one phone or more that is not silent"
            raise ValueError(f"the word {text!r} wants {wanted}, found {_short([phone.symbol for phone in phones])}")
        if heard:
            spoken.append(Word(text, heard))
    return name, Alignment(tuple(spoken), max(ends, default=0), 0)


def _word(word: Any) -> tuple[str, list[Phone]]:
    match word:
        case [str(text), list(listed)]:
            return text, [_phone(phone) for phone in listed]
    raise ValueError(f"wanted a word as [text, phones], found {_short(word)}")


def _phone(phone: Any) -> Phone:
    match phone:
        case [str(symbol), int(start), int(end)] if 0 <= start <= end:
            return Phone(sys.intern(symbol), start, end)  # few distinct ones over millions of phones
    raise ValueError(f"wanted a phone as [symbol, first frame, last frame + 1], found {_short(phone)}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]} …"
