"""Load batches of waves: planned as a pure function of (seed, step), read by grain workers.

The plan of an epoch permutes the rows of all manifests, sorts them into a few fixed lengths (buckets) and cuts each
bucket into batches of equal seconds. Nothing is stored between runs: step n always reads batch n, for any number of
workers and processes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import grain
import numpy as np

from sfjax import audio, worker_process
from sfjax.data.examples import MADE_OF, Maker, Simulation, maker
from sfjax.data.manifest import Manifest, read
from sfjax.errors import UserError
from sfjax.tasks import Task

ARRAYS = ("waves", "mels", "labels", "lengths", "task")  # the part of a batch that goes to the devices
MOST = 2**20  # examples of a batch
ATTEMPTS = 20  # consecutive rows to try before a batch fails


@dataclasses.dataclass(frozen=True)
class Source:
    """A manifest, how often each row occurs in an epoch (`weight`), and the maker of examples from its rows.

    `task` is the number of its task. The waveforms that `make` returns are at most `length_factor` times as long as the
    examples of the batch.
    """

    manifest: Manifest
    weight: float
    task: int
    length_factor: float
    make: Maker


def sources(
    manifests: str, task: Task, *, spec: audio.MelSpec, simulation: Simulation, split: str | None
) -> tuple[Source, ...]:
    """Return the sources of a list such as `a.parquet:10,b.parquet`: manifests with weights (default: 1).

    Only rows of `split` are read. If `task` has several parts, write the part before its manifest, as in
    `clean=a.parquet:10,apart=b.parquet`. Waves have the sample rate of `spec`; `simulation` describes how to make those
    that a manifest lacks. Raises `UserError` if no manifest is given, if a task is unknown, or if a manifest lacks what
    its task needs.
    """
    result, parts = [], task.parts
    for item in filter(None, (item.strip() for item in manifests.split(","))):
        name, path, weight = entry(item, named=len(parts) > 1)
        if name not in parts and len(parts) > 1:
            raise UserError(
                f"manifest {item} must have a task, as in {next(iter(parts))}={item}; choose from {', '.join(parts)}"
            )
        number = list(parts).index(name) if len(parts) > 1 else 0
        part = list(parts.values())[number]
        names = (*part.columns, *part.predicted, *part.labels)
        manifest_columns = {column for name in names for column in MADE_OF.get(name, ())}
        rows = read(Path(path), split=split, columns=manifest_columns)  # few columns: every worker holds a copy
        make = maker(part, rows, spec=spec, simulation=simulation, split=split)
        result.append(Source(rows, weight, number, max(part.columns.values(), default=1.0), make))
    if not result:
        raise UserError("no manifest given; set --config.data.train to one or more, as in speech.parquet:1")
    return tuple(result)


def entry(part: str, *, named: bool) -> tuple[str, str, float]:
    """Return task name (if entries are `named`, else ""), manifest and weight of `name=a.parquet:10`.

    Raises `UserError` if the weight is negative or not finite.
    """
    path, _, text = part.rpartition(":")
    try:
        weight = float(text)
    except ValueError:  # no weight: the colon, if there is one, belongs to the path
        path, weight = part, 1.0
    if not 0 <= weight < math.inf:
        raise UserError(f"{part}: the weight of a manifest must be 0 or more and finite, got {text}; write {path}:1")
    name, _, path = path.rpartition("=") if named else ("", "", path)
    return name, path, weight


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The rows of each batch; every method is a pure function of the fields.

    `lengths` are the rows' seconds by source, `weights` how often each source's rows occur in an epoch, `buckets` the
    possible lengths of a batch's examples in seconds, and `seconds` the sum over a batch, which holds a multiple of
    `multiple` examples. Row numbers count through all sources.
    """

    lengths: tuple[np.ndarray, ...]
    weights: tuple[float, ...]
    buckets: tuple[float, ...]
    seconds: float
    multiple: int
    seed: int

    def size(self, bucket: int) -> int:
        """Return the number of examples in a batch of length `buckets[bucket]`."""
        return max(int(self.seconds / self.buckets[bucket]) // self.multiple, 1) * self.multiple

    def check_divides(self, parts: int, pieces: int) -> None:
        """Raise `UserError` unless every batch divides into `parts` of a mesh, and each part into `pieces`."""
        if pieces < 1:
            raise UserError(f"config.accumulate must be the number of pieces of a batch, 1 or more, got {pieces}")
        for bucket, seconds in enumerate(self.buckets):
            size = self.size(bucket)
            if size > MOST:
                raise UserError(
                    f"a batch may have {MOST} examples, got {size} of {seconds:g} s; lower --config.data.seconds or "
                    "--config.data.multiple, or raise --config.data.buckets"
                )
            if size % (parts * pieces):
                raise UserError(
                    f"a batch of {size} examples of {seconds} s does not divide into mesh {parts} × accumulate "
                    f"{pieces}; set --config.data.multiple={parts * pieces}"
                )

    @functools.cached_property
    def members(self) -> list[list[np.ndarray]]:
        """Row numbers by bucket and source.

        A row goes into the shortest bucket that is long enough; a row that is too long for all is cropped to the last.
        """
        edges = np.asarray(self.buckets)
        offsets = np.cumsum([0, *map(len, self.lengths)])
        by_source = [np.minimum(np.searchsorted(edges, seconds), len(edges) - 1) for seconds in self.lengths]
        return [
            [np.flatnonzero(buckets == bucket) + offset for buckets, offset in zip(by_source, offsets, strict=False)]
            for bucket in range(len(edges))
        ]

    @functools.cached_property
    def counts(self) -> list[int]:
        """Number of batches of each bucket in an epoch; the last batch of a bucket repeats some of its first rows."""
        row_counts = [
            sum(round(weight * len(rows)) for weight, rows in zip(self.weights, by_source, strict=True))
            for by_source in self.members
        ]
        return [-(-count // self.size(bucket)) for bucket, count in enumerate(row_counts)]

    @functools.lru_cache(maxsize=2)  # noqa: B019 (a plan lives as long as its run)
    def epoch(self, number: int) -> list[tuple[int, np.ndarray]]:
        """Return the batches of an epoch in order, each as (bucket, row numbers)."""
        rng = np.random.default_rng([self.seed, number])
        epoch_batches = []
        for bucket, by_source in enumerate(self.members):
            if not self.counts[bucket]:
                continue
            weighted = [
                np.resize(rng.permutation(rows), round(weight * len(rows)))
                for weight, rows in zip(self.weights, by_source, strict=True)
                if len(rows)
            ]
            size = self.size(bucket)
            rows = np.resize(rng.permutation(np.concatenate(weighted)), self.counts[bucket] * size)
            epoch_batches += [(bucket, batch_rows) for batch_rows in rows.reshape(-1, size)]
        return [epoch_batches[i] for i in rng.permutation(len(epoch_batches))]

    def __getitem__(self, step: int) -> tuple[int, np.ndarray]:
        """Return the bucket and the row numbers of batch number `step`, for any step."""
        number, index = divmod(step, sum(self.counts))
        return self.epoch(number)[index]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Read the part of a batch that belongs to one process; `process` is (its index, the number of processes).

    A batch is a dict:

    - `waves[column]`: float32 [examples, samples], as long as the batch times the factor in `task.columns`; zeros
      where an example's task has no such waveform.
    - `mels[column]`: float32 [examples, sources, frames, bands], Mels that another model predicted for the recording;
      `task.predicted` gives the number of sources.
    - `labels[name]`: int32 [examples, labels]; `task.labels` gives the number of labels per frame.
    - `lengths`: true lengths in samples, or numbers of labels if there are no waves.
    - `task`: number of the task of each example.
    - `names`: files of the examples; `seconds`: their total length; `bad`: error messages of rows that could not be
      read. Such a row is replaced by the next row.

    `spec` gives the sample rate of waves, and the hop and bands of Mels.
    """

    sources: tuple[Source, ...]
    plan: Plan
    task: Task
    spec: audio.MelSpec
    process: tuple[int, int]

    def __call__(self, step: int) -> dict[str, Any]:
        task, spec = self.task, self.spec
        bucket, rows = self.plan[step]
        samples = self.plan.buckets[bucket] * spec.sample_rate
        index, count = self.process
        if len(rows) % count:
            raise UserError(f"{count} processes cannot share a batch of {len(rows)} examples; set data.multiple")
        positions = range(index * len(rows) // count, (index + 1) * len(rows) // count)
        size, frames = len(positions), -(-round(samples) // spec.hop)
        waves = {name: np.zeros((size, round(samples * factor)), np.float32) for name, factor in task.columns.items()}
        mels = {
            name: np.zeros((size, sources, frames, spec.bands), np.float32) for name, sources in task.predicted.items()
        }
        labels = {name: np.zeros((size, round(frames * density)), np.int32) for name, density in task.labels.items()}
        lengths, tasks, names, bad = np.zeros(size, np.int32), np.zeros(size, np.int32), [], []
        seconds = 0.0
        for slot, position in enumerate(positions):
            rng = np.random.default_rng([self.plan.seed, step, position])
            name, tasks[slot], example = self._example(int(rows[position]), samples, rng, bad)
            names.append(name)
            wave_lengths = [len(values) for column, values in example.items() if column in waves]
            for column, values in example.items():
                if column in mels:
                    mels[column][slot, :, : values.shape[1]] = values
                else:
                    (waves if column in waves else labels)[column][slot, : len(values)] = values
                    lengths[slot] = wave_lengths[-1] if wave_lengths else len(values)
            if wave_lengths:
                seconds += wave_lengths[-1] / spec.sample_rate
            else:
                seconds += float(example["lengths"].sum()) * spec.hop / spec.sample_rate
        arrays = {"waves": waves, "mels": mels, "labels": labels, "lengths": lengths, "task": tasks}
        return arrays | {"names": names, "seconds": seconds, "bad": bad}

    def _example(self, number, samples, rng, bad):
        """Return file, task and waves of a row, or of the next row that can be read; append errors to `bad`."""
        total = sum(len(source.manifest) for source in self.sources)
        for attempt in range(ATTEMPTS):
            source, index = self.locate_row((number + attempt) % total)
            row = source.manifest.row(index)
            try:
                longest = round(samples * source.length_factor)
                waves = source.make(source.manifest, row, longest, self.spec.sample_rate, rng)
                return row["path"], source.task, waves
            except UserError as error:
                bad.append(str(error))
        raise UserError(f"{ATTEMPTS} rows in a row cannot be read, the last: {bad[-1]}; check the manifest's files")

    def locate_row(self, number: int) -> tuple[Source, int]:
        """Return the source of a row number and the row's index in its manifest."""
        for source in self.sources:
            if number < len(source.manifest):
                return source, number
            number -= len(source.manifest)
        raise IndexError(number)


def training_reader(
    task: Task, *, spec: audio.MelSpec, data: Any, simulation: Simulation, seed: int, process: tuple[int, int]
) -> Reader:
    """Return the reader of training batches, from the manifests and in the sizes of config section `data`.

    See `sources` for `simulation` and for the errors, and `Reader` for `process`.
    """
    rows = sources(data.train, task, spec=spec, simulation=simulation, split=data.split)
    return Reader(rows, _plan(rows, data, seed), task, spec, process)


def validation_readers(
    task: Task, *, spec: audio.MelSpec, data: Any, simulation: Simulation, seed: int, process: tuple[int, int]
) -> dict[str, Reader]:
    """Return a reader of validation batches for each part of `task` that has validation data, by its name.

    Everything else is as in `training_reader`.
    """
    rows = sources(data.valid or data.train, task, spec=spec, simulation=simulation, split=data.valid_split)
    by_part = {name: tuple(source for source in rows if source.task == i) for i, name in enumerate(task.parts)}
    return {
        name: Reader(part_rows, _plan(part_rows, data, seed), task.parts[name], spec, process)
        for name, part_rows in by_part.items()
        if part_rows
    }


def _plan(rows, data, seed):
    """Return the plan of batches from sources of rows, in the sizes of config section `data`."""
    lengths = tuple(source.manifest.seconds / source.length_factor for source in rows)
    weights = tuple(source.weight for source in rows)
    return Plan(lengths, weights, data.buckets, data.seconds, data.multiple, seed)


def batches(reader: Reader, *, first: int, last: int, workers: int) -> grain.DatasetIterator[dict[str, Any]]:
    """Iterate over batches `first` to `last` − 1, read ahead by `workers` processes (0: by a thread)."""
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain's workers read an absl flag; pytest and notebooks do not parse flags
        flags.FLAGS.mark_as_parsed()
    read_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    data = grain.MapDataset.range(first, last).map(reader).to_iter_dataset(read_ahead)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        data = data.mp_prefetch(options, worker_init_fn=worker_process.initialize)
    return iter(data)
