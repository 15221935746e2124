"""WHAM!: noise of cafes, restaurants, bars and parks, on two channels (Wichern et al., Interspeech 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sfjax.data.corpora import Corpus, Published, folders, read_csv
from sfjax.data.scan import Job, Reject

SETS = {  # the mean length, 10.5 s, agrees with the description
    "tr": Published("train", 20000, 58.03),
    "cv": Published("valid", 5000, 14.65),
    "tt": Published("test", 3000, 9.0),
}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield the files SET/NAME.wav that metadata/noise_meta_SET.csv lists.

    It does not list files that LibriMix adds, such as …sp08.wav.
    """
    for folder in folders(src, SETS, "the noise of WHAM!"):
        listing = folder.parent / "metadata" / f"noise_meta_{folder.name}.csv"
        lines, rejects = read_csv(listing, ["utterance_id"])
        yield from rejects
        names = {line["utterance_id"] for line in lines}
        for path in sorted(folder.iterdir()):
            if path.name in names:
                columns = {"kind": "noise", "set": folder.name, "split": SETS[folder.name].split}
                yield Job(str(path), None, 0.0, None, columns)
            else:
                yield Reject(str(path), f"has no line in {listing.name}")
        for name in sorted(names - {path.name for path in folder.iterdir()}):
            yield Reject(str(folder / name), f"is missing, but {listing.name} lists it")


CORPUS = Corpus("wham_noise.zip, wham.whisper.ai", (16000,), SETS, find)
