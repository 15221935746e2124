"""Join a manifest with alignments: add the phones, their lengths and the words of each utterance."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tqdm import tqdm

from sfjax import audio, audio_io
from sfjax.data import manifest, prepare
from sfjax.data.scan import Reject
from sfjax.errors import UserError
from sfjax.text import phones, textgrid
from sfjax.text.phones import Alignment, Line


class Summary(NamedTuple):
    """The result of a join; `reasons` counts the rows left out, `repaired` the overlaps of phones that were removed."""

    dest: Path
    rejects: Path | None
    files: int
    hours: float
    reasons: dict[str, int]
    repaired: int


class _LeftOut(Exception):
    """The reason for leaving out an utterance, and optionally a detail that is not counted separately."""


def run(source: Path, alignments: Path, dest: Path, *, longest: float, spec: audio.MelSpec) -> Summary:
    """Write the rows of `source` that have an alignment to `dest`, with the columns phones, lengths and words.

    `alignments` is a list for `textgrid.read_jsonl`, or a folder of TextGrids, whose ids are their paths without
    suffix. An id belongs to the recording whose path without suffix ends in it. Lengths are in frames of `spec` and sum
    to the frames of the row's Mel. Rows without text get their words as text. Four kinds of rows are left out and
    listed with the reason beside `dest`: rows without an alignment, rows whose alignment does not fit, crops of longer
    files, where the times of the alignment would be wrong, and rows with a phone longer than `longest` seconds. Raises
    `UserError` if no row is left.
    """
    dest = prepare.manifest_path(dest)
    if dest == Path(os.path.abspath(source)):
        raise UserError(f"{dest}: the aligned manifest would overwrite its own source; give it another name")
    if spec.sample_rate != phones.RATE * spec.hop:
        rate = spec.sample_rate / spec.hop
        raise UserError(
            f"{alignments}: alignments have {phones.RATE} frames a second, the Mel {rate:g}; change mel.hop"
        )
    if not longest > 0:
        raise UserError(f"the longest phone must last more than 0 s, got {longest}; 0.5 is usual")
    rows = manifest.read(source, split=None)
    by_id = _alignments_by_id(alignments)
    ids = [_matching_id(manifest.recording_name(rows.row(i)), by_id) for i in range(len(rows))]
    uses = Counter(ids)
    aligned_rows, rejects, reasons, repaired = [], [], Counter(), 0
    for i in tqdm(range(len(rows)), desc="aligning", unit="file", mininterval=1.0, file=sys.stderr):
        row, name = rows.row(i), ids[i]
        try:
            if name is None:
                raise _LeftOut("no alignment")
            if uses[name] > 1:
                raise _LeftOut("an alignment that several recordings share", name)
            alignment, line = _aligned_line(row, by_id[name], longest=longest, spec=spec)
        except _LeftOut as error:
            reasons[error.args[0]] += 1
            rejects.append(Reject(row["path"], ": ".join(error.args)))
            continue
        repaired += alignment.repaired
        aligned_row = prepare.moved(row, dest.parent) | line._asdict()
        if row["text"] is None:
            aligned_row["text"] = " ".join(line.words)
        aligned_rows.append(aligned_row)
    rejects_path = prepare.write_rejects(rejects, dest)
    if not aligned_rows:
        counts = ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
        first = manifest.recording_name(rows.row(0))
        raise UserError(
            f"{source}: no recording has a usable alignment ({counts}); if the names do not match, rename them: "
            f"the manifest has for example {first!r}, {alignments} has {next(iter(by_id))!r}"
        )
    manifest.write(dest, aligned_rows)
    hours = sum(row["frames"] / row["rate"] for row in aligned_rows) / 3600
    return Summary(dest, rejects_path, len(aligned_rows), hours, dict(reasons), repaired)


def _alignments_by_id(alignments: Path) -> dict[str, Any]:
    """Return alignments by their ids; a TextGrid is given as its path and read later."""
    if not alignments.is_dir():
        return dict(textgrid.read_jsonl(alignments))
    entries = audio_io.walk(alignments, suffixes=(".textgrid",))
    if unreadable := [f"{path}: {reason}" for path, reason in entries if reason]:
        raise UserError(unreadable[0])
    paths = [path for path, reason in entries if reason == ""]
    if not paths:
        raise UserError(f"{alignments}: expected a folder of TextGrids, found none in it; check the path")
    return {path.relative_to(alignments).with_suffix("").as_posix(): path for path in paths}


def _matching_id(path: str, by_id: dict[str, Any]) -> str | None:
    """Return the longest id that a path without its suffix ends in."""
    parts = PurePath(path).with_suffix("").parts
    ends = ("/".join(parts[i:]) for i in range(len(parts)))
    return next((end for end in ends if end in by_id), None)


def _aligned_line(
    row: dict[str, Any], alignment: Any, *, longest: float, spec: audio.MelSpec
) -> tuple[Alignment, Line]:
    """Return the alignment of a row, or of the TextGrid at its path, and the line that it makes of the row's frames."""
    if row["start"]:
        raise _LeftOut("a crop of a longer file")
    frames = spec.num_frames(-(-row["frames"] * spec.sample_rate // row["rate"]))
    try:
        if isinstance(alignment, Path):
            alignment = textgrid.read_textgrid(alignment)
        line = phones.line(alignment, frames)
    except UserError as error:
        raise _LeftOut("an alignment that cannot be used", str(error)) from None
    for token, length in zip(line.phones, line.lengths, strict=True):
        if token != phones.SILENCE and length / phones.RATE > longest:
            raise _LeftOut(f"a phone longer than {longest:g} s", f"{token} of {length / phones.RATE} s")
    return alignment, line
