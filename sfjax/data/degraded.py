"""Write a fixed list of degraded recordings for evaluation: each kind of degradation alone and all together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfjax import audio
from sfjax.data import manifest
from sfjax.data.degrade import PROBABILITIES, Chain
from sfjax.data.examples import crop
from sfjax.data.noise_mixer import Mixer, section_fields
from sfjax.errors import UserError

KINDS = {  # the probability of the chain that is 1, if there is one
    "none": None,
    "noise": None,
    "babble": None,
    "room": "room",
    "microphone": "microphone",
    "clipping": "clip",
    "band": "band",
    "codec": "codec",
    "packets": "packets",
    "all": None,
}


def draw(
    speech: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    chains: Mapping[str, Chain],
    split: str | None,
    count: int,
    seed: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Write `count` recordings of `split`, degraded by each of the `chains` by kind; return their manifest rows.

    Each kind has the same recordings, at the rate of its chain and cropped to `seconds`. The files of a row are
    `<folder>/<kind>/<number>.flac` (target) and `<folder>/<kind>/<number>_degraded.flac`; the column `degradation`
    holds the kind. The same seed gives the same samples. Raises `UserError` if the split has fewer recordings.
    """
    rows = manifest.read(Path(speech), split=split)
    if not 1 <= count <= len(rows):
        raise UserError(f"{speech}: the count must be from 1 to {len(rows)} (split {split!r}), got {count}; change it")
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [
        _pair(rows, rows.row(int(index)), chain, Path(folder, kind), number, [seed, number, kind_number], seconds)
        | {"split": split, "degradation": kind}
        for number, index in enumerate(order)
        for kind_number, (kind, chain) in enumerate(chains.items())
    ]


def make_chains(
    *, noise: str | os.PathLike, rooms: str | os.PathLike, split: str | None, rate: int, mix: Any, degrade: Any
) -> dict[str, Chain]:
    """Return a chain for each of `KINDS`, at `rate` Hz, with noise and impulse responses from rows of `split`.

    The kind `all` is the chain with the probabilities of config sections `mix` and `degrade`; their ranges hold for
    every kind.
    """
    noise_rows = manifest.read(Path(noise), split=split, columns=())
    room_rows = manifest.read(Path(rooms), split=split, columns=())
    mixer = Mixer(noise_rows, **section_fields(mix, without="noise"))
    full = Chain(mixer, rate, room_rows, **section_fields(degrade, without="rooms"))
    off = dataclasses.replace(full, mixer=None, **dict.fromkeys(PROBABILITIES, 0.0))
    chains = {kind: dataclasses.replace(off, **({name: 1.0} if name else {})) for kind, name in KINDS.items()}
    for kind, babble in (("noise", 0.0), ("babble", 1.0)):
        chains[kind] = dataclasses.replace(off, mixer=dataclasses.replace(mixer, probability=1.0, babble=babble))
    return chains | {"all": full}


def _pair(rows, row, chain, folder, number, seed, seconds):
    """Write the two files of a row and return the row; a cropped recording has no text."""
    rng, rate = np.random.default_rng(seed), chain.rate
    longest = round(seconds * rate)
    uncropped = row["frames"] * rate <= longest * row["rate"]
    target, wav = chain(crop(row, longest, rate, rng)(row["path"]), rows, row["speaker"], rng)
    paths = [folder / f"{number:05d}.flac", folder / f"{number:05d}_degraded.flac"]
    for path, samples in zip(paths, (target, wav), strict=True):
        audio.write(path, samples, rate)
    return {
        "path": str(paths[0]),
        "noisy": str(paths[1]),
        "start": 0,
        "frames": len(target),
        "rate": rate,
        "speaker": row["speaker"],
        "text": row["text"] if uncropped else None,
        "kind": "speech",
    }
