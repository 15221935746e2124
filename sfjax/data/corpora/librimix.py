"""LibriMix: two or three speakers of LibriSpeech mixed, with or without noise of WHAM! (Cosentino et al. 2020)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sfjax import audio
from sfjax.data.corpora import Corpus, Published, folders, read_csv
from sfjax.data.scan import Job, Reject
from sfjax.errors import UserError

SIZES = {"train-360": (50800, 33900), "train-100": (13900, 9300), "dev": (3000, 3000), "test": (3000, 3000)}
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SETS = {
    # no hours: the paper gives them for mixtures as long as the longest source, but `min` is as long as the shortest
    f"Libri{speakers}Mix/{subset}/{kind}": Published(SPLITS[subset.partition("-")[0]], sizes[speakers - 2], None)
    for speakers in (2, 3)
    for subset, sizes in SIZES.items()
    for kind in ("mix_clean", "mix_both")
}


def find(src: Path, *, speech: Path | None = None, noise: Path | None = None) -> Iterator[Job | Reject]:
    """Yield LibriNMix/wav16k/min/SUBSET/{mix_clean,mix_both,s1,s2,…,noise}/NAME.wav, or lines of a metadata CSV.

    The CSV of LibriMix's generator needs no mixtures on disk: its sources are below `speech`, and the noise to add, if
    any, is below `noise`.
    """
    if src.is_file():
        yield from _metadata(src, speech, noise)
        return
    if speech or noise:
        raise UserError(
            f"{src}: speech and noise are for a metadata CSV only, got a folder of mixtures; leave them out"
        )
    for corpus in folders(src, ("Libri2Mix", "Libri3Mix"), "LibriMix"):
        if not (corpus / "wav16k" / "min").is_dir():
            raise UserError(f"{corpus}: expected wav16k/min, found none; generate it with --freqs 16k --modes min")
        for name in SETS:
            folder = corpus / "wav16k" / "min" / name.partition("/")[2]
            if name.startswith(corpus.name) and folder.is_dir():
                yield from _generated(name, folder)


def _generated(name: str, mixed: Path) -> Iterator[Job | Reject]:
    """Yield the mixtures of set `name` in the folder `mixed` that its metadata lists.

    The paths in the metadata are not used, because they are of the machine that generated the mixtures.
    """
    listing = mixed.parents[1] / "metadata" / f"mixture_{mixed.parent.name}_{mixed.name}.csv"
    lines, rejects = read_csv(listing, ["mixture_ID"])
    yield from rejects
    mixtures = {line["mixture_ID"] for line in lines}
    for path in sorted(mixed.iterdir()):
        if path.suffix != ".wav" or path.stem not in mixtures:
            yield Reject(str(path), f"has no line in {listing.name}")
    for mixture in sorted(mixtures):
        path = str(mixed / f"{mixture}.wav")
        sources = {f"s{n}": str(mixed.parent / f"s{n}" / f"{mixture}.wav") for n in _source_numbers(name)}
        files = {"mixture": path} | sources
        columns = _mixture_columns(name, mixture) | {"sources": [*sources.values()], "gains": [1.0] * len(sources)}
        if mixed.name == "mix_both":
            noise = str(mixed.parent / "noise" / f"{mixture}.wav")
            files, columns = files | {"noise": noise}, columns | {"noise": noise, "noise_gain": 1.0}
        yield _checked_name(Job(path, files, 0.0, None, columns))


def _metadata(src: Path, speech: Path | None, noise: Path | None) -> Iterator[Job | Reject]:
    """Yield the mixtures that a CSV of the generator lists, each as long as its shortest source."""
    match = re.fullmatch(r"libri([23])mix_(train|dev|test)-clean(-\d+)?\.csv", src.name)
    name = f"Libri{match[1]}Mix/{match[2]}{match[3] or ''}/mix_{'both' if noise else 'clean'}" if match else ""
    if name not in SETS:
        raise UserError(f"{src}: expected a CSV of LibriMix's generator, named like libri2mix_train-clean-360.csv")
    if not speech:
        raise UserError(f"{src}: its paths are relative to the folder of LibriSpeech; give this folder with --speech")
    gain_names = [f"source_{number}_gain" for number in _source_numbers(name)] + ["noise_gain"] * bool(noise)
    path_names = [gain_name.replace("gain", "path") for gain_name in gain_names]
    lines, rejects = read_csv(src, ["mixture_ID", *path_names, *gain_names])
    yield from rejects
    for line in lines:
        try:
            gains = [float(line[gain_name]) for gain_name in gain_names]
        except ValueError as error:
            yield Reject(str(src), f"{line['mixture_ID']}: {error}")
            continue
        root = os.path.abspath(speech)
        sources = [os.path.join(root, line[path_name]) for path_name in path_names if path_name != "noise_path"]
        columns = _mixture_columns(name, line["mixture_ID"]) | {"sources": sources, "gains": gains[: len(sources)]}
        if noise:
            columns |= {"noise": os.path.join(os.path.abspath(noise), line["noise_path"]), "noise_gain": gains[-1]}
        alike = {f"source {number}": path for number, path in enumerate(sources, 1)}
        yield _checked_name(Job(sources[0], alike, 0.0, _shortest(sources), columns))


def _source_numbers(name: str) -> range:
    """Return the numbers of the sources of a set such as `Libri2Mix/dev/mix_clean`: 1 and 2."""
    return range(1, int(name[len("Libri")]) + 1)


def _mixture_columns(name: str, mixture: str) -> dict[str, Any]:
    speakers = [part.partition("-")[0] for part in mixture.split("_")]
    return {"name": mixture, "speakers": speakers, "set": name, "split": SETS[name].split}


def _checked_name(job: Job) -> Job | Reject:
    """Return the job if the name of its mixture has as many speakers as the mixture has sources."""
    parts, count = job.columns["name"].split("_"), len(job.columns["sources"])
    if len(parts) == count and all(re.fullmatch(r"\d+-\d+-\d+", part) for part in parts):
        return job
    example = "_".join(["1089-134686-0000", "121-127105-0031", "61-70968-0000"][:count])
    return Reject(job.path, f"expected a mixture named like {example}, got {job.columns['name']}")


def _shortest(paths: Sequence[str]) -> float | None:
    """Return the seconds of the shortest file that can be opened; reading the others later reports their errors."""
    infos = []
    for path in paths:
        with contextlib.suppress(UserError):
            infos.append(audio.probe(path))
    return min((info.frames / info.rate for info in infos), default=None)


CORPUS = Corpus("LibriMix, github.com/JorisCos/LibriMix; counts: its paper, arXiv 2005.11262", (16000,), SETS, find)
