"""Read published corpora in their own layouts: sound files, speakers, words, and the published numbers to compare.

Each corpus is a `Corpus` in its own module; `prepare.corpus` reads any of them.
"""

from __future__ import annotations

import csv
import importlib
import pkgutil
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from sfjax.data.manifest import Manifest
from sfjax.data.scan import Job, Reject, pair
from sfjax.errors import UserError

NEAR = 0.01  # share by which hours may differ from the published hours, which are rounded


class Published(NamedTuple):
    """The published numbers of one set of a corpus; `hours` is None if its authors do not give them."""

    split: str
    recordings: int
    hours: float | None


class Corpus(NamedTuple):
    """One release of a corpus.

    `release` names the release and the source of its numbers; files have one of `rates` in Hz. `find` yields the
    content of a folder: jobs, whose column 'set' is one of `sets`, and rejects. It takes further paths as keywords,
    for example `speech` of LibriMix. It raises `UserError` if the folder has another layout than the release. With
    `pieces`, each job is a piece of a recording, while the published numbers count whole recordings.
    """

    release: str
    rates: tuple[int, ...]
    sets: Mapping[str, Published]
    find: Callable[..., Iterator[Job | Reject]]
    pieces: bool = False


def folders(src: Path, names: Collection[str], what: str) -> list[Path]:
    """Return the folders `names` of a corpus that exist below `src`, or `src` itself if it has one of the names.

    Raises `UserError` if there are none; `what` is the name of the corpus.
    """
    if not src.is_dir():
        raise UserError(f"{src}: expected the folder of {what}, found no such folder; check the path")
    paths = [src] if src.name in names else [src / name for name in names if (src / name).is_dir()]
    if not paths:
        content = ", ".join(sorted(path.name for path in src.iterdir())[:8]) or "nothing"
        raise UserError(f"{src}: expected {what} with {', '.join(names)} or some of these, found {content}")
    return paths


def words(path: Path) -> str:
    """Read the words of an utterance from a file that holds nothing else. Raises `ValueError` if there are none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ValueError(f"has no {path.name}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not in UTF-8") from None
    if not text:
        raise ValueError(f"{path.name} is empty")
    return text


def paired(
    clean: Path, noisy: Path, name: str, like: str, columns: Callable[[str, str], dict[str, Any]]
) -> Iterator[Job | Reject]:
    """Yield pairs of files of two folders, and rejects for all other files.

    Two files are a pair if the group of the regular expression `name` is the same in both names; `like` is an example
    of a name. `columns` returns the columns of a pair from this group and the name of the noisy file. Raises
    `UserError` if a folder is missing.
    """
    by_key: dict[str, tuple[list[Path], list[Path]]] = {}
    for side, folder in enumerate((clean, noisy)):
        if not folder.is_dir():
            raise UserError(f"{folder}: expected the folder of {('clean', 'noisy')[side]} files, found no such folder")
        for path in sorted(folder.iterdir()):
            if match := re.search(name, path.name):
                by_key.setdefault(match[1], ([], []))[side].append(path)
            else:
                yield Reject(str(path), f"not named like {like}")
    for key, (clean_paths, noisy_paths) in sorted(by_key.items()):
        if len(clean_paths) == len(noisy_paths) == 1:
            yield pair(str(clean_paths[0]), str(noisy_paths[0]), columns(key, noisy_paths[0].name))
        else:
            counts = f"{len(clean_paths)} in {clean.name} and {len(noisy_paths)} in {noisy.name}"
            reason = f"expected one file of {key} in each folder, got {counts}"
            yield from (Reject(str(path), reason) for path in clean_paths + noisy_paths)


def read_csv(path: Path, columns: Collection[str]) -> tuple[list[dict[str, str]], list[Reject]]:
    """Read a CSV: the lines with a value in each of `columns`, and a reject for each other line.

    Both are empty if the file does not exist.
    """
    if not path.is_file():
        return [], []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines, header = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [Reject(str(path), f"not a CSV ({error})")]
    if missing := [name for name in columns if name not in header]:
        return [], [Reject(str(path), f"has no column {', '.join(missing)}; it has {', '.join(header)}")]
    complete, rejects = [], []
    for number, line in enumerate(lines, 2):
        if empty := [name for name in columns if not line[name]]:
            rejects.append(Reject(str(path), f"line {number} has no value in {', '.join(empty)}"))
        else:
            complete.append(line)
    return complete, rejects


def compare(corpus: Corpus, found: Manifest) -> list[str]:
    """Compare a manifest with the published numbers of its corpus; returns one line of text for each set."""
    table = pa.table({"set": found.table.column("set"), "path": found.table.column("path"), "seconds": found.seconds})
    counts = [("seconds", "sum"), ("seconds", "count"), ("path", "count_distinct")]
    sums = {group["set"]: group for group in table.group_by("set").aggregate(counts).to_pylist()}
    lines = []
    for name, published in corpus.sets.items():
        if name not in sums:
            continue
        rows, hours = sums[name]["seconds_count"], sums[name]["seconds_sum"] / 3600
        count = sums[name]["path_count_distinct"] if corpus.pieces else rows
        line = f"{name}: {count:,} recordings, {hours:.2f} h"
        published_hours = "" if published.hours is None else f" and {published.hours:,g} h"
        if corpus.pieces:  # hours cannot be compared, because pieces lack the silence between them
            line = f"{line} in {rows:,} pieces"
            published_hours = published_hours and f"{published_hours} of whole recordings"
        near = corpus.pieces or published.hours is None or abs(hours - published.hours) <= NEAR * published.hours
        if count != published.recordings or not near:
            lines.append(f"{line}; published: {published.recordings:,}{published_hours}")
        elif corpus.pieces:
            lines.append(f"{line}; published: as many{published_hours}")
        else:
            lines.append(f"{line}, as published")
    if missing := [name for name in corpus.sets if name not in sums]:
        lines.append(f"missing: {', '.join(missing)}")
    return lines


def names() -> set[str]:
    """Return the names of the corpora that `load` takes."""
    return {module.name for module in pkgutil.iter_modules(__path__)}


def load(name: str) -> Corpus:
    """Load the corpus of a module of this package."""
    return importlib.import_module(f"sfjax.data.corpora.{name}").CORPUS
