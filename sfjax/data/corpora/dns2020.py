"""The Deep Noise Suppression Challenge of Interspeech 2020: synthetic noisy speech, and noise (Reddy et al. 2020)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfjax.data.corpora import Corpus, Published, folders, paired
from sfjax.data.scan import Job, Reject

SETS = {
    "train": Published("train", 60000, 500.0),  # noisyspeech_synthesizer.cfg: 500 h in pieces of 30 s
    "no_reverb": Published("test", 150, None),
    "with_reverb": Published("test", 150, None),
    "noise": Published("train", 70000, None),  # approximate: 60,000 of AudioSet, 10,000 of Freesound and DEMAND
}
PLACES = (
    "training",
    "training_set",
    "datasets/noise",
    "datasets/test_set/synthetic/no_reverb",
    "datasets/test_set/synthetic/with_reverb",
    "no_reverb",
    "with_reverb",
)


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield the files of the repository, or of the output folder of its synthesizer.

    Pairs are clean/clean_fileid_N.wav and noisy/…_snrDB_…fileid_N.wav; noise is in datasets/noise.
    """
    is_output = (src / "clean").is_dir() and (src / "noisy").is_dir()
    for folder in [src] if is_output else folders(src, PLACES, "the DNS Challenge of 2020"):
        name = folder.name if folder.name in SETS else "train"
        if name == "noise":
            for path in sorted(folder.iterdir()):
                if path.suffix == ".wav":  # no split: the corpus has one folder of noise for training and validation
                    yield Job(str(path), None, 0.0, None, {"kind": "noise", "set": name, "split": None})
                else:
                    yield Reject(str(path), "not a .wav")
        else:
            columns = functools.partial(_pair_columns, set_name=name)
            yield from paired(folder / "clean", folder / "noisy", r"fileid_(\d+)\.wav$", "clean_fileid_7.wav", columns)


def _pair_columns(key: str, noisy: str, *, set_name: str) -> dict[str, Any]:
    match = re.search(r"_snr(-?\d+)_", noisy)
    return {"snr": float(match[1]) if match else None, "set": set_name, "split": SETS[set_name].split}


CORPUS = Corpus("DNS Challenge, github.com/microsoft/DNS-Challenge, interspeech2020/master", (16000,), SETS, find)
