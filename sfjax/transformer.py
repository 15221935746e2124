"""A Transformer with U-Net skips and ALiBi (Linen), and its convolutional position embedding.

Layers are stacked: each parameter of the first and of the second half of the Transformer is one array with a leading
layer axis, whether `unroll` scans over the layers or unrolls them. So sharding tables, adapters and checkpoints always
see the same tree.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from sfjax.lora import SUFFIX, Adapter
from sfjax.sharding import constrain

INIT = nn.initializers.normal(0.02)  # Voicebox follows BERT here
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}
PAST = "past"  # collection of the values that a stream keeps between calls


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The size of a Transformer with its position embedding, and how it trades time for memory.

    `layers` is even; `ffn` is the width inside the feed-forward layers; `conv_*` size `ConvPos`; `attention_block`
    queries are scored at a time (0: all); `remat` is a key of `REMAT`; `unroll` layers of a half are laid out in one
    scan step.
    """

    width: int
    layers: int
    heads: int
    ffn: int
    dropout: float
    conv_kernel: int
    conv_groups: int
    conv_depth: int
    attention_block: int
    remat: str
    unroll: int


def with_past(
    module: nn.Module, name: str, x: Shaped[Array, "batch frames *_"], count: int
) -> Shaped[Array, "batch _ *_"]:
    """Put the last `count` frames of the earlier calls before `x`, zeros in the first call; keep them as `name`.

    Only a stream does so: a caller that makes collection `PAST` mutable. Other callers give all frames in one call, and
    `x` is returned.
    """
    if not module.is_mutable_collection(PAST):
        return x
    past = module.variable(PAST, name, jnp.zeros, (x.shape[0], count, *x.shape[2:]), x.dtype)
    joined = jnp.concatenate([past.value, x], axis=1)
    past.value = joined[:, joined.shape[1] - count :]
    return joined


def delayed(
    module: nn.Module, name: str, x: Shaped[Array, "batch frames *_"], count: int
) -> Shaped[Array, "batch frames *_"]:
    """Return `x`, in a stream `count` frames later; for values that meet the output of a layer that looks ahead."""
    return with_past(module, name, x, count)[:, : x.shape[1]] if count else x


def alibi_slopes(heads: int) -> Float[np.ndarray, " heads"]:
    """Return the fixed slope of each head: 2^(−8k / heads) for k = 1..heads (ALiBi, arXiv 2108.12409)."""
    return np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32)


def alibi(
    queries: Int[Array, "*batch queries"], keys: Int[Array, "*batch keys"], *, heads: int, lead: int
) -> Float[Array, "*batch heads queries keys"]:
    """Compute −slope · |i − j| between positions; 0 if i or j is below `lead`, as these tokens have no time."""
    queries, keys = queries[..., None, :, None], keys[..., None, None, :]
    in_time = (queries >= lead) & (keys >= lead)
    distance = jnp.where(in_time, jnp.abs(queries - keys), 0).astype(jnp.float32)
    return distance * -alibi_slopes(heads)[:, None, None]


def attention(
    query: Float[Array, "batch frames heads size"],
    key: Float[Array, "batch keys heads size"],
    value: Float[Array, "batch keys heads size"],
    shown: Bool[Array, "batch keys"],
    positions: Int[Array, "#batch keys"] | None = None,
    *,
    lead: int,
    block: int,
    history: int | None = None,
) -> Float[Array, "batch frames heads size"]:
    """Compute softmax attention with the ALiBi bias over the `shown` keys; the softmax is in float32.

    `positions` are the positions of the keys for ALiBi, by default their numbers. The queries are at the first `lead`
    and at the last of them. With `history`, a query sees only keys at its own position, at the `history` positions
    before it, and below `lead`: the future has no effect, and no gradient. Queries are split into equal blocks of at
    most `block` (0: one block). The scores and the bias of a block are computed again in the backward pass, so memory
    grows with block · frames and not with frames². The backward pass needs only the output and the logarithm of the
    softmax's sum (FlashAttention, arXiv 2205.14135).
    """
    frames, keys = query.shape[1], key.shape[1]
    count = -(-frames // block) if block else 1
    rows = -(-frames // count)

    def swap_heads(x):
        return x.swapaxes(1, 2)  # [batch, frames, heads, size] and [batch, heads, frames, size]

    query = jnp.pad(swap_heads(query * query.shape[-1] ** -0.5), ((0, 0), (0, 0), (0, count * rows - frames), (0, 0)))
    positions = jnp.arange(keys)[None] if positions is None else positions
    queries = jnp.concatenate([positions[:, :lead], positions[:, lead + keys - frames :]], axis=1)
    out: Any = _attend(query, swap_heads(key), swap_heads(value), shown, queries, positions, lead, history, count)
    return swap_heads(out[:, :, :frames])


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def _attend(query, key, value, shown, queries, positions, lead, history, count):
    return _attend_forward(query, key, value, shown, queries, positions, lead, history, count)[0]


def _attend_forward(query, key, value, shown, queries, positions, lead, history, count):
    def attend(_, block):
        query, rows = block
        scores = _scores(query, key, shown, rows, positions, lead, history)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        values = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return None, ((values / total).astype(value.dtype), highest + jnp.log(total))

    blocks = (*_split_rows(count, query), _split_positions(count, query, queries))
    _, (out, log_total) = jax.lax.scan(attend, None, blocks)
    out, log_total = _join_rows(out), _join_rows(log_total)
    return out, (query, key, value, shown, queries, positions, out, log_total)


def _attend_backward(lead, history, count, residuals, cotangent):
    query, key, value, shown, queries, positions, out, log_total = residuals
    delta = (cotangent.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)  # D of FlashAttention

    def attend(sums, block):
        query, cotangent, delta, log_total, rows = block
        weights = jnp.exp(_scores(query, key, shown, rows, positions, lead, history) - log_total)
        to_weights = jnp.einsum("bhqd,bhkd->bhqk", cotangent, value, preferred_element_type=jnp.float32)
        to_scores = (weights * (to_weights - delta)).astype(query.dtype)
        weights = weights.astype(value.dtype)
        to_key = jnp.einsum("bhqk,bhqd->bhkd", to_scores, query, preferred_element_type=jnp.float32)
        to_value = jnp.einsum("bhqk,bhqd->bhkd", weights, cotangent, preferred_element_type=jnp.float32)
        return (sums[0] + to_key, sums[1] + to_value), jnp.einsum("bhqk,bhkd->bhqd", to_scores, key)

    zeros = jnp.zeros(key.shape, jnp.float32)
    blocks = (*_split_rows(count, query, cotangent, delta, log_total), _split_positions(count, query, queries))
    sums, to_query = jax.lax.scan(attend, (zeros, zeros), blocks)
    return _join_rows(to_query), sums[0].astype(key.dtype), sums[1].astype(value.dtype), None, None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _split_rows(count, *arrays):
    """Split arrays [batch, heads, rows, …] into `count` blocks of rows: [count, batch, heads, rows / count, …]."""
    batch, heads, rows = arrays[0].shape[:3]
    return [x.reshape(batch, heads, count, rows // count, -1).transpose(2, 0, 1, 3, 4) for x in arrays]


def _split_positions(count, query, positions):
    """Return the positions of each block's rows, [count, batch or 1, rows]; those of padded rows have no effect."""
    batch, frames = positions.shape
    padded = jnp.pad(positions, ((0, 0), (0, query.shape[2] - frames)))
    return padded.reshape(batch, count, -1).swapaxes(0, 1)


def _join_rows(blocks):
    """Undo `_split_rows`."""
    count, batch, heads, rows, _ = blocks.shape
    return blocks.transpose(1, 2, 0, 3, 4).reshape(batch, heads, count * rows, -1)


def _scores(query, key, shown, rows, positions, lead, history):
    """Compute the biased scores of the queries at positions `rows`; −inf for hidden keys."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores + alibi(rows, positions, heads=key.shape[1], lead=lead)
    seen = shown[:, None, None, :]
    if history is not None:
        queries, keys = rows[:, None, :, None], positions[:, None, None, :]
        seen = seen & (keys <= queries) & ((keys >= queries - history) | (keys < lead))
    return jnp.where(seen, scores, -jnp.inf)


def gelu(x: Float[Array, "*_"]) -> Float[Array, "*_"]:
    """Compute x · Φ(x) exactly, by erf: on a CPU a fifth to a half of the time of `jax.nn.gelu`, which uses erfc."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 2**-0.5))


def dropout(
    x: Float[Array, "batch frames units"], key: Key[Array, ""], rate: float
) -> Float[Array, "batch frames units"]:
    """Return `x` / (1 − rate), each element replaced by 0 with probability `rate`.

    A hash of the key and of the element's number decides (the last mixing of MurmurHash3, twice), so the result is the
    same however `x` is split over devices. JAX's generator would take a tenth of a training step on a CPU.
    """
    strides = x.shape[1] * x.shape[2], x.shape[2], 1

    def mix(bits):
        bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
        return bits ^ (bits >> 16)

    def offset(axis):
        return jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(strides[axis])

    first_seed, second_seed = jax.random.key_data(key)[:2]
    number = offset(0) + offset(1) + offset(2)
    bits = mix(mix(number ^ first_seed) + second_seed)
    return jnp.where(bits >= jnp.uint32(round(rate * 2**32)), x / (1.0 - rate), 0.0)


class LowRank(nn.Module):
    """A low-rank layer `scale` · x·a·b of the given `rank`; its output starts at 0 (LoRA, arXiv 2106.09685)."""

    size: int
    rank: int
    scale: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch frames _"]) -> Float[Array, "batch frames _"]:
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-2, out_axis=-1)
        a = self.param("a", init, (x.shape[-1], self.rank))
        b = self.param("b", nn.initializers.zeros, (self.rank, self.size))
        return x.astype(self.dtype) @ a.astype(self.dtype) @ b.astype(self.dtype) * self.scale


class Block(nn.Module):
    """A pre-LayerNorm Transformer layer: attention, then a feed-forward network of `ffn` GELU units.

    With `skip` it also takes the input of an earlier layer. It returns its output and its own input. For the fields see
    `Transformer`.
    """

    width: int
    heads: int
    ffn: int
    dropout: float
    attention_block: int
    lead: int
    adapter: Adapter | None
    skip: bool
    history: int | None
    dtype: Any

    @nn.compact
    def __call__(self, x, shown, positions, earlier_input, train):
        dense = self._dense
        layer_input = constrain(x, "batch", "frames", "width")
        x = layer_input
        if self.skip:
            x = dense(self.width, "skip")(jnp.concatenate([x, earlier_input], axis=-1))
        normed = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)

        def project(name):
            h = dense(self.width, name)(normed).reshape(*normed.shape[:2], self.heads, -1)
            return constrain(h, "batch", "frames", "heads", "size")

        query, key, value = project("query"), project("key"), project("value")
        if self.history is not None:
            key, value = _behind_lead(self, "keys", key), _behind_lead(self, "values", value)
        options: Any = dict(lead=self.lead, block=self.attention_block, history=self.history)
        h = attention(query, key, value, shown, positions, **options)
        x = x + dense(self.width, "out")(h.reshape(x.shape))
        h = nn.LayerNorm(dtype=self.dtype, name="ffn_norm")(x)
        h = gelu(constrain(dense(self.ffn, "up")(h), "batch", "frames", "units"))
        if train and self.dropout:
            h = dropout(h, self.make_rng("dropout"), self.dropout)
        return x + dense(self.width, "down")(h), layer_input

    def _dense(self, size, name):
        """Return a dense layer, with its low-rank adapter if it has one."""
        layer = nn.Dense(size, kernel_init=INIT, dtype=self.dtype, name=name)
        if self.adapter is None or name not in self.adapter.targets:
            return layer
        rank = self.adapter.rank
        low_rank = LowRank(size, rank, self.adapter.alpha / rank, self.dtype, name=name + SUFFIX)

        def adapted(x):
            return layer(x) + low_rank(x)

        return adapted


class Transformer(nn.Module):
    """A Transformer with U-Net skips: layer L − i + 1 also takes the input of layer i (Voicebox 5.1).

    The first `lead` positions have no time. With `history`, each layer sees so many positions before the present one,
    and none after it; see `attention`.
    """

    config: TransformerConfig
    lead: int
    adapter: Adapter | None
    dtype: Any
    history: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames width"],
        shown: Bool[Array, "batch frames"],
        positions: Int[Array, "batch frames"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch frames width"]]:
        """Return the normalised output of the last layer, and the input of the last layer."""
        block, config = Block, self.config
        if config.remat != "none":
            block = nn.remat(Block, policy=REMAT[config.remat], prevent_cse=False, static_argnums=(5,))
        half = config.layers // 2

        def stack(name, *, skip, earlier_input_axis):
            axes: Any = (nn.broadcast, nn.broadcast, earlier_input_axis, nn.broadcast)  # flax infers int
            scanned = nn.scan(
                block,
                variable_axes={"params": 0, PAST: 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=axes,
                length=half,
                unroll=min(config.unroll, half),
            )
            return scanned(
                width=config.width,
                heads=config.heads,
                ffn=config.ffn,
                dropout=config.dropout,
                attention_block=config.attention_block,
                lead=self.lead,
                adapter=self.adapter,
                skip=skip,
                history=self.history,
                dtype=self.dtype,
                name=name,
            )

        if self.history is not None:
            shown = _behind_lead(self, "shown", shown)
        x = x.astype(self.dtype)
        early = stack("early", skip=False, earlier_input_axis=nn.broadcast)
        x, early_inputs = early(x, shown, positions, None, train)
        late = stack("late", skip=True, earlier_input_axis=0)
        x, late_inputs = late(x, shown, positions, early_inputs[::-1], train)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x), late_inputs[-1]


def _behind_lead(module, name, x):
    """Put the past of a stream between the first `lead` positions of `x` and the others."""
    joined = with_past(module, name, x[:, module.lead :], module.history)
    return jnp.concatenate([x[:, : module.lead], joined], axis=1)


def grouped_conv(
    x: Float[Array, "batch frames width"],
    kernel: Float[Array, "taps fan width"],
    zeros: tuple[int, int] | None = None,
    *,
    block: int = 8,
) -> Float[Array, "batch _ width"]:
    """Convolve over time in groups of `fan` channels, with so many `zeros` before and after `x`.

    By default, the result is as long as `x`, and each frame is in the middle of the kernel. For each group, `block`
    frames are one row of a matrix product with the kernel as a Toeplitz matrix. This computes (block + taps − 1) / taps
    times the products that are needed, in a shape that suits matrix units. On a CPU it takes an eighth of the time of
    XLA's grouped convolution, forward and backward, at 160 channels.
    """
    batch, frames, width = x.shape
    taps, fan, _ = kernel.shape
    before, after = ((taps - 1) // 2, taps // 2) if zeros is None else zeros
    length = before + frames + after - (taps - 1)
    block = min(block, length) if isinstance(length, int) else block  # an export has a symbolic length
    groups, span, blocks = width // fan, block + taps - 1, -(-length // block)
    x = jnp.pad(x, ((0, 0), (before, after + blocks * block - length), (0, 0)))
    x = x.reshape(batch, -1, groups, fan)[:, jnp.arange(blocks)[:, None] * block + np.arange(span)]
    rows = x.transpose(3, 0, 1, 2, 4).reshape(groups, batch, blocks, span * fan)
    # each row is one element longer than the matrix is wide, so every repetition is shifted by one
    kernel = jnp.pad(kernel.reshape(taps, fan, groups, fan).transpose(2, 1, 3, 0), [(0, 0)] * 3 + [(0, block)])
    matrix = jnp.tile(kernel, block)[..., : block * span].reshape(groups, fan, fan, block, span)
    matrix = matrix.transpose(0, 4, 1, 3, 2).reshape(groups, span * fan, block * fan)
    out = jnp.einsum("gbnk,gkm->gbnm", rows, matrix).reshape(groups, batch, blocks, block, fan)
    return out.transpose(1, 2, 3, 0, 4).reshape(batch, blocks * block, width)[:, :length]


class GroupedConv(nn.Module):
    """`grouped_conv` with a bias; its parameters have the same shapes as in `nn.Conv`.

    With `lookahead`, the taps that see more frames after the present one are not used.
    """

    taps: int
    groups: int
    dtype: Any
    lookahead: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch frames width"]) -> Float[Array, "batch frames width"]:
        kernel = self.param("kernel", INIT, (self.taps, x.shape[-1] // self.groups, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        kernel, zeros = kernel.astype(self.dtype), None
        if self.lookahead is not None:
            before = (self.taps - 1) // 2
            kernel = kernel[: before + 1 + self.lookahead]
            joined = with_past(self, "input", x, before + self.lookahead)
            x, zeros = joined, (before, self.lookahead) if joined is x else (0, 0)
        return grouped_conv(x, kernel, zeros) + bias.astype(self.dtype)


class ConvPos(nn.Module):
    """Convolutional position embedding: `depth` grouped convolutions, each with LayerNorm (no affine) and GELU.

    Padded frames are set to zero before each convolution, so padding does not change the result (data2vec 2.0's form).
    With `lookahead`, all convolutions together see so many frames after the present one: the first one as many as its
    kernel reaches, the next one the rest.
    """

    width: int
    kernel: int
    groups: int
    depth: int
    dtype: Any
    lookahead: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch frames width"], shown: Bool[Array, "batch frames"]
    ) -> Float[Array, "batch frames width"]:
        rest = self.lookahead
        for i in range(self.depth):
            ahead = None if rest is None else min(rest, self.kernel // 2)
            x = jnp.where(shown[..., None], x, 0).astype(self.dtype)
            x = GroupedConv(self.kernel, self.groups, self.dtype, ahead, name=f"conv_{i}")(x)
            if rest is not None and ahead is not None:
                rest, shown = rest - ahead, delayed(self, f"shown_{i}", shown, ahead)
            x = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(x)
            x = gelu(x)
        return x
