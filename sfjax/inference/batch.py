"""Run sound files through a model. Finished files are skipped; a result file appears only when it is complete."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from sfjax import audio, checkpoint, overwrite
from sfjax.errors import UserError
from sfjax.inference import Model, bandwidth, waveform
from sfjax.inference.chunking import NO_VOICE, Job
from sfjax.inference.speech_model import SpeechModel

SECONDS = 10.0  # of a file that are read together


class FileResult(NamedTuple):
    """The outcome for one file: its `status` is "written", "there already", or "failed" for a `reason`.

    `info` is the file's header, or None if it could not be read. `note` says what was changed besides: samples that
    were clipped or scaled.
    """

    source: Path
    targets: list[Path]
    info: audio.Info | None
    status: str
    reason: str = ""
    note: str = ""


def process_files(
    model: Model,
    task: Any,
    files: list[tuple[Path, list[Path]]],
    *,
    seed: int = 0,
    force: bool = False,
    voice: Float[np.ndarray, " _"] = NO_VOICE,
    to_rate: int | None = None,
    progress: Callable[[float, float], Any] = lambda seconds, total: None,
    **options: Any,
) -> list[FileResult]:
    """Run `task` on each file; each of its sources becomes a file with the rate, length and encoding of the original.

    Complete results that the same model and options made from the same file are skipped, and files of other programs
    are not replaced, except with `force`. Memory holds one batch of chunks. If the model has no gains to apply to
    several channels (`Model.band_filter`), their average is used, with a note on standard error. Calls
    `progress(seconds, total)` for each finished piece with its seconds and the seconds of all files to run. `voice` is
    the enrolment (`sfjax.inference.enrolment`) for a task that extracts a speaker. Recordings of a rate below `to_rate`
    get this rate (`Model.enhance`).
    """
    made_by = digest(model, task, seed, options, voice, to_rate)
    entries: list[FileJob | FileResult] = []
    for source, targets in files:
        try:
            entries.append(FileJob(source, targets, model, made_by, voice, to_rate))
        except UserError as error:
            entries.append(FileResult(source, targets, None, "failed", str(error)))
    entries = [_refused(entry, force) or entry if isinstance(entry, FileJob) else entry for entry in entries]
    jobs = [job for job in entries if isinstance(job, FileJob) and (force or not job.is_there())]
    if mixed := [job for job in jobs if job.info.channels > job.like.channels]:
        example = f"as {mixed[0].source}, which has {mixed[0].info.channels}"
        print(
            f"{len(mixed)} of {len(files)} files have several channels, {example}: their average is used, because "
            "this model generates a phase",
            file=sys.stderr,
        )
    jobs.sort(key=lambda job: job.seconds)  # files of similar length share a batch
    total = sum(job.seconds for job in jobs)
    try:
        model.run(jobs, task, seed=seed, progress=lambda seconds: progress(seconds, total), **options)
    finally:
        for job in jobs:
            job.abandon()
    status = {job: "failed" if job.failure else "written" for job in jobs}
    return [
        FileResult(
            entry.source, entry.targets, entry.info, status.get(entry, "there already"), entry.failure, entry.note
        )
        if isinstance(entry, FileJob)
        else entry
        for entry in entries
    ]


def _refused(job: FileJob, force: bool) -> FileResult | None:
    """Return a failure if a result must not replace the file that has its name."""
    reasons = [reason for target in job.targets if (reason := overwrite.refusal(target, force=force))]
    return FileResult(job.source, job.targets, job.info, "failed", reasons[0]) if reasons else None


def digest(
    model: SpeechModel,
    task: Any,
    seed: int,
    options: dict[str, Any],
    voice: Float[np.ndarray, " _"] = NO_VOICE,
    to_rate: int | None = None,
) -> str:
    """Compute a digest of everything besides the input that affects a result, such as parameters, options and voice."""
    helpers: tuple[Any, ...] = (model.phase, model.duration_model, model.vocoder)
    params = [model.params, *(None if helper is None else helper.params for helper in helpers)]
    settings = [
        jax.device_get(checkpoint.digests(params)),
        str(task),
        seed,
        model.sampling(options, task),
        model.reconstruct,
        model.process.__name__,
        str(model.spec),
        str(np.dtype(model.network.dtype)),
        model.chunk_seconds(task),
        model.chunking["overlap"],
        *([hashlib.sha256(voice.tobytes()).hexdigest()] if len(voice) else []),
        *([to_rate] if to_rate else []),
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=int).encode()).hexdigest()


class FileJob(Job):
    """A job that reads a file and writes one file for each source; they appear only when they are complete.

    They have the rate of the file, or `to_rate` if that is higher, and all its channels if the model has gains
    (`Model.band_filter`), else one.
    The comment of the outputs is a digest of the input file and of `made_by`, the digest of model and options.
    """

    def __init__(
        self,
        source: Path,
        targets: list[Path],
        model: Model,
        made_by: str,
        voice: Float[np.ndarray, " _"] = NO_VOICE,
        to_rate: int | None = None,
    ):
        self.info = audio.probe(source)
        self.source, self.targets, self.made_by = source, targets, made_by
        self.rate = model.spec.sample_rate
        self.seconds, self.writers = self.info.frames / self.info.rate, list[audio.Writer]()
        self.channel_blocks = audio.channel_blocks(source, seconds=SECONDS)
        band_filter = model.band_filter(self.channel_blocks, self.info.rate, self.info.channels)
        try:
            band = bandwidth.band(self.info.rate, self.info.channels, to_rate, model.spec)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        super().__init__(str(source), self._scaled_blocks, lambda wave: None, band_filter, voice, band)

    def _scaled_blocks(self) -> Iterator[np.ndarray]:
        """Read the file at the scale of the model; a file of floats need not be in [-1, 1]."""
        for block in audio.blocks(self.source, rate=self.rate, seconds=SECONDS):
            yield block if self.level == 1.0 else block / np.float32(self.level)

    @property
    def like(self) -> audio.Info:
        """The header of the results."""
        if self.band < bandwidth.FULL:
            frames = round(self.info.frames * self.rate / self.info.rate)
            return self.info._replace(frames=frames, rate=self.rate, channels=1)
        return self.info if self.band_filter else self.info._replace(channels=1)

    @functools.cached_property
    def level(self) -> float:
        """The number that the samples are divided by for the model."""
        return waveform.level(audio.peak(self.source))

    @property
    def note(self) -> str:
        """What was changed besides, in one line; empty if nothing was."""
        clipped = [
            f"{writer.clipped} samples of {writer.path} were clipped" for writer in self.writers if writer.clipped
        ]
        if clipped:
            return f"{self.source}: {', '.join(clipped)}; a WAV of floats holds them"
        if self.writers and self.level != 1.0:
            return (
                f"{self.source}: its samples are not in [-1, 1], divided by {self.level:g}; the result has their scale"
            )
        return ""

    @functools.cached_property
    def comment(self) -> str:
        """The comment in the outputs' headers, short enough for an MP3."""
        try:
            with open(self.source, "rb") as file:
                source_digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{self.source}: not readable ({error.strerror}); check the path") from None
        return f"{overwrite.MARK} {hashlib.sha256(f'{self.made_by} {source_digest}'.encode()).hexdigest()[:22]}"

    def is_there(self) -> bool:
        """Return whether all outputs exist with the right length, made from this source by this model and options."""
        return all(map(os.path.isfile, self.targets)) and all(map(self._is_current, self.targets))

    def _is_current(self, target):
        try:
            info = audio.probe(target)
            return info[:3] == self.like[:3] and audio.comment(target) == self.comment
        except UserError:
            return False

    def put(self, wave: np.ndarray, last: bool) -> None:
        """Write the next samples of each source to its file; close the files after the `last` ones."""
        rate = self.info.rate if self.band_filter else self.rate
        level = 1.0 if self.band_filter else self.level  # a filter has the samples of the file
        if not self.writers:
            for target in self.targets:
                self.writers.append(audio.Writer(target, rate=rate, like=self.like, comment=self.comment))
        for writer, source in zip(self.writers, wave, strict=True):
            writer.write(source if level == 1.0 else source * np.float32(level), last=last)
        if last:
            for writer in self.writers:
                writer.__exit__(None, None, None)

    def abandon(self) -> None:
        """Close the file, and remove incomplete outputs."""
        self.channel_blocks.close()
        for writer in self.writers:  # a finished writer has nothing to remove
            writer.__exit__(KeyboardInterrupt, None, None)
