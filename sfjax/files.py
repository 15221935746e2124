"""Sound files through a model: what is done is left, what is made appears when it is whole."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sfjax import audio, checkpoint
from sfjax.chunks import Job
from sfjax.errors import UserError
from sfjax.infer import Model


class Treated(NamedTuple):
    """What came of a file, which is `status`: written, there already, or failed for a `reason`.

    `info` is its header, None if that could not be read.
    """

    source: Path
    targets: list[Path]
    info: audio.Info | None
    status: str
    reason: str = ""


def treat(
    model: Model,
    task: Any,
    files: list[tuple[Path, list[Path]]],
    *,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[float, float], Any] = lambda seconds, total: None,
    **options: Any,
) -> list[Treated]:
    """Does what a model learned as `task` on each file; one file for each source has its rate, length and encoding.

    What is there already, whole and made in the same way from the same file, is left, unless by `force`. The memory
    is that of one batch of chunks. Several channels become one, which is said on standard error. `progress` hears
    of each piece's seconds as it is done, and of those of all that is to be done.
    """
    made_by = digest(model, task, seed, options)
    found: list[FileJob | Treated] = []
    for source, targets in files:
        try:
            found.append(FileJob(source, targets, model.spec.sample_rate, made_by))
        except UserError as error:
            found.append(Treated(source, targets, None, "failed", str(error)))
    jobs = [job for job in found if isinstance(job, FileJob) and (force or not job.is_there())]
    if mixed := [job for job in jobs if job.info.channels > 1]:
        example = f"as {mixed[0].source}, which has {mixed[0].info.channels}"
        print(f"{len(mixed)} of {len(files)} files have several channels, {example}: their average is used",
              file=sys.stderr)  # fmt: skip
    jobs.sort(key=lambda job: job.seconds)  # alike lengths share a batch
    total = sum(job.seconds for job in jobs)
    try:
        model.run(jobs, task, seed=seed, progress=lambda seconds: progress(seconds, total), **options)
    finally:
        for job in jobs:
            job.abandon()
    status = {job: "failed" if job.failure else "written" for job in jobs}
    return [
        Treated(one.source, one.targets, one.info, status.get(one, "there already"), one.failure)
        if isinstance(one, FileJob)
        else one
        for one in found
    ]


def digest(model: Model, task: Any, seed: int, options: dict[str, Any]) -> str:
    """Stands for all that decides what becomes of a recording, or how a text is said."""
    params = [model.params, *(one and one.params for one in (model.phase, model.timing, model.vocoder))]
    how = [
        jax.device_get(checkpoint.digests(params)), str(task), seed, model.sampling(options),
        model.wave, model.process.__name__, str(model.spec), str(np.dtype(model.network.dtype)),
        *(model.chunking[name] for name in ("seconds", "overlap")),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(how, sort_keys=True, default=int).encode()).hexdigest()


class FileJob(Job):
    """A job from file to files, one for each source; the outputs appear when they are whole.

    Their comment is a digest of what the file holds and of `made_by`, which stands for all else that they depend on.
    """

    def __init__(self, source: Path, targets: list[Path], rate: int, made_by: str):
        self.info = audio.probe(source)
        self.source, self.targets, self.rate, self.made_by = source, targets, rate, made_by
        self.seconds, self.writers = self.info.frames / self.info.rate, list[audio.Writer]()
        super().__init__(str(source), lambda: audio.blocks(source, rate=rate, seconds=10.0), lambda wave: None)

    @functools.cached_property
    def comment(self) -> str:
        """What its outputs say of themselves, as short as an MP3 wants it."""
        try:
            with open(self.source, "rb") as file:
                held = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{self.source}: not readable ({error.strerror}); check the path") from None
        return f"sfjax {hashlib.sha256(f'{self.made_by} {held}'.encode()).hexdigest()[:22]}"

    def is_there(self) -> bool:
        """Whether its outputs are there, as long as they should be, from this very source and made in this very way."""
        return all(map(os.path.isfile, self.targets)) and all(map(self._is_mine, self.targets))

    def _is_mine(self, target):
        try:
            found = audio.probe(target)
            return found[:2] == self.info[:2] and audio.comment(target) == self.comment
        except UserError:
            return False

    def put(self, wave: np.ndarray, last: bool) -> None:
        if not self.writers:
            for target in self.targets:
                self.writers.append(audio.Writer(target, rate=self.rate, like=self.info, comment=self.comment))
        for writer, one in zip(self.writers, wave, strict=True):
            writer.write(one, last=last)
        if last:
            for writer in self.writers:
                writer.__exit__(None, None, None)

    def abandon(self) -> None:
        for writer in self.writers:  # of one that is finished nothing is left to remove
            writer.__exit__(KeyboardInterrupt, None, None)
