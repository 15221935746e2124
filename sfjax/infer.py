"""A trained model at work: recordings in, recordings out, whatever their rate and length, in bounded memory."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from sfjax import audio, checkpoint, flow, precision, tasks
from sfjax.errors import UserError
from sfjax.model import Estimator

STAGE = 2**0.5  # ratio of the lengths that programs are compiled for; padding is at most this


def load(folder: str | Path, *, ema: bool = True, step: int | None = None) -> Model:
    """The model of a run folder: averaged parameters (or raw ones) of its newest checkpoint (or that of `step`)."""
    config = checkpoint.read_config(folder)
    params, step = checkpoint.params(folder, ema=ema, step=step)
    spec = audio.MelSpec(**config["mel"])
    network = Estimator(**config["model"], mels=spec.bands, dtype=precision.policy(config["precision"]).compute)
    return Model(
        network, jax.device_put(params), tasks.make(**config["task"]), spec, config["sample"], config["infer"],
        f"{folder}, step {step}",
    )  # fmt: skip


class Chunk(NamedTuple):
    """A piece of a recording: its first sample's number, its samples at the model's rate, whether it is the last."""

    first: int
    wave: Float[np.ndarray, " samples"]
    last: bool


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its parameters and how it is used; `options` are the defaults of sampling (config `sample`)."""

    network: Estimator
    params: Any
    task: Any
    spec: audio.MelSpec
    options: dict[str, Any]
    chunking: dict[str, Any]
    name: str

    def enhance(
        self, noisy: Float[np.ndarray, ...], sample_rate: int, *, seed: int = 0, **options: Any
    ) -> Float[np.ndarray, " samples"]:
        """Clean speech from a noisy recording at any rate in Hz; same rate and length.

        `options` replace those of config section `sample`: solver, steps, guidance, sway, tolerance. Raises `UserError`
        for a wave that is not one-dimensional, finite, audible and longer than a window.
        """
        noisy = np.asarray(noisy, np.float32)
        if noisy.ndim != 1 or not np.isfinite(noisy).all():
            raise UserError(f"expected a finite one-dimensional wave, got shape {noisy.shape}; average its channels")
        pieces: list[np.ndarray] = []
        job = Job("wave", lambda: iter([audio.resample(noisy, sample_rate, self.spec.sample_rate)]), pieces.append)
        self.run([job], seed=seed, **options)
        if job.failure:
            raise UserError(job.failure)
        clean = audio.resample(np.concatenate(pieces), self.spec.sample_rate, sample_rate)[: len(noisy)]
        return np.pad(clean, (0, len(noisy) - len(clean)))

    def enhance_files(
        self,
        pairs: list[tuple[Path, Path]],
        *,
        seed: int = 0,
        progress: Callable[[float], Any] = lambda seconds: None,
        **options: Any,
    ) -> dict[Path, str]:
        """Enhances each file into another with its rate, length and encoding; what failed, with the reason.

        The memory is that of one batch of chunks. Several channels become one, which is said on standard error.
        `progress` hears of each piece's seconds as it is done.
        """
        failed: dict[Path, str] = {}
        jobs = []
        for source, target in pairs:
            try:
                jobs.append(FileJob(source, target, self.spec.sample_rate))
            except UserError as error:
                failed[source] = str(error)
        if mixed := [job for job in jobs if job.channels > 1]:
            example = f"as {mixed[0].source}, which has {mixed[0].channels}"
            print(f"{len(mixed)} of {len(pairs)} files have several channels, {example}: their average is enhanced",
                  file=sys.stderr)  # fmt: skip
        jobs.sort(key=lambda job: job.seconds)  # alike lengths share a batch
        try:
            self.run(jobs, seed=seed, progress=progress, **options)
        finally:
            for job in jobs:
                job.abandon()
        return failed | {job.source: job.failure for job in jobs if job.failure}

    def run(
        self, jobs: Iterable[Job], *, seed: int, progress: Callable[[float], Any] = lambda seconds: None, **options: Any
    ) -> None:
        """Runs the chunks of all jobs through the sampler, in batches that cross job borders."""
        if self.task.columns != tasks.Enhance.columns:
            raise UserError(f"{self.name} was trained to {type(self.task).__name__.lower()}, not to enhance")
        options = self._options(options)
        chunks = self._chunks(jobs)
        while group := list(itertools.islice(chunks, self.chunking["batch"])):
            waves = self._sample([chunk for _, chunk in group], seed, options)
            for (job, chunk), wave in zip(group, waves, strict=True):
                job.take(chunk, wave)
                progress(len(chunk.wave) / self.spec.sample_rate)

    def _options(self, changes):
        unknown = set(changes) - set(self.options)
        if unknown:
            raise UserError(f"unknown option {sorted(unknown)[0]!r}; choose from {', '.join(self.options)}")
        options = self.options | {name: value for name, value in changes.items() if value is not None}
        flow.check(**options)
        return options

    def _chunks(self, jobs) -> Iterator[tuple[Job, Chunk]]:
        size, overlap = (round(self.chunking[name] * self.spec.sample_rate) for name in ("seconds", "overlap"))
        size, overlap = (n // self.spec.hop * self.spec.hop for n in (size, overlap))
        for job in jobs:
            try:
                for chunk in _cut(job.blocks(), size, overlap, self.spec.window):
                    if job.failure:
                        break
                    job.overlap = overlap
                    yield job, chunk
            except UserError as error:
                job.fail(str(error))

    def _sample(self, chunks, seed, options) -> list[np.ndarray]:
        longest = max(len(chunk.wave) for chunk in chunks)
        frames = _padded(
            self.spec.frames(longest), round(self.chunking["seconds"] * self.spec.sample_rate / self.spec.hop)
        )
        count = 1 << (len(chunks) - 1).bit_length()
        waves = np.zeros((count, frames * self.spec.hop), np.float32)
        lengths, first = np.full(count, self.spec.window, np.int32), np.zeros(count, np.int32)
        for i, chunk in enumerate(chunks):
            waves[i, : len(chunk.wave)] = chunk.wave
            lengths[i], first[i] = len(chunk.wave), chunk.first // self.spec.hop
        out = _enhance(
            self.params, waves, lengths, first, jax.random.key(seed),
            network=self.network, task=self.task, spec=self.spec, options=tuple(sorted(options.items())),
        )  # fmt: skip
        return [wave[: len(chunk.wave)] for wave, chunk in zip(np.asarray(out), chunks, strict=False)]


@functools.partial(jax.jit, static_argnames=("network", "task", "spec", "options"))
def _enhance(
    params: Any,
    waves: Float[Array, "batch samples"],
    lengths: Int[Array, " batch"],
    first: Int[Array, " batch"],
    key: Key[Array, ""],
    *,
    network: Estimator,
    task: Any,
    spec: audio.MelSpec,
    options: tuple,
) -> Float[Array, "batch samples"]:
    """Noisy waves to clean waves, all on the device; `first` is the number of each wave's first frame."""
    spectrum = audio.stft(waves, spec, lengths)
    count = (lengths + spec.hop - 1) // spec.hop
    inputs = jax.vmap(task.condition)({"noisy": audio.log_mel(waves, spec, lengths)})
    x0 = jax.vmap(lambda f: flow.noise(key, spectrum.shape[1], spec.bands, f))(first)
    apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
    x1 = flow.sample(apply, x0, inputs, count, **dict(options))
    return audio.borrow_phase(x1, spectrum, spec, lengths)


def _cut(blocks: Iterable[np.ndarray], size: int, overlap: int, least: int) -> Iterator[Chunk]:
    """Chunks of `size` samples that overlap by `overlap`; the last is shorter. `UserError` if they hold nothing."""
    buffer, first, peak = np.zeros(0, np.float32), 0, 0.0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        while len(buffer) > size:
            yield Chunk(first, buffer[:size], False)
            buffer, first = buffer[size - overlap :], first + size - overlap
    if first + len(buffer) < least:
        raise UserError(
            f"expected at least {least} samples at the model's rate, got {first + len(buffer)}; leave it out"
        )
    if peak == 0:
        raise UserError("expected speech, found digital silence; leave it out")
    yield Chunk(first, buffer, True)


def _padded(frames: int, most: int) -> int:
    """The length that a program is compiled for: `most` divided by a power of `STAGE`, at least `frames`."""
    length = most
    while (shorter := -(-length // STAGE)) >= frames and shorter >= 50:
        length = int(shorter)
    return int(max(length, frames))


class Job:
    """A recording on its way: where its samples come from and where the enhanced ones go, cross-faded."""

    def __init__(self, name: str, blocks: Callable[[], Iterator[np.ndarray]], sink: Callable[[np.ndarray], Any]):
        self.name, self.blocks, self.sink = name, blocks, sink
        self.failure, self.overlap, self.tail = "", 0, np.zeros(0, np.float32)

    def take(self, chunk: Chunk, wave: Float[np.ndarray, " samples"]) -> None:
        """Adds the enhanced samples of the next chunk."""
        if self.failure:
            return
        if chunk.first:
            rise = (np.arange(self.overlap, dtype=np.float32) + 0.5) / self.overlap
            faded = self.tail * (1 - rise) + wave[: self.overlap] * rise
            wave = np.concatenate([faded, wave[self.overlap :]])
        if not chunk.last:
            wave, self.tail = wave[: -self.overlap], wave[-self.overlap :]
        try:
            self.put(wave, chunk.last)
        except UserError as error:
            self.fail(str(error))

    def put(self, wave: np.ndarray, last: bool) -> None:
        """Hands finished samples on."""
        self.sink(wave)

    def fail(self, reason: str) -> None:
        """Ends the job without a result."""
        self.failure = f"{self.name}: {reason}" if self.name not in reason else reason
        self.abandon()

    def abandon(self) -> None:
        """Leaves nothing half-written behind."""


class FileJob(Job):
    """A job from file to file; the output appears when it is whole."""

    def __init__(self, source: Path, target: Path, rate: int):
        info = audio.probe(source)
        self.source, self.seconds, self.channels, self.done = source, info.frames / info.rate, info.channels, False
        self.open = functools.cache(lambda: audio.Writer(target, rate=rate, like=info))
        super().__init__(str(source), lambda: audio.blocks(source, rate=rate, seconds=10.0), lambda wave: None)

    def put(self, wave: np.ndarray, last: bool) -> None:
        self.open().write(wave, last=last)
        if last:
            self.done = True
            self.open().__exit__(None, None, None)

    def abandon(self) -> None:
        if self.open.cache_info().currsize and not self.done:
            self.open().__exit__(KeyboardInterrupt, None, None)
