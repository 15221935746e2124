"""Losses for separation: permutation-invariant error, error of ratio masks, deep clustering.

The target of separation holds all sources of a mixture, one after the other (`sfjax.tasks.separate`). With only the
squared error of log-Mel frames, a network learns slowly to separate speakers, because quiet bins dominate that error.
The two other errors weight each bin by the amplitude of the mixture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Joined(NamedTuple):
    """What the losses need to know about sources that are joined in time.

    - `copy`: the number of each frame's source, from 1; 0 for none.
    - `free`: 1 if the order of the example's sources may be chosen at t = 0, else 0.
    - `emphasis`: the weights of the bins (`sfjax.amplitude_loss.emphasis`).
    - `mask`: the weight of the error of `shares` in `error`.
    - `cluster`: the weight of `cluster_error` in the loss.
    """

    copy: Int[Array, "batch frames"]
    free: Float[Array, " batch"]
    emphasis: Float[Array, "batch frames mels"]
    mask: Float[Array, " batch"]
    cluster: Float[Array, " batch"]


def places(copy: Int[Array, "batch frames"], count: int) -> list[Int[Array, "batch frames"]]:
    """Return, for each shift 0 … `count` − 1, the frame of the same moment in the source `shift` sources later.

    With two sources, shift 0 maps every frame to itself. Shift 1 maps a frame of source 1 to the same moment of source
    2, and back: `copy` = [1, 1, 2, 2] gives [0, 1, 2, 3] and [2, 3, 0, 1]. All sources must have the same length and
    start at equal distances. A frame without a source maps to itself.
    """
    stride = (copy == 2).argmax(axis=1)[:, None]
    frame = jnp.arange(copy.shape[1])
    shifted_frames = []
    for shift in range(count):
        other = frame + stride * ((copy - 1 + shift) % count - (copy - 1))
        shifted_frames.append(jnp.clip(jnp.where(copy > 0, other, frame), 0, copy.shape[1] - 1))
    return shifted_frames


def shares(
    mels: Float[Array, "batch frames mels"], places: list[Int[Array, "batch frames"]], std: float
) -> Float[Array, "batch frames mels"]:
    """Return the share of each bin's source in the power of all sources at that moment (`sfjax.audio.ratio_mask`)."""
    powers = jnp.stack([mels] + [_take_frames(mels, frames) for frames in places[1:]])
    return jax.nn.softmax(2.0 * std * powers, axis=0)[0]


def error(
    squared: Callable,
    estimate: Float[Array, "batch frames mels"],
    x1: Float[Array, "batch frames mels"],
    t: Float[Array, " batch"],
    joined: Joined,
    *,
    count: int,
    std: float,
) -> Float[Array, "batch frames"]:
    """Compute the error of each frame against `x1`; at t = 0, against the order of sources with the smallest error.

    At t = 0 the point is noise and holds no information about the order, so any order is right: permutation-invariant
    training (Yu et al., arXiv 1607.00325), at t = 0 as in FLOSS (arXiv 2505.16119). `squared(x1)` is the squared error
    of each frame. `joined.mask` times the squared error of the shares of `estimate`, the network's estimate of x1, is
    added to it (mask inference, Luo et al., arXiv 1611.06265). The network runs once: the error compares all pairs of
    sources.
    """
    copy, shifted_frames = joined.copy, places(joined.copy, count)
    true_shares = shares(x1, shifted_frames, std)
    estimated_shares = shares(estimate, shifted_frames, std)
    weighted = joined.emphasis > 0  # False for padding, where values are undefined
    errors = []  # of each frame against the same moment of the source `shift` sources later
    for frames in shifted_frames:
        difference = estimated_shares - _take_frames(true_shares, frames)
        share_error = jnp.where(weighted, joined.emphasis * jnp.square(difference), 0.0).sum(axis=-1)
        errors.append(squared(_take_frames(x1, frames)) + joined.mask[:, None] * share_error)
    shifted = jnp.stack(errors, axis=1)  # [batch, shift, frames]
    of_source = copy[:, None] == 1 + jnp.arange(count)[:, None]  # [batch, source, frames]
    pairs = jnp.einsum("btf,bsf->bst", shifted, of_source.astype(shifted.dtype))  # [batch, source, shift]
    orders = np.array(list(itertools.permutations(range(count))))
    shifts = (orders - np.arange(count)) % count  # [order, source]
    totals = pairs[:, np.arange(count), shifts].sum(axis=-1)  # [batch, order]
    best = jnp.asarray(shifts)[totals.argmin(axis=1)]  # [batch, source]
    chosen = jnp.where((t[:, None] == 0) & (joined.free[:, None] > 0), best, 0)
    shift = jnp.take_along_axis(chosen, jnp.maximum(copy - 1, 0), axis=1)  # [batch, frames]
    return jnp.take_along_axis(shifted, shift[:, None], axis=1)[:, 0]


def cluster_error(
    embedding: Float[Array, "batch frames mels size"], x1: Float[Array, "batch frames mels"], joined: Joined, count: int
) -> Float[Array, " batch"]:
    """Compute the deep clustering loss of each example (Hershey et al., arXiv 1508.04306).

    It compares the embeddings of bins with the sources that dominate the bins: the squared Frobenius norm of
    V·Vᵀ − Y·Yᵀ, where V are the embeddings scaled to length 1 and Y the one-hot numbers of the loudest sources. Each
    bin is weighted by `joined.emphasis`. The loss does not depend on the order of the sources, so from the first step
    on it teaches the network what distinguishes speakers.
    """
    batch = len(x1)
    powers = jnp.stack([_take_frames(x1, frames) for frames in places(joined.copy, count)])
    loudest = (powers.argmax(axis=0) + joined.copy[..., None] - 1) % count
    weight = joined.emphasis / jnp.maximum(joined.emphasis.sum(axis=(1, 2), keepdims=True), 1e-9)
    root = jnp.sqrt(weight).reshape(batch, -1, 1)
    v = embedding * jax.lax.rsqrt(jnp.square(embedding).sum(axis=-1, keepdims=True) + 1e-6)
    v = v.reshape(batch, -1, v.shape[-1]) * root
    y = jax.nn.one_hot(loudest.reshape(batch, -1), count) * root

    def squared_norm(a, b):
        return jnp.square(jnp.einsum("bnd,bne->bde", a, b)).sum(axis=(1, 2))  # of aᵀ·b

    return squared_norm(v, v) - 2 * squared_norm(v, y) + squared_norm(y, y)


def _take_frames(x, frames):
    return jnp.take_along_axis(x, frames[..., None], axis=1)
