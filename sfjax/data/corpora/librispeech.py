"""LibriSpeech: read English (Panayotov et al., ICASSP 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sfjax.data.corpora import Corpus, Published, folders
from sfjax.data.scan import Job, Reject
from sfjax.text.encoding import read_text

SETS = {
    "train-clean-100": Published("train", 28539, 100.6),
    "train-clean-360": Published("train", 104014, 363.6),
    "train-other-500": Published("train", 148688, 496.7),
    "dev-clean": Published("valid", 2703, 5.4),
    "dev-other": Published("valid", 2864, 5.3),
    "test-clean": Published("test", 2620, 5.4),
    "test-other": Published("test", 2939, 5.1),
}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield SET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac, with their words in SPEAKER-CHAPTER.trans.txt."""
    for set_folder in folders(src, SETS, "LibriSpeech"):
        for chapter in sorted(set_folder.glob("*/*/")):
            stem = f"{chapter.parent.name}-{chapter.name}"
            words = _transcripts(chapter / f"{stem}.trans.txt")
            for path in sorted(chapter.iterdir()):
                if path.suffix == ".txt":
                    continue
                if path.suffix != ".flac" or path.stem.rpartition("-")[0] != stem:
                    yield Reject(str(path), f"not named like LibriSpeech's files, such as {stem}-0000.flac")
                elif path.stem not in words:
                    yield Reject(str(path), f"has no line in {stem}.trans.txt")
                else:
                    columns = {"speaker": chapter.parent.name, "text": words.pop(path.stem), "set": set_folder.name}
                    yield Job(str(path), None, 0.0, None, columns | {"split": SETS[set_folder.name].split})
            for name in words:
                yield Reject(str(chapter / f"{name}.flac"), f"is missing, but {stem}.trans.txt has its words")


def _transcripts(path: Path) -> dict[str, str]:
    """Read the words of a chapter by utterance; an empty dict if the file is missing."""
    if not path.is_file():
        return {}
    lines = read_text(path).splitlines()
    return {name: words for name, _, words in (line.partition(" ") for line in lines) if name}


CORPUS = Corpus("LibriSpeech, openslr.org/12; hours: table 1 of the paper", (16000,), SETS, find)
