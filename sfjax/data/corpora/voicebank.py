"""VoiceBank-DEMAND: read English with noise added to it, 28 speakers (Valentini-Botinhao, Edinburgh 2017)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfjax.data.corpora import Corpus, Published, folders, paired
from sfjax.data.scan import Job, Reject
from sfjax.text.encoding import read_text

SETS = {"train": Published("train", 11572, None), "test": Published("test", 824, None)}
VALID = ("p226", "p287")  # of 'train', 770 pairs: held out by MetricGAN-U, SGMSE+ and most later papers
NAMES = {"clean_trainset_28spk_wav": "train", "clean_testset_wav": "test"}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield SIDE_NAME_wav/SPEAKER_NUMBER.wav, where SIDE is clean or noisy.

    Words come from NAME_txt and noises from log_NAME.txt, if they exist.
    """
    for clean in folders(src, NAMES, "VoiceBank-DEMAND"):
        root, name = clean.parent, clean.name.removeprefix("clean_").removesuffix("_wav")
        columns = functools.partial(
            _pair_columns, texts=root / f"{name}_txt", noises=_noises(root, name), set_name=NAMES[clean.name]
        )
        yield from paired(clean, root / f"noisy_{name}_wav", r"^(p\d+_\d+)\.wav$", "p226_001.wav", columns)


def _pair_columns(
    key: str, noisy: str, *, texts: Path, noises: dict[str, tuple[str, float]], set_name: str
) -> dict[str, Any]:
    speaker, path = key.partition("_")[0], texts / f"{key}.txt"
    kind, snr = noises.get(key, (None, None))
    return {
        "speaker": speaker,
        "text": read_text(path).strip() if path.is_file() else None,
        "set": set_name,
        "split": "valid" if speaker in VALID else SETS[set_name].split,
        "noise_kind": kind,
        "snr": snr,
    }


def _noises(root: Path, name: str) -> dict[str, tuple[str, float]]:
    """Read kind and SNR in dB of the noise of each file, from lines such as `p226_001 cafeteria 10`."""
    paths = (root / f"log_{name}.txt", root / "logfiles" / f"log_{name}.txt")
    text = "\n".join(read_text(path) for path in paths if path.is_file())
    return {key: (kind, float(snr)) for key, kind, snr in re.findall(r"^(p\d+_\d+)\s+(\S+)\s+(-?[\d.]+)", text, re.M)}


# 16 kHz: many papers resample the corpus before training
CORPUS = Corpus("VoiceBank-DEMAND, datashare.ed.ac.uk/handle/10283/2791", (16000, 48000), SETS, find)
