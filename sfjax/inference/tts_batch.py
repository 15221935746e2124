"""Synthesize every utterance of a test list, with its prompt and the resynthesised prompt; or write the recordings."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sfjax import audio, overwrite
from sfjax.data import manifest, tts_lists
from sfjax.data.manifest import Manifest
from sfjax.data.scan import Reject
from sfjax.errors import UserError
from sfjax.inference import batch, editing, splicing, tts
from sfjax.inference.infill import Gap, mels, regenerate, to_waves
from sfjax.inference.speech_model import SpeechModel

FOLDERS = ("full", "generated", "prompt", "vocoded")
RECORDED = ("full", "generated", "prompt")  # the folders of the ground truth, which needs no vocoder
RECORDINGS = hashlib.sha256(b"recordings").hexdigest()  # of the ground truth, instead of the digest of a model


class Result(NamedTuple):
    """How many rows were synthesized and how many existed already, and the rows that failed, with the reason."""

    synthesized: int
    existing: int
    failed: list[Reject]


class _Request(NamedTuple):
    """The gaps to fill for a row, its prompt, and what to do with the generated waves of the gaps.

    `generated` returns the part that the model made, `write_full` writes the whole utterance to a file.
    """

    gaps: list[Gap]
    prompt: Float[np.ndarray, " samples"]
    generated: Callable[[list[np.ndarray]], np.ndarray]
    write_full: Callable[[Path, list[np.ndarray]], Any]


def synthesize(
    model: SpeechModel,
    found: Manifest,
    folder: Path,
    *,
    seed: int,
    force: bool,
    progress: Callable[[int, int], Any],
    **options: Any,
) -> Result:
    """Synthesize every row of a list from `sfjax.data.tts_lists` into FLAC files with the names of the rows' files.

    There are four folders:

    - `full`: for 'cross' the generated speech, for 'continued' the prompt and the generated speech, for 'edited' the
      recording, unchanged outside the generated words and their cross-fade (24 bits at most).
    - `generated`: the generated speech alone.
    - `prompt`: the prompt at the model's rate, cut after a word if it is longer than half a chunk; for 'edited' the
      unchanged parts of the recording.
    - `vocoded`: the Mel of `prompt`, resynthesised by the vocoder.

    The noise of a row depends on the seed and the name of its file, not on the list. Rows whose four files exist are
    skipped, except with `force`. `made_by.txt` records the model, seed and options. Calls `progress(done, total)` with
    numbers of rows. `options` as in `Model.speak`.

    Raises `UserError` for an invalid list, for two files with the same name, for a model that cannot speak, or if the
    folder has speech by another model, seed or other options.
    """
    tts.plain_phones(model)
    model.sampling(options, model.filling())
    if model.duration_model is None:
        raise UserError("a list needs a duration model; give duration_model (--duration-model)")
    rows = _rows_by_name(found)
    _check_files(folder, _missing(folder, rows), force=force)
    _sign(folder, batch.digest(model, model.filling(), seed, options), list(rows) if force else [])
    missing = _missing(folder, rows)
    names = sorted(missing, key=lambda name: missing[name]["frames"] / missing[name]["rate"])
    size, failed = model.chunking["batch"], []
    for first in range(0, len(names), size):
        requests = {}
        for name in names[first : first + size]:
            row = missing[name]
            try:
                requests[name] = _PROTOCOLS[row["protocol"]](model, row)
            except UserError as error:
                failed.append(Reject(row["path"], str(error)))
        _synthesize_batch(model, requests, folder, seed, options)
        progress(min(first + size, len(names)), len(names))
    return Result(len(missing) - len(failed), len(rows) - len(missing), failed)


def write_recordings(test_list: Manifest, folder: Path, *, rate: int, force: bool) -> Result:
    """Write the recordings of a list instead of generated speech, at `rate` Hz: the ground truth of Tables 3 and 11.

    The folders are as in `synthesize`, without `vocoded`. `full` has the recording, and `generated` the part after
    the prompt, for 'cross' all of it. Rows whose files exist are skipped, except with `force`. Raises `UserError` for
    an 'edited' or invalid list, for two files with the same name, or if a model made files of the folder.
    """
    rows = _rows_by_name(test_list)
    if edited := [row["path"] for row in rows.values() if row["protocol"] == "edited"]:
        raise UserError(f"{edited[0]}: expected a list of kind cross or continued, got edited; give another list")
    _check_files(folder, _missing(folder, rows, RECORDED), force=force)
    _sign(folder, RECORDINGS, list(rows) if force else [])
    missing, failed = _missing(folder, rows, RECORDED), []
    for name, row in missing.items():
        start, frames = row["start"], row["frames"]
        behind = row["prompt_frames"] if row["protocol"] == "continued" else 0
        parts = {
            "prompt": (row["prompt"], row["prompt_start"], row["prompt_frames"]),
            "generated": (row["path"], start + behind, frames - behind),
            "full": (row["path"], start, frames),
        }
        try:
            waves = {
                kind: audio.read(path, start=first, frames=count, rate=rate)[0]
                for kind, (path, first, count) in parts.items()
            }
        except UserError as error:
            failed.append(Reject(row["path"], str(error)))
            continue
        for kind, wave in waves.items():
            audio.write(_file(folder, kind, name), wave, rate)
    return Result(len(missing) - len(failed), len(rows) - len(missing), failed)


def _rows_by_name(test_list):
    """Return the rows of a list by the names of their files."""
    lacking = {"protocol", "prompt", "phones"} - set(test_list.columns)
    if lacking:
        raise UserError(f"expected a list of `sfjax prepare protocol`, found no column {min(lacking)!r}")
    rows = {}
    for row in map(test_list.row, range(len(test_list))):
        if row["protocol"] not in _PROTOCOLS:
            raise UserError(f"{row['path']}: unknown protocol {row['protocol']!r}; choose from {', '.join(_PROTOCOLS)}")
        name = Path(manifest.recording_name(row)).stem
        if name in rows:
            raise UserError(f"{rows[name]['path']} and {row['path']} have the same name; put them into two lists")
        rows[name] = row
    return rows


def _missing(folder, rows, kinds=FOLDERS):
    """Return the rows without all of their files of these kinds."""
    return {name: row for name, row in rows.items() if not all(_file(folder, kind, name).is_file() for kind in kinds)}


def _check_files(folder, names, *, force):
    """Raise `UserError` if a file to write exists and sfjax did not write it."""
    overwrite.check([_file(folder, kind, name) for name in names for kind in FOLDERS], force=force)
    record = folder / "made_by.txt"
    if record.is_file() and not re.fullmatch("[0-9a-f]{64}", record.read_text(encoding="utf-8", errors="replace")):
        overwrite.check([record], force=force)


def _sign(folder, made_by, redo):
    """Record in the folder what made its files, after removing the files of the rows `redo`."""
    for name in redo:
        for kind in FOLDERS:
            _file(folder, kind, name).unlink(missing_ok=True)
    record = folder / "made_by.txt"
    if not redo and record.is_file() and record.read_text(encoding="utf-8") != made_by:
        raise UserError(
            f"{folder}: its files were made by another model, or with another seed or options; use --force to replace "
            f"them"
        )
    with manifest.replacing(record) as part:
        part.write_text(made_by, encoding="utf-8")


def _file(folder, kind, name):
    return folder / kind / f"{name}.flac"


def _synthesize_batch(model, requests, folder, seed, options):
    """Generate and write the files of some rows."""
    gaps = [gap for request in requests.values() for gap in request.gaps]
    numbers = [
        zlib.crc32(f"{name}/{part}".encode()) >> 1  # does not depend on the list: a row alone gets the same noise
        for name, request in requests.items()
        for part in range(len(request.gaps))
    ]
    prompts = [request.prompt for request in requests.values()]
    waves = to_waves(model, [*regenerate(model, gaps, seed, options, numbers=numbers), *mels(model, prompts)])
    gap_waves, vocoded_prompts = iter(waves[: len(gaps)]), waves[len(gaps) :]
    rate = model.spec.sample_rate
    for (name, request), vocoded in zip(requests.items(), vocoded_prompts, strict=True):
        audio.write(_file(folder, "prompt", name), request.prompt, rate)
        audio.write(_file(folder, "vocoded", name), vocoded[: len(request.prompt)], rate)
        row_waves = [next(gap_waves) for _ in request.gaps]
        audio.write(_file(folder, "generated", name), request.generated(row_waves), rate)
        request.write_full(_file(folder, "full", name), row_waves)


def _cross(model, row):
    return _speech_request(model, _prompt(model, row), tts_lists.line(row), continued=False)


def _continued(model, row):
    prompt = _prompt(model, row)
    _, rest = tts_lists.line(row).cut(len(prompt.line.words))
    return _speech_request(model, prompt, rest, continued=True)


def _prompt(model, row):
    wave, rate = audio.read(row["prompt"], start=row["prompt_start"], frames=row["prompt_frames"])
    return tts.prompt(wave, rate, tts_lists.line(row, "prompt_"), model=model)


def _speech_request(model, prompt, line, *, continued):
    """Request a line behind a prompt; if `continued`, the prompt is part of the utterance."""
    questions = tts.questions(model, [tts.with_durations(model, line, prompt, speed=1.0)], prompt)

    def generated(waves):
        return tts.joined(model, questions, waves)[0]

    def write_full(path, waves):
        parts = [prompt.wave, generated(waves)] if continued else [generated(waves)]
        audio.write(path, np.concatenate(parts), model.spec.sample_rate)

    return _Request(questions.gaps, prompt.wave, generated, write_full)


def _edited(model, row):
    """Request a recording with some of its words generated again."""
    whole, rate, _ = splicing.read(row["path"])
    recording = whole[row["start"] : row["start"] + row["frames"]]
    words, hop = tuple(row["anew"]), model.spec.hop
    question = editing.regenerate_words(model, recording, rate, tts_lists.line(row), words)

    def generated(waves):
        return waves[0][hop * question.place : hop * (question.place + question.count)]

    def write_full(path, waves):
        splicing.write(path, editing.spliced(model, recording, rate, question, waves[0]), row["path"])

    wave, _ = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=model.spec.sample_rate)
    start, end = (hop * frame for frame in question.span)
    return _Request([question.gap], np.concatenate([wave[:start], wave[end:]]), generated, write_full)


_PROTOCOLS = {"cross": _cross, "continued": _continued, "edited": _edited}
