"""Masks of frames: valid, hidden or shown. All functions work under `jit` with padded lengths."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key


def valid(lengths: Int[Array, "*batch"], frames: int) -> Bool[Array, "*batch frames"]:
    """Return a mask that is True on the first `lengths` of `frames` positions."""
    return jnp.arange(frames) < lengths[..., None]


def spans(
    key: Key[Array, ""], length: Int[Array, ""], *, frames: int, fraction: tuple[float, float], shortest: int
) -> Bool[Array, " frames"]:
    """Draw random hidden spans: exactly n = round(r · length) of the first `length` frames, r uniform in `fraction`.

    The hidden frames form spans of at least `shortest` frames that do not touch. The number of spans is uniform in
    1..min(n // shortest, length − n + 1); for a given number every arrangement is equally likely. If n is less than
    `shortest`, there is one shorter span. Source: SpeechFlow 4.1. Unlike samplers of overlapping spans, this one hides
    exactly the drawn fraction.
    """
    key_fraction, key_count, key_spans, key_gaps = jax.random.split(key, 4)
    low, high = fraction
    ratio = jax.random.uniform(key_fraction, minval=low, maxval=high)
    hidden = jnp.round(ratio * length).astype(jnp.int32)
    most = jnp.maximum(jnp.minimum(hidden // shortest, length - hidden + 1), 1)
    count = jax.random.randint(key_count, (), 1, most + 1)
    least = jnp.where(hidden < shortest, hidden, shortest)
    slots = frames // shortest + 2  # spans, and gaps around them, at most
    inside = _composition(key_spans, hidden - count * least, count, slots, frames)
    between = _composition(key_gaps, length - hidden - (count - 1), count + 1, slots, frames)
    order = jnp.arange(slots)
    widths = jnp.where(order < count, inside + least, 0)
    gaps = between + ((order > 0) & (order < count))
    starts = jnp.cumsum(gaps) + jnp.cumsum(widths) - widths
    edges = jnp.zeros(frames + 1, jnp.int32)
    edges = edges.at[jnp.where(order < count, starts, frames)].add(jnp.where(order < count, 1, 0))
    edges = edges.at[jnp.where(order < count, starts + widths, frames)].add(jnp.where(order < count, -1, 0))
    return jnp.cumsum(edges)[:frames] > 0


def _composition(key, total, parts, slots, frames):
    """Distribute `total` units over `parts` bins, every outcome equally likely (stars and bars, by random ranks)."""
    positions = jnp.arange(frames + slots)
    used = positions < total + parts - 1
    ranks = jnp.where(used, jax.random.uniform(key, positions.shape), 2.0)
    order = jnp.argsort(ranks)
    bars = jnp.zeros(positions.shape, bool).at[order].set(positions < parts - 1)
    part = jnp.cumsum(bars)
    stars = (used & ~bars).astype(jnp.int32)
    return jnp.zeros(slots, jnp.int32).at[jnp.minimum(part, slots - 1)].add(stars)


def keep(key: Key[Array, ""], drop: float) -> Bool[Array, ""]:
    """Draw whether an example keeps its condition: False with probability `drop`."""
    return jax.random.uniform(key) >= drop


def chunk(
    key: Key[Array, ""], length: Int[Array, ""], phones: Int[Array, " frames"], *, fraction: tuple[float, float]
) -> Bool[Array, " frames"]:
    """Draw one hidden span of whole phones that covers round(r · length) of the first `length` frames.

    r is uniform in `fraction`. Every start is equally likely; then the span is extended at both ends to where the
    numbers in `phones` change (Voicebox 3.3: a chunk aligned with phones). Neighbouring frames with the same number
    count as one phone.
    """
    key_fraction, key_start = jax.random.split(key)
    frame = jnp.arange(len(phones))
    low, high = fraction
    hidden = jnp.round(jax.random.uniform(key_fraction, minval=low, maxval=high) * length).astype(jnp.int32)
    first = jax.random.randint(key_start, (), 0, length - hidden + 1)
    last = first + jnp.maximum(hidden, 1) - 1
    begins = (frame == 0) | (phones != jnp.roll(phones, 1))
    begin = jax.lax.cummax(jnp.where(begins, frame, 0))  # first frame of the phone that each frame is in
    after = jnp.append(jnp.where(begins, frame, len(phones))[1:], len(phones))
    end = jax.lax.cummin(after, reverse=True)  # first frame behind that phone
    return (frame >= begin[first]) & (frame < jnp.minimum(end[last], length))


def moments(copy: Int[Array, "batch frames"]) -> Int[Array, "batch frames"]:
    """Return the distance of each frame from the start of its run of equal numbers in `copy`."""
    frame = jnp.arange(copy.shape[1])
    starts = jnp.pad(copy[:, 1:] != copy[:, :-1], ((0, 0), (1, 0)))
    return frame - jax.lax.cummax(jnp.where(starts, frame, 0), axis=1)
