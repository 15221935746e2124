"""VCTK: English sentences in many accents (Yamagishi, Veaux and MacDonald, 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sfjax.data.corpora import Corpus, Published, folders, words
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

SOUND, TEXT = "wav48_silence_trimmed", "txt"
WORDLESS = ("p315",)  # speakers whose texts were lost before the release
SETS = {"all": Published("train", 44455, None)}  # the authors publish no split, and no hours of the trimmed recordings


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield wav48_silence_trimmed/SPEAKER/SPEAKER_000_mic1.flac, with the words in txt/SPEAKER/SPEAKER_000.txt.

    Recordings of the second microphone, which some speakers lack, are left out.
    """
    both = folders(src, (SOUND, TEXT), "VCTK 0.92")
    if len(both) < 2:
        raise UserError(f"{src}: expected VCTK 0.92 with both {SOUND} and {TEXT}, found only {both[0].name}")
    sound, text = both
    for speaker in sorted({path.name for folder in both for path in folder.glob("*/")}):
        columns = {"speaker": speaker, "set": "all", "split": SETS["all"].split}
        recorded = set()
        for path in sorted((sound / speaker).glob("*")):
            match = re.fullmatch(rf"({re.escape(speaker)}_\d+)_mic([12])\.flac", path.name)
            if not match:
                yield Reject(str(path), f"not named like VCTK's files, such as {speaker}_001_mic1.flac")
            elif match[2] == "1":
                recorded.add(match[1])
                try:
                    sentence = None if speaker in WORDLESS else words(text / speaker / f"{match[1]}.txt")
                    yield Job(str(path), None, 0.0, None, columns | {"text": sentence})
                except ValueError as error:
                    yield Reject(str(path), str(error))
        for path in sorted((text / speaker).glob("*.txt")):
            if path.stem not in recorded:  # true for some of p362 in the release
                missing = sound / speaker / f"{path.stem}_mic1.flac"
                yield Reject(str(missing), f"is missing, but {path.name} has its words")


# The number of files of the first microphone is that in the release, also on tensorflow.org/datasets/catalog/vctk.
CORPUS = Corpus("VCTK 0.92, doi.org/10.7488/ds/2645", (48000,), SETS, find)
