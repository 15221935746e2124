"""Durations of phones: pauses and speed, from a model or from a file that you edit."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32

from sfjax import overwrite
from sfjax.errors import UserError
from sfjax.text.phones import SILENCE, Line, spell

LONGEST = 10.0  # seconds; a phone or pause that lasts this long is a mistake
SLOWEST, FASTEST = 0.25, 4.0


# A file that you edit by hand


def write(path: str | os.PathLike, lines: Sequence[Line], *, hop_seconds: float) -> None:
    """Write the duration of each phone in seconds, as JSON with one word or pause a line.

    `{"made_by": "sfjax …", "hop": 0.01, "sentences": [[{"word": null, "phones": [{"phone": "SIL", "seconds": 0.1}]},
    {"word": "hey", "phones": [{"phone": "HH", "seconds": 0.08}, …]}, …], …]}`. Pauses and words alternate, and phones
    have no positions. `hop` is there for people: the seconds are multiples of it. `made_by` has a digest, so that a
    file that you have edited is not replaced. Raises `UserError` if the file cannot be written.
    """
    path = Path(path)
    sentences = ",\n".join("  [\n" + ",\n".join(_rows(line, hop_seconds)) + "\n  ]" for line in lines)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f'{{"made_by": "{overwrite.UNSIGNED}", "hop": {hop_seconds:g}, "sentences": [\n{sentences}\n]}}\n'
        part.write_text(overwrite.sign(text), encoding="utf-8", newline="")
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        if part.is_file():
            part.unlink()


def _rows(line, hop_seconds):
    """Yield a row of JSON for each pause and word."""
    previous_end = 0
    for (first, end), word in zip(line.groups(), line.words, strict=True):
        yield _row(None, line, previous_end, first, hop_seconds)
        yield _row(word, line, first, end, hop_seconds)
        previous_end = end
    yield _row(None, line, previous_end, len(line.phones), hop_seconds)


def _row(word, line, start, stop, hop_seconds):
    phones = [
        {"phone": _without_position(token), "seconds": round(length * hop_seconds, 6)}
        for token, length in zip(line.phones[start:stop], line.lengths[start:stop], strict=True)
    ]
    return "    " + json.dumps({"word": word, "phones": phones}, ensure_ascii=False)


def _without_position(token):
    return token if token == SILENCE else token.rpartition("_")[0]


def read(path: str | os.PathLike, *, hop_seconds: float) -> list[Line]:
    """Read the lines of a file that `write` made; seconds are rounded to frames.

    Raises `UserError`, which names the sentence, row and phone, if the file cannot be read, if pauses and words do not
    alternate, or if a phone lasts less than 0 s, or 10 s or more.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: expected a file of durations, got none ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON in UTF-8, got something else ({error}); correct it") from None
    sentences = document.get("sentences") if isinstance(document, dict) else None
    if not isinstance(sentences, list) or not sentences:
        raise UserError(
            f'{path}: expected {{"sentences": [[…], …]}}, got {_short(document)}; write at least one sentence'
        )
    return [_sentence(f"{path}, sentence {number}", rows, hop_seconds) for number, rows in enumerate(sentences, 1)]


def _sentence(location, rows, hop_seconds):
    """Return the line of one sentence of the file; `location` starts the error messages."""
    if not isinstance(rows, list) or len(rows) < 3 or len(rows) % 2 == 0:
        got = f"{len(rows)} rows" if isinstance(rows, list) else _short(rows)
        raise UserError(f"{location}: expected a list of pauses and words in turn, a pause at both ends, got {got}")
    words, word_phones, seconds = [], [], []
    for number, row in enumerate(rows, 1):
        row_location = f"{location}, row {number}"
        word, phones = _word_and_phones(row_location, row)
        if number % 2 == 0:
            if not (isinstance(word, str) and word.strip()):
                raise UserError(f"{row_location}: expected a word between two pauses, got {_short(word)}; write one")
            if any(phone == SILENCE for phone, _ in phones):
                raise UserError(f"{row_location}: expected the phones of {_short(word)}, got {SILENCE} too; remove it")
            words.append(word)
            word_phones.append([phone for phone, _ in phones])
        elif word is not None or [phone for phone, _ in phones] != [SILENCE]:
            raise UserError(
                f"{row_location}: expected a pause, word null and one phone {SILENCE}, got {_short(row)}; "
                "a pause may last 0.0"
            )
        seconds += [length for _, length in phones]
    lengths = tuple(math.floor(length / hop_seconds + 0.5) for length in seconds)
    return Line(spell(word_phones), lengths, tuple(words))


def _word_and_phones(location, row):
    """Return the word of a row, and its phones with their seconds."""
    if not isinstance(row, dict) or row.keys() != {"word", "phones"}:
        raise UserError(f'{location}: expected {{"word": …, "phones": […]}}, got {_short(row)}')
    phones = row["phones"]
    if not isinstance(phones, list) or not phones:
        raise UserError(f"{location}: expected a list of phones, got {_short(phones)}; write at least one")
    for number, entry in enumerate(phones, 1):
        phone_location = f"{location}, phone {number}"
        if not isinstance(entry, dict) or entry.keys() != {"phone", "seconds"}:
            raise UserError(f'{phone_location}: expected {{"phone": …, "seconds": …}}, got {_short(entry)}')
        phone, seconds = entry["phone"], entry["seconds"]
        if not isinstance(phone, str) or not phone or any(letter.isspace() for letter in phone):
            raise UserError(
                f"{phone_location}: expected the name of a phone, got {_short(phone)}; write it without spaces"
            )
        if not _is_duration(seconds):
            raise UserError(
                f"{phone_location}: expected 0 to {LONGEST:g} seconds, got {_short(seconds)}; write a shorter time"
            )
    return row["word"], [(entry["phone"], entry["seconds"]) for entry in phones]


def _is_duration(seconds: Any) -> bool:
    """Return whether a phone or a pause may last this long; NaN is no duration."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < LONGEST


def _short(value: Any) -> str:
    """Return the value as JSON for an error message, cut to 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(type(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


# Lengths in frames


def paced(
    lengths: Float[np.ndarray, " phones"], *, phones: Sequence[str], speed: float
) -> Int32[np.ndarray, " phones"]:
    """Divide predicted lengths in frames by `speed` and return whole frames whose total is the rounded total.

    A phone whose length is not 0 keeps at least one frame; the longer phones become shorter to make up for it. Silences
    may get no frame. In an edit, pass only the predicted lengths, so that nothing else changes. Raises `UserError`
    unless `speed` is between 0.25 and 4.
    """
    if not (isinstance(speed, numbers.Real) and SLOWEST <= speed <= FASTEST):
        raise UserError(f"expected a speed from {SLOWEST:g} to {FASTEST:g}, got {speed!r}; 1 is the speed of the voice")
    if not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise ValueError("lengths must be finite and 0 or more")
    target = lengths.astype(np.float64) / speed
    minimum = (lengths > 0) & (np.array(phones) != SILENCE)  # frames: 1 for a phone that lasts, 0 for a silence
    total = max(math.floor(target.sum() + 0.5), int(minimum.sum()))
    at_minimum = np.zeros(len(lengths), bool)  # phones that were raised to their one frame
    while (target < minimum).any():
        at_minimum |= target < minimum
        rest = max(target[~at_minimum].sum(), np.finfo(float).tiny)
        target = np.where(at_minimum, 1.0, target * ((total - at_minimum.sum()) / rest))
    frames = np.floor(target).astype(np.int32)
    frames[np.argsort(frames - target, kind="stable")[: total - frames.sum()]] += 1  # the largest remainders
    return frames


def with_pauses(line: Line, pauses: Sequence[float | None], *, hop_seconds: float) -> Line:
    """Return the line with new pauses in seconds, before each word and after the last; None keeps a pause.

    Raises `UserError` if the number of pauses does not fit, or if a pause lasts less than 0 s, or 10 s or more.
    """
    if len(pauses) != len(line.words) + 1:
        raise UserError(
            f"expected {len(line.words) + 1} pauses, before each word and after the last, got {len(pauses)}; "
            "write None to keep a pause"
        )
    silences = [index for index, token in enumerate(line.phones) if token == SILENCE]
    lengths = list(line.lengths)
    for index, pause in zip(silences, pauses, strict=True):
        if pause is None:
            continue
        if not _is_duration(pause):
            raise UserError(f"expected a pause of 0 to {LONGEST:g} seconds, got {pause}; write a shorter one")
        lengths[index] = math.floor(pause / hop_seconds + 0.5)
    return line._replace(lengths=tuple(lengths))


def trimmed(line: Line, *, most: int) -> Line:
    """Return the line with the silences at both ends cut to `most` frames."""
    first, *inner, last = line.lengths
    return line._replace(lengths=(min(first, most), *inner, min(last, most)))


def joined(first: Line, second: Line) -> Line:
    """Return both lines as one; the two silences between them become one silence."""
    middle = first.lengths[-1] + second.lengths[0]
    return Line(
        first.phones + second.phones[1:],
        (*first.lengths[:-1], middle, *second.lengths[1:]),
        first.words + second.words,
    )


# Times in seconds


class TimedPhone(NamedTuple):
    """A phone, without its position in the word, and its start and end in seconds."""

    phone: str
    start: float
    end: float


class TimedWord(NamedTuple):
    """A word, its start and end in seconds, and its phones."""

    text: str
    start: float
    end: float
    phones: tuple[TimedPhone, ...]


def times(line: Line, *, hop_seconds: float, start: float = 0.0) -> list[TimedWord]:
    """Return the start and end of each word and of its phones, for a line that starts at `start` seconds."""
    edges = start + hop_seconds * np.cumsum([0, *line.lengths])
    edges = np.round(edges, 6).tolist()
    phones = [TimedPhone(_without_position(token), edges[i], edges[i + 1]) for i, token in enumerate(line.phones)]
    return [
        TimedWord(word, edges[first], edges[end], tuple(phones[first:end]))
        for word, (first, end) in zip(line.words, line.groups(), strict=True)
    ]
