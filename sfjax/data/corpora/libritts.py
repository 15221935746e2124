"""LibriTTS: sentences of read English with their words (Zen et al., Interspeech 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sfjax.data.corpora import Corpus, Published, folders, words
from sfjax.data.scan import Job, Reject

SETS = {
    "train-clean-100": Published("train", 33236, 53.78),
    "train-clean-360": Published("train", 116500, 191.29),
    "train-other-500": Published("train", 205044, 310.08),
    "dev-clean": Published("valid", 5736, 8.97),
    "dev-other": Published("valid", 4613, 6.43),
    "test-clean": Published("test", 4837, 8.56),
    "test-other": Published("test", 5120, 6.69),
}


def find(src: Path) -> Iterator[Job | Reject]:
    """Yield SET/SPEAKER/CHAPTER/SPEAKER_CHAPTER_PARAGRAPH_SENTENCE.wav, with normalised words in .normalized.txt."""
    for set_folder in folders(src, SETS, "LibriTTS"):
        for chapter in sorted(set_folder.glob("*/*/")):
            stem = f"{chapter.parent.name}_{chapter.name}"
            columns = {"speaker": chapter.parent.name, "set": set_folder.name, "split": SETS[set_folder.name].split}
            files = sorted(chapter.iterdir())
            recorded = {path.stem for path in files if path.suffix == ".wav"}
            for path in files:
                name, _, kind = path.name.partition(".")
                if kind == "wav" and name.rsplit("_", 2)[0] == stem:
                    try:
                        text = words(chapter / f"{name}.normalized.txt")
                        yield Job(str(path), None, 0.0, None, columns | {"text": text})
                    except ValueError as error:
                        yield Reject(str(path), str(error))
                elif kind == "normalized.txt" and name not in recorded:
                    yield Reject(str(chapter / f"{name}.wav"), f"is missing, but {path.name} has its words")
                elif path.suffix not in (".txt", ".tsv"):
                    yield Reject(str(path), f"not named like LibriTTS's files, such as {stem}_000000_000000.wav")


# The release has these numbers of utterances; they are also on tensorflow.org/datasets/catalog/libritts.
CORPUS = Corpus("LibriTTS, openslr.org/60; hours: table of subsets in the paper", (24000,), SETS, find)
