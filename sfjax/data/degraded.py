"""A fixed list of clean recordings and what each kind of degradation makes of them, for evaluation."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from sfjax import audio
from sfjax.data import manifest
from sfjax.data.degrade import PROBABILITIES, Chain
from sfjax.data.examples import crop
from sfjax.data.mixing import Mixer
from sfjax.errors import UserError

KINDS = {  # the one probability of the chain that is 1, if there is any
    "none": None, "noise": None, "babble": None, "room": "room", "microphone": "microphone", "clipping": "clip",
    "band": "band", "codec": "codec", "packets": "packets", "all": None,
}  # fmt: skip


def draw(
    speech: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    noise: str | os.PathLike,
    rooms: str | os.PathLike,
    split: str | None,
    count: int,
    seed: int,
    seconds: float,
    rate: int,
    mix: Any,
    degrade: Any,
) -> list[dict[str, Any]]:
    """Writes `count` recordings of `split` with every kind of degradation and returns their manifest rows.

    Each kind has the same recordings, at `rate` Hz and cropped to `seconds`; `all` is the chain with the probabilities
    of config sections `mix` and `degrade`, whose ranges hold for every kind. The files of a row are
    `<folder>/<kind>/<number>.flac` (target) and `<folder>/<kind>/<number>_degraded.flac`; the column `degradation`
    holds the kind. The same seed gives the same samples. `UserError` if the split has fewer recordings.
    """
    rows = manifest.read(Path(speech), split=split)
    if not 1 <= count <= len(rows):
        raise UserError(f"{speech}: got a count of {count}, split {split!r} has {len(rows)} recordings; ask for fewer")
    chains = _chains(noise, rooms, split, rate, mix, degrade)
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [
        _pair(rows, rows.row(int(index)), chain, Path(folder, kind), number, [seed, number, place], seconds)
        | {"split": split, "degradation": kind}
        for number, index in enumerate(order)
        for place, (kind, chain) in enumerate(chains.items())
    ]


def _chains(noise, rooms, split, rate, mix, degrade):
    """The chain of each kind."""
    noises = manifest.read(Path(noise), split=split, columns=())
    responses = manifest.read(Path(rooms), split=split, columns=())
    mixer = Mixer(**dict(mix) | {"noise": noises})
    whole = Chain(mixer, rate, **dict(degrade) | {"rooms": responses})
    off = dataclasses.replace(whole, mixer=None, **dict.fromkeys(PROBABILITIES, 0.0))
    chains = {kind: dataclasses.replace(off, **({name: 1.0} if name else {})) for kind, name in KINDS.items()}
    for kind, babble in (("noise", 0.0), ("babble", 1.0)):
        chains[kind] = dataclasses.replace(off, mixer=dataclasses.replace(mixer, probability=1.0, babble=babble))
    return chains | {"all": whole}


def _pair(rows, row, chain, folder, number, seed, seconds):
    """Writes the two files of a row and returns it; only a whole recording keeps its text."""
    rng, rate = np.random.default_rng(seed), chain.rate
    room = round(seconds * rate)
    whole = row["frames"] * rate <= room * row["rate"]
    target, wav = chain(crop(row, room, rate, rng)(row["path"]), rows, row["speaker"], rng)
    paths = [folder / f"{number:05d}.flac", folder / f"{number:05d}_degraded.flac"]
    for path, samples in zip(paths, (target, wav), strict=True):
        audio.write(path, samples, rate)
    return {
        "path": str(paths[0]), "noisy": str(paths[1]), "start": 0, "frames": len(target), "rate": rate,
        "speaker": row["speaker"], "text": row["text"] if whole else None, "kind": "speech",
    }  # fmt: skip
