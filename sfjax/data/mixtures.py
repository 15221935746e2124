"""Lists of fixed mixtures: drawn from a manifest of speech, or read from the metadata of LibriMix."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from sfjax import audio
from sfjax.data import manifest
from sfjax.data.examples import Talk
from sfjax.errors import UserError


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
) -> list[dict[str, Any]]:
    """Manifest rows of `count` mixtures of different speakers, and of noise if there is any, by LibriMix's rules.

    The first speakers come in a random order, each row of `split` once before any comes again; a mixture is as long as
    its shortest source. They are of `split` themselves, of none where speakers of all splits meet. `UserError` if there
    are too few speakers.
    """
    rows = manifest.read(Path(speech), split=split)
    if len(rows.speakers) < speakers:
        raise UserError(
            f"{speech}: a mixture wants {speakers} speakers, found {len(rows.speakers)}; prepare more speech"
        )
    noises = manifest.read(Path(noise), split=split) if noise is not None else None
    talk = Talk(speakers, noises, loudness, noise_loudness)
    order = np.resize(np.random.default_rng(seed).permutation(np.flatnonzero(rows.speaker_codes >= 0)), count)
    draws = [(int(first), np.random.default_rng([seed, number])) for number, first in enumerate(order)]
    return [_mixture(rows, noises, talk, first, rng, split) for first, rng in draws]


def _mixture(rows, noises, talk, first, rng, split):
    chosen = [rows.row(first)]
    while len(chosen) < talk.speakers:
        chosen.append(talk.other(rows, chosen, chosen[0]["frames"] / chosen[0]["rate"], rng))
    found = {"noise": noises.row(int(rng.integers(len(noises))))["path"]} if noises is not None else {}
    rates = {row["rate"] for row in chosen}
    if len(rates) > 1 or any(row["start"] for row in chosen):
        raise UserError(f"{chosen[0]['path']}: mixtures want whole files of one rate, got rates {sorted(rates)}")
    rate, frames = rates.pop(), min(row["frames"] for row in chosen)
    waves = [audio.read(row["path"], frames=frames)[0] for row in chosen]
    waves += [np.resize(audio.read(path, rate=rate)[0], frames) for path in found.values()]
    gains = talk.gains(waves, rate, rng)
    return {
        "path": chosen[0]["path"], "start": 0, "frames": frames, "rate": rate,
        "speakers": [row["speaker"] for row in chosen], "split": split,
        "sources": [row["path"] for row in chosen], "gains": [float(gain) for gain in gains[: talk.speakers]],
        **({"noise": found["noise"], "noise_gain": float(gains[-1])} if found else {}),
    }  # fmt: skip


def librimix(metadata: str | os.PathLike, *, speech: Path, noise: Path, split: str | None) -> list[dict[str, Any]]:
    """Manifest rows of a metadata CSV of LibriMix, that of its generator (paths and gains) or that of its output.

    Relative paths start at the folders `speech` and `noise`. A mixture is as long as its shortest source (mode min).
    Raises `UserError` naming every line that is wrong.
    """
    try:
        with open(metadata, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{metadata}: not a CSV ({error}); give LibriMix's metadata") from None
    speakers = sum(1 for name in (lines[0] if lines else ()) if name.startswith("source_") and name.endswith("_path"))
    if not speakers:
        raise UserError(f"{metadata}: expected columns source_1_path, source_2_path …, found none; give LibriMix's CSV")
    rows, wrong = [], []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(_librimix_row(line, speakers, speech, noise, split))
        except (UserError, ValueError, KeyError, TypeError) as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        raise UserError(f"{metadata}: {len(wrong)} of {len(lines)} lines are wrong; {'; '.join(wrong[:5])}")
    return rows


def _librimix_row(line, speakers, speech, noise, split):
    numbers = range(1, speakers + 1)
    paths = [os.path.join(speech, line[f"source_{i}_path"]) for i in numbers]
    gains = [float(line.get(f"source_{i}_gain") or 1.0) for i in numbers]
    found = [audio.probe(path) for path in paths]
    if len({one.rate for one in found}) > 1:
        raise ValueError(f"sources of rates {[one.rate for one in found]}")
    row = {
        "path": paths[0], "start": 0, "frames": min(one.frames for one in found), "rate": found[0].rate,
        "name": line["mixture_ID"], "split": split, "sources": paths, "gains": gains,
    }  # fmt: skip
    if line.get("noise_path"):
        path = os.path.join(noise, line["noise_path"])
        row |= {"noise": path, "noise_gain": float(line.get("noise_gain") or 1.0)}
    return row
