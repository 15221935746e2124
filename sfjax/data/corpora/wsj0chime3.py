"""WSJ0-CHiME3: read English of WSJ0 with noise of CHiME3 added to it at 0 to 20 dB (Richter et al., TASLP 2023)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfjax.data.corpora import Corpus, Published, folders, paired
from sfjax.data.scan import Job, Reject

SETS = {
    "train": Published("train", 12777, None),
    "valid": Published("valid", 1206, None),
    "test": Published("test", 651, None),
}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield SET/clean/NAME.wav with SET/noisy/NAME.wav; the first three characters of WSJ0's names are the speaker."""
    for folder in folders(src, SETS, "WSJ0-CHiME3"):
        columns = functools.partial(_pair_columns, set_name=folder.name)
        yield from paired(folder / "clean", folder / "noisy", r"^([0-9a-z]{8})\.wav$", "011c0201.wav", columns)


def _pair_columns(key: str, noisy: str, *, set_name: str) -> dict[str, Any]:
    return {"speaker": key[:3], "set": set_name, "split": SETS[set_name].split}


CORPUS = Corpus("WSJ0-CHiME3, written by create_wsj0_chime3.py of github.com/sp-uhh/sgmse", (16000,), SETS, find)
