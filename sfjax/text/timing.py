"""How fast a line is said and where it pauses: lengths in frames from what a model predicts or a person writes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32

from sfjax.errors import UserError
from sfjax.text.phones import SILENCE, Line, spell

LONGEST = 10.0  # seconds of a phone or pause that are no mistake
SLOWEST, FASTEST = 0.25, 4.0


# A file to edit by hand


def write(path: str | os.PathLike, lines: Sequence[Line], *, hop_seconds: float) -> None:
    """Writes how long each phone lasts in seconds, as JSON with one word or pause a line.

    `{"hop": 0.01, "sentences": [[{"word": null, "phones": [{"phone": "SIL", "seconds": 0.1}]}, {"word": "hey",
    "phones": [{"phone": "HH", "seconds": 0.08}, …]}, …], …]}`; phones stand there without their positions, and words
    and pauses take turns. `hop` tells the reader's eye in what steps seconds count. Raises `UserError` if the disk
    refuses.
    """
    path = Path(path)
    written = ",\n".join("  [\n" + ",\n".join(_rows(line, hop_seconds)) + "\n  ]" for line in lines)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(f'{{"hop": {hop_seconds:g}, "sentences": [\n{written}\n]}}\n', encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        if part.is_file():
            part.unlink()


def _rows(line, hop_seconds):
    """A row of JSON for each word and pause."""
    done = 0
    for (first, end), word in zip(line.groups(), line.words, strict=True):
        for name, start, stop in ((None, done, first), (word, first, end)):
            yield _row(name, line, start, stop, hop_seconds)
        done = end
    yield _row(None, line, done, len(line.phones), hop_seconds)


def _row(word, line, start, stop, hop_seconds):
    phones = [
        {"phone": _plain(token), "seconds": round(length * hop_seconds, 6)}
        for token, length in zip(line.phones[start:stop], line.lengths[start:stop], strict=True)
    ]
    return "    " + json.dumps({"word": word, "phones": phones}, ensure_ascii=False)


def _plain(token):
    return token if token == SILENCE else token.rpartition("_")[0]


def read(path: str | os.PathLike, *, hop_seconds: float) -> list[Line]:
    """The lines of a file as `write` makes it, seconds rounded to frames.

    Raises `UserError`, with the place, if it cannot be read, if words and pauses do not take turns, or if a phone lasts
    less than 0 or 10 seconds or more.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: expected a file of durations, got none ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON in UTF-8, got something else ({error}); mend it there") from None
    sentences = held.get("sentences") if isinstance(held, dict) else None
    if not isinstance(sentences, list) or not sentences:
        raise UserError(f'{path}: expected {{"sentences": [[…], …]}}, got {_short(held)}; write at least one sentence')
    return [_line(f"{path}, sentence {place}", rows, hop_seconds) for place, rows in enumerate(sentences, 1)]


def _line(where, rows, hop_seconds):
    if not isinstance(rows, list) or len(rows) < 3 or len(rows) % 2 == 0:
        what = f"{len(rows)} rows" if isinstance(rows, list) else _short(rows)
        raise UserError(f"{where}: expected a list of pauses and words in turn, a pause at both ends, got {what}")
    words, spelled, seconds = [], [], []
    for place, row in enumerate(rows, 1):
        here = f"{where}, row {place}"
        word, phones = _entry(here, row)
        if place % 2 == 0:
            if not (isinstance(word, str) and word.strip()):
                raise UserError(f"{here}: expected a word, as between any two pauses, got {_short(word)}; name it")
            if any(phone == SILENCE for phone, _ in phones):
                raise UserError(f"{here}: expected the phones of {_short(word)}, got a {SILENCE} among them; drop it")
            words.append(word)
            spelled.append([phone for phone, _ in phones])
        elif word is not None or [phone for phone, _ in phones] != [SILENCE]:
            raise UserError(
                f"{here}: expected a pause, word null and one phone {SILENCE}, got {_short(row)}; a pause may last 0.0"
            )
        seconds += [length for _, length in phones]
    return Line(spell(spelled), tuple(math.floor(length / hop_seconds + 0.5) for length in seconds), tuple(words))


def _entry(here, row):
    """The word of a row and its phones with their seconds."""
    if not isinstance(row, dict) or row.keys() != {"word", "phones"}:
        raise UserError(f'{here}: expected {{"word": …, "phones": […]}}, got {_short(row)}')
    phones = row["phones"]
    if not isinstance(phones, list) or not phones:
        raise UserError(f"{here}: expected a list of phones, got {_short(phones)}; name at least one")
    for place, entry in enumerate(phones, 1):
        there = f"{here}, phone {place}"
        if not isinstance(entry, dict) or entry.keys() != {"phone", "seconds"}:
            raise UserError(f'{there}: expected {{"phone": …, "seconds": …}}, got {_short(entry)}')
        phone, seconds = entry["phone"], entry["seconds"]
        if not isinstance(phone, str) or not phone or any(letter.isspace() for letter in phone):
            raise UserError(f"{there}: expected the name of a phone, got {_short(phone)}; write it without spaces")
        if not _lasts(seconds):
            raise UserError(f"{there}: expected 0 to {LONGEST:g} seconds, got {_short(seconds)}; write a shorter time")
    return row["word"], [(entry["phone"], entry["seconds"]) for entry in phones]


def _lasts(seconds: Any) -> bool:
    """Whether this is a time that a phone or a pause may last; NaN is none."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < LONGEST


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(type(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


# Lengths


def paced(
    lengths: Float[np.ndarray, " phones"], *, phones: Sequence[str], speed: float
) -> Int32[np.ndarray, " phones"]:
    """Predicted lengths in frames divided by `speed`, as whole frames whose total is the rounded total.

    A phone that lasts at all keeps at least one frame, which the longer ones make up for; silences may go. In an edit
    give only what is predicted, so that nothing else changes. Raises `UserError` unless `speed` is between 0.25 and 4.
    """
    if not SLOWEST <= speed <= FASTEST:
        raise UserError(f"expected a speed from {SLOWEST:g} to {FASTEST:g}, got {speed:g}; 1 is the speed of the voice")
    if not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise ValueError("lengths must be finite and 0 or more")
    wanted = lengths.astype(np.float64) / speed
    least = (lengths > 0) & (np.array(phones) != SILENCE)
    total = max(math.floor(wanted.sum() + 0.5), int(least.sum()))
    kept = np.zeros(len(lengths), bool)  # at their one frame
    while (wanted < least).any():
        kept |= wanted < least
        rest = max(wanted[~kept].sum(), np.finfo(float).tiny)
        wanted = np.where(kept, 1.0, wanted * ((total - kept.sum()) / rest))
    found = np.floor(wanted).astype(np.int32)
    found[np.argsort(found - wanted, kind="stable")[: total - found.sum()]] += 1  # the largest remainders
    return found


def with_pauses(line: Line, pauses: Sequence[float | None], *, hop_seconds: float) -> Line:
    """The line with other pauses, in seconds: before each word and after the last; None leaves one as it is.

    Raises `UserError` if there are not as many, or one is less than 0 or 10 s or more.
    """
    if len(pauses) != len(line.words) + 1:
        raise UserError(
            f"expected {len(line.words) + 1} pauses, before each word and after the last, got {len(pauses)}; "
            "leave one as it is by None"
        )
    lengths, left = list(line.lengths), iter(pauses)
    for place, token in enumerate(line.phones):
        if token != SILENCE or (pause := next(left)) is None:
            continue
        if not _lasts(pause):
            raise UserError(f"expected a pause of 0 to {LONGEST:g} seconds, got {pause}; write a shorter one")
        lengths[place] = math.floor(pause / hop_seconds + 0.5)
    return line._replace(lengths=tuple(lengths))


def trimmed(line: Line, *, most: int) -> Line:
    """The line with the silences at both its ends cut to `most` frames."""
    first, *inner, last = line.lengths
    return line._replace(lengths=(min(first, most), *inner, min(last, most)))


def joined(first: Line, second: Line) -> Line:
    """Both lines one after the other; the silences where they meet become one."""
    meeting = first.lengths[-1] + second.lengths[0]
    return Line(
        first.phones + second.phones[1:],
        (*first.lengths[:-1], meeting, *second.lengths[1:]),
        first.words + second.words,
    )


# When


class Spoken(NamedTuple):
    """A phone, without its position in the word, and its start and end in seconds."""

    phone: str
    start: float
    end: float


class Said(NamedTuple):
    """A word, its start and end in seconds, and its phones."""

    text: str
    start: float
    end: float
    phones: tuple[Spoken, ...]


def times(line: Line, *, hop_seconds: float, start: float = 0.0) -> list[Said]:
    """When each word of a line and each of its phones is heard, for a line that starts at `start` seconds."""
    edges = start + hop_seconds * np.cumsum([0, *line.lengths])
    edges = np.round(edges, 6).tolist()
    phones = [Spoken(_plain(token), edges[i], edges[i + 1]) for i, token in enumerate(line.phones)]
    return [
        Said(word, edges[first], edges[end], tuple(phones[first:end]))
        for word, (first, end) in zip(line.words, line.groups(), strict=True)
    ]
