"""A list of a test, said as a whole: of every row what a model says, its prompt, and the prompt made again."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sfjax import audio, editing, files, splice, voice
from sfjax.data import manifest, protocol
from sfjax.data.manifest import Manifest
from sfjax.data.scan import Reject
from sfjax.errors import UserError
from sfjax.filling import Gap, mels, regenerate, voiced

FOLDERS = ("said", "made", "prompt", "resynthesised")


class Recited(NamedTuple):
    """How many rows were said, how many had been before, and what could not be, with the reason."""

    said: int
    there: int
    failed: list[Reject]


class _Asked(NamedTuple):
    """A row's questions, its prompt, what of the answers is the model's own, and how what is said is written."""

    gaps: list[Gap]
    prompt: Float[np.ndarray, " samples"]
    made: Callable[[list[np.ndarray]], np.ndarray]
    write: Callable[[Path, list[np.ndarray]], Any]


def recite(
    model: Any,
    found: Manifest,
    folder: Path,
    *,
    seed: int,
    force: bool,
    progress: Callable[[int, int], Any],
    **options: Any,
) -> Recited:
    """Says every row of a list that `sfjax.data.protocol` makes, into FLAC files named like those of the rows.

    `said` gets what was said after the prompt of a 'cross', prompt and what follows of a 'continued', and the
    recording, sample for sample its own but for the words said anew and their cross-fade, of an 'edited' (24 bits at
    most); `made` only what the model made of it. `prompt` has the voice that it had, at the model's rate: the prompt,
    cut behind a word if it is longer than half of what the model takes, or what an 'edited' keeps; `resynthesised` its
    Mel by the vocoder. The noise of a row follows from the seed and the name of its file, not from the list.

    Rows whose four files are there are left, unless by `force`; the folder remembers by whom they were said. `progress`
    hears of how many rows are done, of how many. `options` as in `Model.speak`. `UserError` for what is no list, for
    two files of one name, for a model that cannot speak, and for a folder with what another model said, or this one
    with another seed or other options.
    """
    voice.plain(model)
    model.sampling(options)
    if model.timing is None:
        raise UserError("reciting wants a model of durations; give --timing")
    rows = _rows(found)
    _sign(folder, files.digest(model, model.filling(), seed, options), list(rows) if force else [])
    there = lambda name: all(_place(folder, kind, name).is_file() for kind in FOLDERS)
    left = {name: row for name, row in rows.items() if not there(name)}
    names = sorted(left, key=lambda name: left[name]["frames"] / left[name]["rate"])
    size, failed = model.chunking["batch"], []
    for first in range(0, len(names), size):
        asked = {}
        for name in names[first : first + size]:
            try:
                asked[name] = _WAYS[left[name]["protocol"]](model, left[name])
            except UserError as error:
                failed.append(Reject(left[name]["path"], str(error)))
        _said(model, asked, folder, seed, options)
        progress(min(first + size, len(names)), len(names))
    return Recited(len(left) - len(failed), len(rows) - len(left), failed)


def _rows(found):
    """The rows of a list by the names of their files."""
    lacking = {"protocol", "prompt", "phones"} - set(found.columns)
    if lacking:
        raise UserError(f"reciting wants a list of `sfjax prepare protocol`, found no column {min(lacking)!r}")
    rows = {}
    for row in map(found.row, range(len(found))):
        if row["protocol"] not in _WAYS:
            raise UserError(f"{row['path']}: unknown protocol {row['protocol']!r}; choose from {', '.join(_WAYS)}")
        name = Path(manifest.called(row)).stem
        if name in rows:
            raise UserError(f"{rows[name]['path']} and {row['path']} have the same name; recite them from two lists")
        rows[name] = row
    return rows


def _sign(folder, made_by, again):
    """Notes by whom the files of a folder are made; those that are made `again` are taken away first."""
    for name in again:
        for kind in FOLDERS:
            _place(folder, kind, name).unlink(missing_ok=True)
    signed = folder / "made_by.txt"
    if not again and signed.is_file() and signed.read_text(encoding="utf-8") != made_by:
        raise UserError(f"{folder}: another model said what is there, or with another seed or options; use --force")
    with manifest.replacing(signed) as part:
        part.write_text(made_by, encoding="utf-8")


def _place(folder, kind, name):
    return folder / kind / f"{name}.flac"


def _said(model, asked, folder, seed, options):
    """Finds and writes what some rows ask for."""
    gaps = [gap for one in asked.values() for gap in one.gaps]
    numbers = [
        zlib.crc32(f"{name}/{part}".encode()) >> 1  # not of the list: a row said alone is the same
        for name, one in asked.items()
        for part in range(len(one.gaps))
    ]
    prompts = [one.prompt for one in asked.values()]
    found = voiced(model, [*regenerate(model, gaps, seed, options, numbers=numbers), *mels(model, prompts)])
    answers, again = iter(found[: len(gaps)]), found[len(gaps) :]
    rate = model.spec.sample_rate
    for (name, one), wave in zip(asked.items(), again, strict=True):
        audio.write(_place(folder, "prompt", name), one.prompt, rate)
        audio.write(_place(folder, "resynthesised", name), wave[: len(one.prompt)], rate)
        waves = [next(answers) for _ in one.gaps]
        audio.write(_place(folder, "made", name), one.made(waves), rate)
        one.write(_place(folder, "said", name), waves)


def _cross(model, row):
    return _spoken(model, _prompt(model, row), protocol.line(row), continued=False)


def _continued(model, row):
    prompt = _prompt(model, row)
    _, rest = protocol.line(row).cut(len(prompt.line.words))
    return _spoken(model, prompt, rest, continued=True)


def _prompt(model, row):
    wave, rate = audio.read(row["prompt"], start=row["prompt_start"], frames=row["prompt_frames"])
    return voice.prompt(wave, rate, protocol.line(row, "prompt_"), model=model)


def _spoken(model, prompt, line, *, continued):
    """A line behind a prompt, with which it is written if it is continued."""
    asked = voice.questions(model, [voice.timed(model, line, prompt, speed=1.0)], prompt)

    def made(waves):
        return voice.joined(model, asked, waves)[0]

    def write(path, waves):
        parts = [prompt.wave, made(waves)] if continued else [made(waves)]
        audio.write(path, np.concatenate(parts), model.spec.sample_rate)

    return _Asked(asked.gaps, prompt.wave, made, write)


def _edited(model, row):
    """A recording with some of its words anew."""
    whole, rate, _ = splice.read(row["path"])
    recording = whole[row["start"] : row["start"] + row["frames"]]
    question, hop = editing.again(model, recording, rate, protocol.line(row), tuple(row["anew"])), model.spec.hop

    def made(waves):
        return waves[0][hop * question.place : hop * (question.place + question.count)]

    def write(path, waves):
        splice.write(path, editing.spliced(model, recording, rate, question, waves[0]), row["path"])

    wave, _ = audio.read(row["path"], start=row["start"], frames=row["frames"], rate=model.spec.sample_rate)
    start, end = (hop * frame for frame in question.span)
    return _Asked([question.gap], np.concatenate([wave[:start], wave[end:]]), made, write)


_WAYS = {"cross": _cross, "continued": _continued, "edited": _edited}
