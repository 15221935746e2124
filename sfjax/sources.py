"""Errors of sources that are joined in time: the best of their orders, their shares of the mixture, their clusters.

A target of separation holds all sources of a mixture, one after the other (`sfjax.tasks.separate`). With the squared
error of log-Mel frames alone a network learns slowly to separate speakers, because quiet bins make most of that error.
The two other errors weigh each bin by the amplitude of the mixture.
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
    """What training knows of sources that are joined in time.

    `copy` numbers the source of each frame from 1, 0 for none; `free` says whether the order of an example's sources
    may be chosen at t = 0. `emphasis` weighs the bins (`sfjax.amplitude.emphasis`). `mask` and
    `cluster` are the weights of `share_error` and `cluster_error` in the error of an example.
    """

    copy: Int[Array, "batch frames"]
    free: Float[Array, " batch"]
    emphasis: Float[Array, "batch frames mels"]
    mask: Float[Array, " batch"]
    cluster: Float[Array, " batch"]


def places(copy: Int[Array, "batch frames"], count: int) -> list[Int[Array, "batch frames"]]:
    """For each shift 0 … `count` − 1 the frame that holds the same moment of the source that many further on.

    All sources have the same length and follow each other at equal distances. A frame of no source stays where it is.
    """
    stride = (copy == 2).argmax(axis=1)[:, None]
    number = jnp.arange(copy.shape[1])
    found = []
    for shift in range(count):
        other = number + stride * ((copy - 1 + shift) % count - (copy - 1))
        found.append(jnp.clip(jnp.where(copy > 0, other, number), 0, copy.shape[1] - 1))
    return found


def shares(
    mels: Float[Array, "batch frames mels"], places: list[Int[Array, "batch frames"]], std: float
) -> Float[Array, "batch frames mels"]:
    """The share of each bin's source in the power of all sources at that moment, as in `sfjax.audio.ratio_mask`."""
    powers = jnp.stack([mels] + [_at(mels, place) for place in places[1:]])
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
    """The error of each frame against `x1`, or at t = 0 against the order of sources that has the smallest error.

    At t = 0 the point is noise and says nothing of the order, so that any order is right: permutation-invariant
    training (Yu et al., arXiv 1607.00325), at t = 0 as in FLOSS (arXiv 2505.16119). `squared(x1)` is the squared error
    of each frame; to it comes `joined.mask` times the squared error of the shares of `estimate`, the x1 that the
    network sees (mask inference, Luo et al., arXiv 1611.06265). The network runs once: all pairs of sources are
    compared.
    """
    copy, found = joined.copy, places(joined.copy, count)
    true, guess = (shares(mels, found, std) for mels in (x1, estimate))
    heard = joined.emphasis > 0  # False for padding, where values are undefined
    errors = []  # of each frame against the same moment of the source `shift` further on
    for place in found:
        of_shares = jnp.where(heard, joined.emphasis * jnp.square(guess - _at(true, place)), 0.0).sum(axis=-1)
        errors.append(squared(_at(x1, place)) + joined.mask[:, None] * of_shares)
    shifted = jnp.stack(errors, axis=1)  # [batch, shift, frames]
    mine = copy[:, None] == 1 + jnp.arange(count)[:, None]  # [batch, source, frames]
    pairs = jnp.einsum("btf,bsf->bst", shifted, mine.astype(shifted.dtype))  # [batch, source, shift]
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
    """The deep clustering loss of each example: the embeddings of bins against the sources that dominate the bins.

    The squared Frobenius norm of V·Vᵀ − Y·Yᵀ, V the embeddings scaled to length 1 and Y the one-hot numbers of the
    loudest sources, each bin weighed by `joined.emphasis` (deep clustering, Hershey et al., arXiv 1508.04306). No order
    has to be chosen, so it leads from the first step to what distinguishes speakers.
    """
    batch = len(x1)
    powers = jnp.stack([_at(x1, place) for place in places(joined.copy, count)])
    loudest = (powers.argmax(axis=0) + joined.copy[..., None] - 1) % count
    weight = joined.emphasis / jnp.maximum(joined.emphasis.sum(axis=(1, 2), keepdims=True), 1e-9)
    root = jnp.sqrt(weight).reshape(batch, -1, 1)
    v = embedding * jax.lax.rsqrt(jnp.square(embedding).sum(axis=-1, keepdims=True) + 1e-6)
    v = v.reshape(batch, -1, v.shape[-1]) * root
    y = jax.nn.one_hot(loudest.reshape(batch, -1), count) * root
    norm = lambda a, b: jnp.square(jnp.einsum("bnd,bne->bde", a, b)).sum(axis=(1, 2))
    return norm(v, v) - 2 * norm(v, y) + norm(y, y)


def _at(x, place):
    return jnp.take_along_axis(x, place[..., None], axis=1)
