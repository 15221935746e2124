"""Batches of waveforms: planned as a pure function of (seed, step), read by grain workers.

The plan of an epoch permutes the rows of all manifests, sorts them into a few fixed lengths (buckets) and cuts each
bucket into batches of equal seconds. Nothing is stored between runs: step n is batch n, whatever the number of
workers or processes.
"""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grain
import numpy as np

from sfjax.data.examples import MADE_OF, Maker, maker
from sfjax.data.manifest import Manifest, read
from sfjax.errors import UserError

ARRAYS = ("waves", "mels", "labels", "lengths", "task")  # what of a batch goes to the devices
ATTEMPTS = 20  # rows tried in turn before a batch is given up


@dataclasses.dataclass(frozen=True)
class Source:
    """A manifest, how often each of its rows comes in an epoch, and what is made of a row.

    `task` is the number of its task; each waveform that `make` returns takes a `share` of a batch's length at most.
    """

    manifest: Manifest
    weight: float
    task: int
    share: float
    make: Maker


def sources(
    spec: str,
    *,
    split: str | None,
    columns: Mapping[str, Mapping[str, float]],
    predicted: Mapping[str, int],
    labels: Mapping[str, Mapping[str, float]],
    phones: tuple[str, ...],
    mix: Any,
    degrade: Any,
    mixture: Any,
    rate: int,
    hop: int,
) -> tuple[Source, ...]:
    """The sources that `a.parquet:10,b.parquet` lists: manifests with their weights (default 1), rows of `split` only.

    `columns` maps the name of each task to the columns that it reads, `labels` to its labels, of `phones`. With several
    tasks the name of a task comes before its manifest, as in `clean=a.parquet:10,apart=b.parquet`. Config sections
    `mix`, `degrade` and `mixture` describe how to make waves at `rate` Hz that the manifest does not have. `hop` is the
    number of samples between two frames of predicted Mels.
    """
    found = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, path, weight = entry(part, named=len(columns) > 1)
        if name not in columns and len(columns) > 1:
            raise UserError(f"{part}: expected one of the tasks {', '.join(columns)} before it, as in name={part}")
        task = list(columns).index(name) if len(columns) > 1 else 0
        wanted = list(columns.values())[task]
        said = list(labels.values())[task]
        needed = {column for name in (*wanted, *predicted, *said) for column in MADE_OF.get(name, ())}
        rows = read(Path(path), split=split, columns=needed)  # every worker holds what is read here
        make = maker(
            wanted, predicted, said, rows, split=split, mix=mix, degrade=degrade, mixture=mixture, rate=rate, hop=hop,
            phones=phones,
        )  # fmt: skip
        found.append(Source(rows, weight, task, max(wanted.values(), default=1.0), make))
    if not found:
        raise UserError("no manifest given; set --config.data.train to one or more, as in speech.parquet:1")
    return tuple(found)


def entry(part: str, *, named: bool) -> tuple[str, str, float]:
    """The task's name (if entries are `named`), the manifest and the weight of `name=a.parquet:10`."""
    path, _, weight = part.rpartition(":") if _is_number(part.rpartition(":")[2]) else (part, "", "1")
    name, _, path = path.rpartition("=") if named else ("", "", path)
    return name, path, float(weight)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Which rows make batch number `step`; every method is a pure function of the fields.

    `lengths` are the rows' seconds by source, `weights` how often each source's rows come in an epoch, `buckets` the
    batch lengths in seconds, `seconds` those of a whole batch, which holds a multiple of `multiple` examples. Rows are
    numbered through all sources.
    """

    lengths: tuple[np.ndarray, ...]
    weights: tuple[float, ...]
    buckets: tuple[float, ...]
    seconds: float
    multiple: int
    seed: int

    def size(self, bucket: int) -> int:
        """Examples in a batch of `buckets[bucket]`."""
        return max(int(self.seconds / self.buckets[bucket]) // self.multiple, 1) * self.multiple

    @functools.cached_property
    def members(self) -> list[list[np.ndarray]]:
        """Row numbers by bucket and source; a row goes into the shortest bucket that holds it, else is cropped."""
        edges = np.asarray(self.buckets)
        offsets = np.cumsum([0, *map(len, self.lengths)])
        place = [np.minimum(np.searchsorted(edges, seconds), len(edges) - 1) for seconds in self.lengths]
        return [
            [np.flatnonzero(p == b) + offset for p, offset in zip(place, offsets, strict=False)]
            for b in range(len(edges))
        ]

    @functools.cached_property
    def counts(self) -> list[int]:
        """Batches of each bucket in an epoch; the last of a bucket is filled up with its first rows."""
        rows = [sum(round(w * len(m)) for w, m in zip(self.weights, ms, strict=True)) for ms in self.members]
        return [-(-count // self.size(bucket)) for bucket, count in enumerate(rows)]

    @functools.lru_cache(maxsize=2)  # noqa: B019 (a plan lives as long as its run)
    def epoch(self, number: int) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch as (bucket, row numbers), in their order."""
        rng = np.random.default_rng([self.seed, number])
        batches = []
        for bucket, members in enumerate(self.members):
            if not self.counts[bucket]:
                continue
            rows = [
                np.resize(rng.permutation(m), round(w * len(m)))
                for w, m in zip(self.weights, members, strict=True)
                if len(m)
            ]
            size = self.size(bucket)
            rows = np.resize(rng.permutation(np.concatenate(rows)), self.counts[bucket] * size)
            batches += [(bucket, part) for part in rows.reshape(-1, size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def __getitem__(self, step: int) -> tuple[int, np.ndarray]:
        """The bucket and the row numbers of batch number `step`, for any step."""
        number, within = divmod(step, sum(self.counts))
        return self.epoch(number)[within]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads this process's share of a batch: `waves`, `mels` and `labels` by name, true `lengths` (samples), `task`.

    `waves[column]` is float32 [examples, samples], as long as its share in `columns` of the batch's length, and silent
    where an example's task has no such waveform; `mels[column]` [examples, sources, frames, bands] is what another
    model made of the recording, of as many sources as `predicted` says; `labels[name]` is int32 [examples, labels],
    as many to a frame as `labels` says, and `lengths` counts them where there are no waves; `task` is the number of
    the task. Beside them stand the `names` of the files, their `seconds` in all, and what went `bad`: a row that
    cannot be read is replaced by the next one. `rate` is in Hz, `hop` in samples.
    """

    sources: tuple[Source, ...]
    plan: Plan
    columns: Mapping[str, float]
    predicted: Mapping[str, int]
    labels: Mapping[str, float]
    rate: int
    hop: int
    bands: int
    share: tuple[int, int]

    def __call__(self, step: int) -> dict[str, Any]:
        bucket, rows = self.plan[step]
        samples = self.plan.buckets[bucket] * self.rate
        index, count = self.share
        if len(rows) % count:
            raise UserError(f"a batch of {len(rows)} examples does not divide {count} processes; set data.multiple")
        mine = range(index * len(rows) // count, (index + 1) * len(rows) // count)
        waves = {
            name: np.zeros((len(mine), round(samples * share)), np.float32) for name, share in self.columns.items()
        }
        frames = -(-round(samples) // self.hop)
        mels = {
            name: np.zeros((len(mine), count, frames, self.bands), np.float32) for name, count in self.predicted.items()
        }
        labels = {name: np.zeros((len(mine), round(frames * share)), np.int32) for name, share in self.labels.items()}
        lengths, task, names, bad = np.zeros(len(mine), np.int32), np.zeros(len(mine), np.int32), [], []
        seconds = 0.0
        for slot, place in enumerate(mine):
            rng = np.random.default_rng([self.plan.seed, step, place])
            name, task[slot], example = self._read(int(rows[place]), samples, rng, bad)
            names.append(name)
            heard = [len(found) for column, found in example.items() if column in waves]
            for column, found in example.items():
                if column in mels:
                    mels[column][slot, :, : found.shape[1]] = found
                else:
                    (waves if column in waves else labels)[column][slot, : len(found)] = found
                    lengths[slot] = heard[-1] if heard else len(found)
            seconds += heard[-1] / self.rate if heard else float(example["lengths"].sum()) * self.hop / self.rate
        arrays = {"waves": waves, "mels": mels, "labels": labels, "lengths": lengths, "task": task}
        return arrays | {"names": names, "seconds": seconds, "bad": bad}

    def _read(self, row, samples, rng, bad):
        total = sum(len(source.manifest) for source in self.sources)
        for attempt in range(ATTEMPTS):
            source, place = self._find((row + attempt) % total)
            found = source.manifest.row(place)
            try:
                waves = source.make(source.manifest, found, round(samples * source.share), self.rate, rng)
                return found["path"], source.task, waves
            except UserError as error:
                bad.append(str(error))
        raise UserError(f"{ATTEMPTS} rows in a row cannot be read, the last: {bad[-1]}; check the manifest's files")

    def _find(self, row):
        for source in self.sources:
            if row < len(source.manifest):
                return source, row
            row -= len(source.manifest)
        raise IndexError(row)


def batches(reader: Reader, *, first: int, last: int, workers: int) -> grain.DatasetIterator[dict[str, Any]]:
    """Batches number `first` to `last` − 1, read ahead by `workers` processes (0: by a thread of this one)."""
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain's workers read an absl flag, which nobody parses in pytest or a notebook
        flags.FLAGS.mark_as_parsed()
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    data = grain.MapDataset.range(first, last).map(reader).to_iter_dataset(ahead)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        data = data.mp_prefetch(options, worker_init_fn=_leave_interrupts_to_the_parent)
    return iter(data)


def _leave_interrupts_to_the_parent(worker: int, workers: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
