"""Frames of a recording found from others: the one question that speaking, editing and filling gaps put to a model.

Some frames are kept, the others are sampled under them and under the phones that are said there, if any (SpeechFlow
3.2 and 4.4); a vocoder makes waves of the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, Key

from sfjax import audio, flow
from sfjax.chunks import padded
from sfjax.vocoder.griffin_lim import griffin_lim

ITERATIONS = 32  # of Griffin-Lim


class Gap(NamedTuple):
    """A question to the model: of `frames` frames, `origin` names each one's own in `wave`, −1 where it is to be found.

    `phones` are the numbers of the phones said there, 0 for none.
    """

    wave: Float[np.ndarray, " samples"]
    origin: Int32[np.ndarray, " frames"]
    phones: Int32[np.ndarray, " frames"]


def regenerate(
    model: Any, asked: Sequence[Gap], seed: int, options: dict[str, Any], *, numbers: Sequence[int] | None = None
) -> list[Float[np.ndarray, "_ mels"]]:
    """The Mels of all questions, with the frames that were known as they are.

    The noise of each follows from the seed and its own of `numbers`, by default its place; nothing follows from what
    it shares a batch with.
    """
    task, chosen = model.filling(), tuple(sorted(model.sampling(options).items()))
    numbers = range(len(asked)) if numbers is None else numbers
    lengths = [max(len(one.origin), model.spec.frames(len(one.wave))) for one in asked]
    found: dict[int, np.ndarray] = {}
    for places in _batches(model, lengths):
        group = [asked[place] for place in places]
        frames, rows = _room(model, [lengths[place] for place in places])
        fill = lambda values, size, dtype, empty: np.stack(
            [np.pad(np.asarray(x, dtype), (0, size - len(x)), constant_values=empty) for x in values]
        )
        blank = [Gap(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))] * (rows - len(group))
        waves, origins, spoken = zip(*group, *blank, strict=True)
        made = _regenerated(
            model.params,
            fill(waves, frames * model.spec.hop, np.float32, 0),
            np.array([max(len(wave), model.spec.window) for wave in waves], np.int32),
            fill(origins, frames, np.int32, -1),
            fill(spoken, frames, np.int32, 0),
            np.array([max(len(origin), 1) for origin in origins], np.int32),
            jax.random.key(seed), fill([[numbers[place] for place in places]], rows, np.int32, 0)[0],
            network=model.network, sampler=model.process.sample, task=task, spec=model.spec, options=chosen,
        )  # fmt: skip
        found |= {place: mel[: len(asked[place].origin)] for place, mel in zip(places, np.asarray(made), strict=False)}
    return [found[place] for place in range(len(asked))]


def _batches(model, lengths):
    """The places of examples of these lengths in batches, alike lengths together, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[first : first + model.chunking["batch"]] for first in range(0, len(order), model.chunking["batch"])]


def _room(model, frames):
    """How many frames and rows a program for examples of these frames takes: few sizes, so few programs."""
    most = round(model.chunking["seconds"] * model.spec.sample_rate / model.spec.hop)
    return padded(max(frames), most), 1 << (len(frames) - 1).bit_length()


@functools.partial(jax.jit, static_argnames=("network", "sampler", "task", "spec", "options"))
def _regenerated(
    params: Any,
    waves: Float[Array, "batch samples"],
    lengths: Int[Array, " batch"],
    origin: Int[Array, "batch frames"],
    spoken: Int[Array, "batch frames"],
    count: Int[Array, " batch"],
    key: Key[Array, ""],
    numbers: Int[Array, " batch"],
    *,
    network: Any,
    sampler: Callable,
    task: Any,
    spec: audio.MelSpec,
    options: tuple,
) -> Float[Array, "batch frames mels"]:
    mel = audio.log_mel(waves, spec, lengths)
    hidden = origin < 0
    speech = jnp.where(hidden[..., None], 0.0, jnp.take_along_axis(mel, jnp.maximum(origin, 0)[..., None], axis=1))
    inputs = jax.vmap(task.condition)({"speech": speech, "hidden": hidden, "phones": spoken}, count)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)
    x0 = jax.vmap(lambda key: flow.noise(key, origin.shape[1], spec.bands))(keys)
    apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
    x1 = sampler(apply, x0, inputs, count, **dict(options))
    return jnp.where(hidden[..., None], x1, speech)


def mels(model: Any, waves: Sequence[Float[np.ndarray, " _"]]) -> list[Float[np.ndarray, "_ mels"]]:
    """The normalised log-Mel frames of recordings at the model's rate."""
    lengths, found = [model.spec.frames(len(wave)) for wave in waves], {}
    for places in _batches(model, lengths):
        frames, rows = _room(model, [lengths[place] for place in places])
        given = np.zeros((rows, frames * model.spec.hop), np.float32)
        counts = np.full(rows, model.spec.window, np.int32)
        for row, place in enumerate(places):
            given[row, : len(waves[place])], counts[row] = waves[place], len(waves[place])
        made = np.asarray(_mels(given, model.spec, counts))
        found |= {place: mel[: lengths[place]] for place, mel in zip(places, made, strict=False)}
    return [found[place] for place in range(len(waves))]


_mels = jax.jit(audio.log_mel, static_argnums=1)


def voiced(model: Any, mels: Sequence[Float[np.ndarray, "_ mels"]]) -> list[Float[np.ndarray, " _"]]:
    """The waves of Mels by the model's vocoder, or by Griffin-Lim where it has none."""
    found = {}
    for places in _batches(model, list(map(len, mels))):
        group = [mels[place] for place in places]
        frames, rows = _room(model, [len(mel) for mel in group])
        given = np.zeros((rows, frames, model.spec.bands), np.float32)
        counts = np.full(rows, 4, np.int32)
        for row, mel in enumerate(group):
            given[row, : len(mel)], counts[row] = mel, len(mel)
        network, *rest = model.vocoder or (None,)
        made = _voiced(tuple(rest), given, counts, spec=model.spec, network=network)
        found |= {
            place: wave[: len(mels[place]) * model.spec.hop]
            for place, wave in zip(places, np.asarray(made), strict=False)
        }
    return [found[place] for place in range(len(mels))]


@functools.partial(jax.jit, static_argnames=("spec", "network"))
def _voiced(
    vocoder: tuple,
    mels: Float[Array, "batch frames mels"],
    counts: Int[Array, " batch"],
    *,
    spec: audio.MelSpec,
    network: Any,
) -> Float[Array, "batch samples"]:
    if network is None:
        return griffin_lim(mels, spec, iterations=ITERATIONS, lengths=counts * spec.hop)
    params, mean, std = vocoder
    return network.apply({"params": params}, (mels * spec.std + spec.mean - mean) / std, counts)
