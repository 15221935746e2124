"""Libri-Light: audiobooks in English without their words (Kahn et al., ICASSP 2020).

A recording of many minutes becomes pieces of at most `LONGEST` seconds, by the segments of speech in its metadata.
Consecutive segments are joined, with the silence between them, as long as the piece from the first start to the last
end is not longer than `LONGEST`. A single segment that is longer is cut into the fewest equal parts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfjax import audio
from sfjax.data.corpora import Corpus, Published, folders
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

LONGEST = 16.0  # seconds of a piece
FRAME = 0.08  # seconds of a frame of the speech detector; the last frame may pass the end of the recording
SETS = {
    "small": Published("train", 2588, 577.2),
    "medium": Published("train", 18739, 5193.5),
    "large": Published("train", 197714, 51935.7),
}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield pieces of SET/SPEAKER/BOOK/NAME.flac, with the speaker and the segments of speech in NAME.json."""
    for set_folder in folders(src, SETS, "Libri-Light"):
        for speaker in sorted(set_folder.glob("*/")):
            columns: dict[str, str | None] = {"speaker": speaker.name, "set": set_folder.name}
            columns["split"] = SETS[set_folder.name].split
            for book in sorted(speaker.glob("*/")):
                files = sorted(book.iterdir())
                recorded = {path.stem for path in files if path.suffix == ".flac"}
                for path in files:
                    if path.suffix == ".flac":
                        yield from _pieces(path, columns)
                    elif path.suffix != ".json":
                        yield Reject(str(path), "not named like Libri-Light's files, NAME.flac and NAME.json")
                    elif path.stem not in recorded:
                        yield Reject(str(path.with_suffix(".flac")), f"is missing, but {path.name} has its segments")


def _pieces(path: Path, columns: dict[str, str | None]) -> Iterator[Job | Reject]:
    """Yield the pieces of a recording, and a reject for each segment that cannot be used."""
    try:
        segments = _segments(path.with_suffix(".json"), columns["speaker"])
        info = audio.probe(path)
    except (ValueError, UserError) as error:
        yield Reject(str(path), str(error).removeprefix(f"{path}: "))
        return
    spans: list[tuple[float, float]] = []
    for segment in segments:
        try:
            spans.append(_checked_span(segment, spans[-1][1] if spans else 0.0, info.frames / info.rate))
        except ValueError as error:
            yield Reject(str(path), f"segment {segment} of {path.stem}.json {error}")
    for start, length in _joined_spans(spans):
        yield Job(str(path), None, start, length, columns)


def _segments(path: Path, speaker: str | None) -> list[Any]:
    """Read the segments of speech from a recording's metadata. Raises `ValueError` if they cannot be used."""
    try:
        entry = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"has no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from None
    entry = entry if isinstance(entry, dict) else {}
    if str(entry.get("speaker")) != speaker:
        raise ValueError(f"{path.name} has speaker {entry.get('speaker')!r}, but is in the folder of {speaker!r}")
    if not (isinstance(entry.get("voice_activity"), list) and entry["voice_activity"]):
        raise ValueError(f"{path.name} has no segments of speech in 'voice_activity'")
    return entry["voice_activity"]


def _checked_span(segment: Any, last: float, seconds: float) -> tuple[float, float]:
    """Return start and end of a segment in seconds; it must be after `last` and within the `seconds` of its file."""
    if not (isinstance(segment, list) and len(segment) == 2 and all(type(time) in (int, float) for time in segment)):
        raise ValueError("is not a start and an end in seconds")
    start, end = float(segment[0]), min(float(segment[1]), seconds)
    if not segment[1] <= seconds + FRAME:
        raise ValueError(f"passes the end of the file at {seconds:.3f} s")
    if not start < end:
        raise ValueError("ends before it starts")
    if start < last:
        raise ValueError(f"starts before {last:g} s, the end of the previous one" if last else "starts before 0 s")
    return start, end


def _joined_spans(spans: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield start and length in seconds of each piece."""
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and round(end - joined[-1][0], 6) <= LONGEST:  # rounded, because decimal differences are not exact
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    for start, end in joined:
        parts = math.ceil(round(end - start, 6) / LONGEST)
        length = (end - start) / parts
        yield from ((start + i * length, length) for i in range(parts))


# Files and hours are differences of nested sets in the paper's table: unlab-600 is small, unlab-6k is small and medium,
# unlab-60k is all three. The hours are of whole recordings, as the authors' split_librilight/split.py sums them.
CORPUS = Corpus("Libri-Light, github.com/facebookresearch/libri-light", (16000,), SETS, find, pieces=True)
