"""Write a fixed list of mixtures of speakers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sfjax import audio
from sfjax.data import manifest
from sfjax.data.examples import Talk
from sfjax.errors import UserError

ENROLMENT = 5.0  # seconds that are enough
PARTS = {"": "path", "_start": "start", "_frames": "frames"}  # of the columns of an enrolment


def draw(
    speech: str | os.PathLike,
    noise: str | os.PathLike | None,
    *,
    split: str | None,
    speakers: int,
    count: int,
    seed: int,
    loudness: tuple[float, float],
    noise_loudness: tuple[float, float],
    enrolment: bool,
) -> list[dict[str, Any]]:
    """Draw the manifest rows of `count` mixtures of different speakers, with noise if given, by LibriMix's rules.

    Each row of `split` is the first speaker once, in a random order, before any row is it again; a mixture is as long
    as its shortest source. The mixtures get the split `split` (None: speakers of all splits, and no split). With
    `enrolment`, a row also names a recording of its first speaker, to extract this speaker. Raises `UserError` if there
    are too few speakers.
    """
    rows = manifest.read(Path(speech), split=split)
    if len(rows.speakers) < speakers:
        raise UserError(
            f"{speech}: a mixture needs {speakers} speakers, but the manifest has {len(rows.speakers)}; "
            "prepare more speech"
        )
    noise_rows = manifest.read(Path(noise), split=split) if noise is not None else None
    talk = Talk(speakers, noise_rows, 1.0, loudness, noise_loudness)
    order = np.resize(np.random.default_rng(seed).permutation(np.flatnonzero(rows.speaker_codes >= 0)), count)
    draws = [(int(first), np.random.default_rng([seed, number])) for number, first in enumerate(order)]
    return [_mixture_row(rows, talk, first, rng, split, enrolment) for first, rng in draws]


def _mixture_row(rows, talk, first, rng, split, enrolment):
    """Draw the row of a mixture whose first speaker is row number `first`."""
    sources = [rows.row(first)]
    while len(sources) < talk.speakers:
        sources.append(talk.other(rows, sources, sources[0]["frames"] / sources[0]["rate"], rng))
    noise = None if talk.noise is None else talk.noise.row(int(rng.integers(len(talk.noise))))["path"]
    rates = {row["rate"] for row in sources}
    if len(rates) > 1 or any(row["start"] for row in sources):
        raise UserError(f"{sources[0]['path']}: mixtures need whole files of one rate, got rates {sorted(rates)}")
    rate, frames = rates.pop(), min(row["frames"] for row in sources)
    waves = [audio.read(row["path"], frames=frames)[0] for row in sources]
    if noise is not None:
        waves.append(np.resize(audio.read(noise, rate=rate)[0], frames))
    gains = talk.gains(waves, rate, rng)
    voice, start = _enrolment(rows, first, frames, rng) if enrolment else ({}, 0)
    return {
        "path": sources[0]["path"],
        "start": start,
        "frames": frames - start,
        "rate": rate,
        "speakers": [row["speaker"] for row in sources],
        "split": split,
        "sources": [row["path"] for row in sources],
        "gains": [float(gain) for gain in gains[: talk.speakers]],
        **({} if noise is None else {"noise": noise, "noise_gain": float(gains[-1])}),
        **voice,
    }


def _enrolment(rows, first, frames, rng):
    """Return the columns of an enrolment for the speaker of row number `first`, and where the mixture starts.

    The enrolment is another recording of the speaker. If there is none, it is the beginning of the mixture, at most
    `ENROLMENT` seconds or half of it; the mixture starts behind it.
    """
    same = np.flatnonzero(rows.speaker_codes == rows.speaker_codes[first])
    own = rows.row(first)
    others = [row for index in same if (row := rows.row(int(index)))["path"] != own["path"]]
    if others:
        other = others[int(rng.integers(len(others)))]
        return {f"enrolment{part}": other[name] for part, name in PARTS.items()}, 0
    start = min(round(ENROLMENT * own["rate"]), frames // 2)
    return dict(zip((f"enrolment{part}" for part in PARTS), (own["path"], 0, start), strict=True)), start
