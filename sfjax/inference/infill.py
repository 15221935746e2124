"""Generate the hidden frames of a recording: the common part of speaking, editing and filling gaps.

Some frames are known. The model samples the others, given the known frames and the phones of the speech, if any
(SpeechFlow 3.2 and 4.4). A vocoder turns the result into waves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key

from sfjax import audio, flow
from sfjax.config import typed
from sfjax.inference.chunking import padded
from sfjax.inference.speech_model import SpeechModel
from sfjax.objective import sample_mels
from sfjax.vocoder import hifigan
from sfjax.vocoder.griffin_lim import griffin_lim

ITERATIONS = 32  # of Griffin-Lim


class Gap(NamedTuple):
    """Frames for the model to fill: `origin` is each frame's number in `wave`, or −1 for a frame to generate.

    `phones` is the number of the phone in each frame, 0 for none.
    """

    wave: Float[np.ndarray, " samples"]
    origin: Int32[np.ndarray, " frames"]
    phones: Int32[np.ndarray, " frames"]


class _Batch(NamedTuple):
    """Gaps padded to one size; `noise_numbers` selects the noise of each row."""

    waves: Float[Array, "batch samples"]
    wave_lengths: Int[Array, " batch"]
    origins: Int[Array, "batch frames"]
    phones: Int[Array, "batch frames"]
    frame_counts: Int[Array, " batch"]
    noise_numbers: Int[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class _Program:
    """The static arguments of `_sample_frames`: a program is compiled for each."""

    network: Any
    sampler: Callable
    task: Any
    spec: audio.MelSpec
    options: tuple


def regenerate(
    model: SpeechModel,
    asked: Sequence[Gap],
    seed: int,
    options: dict[str, Any],
    *,
    numbers: Sequence[int] | None = None,
) -> list[Float[np.ndarray, "_ mels"]]:
    """Generate the Mels of all gaps; known frames keep their values.

    The noise of a gap depends on the seed and its entry in `numbers`, by default its index in `asked`, and never on the
    other gaps of its batch.
    """
    task = model.filling()
    program = _Program(
        network=model.network,
        sampler=model.process.sample,
        task=task,
        spec=model.spec,
        options=tuple(sorted(model.sampling(options, task).items())),
    )
    seed = typed(seed, "int", "seed")
    numbers = range(len(asked)) if numbers is None else numbers
    lengths = [max(len(gap.origin), model.spec.num_frames(len(gap.wave))) for gap in asked]
    generated: dict[int, np.ndarray] = {}
    for indices in _batches(model, lengths):
        frames, rows = _padded_size(model, [lengths[index] for index in indices])
        batch = _batch(
            [asked[index] for index in indices], [numbers[index] for index in indices], frames, rows, model.spec
        )
        batch_mels = np.asarray(_sample_frames(model.params, batch, jax.random.key(seed), program=program))
        for index, mel in zip(indices, batch_mels, strict=False):
            generated[index] = mel[: len(asked[index].origin)]
            flow.check_finished(generated[index], **dict(program.options))
    return [generated[index] for index in range(len(asked))]


def _batches(model, lengths):
    """Group the indices of examples into batches of similar lengths, so that there is little padding."""
    size = model.chunking["batch"]
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[first : first + size] for first in range(0, len(order), size)]


def _padded_size(model, lengths):
    """Return the frames and rows of the program for a batch of these lengths: few sizes, so few programs."""
    most = model.chunk_frames
    return padded(max(lengths), most), 1 << (len(lengths) - 1).bit_length()


def _batch(gaps, numbers, frames, rows, spec):
    """Pad gaps to `frames` frames and add empty rows up to `rows`."""
    empty = Gap(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    gaps = [*gaps, *[empty] * (rows - len(gaps))]
    return _Batch(
        waves=jnp.asarray(np.stack([_pad(gap.wave, frames * spec.hop, np.float32) for gap in gaps])),
        wave_lengths=jnp.asarray([max(len(gap.wave), spec.window) for gap in gaps], jnp.int32),
        origins=jnp.asarray(np.stack([_pad(gap.origin, frames, np.int32, fill=-1) for gap in gaps])),
        phones=jnp.asarray(np.stack([_pad(gap.phones, frames, np.int32) for gap in gaps])),
        frame_counts=jnp.asarray([max(len(gap.origin), 1) for gap in gaps], jnp.int32),
        noise_numbers=jnp.asarray(_pad(numbers, rows, np.int32)),
    )


def _pad(values, size, dtype, fill=0):
    return np.pad(np.asarray(values, dtype), (0, size - len(values)), constant_values=fill)


@functools.partial(jax.jit, static_argnames="program")
def _sample_frames(
    params: Any, batch: _Batch, key: Key[Array, ""], *, program: _Program
) -> Float[Array, "batch frames mels"]:
    spec, task = program.spec, program.task
    mel = audio.log_mel(batch.waves, spec, batch.wave_lengths)
    hidden = batch.origins < 0
    frames = jnp.maximum(batch.origins, 0)[..., None]
    speech = jnp.where(hidden[..., None], 0.0, jnp.take_along_axis(mel, frames, axis=1))
    recording = {"speech": speech, "hidden": hidden, "phones": batch.phones}
    inputs = jax.vmap(task.condition)(recording, batch.frame_counts)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(batch.noise_numbers)
    x0 = jax.vmap(lambda key: flow.noise(key, batch.origins.shape[1], spec.bands))(keys)

    options = dict(program.options)
    x1 = sample_mels(program.network, params, program.sampler, x0, inputs, batch.frame_counts, **options)
    return jnp.where(hidden[..., None], x1, speech)


def mels(model: SpeechModel, waves: Sequence[Float[np.ndarray, " _"]]) -> list[Float[np.ndarray, "_ mels"]]:
    """Compute the normalised log-Mel frames of recordings at the model's rate."""
    lengths = [model.spec.num_frames(len(wave)) for wave in waves]
    mel_of: dict[int, np.ndarray] = {}
    for indices in _batches(model, lengths):
        frames, rows = _padded_size(model, [lengths[index] for index in indices])
        batch_waves = np.zeros((rows, frames * model.spec.hop), np.float32)
        sample_counts = np.full(rows, model.spec.window, np.int32)
        for row, index in enumerate(indices):
            batch_waves[row, : len(waves[index])], sample_counts[row] = waves[index], len(waves[index])
        batch_mels = np.asarray(_jitted_log_mel(batch_waves, model.spec, sample_counts))
        for index, mel in zip(indices, batch_mels, strict=False):
            mel_of[index] = mel[: lengths[index]]
    return [mel_of[index] for index in range(len(waves))]


_jitted_log_mel = jax.jit(audio.log_mel, static_argnums=1)


def to_waves(model: SpeechModel, mels: Sequence[Float[np.ndarray, "_ mels"]]) -> list[Float[np.ndarray, " _"]]:
    """Turn Mels into waves by the model's vocoder, or by Griffin-Lim if it has none."""
    network, *vocoder = (None,) if model.vocoder is None else model.vocoder
    wave_of: dict[int, np.ndarray] = {}
    for indices in _batches(model, [len(mel) for mel in mels]):
        frames, rows = _padded_size(model, [len(mels[index]) for index in indices])
        batch_mels = np.zeros((rows, frames, model.spec.bands), np.float32)
        frame_counts = np.full(rows, 4, np.int32)
        for row, index in enumerate(indices):
            batch_mels[row, : len(mels[index])], frame_counts[row] = mels[index], len(mels[index])
        batch_waves = _vocode(tuple(vocoder), batch_mels, frame_counts, spec=model.spec, network=network)
        for index, wave in zip(indices, np.asarray(batch_waves), strict=False):
            wave_of[index] = wave[: len(mels[index]) * model.spec.hop]
    return [wave_of[index] for index in range(len(mels))]


@functools.partial(jax.jit, static_argnames=("spec", "network"))
def _vocode(
    vocoder: tuple,
    mels: Float[Array, "batch frames mels"],
    frame_counts: Int[Array, " batch"],
    *,
    spec: audio.MelSpec,
    network: Any,
) -> Float[Array, "batch samples"]:
    if network is None:
        return griffin_lim(mels, spec, iterations=ITERATIONS, lengths=frame_counts * spec.hop)
    return hifigan.vocode(network, vocoder, mels, spec, frame_counts)
