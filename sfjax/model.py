"""The vector field's network: a Transformer with U-Net skips and ALiBi, and the estimator around it (Linen).

Layers are stacked: every parameter of the first and of the second half of the Transformer is one array with a leading
layer axis, whether `unroll` scans over the layers or lays them out. Sharding tables, adapters and checkpoints see one
tree.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from sfjax import flow, masks
from sfjax.lora import SUFFIX, Adapter
from sfjax.sharding import constrain

INIT = nn.initializers.normal(0.02)  # Voicebox follows BERT here
PRECONDITIONS = {"flow": flow.scales}  # how a field is made of what the network computes, beside "none"
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def alibi_slopes(heads: int) -> Float[np.ndarray, " heads"]:
    """The fixed slope of each head, 2^(−8k / heads) for k = 1..heads (ALiBi, arXiv 2108.12409)."""
    return np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32)


def alibi(
    queries: Int[Array, "*batch queries"], keys: Int[Array, "*batch keys"], *, heads: int, lead: int
) -> Float[Array, "*batch heads queries keys"]:
    """−slope · |i − j| between positions; 0 where either is one of the first `lead`, which stand for no moment."""
    queries, keys = queries[..., None, :, None], keys[..., None, None, :]
    placed = (queries >= lead) & (keys >= lead)
    return -alibi_slopes(heads)[:, None, None] * jnp.where(placed, jnp.abs(queries - keys), 0).astype(jnp.float32)


def attention(
    query: Float[Array, "batch frames heads size"],
    key: Float[Array, "batch frames heads size"],
    value: Float[Array, "batch frames heads size"],
    shown: Bool[Array, "batch frames"],
    positions: Int[Array, "batch frames"] | None = None,
    *,
    lead: int,
    block: int,
) -> Float[Array, "batch frames heads size"]:
    """Softmax attention with the ALiBi bias over the keys that are `shown`, softmax in float32.

    ALiBi counts in `positions`, by default the numbers of the frames.

    Queries go in even blocks of `block` or fewer (0: all at once), whose scores and bias are computed when they are
    used and again in the backward pass, so that memory grows with block · frames and not with frames². What is kept for
    that pass is the output and the logarithm of the softmax's sum (FlashAttention, arXiv 2205.14135).
    """
    frames = query.shape[1]
    count = -(-frames // block) if block else 1
    rows = -(-frames // count)
    head_first = lambda x: x.swapaxes(1, 2)
    query = jnp.pad(head_first(query * query.shape[-1] ** -0.5), ((0, 0), (0, 0), (0, count * rows - frames), (0, 0)))
    positions = jnp.arange(frames)[None] if positions is None else positions
    out: Any = _attend(query, head_first(key), head_first(value), shown, positions, lead, count)
    return head_first(out[:, :, :frames])


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(query, key, value, shown, positions, lead, count):
    return _attend_forward(query, key, value, shown, positions, lead, count)[0]


def _attend_forward(query, key, value, shown, positions, lead, count):
    def attend(_, block):
        query, rows = block
        scores = _scores(query, key, shown, rows, positions, lead)
        highest = scores.max(-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        values = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return None, ((values / total).astype(value.dtype), highest + jnp.log(total))

    _, found = jax.lax.scan(attend, None, (*_blocks(count, query), _rows(count, query, positions)))
    out, log_total = map(_joined, found)
    return out, (query, key, value, shown, positions, out, log_total)


def _attend_backward(lead, count, kept, cotangent):
    query, key, value, shown, positions, out, log_total = kept
    along = (cotangent.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)

    def attend(sums, block):
        query, cotangent, along, log_total, rows = block
        weights = jnp.exp(_scores(query, key, shown, rows, positions, lead) - log_total)
        to_weights = jnp.einsum("bhqd,bhkd->bhqk", cotangent, value, preferred_element_type=jnp.float32)
        to_scores = (weights * (to_weights - along)).astype(query.dtype)
        weights = weights.astype(value.dtype)
        to_key = jnp.einsum("bhqk,bhqd->bhkd", to_scores, query, preferred_element_type=jnp.float32)
        to_value = jnp.einsum("bhqk,bhqd->bhkd", weights, cotangent, preferred_element_type=jnp.float32)
        return (sums[0] + to_key, sums[1] + to_value), jnp.einsum("bhqk,bhkd->bhqd", to_scores, key)

    zeros = jnp.zeros(key.shape, jnp.float32)
    blocks = (*_blocks(count, query, cotangent, along, log_total), _rows(count, query, positions))
    sums, to_query = jax.lax.scan(attend, (zeros, zeros), blocks)
    return _joined(to_query), sums[0].astype(key.dtype), sums[1].astype(value.dtype), None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _blocks(count, *arrays):
    """Arrays [batch, heads, rows, …] cut into `count` along their rows."""
    batch, heads, rows = arrays[0].shape[:3]
    return [x.reshape(batch, heads, count, rows // count, -1).transpose(2, 0, 1, 3, 4) for x in arrays]


def _rows(count, query, positions):
    """The positions of the rows of each block, [count, batch or 1, rows]; the padding behind the last row has any."""
    batch, frames = positions.shape
    padded = jnp.pad(positions, ((0, 0), (0, query.shape[2] - frames)))
    return padded.reshape(batch, count, -1).swapaxes(0, 1)


def _joined(blocks):
    count, batch, heads, rows, _ = blocks.shape
    return blocks.transpose(1, 2, 0, 3, 4).reshape(batch, heads, count * rows, -1)


def _scores(query, key, shown, rows, positions, lead):
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores + alibi(rows, positions, heads=key.shape[1], lead=lead)
    return jnp.where(shown[:, None, None, :], scores, -jnp.inf)


def gelu(x: Float[Array, ...]) -> Float[Array, ...]:
    """x · Φ(x), exactly; by erf, a fifth to a half of the time that a CPU takes for the erfc of `jax.nn.gelu`."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 2**-0.5))


def dropout(
    x: Float[Array, "batch frames units"], key: Key[Array, ""], rate: float
) -> Float[Array, "batch frames units"]:
    """`x` / (1 − rate), or 0 with probability `rate`.

    What is dropped follows from a hash of the key and each element's number (the last mixing of MurmurHash3, twice),
    the same however `x` is split over devices. JAX's generator would take a tenth of a training step on a CPU.
    """

    def mix(bits):
        bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
        return bits ^ (bits >> 16)

    strides = x.shape[1] * x.shape[2], x.shape[2], 1
    count = lambda axis: jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(strides[axis])
    one, other = jax.random.key_data(key)[:2]
    bits = mix(mix(count(0) + count(1) + count(2) ^ one) + other)
    return jnp.where(bits >= jnp.uint32(round(rate * 2**32)), x / (1.0 - rate), 0.0)


class LowRank(nn.Module):
    """`scale` · x·a·b with `rank` numbers between, 0 at first (LoRA, arXiv 2106.09685)."""

    size: int
    rank: int
    scale: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch frames _"]) -> Float[Array, "batch frames _"]:
        start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-2, out_axis=-1)
        a = self.param("a", start, (x.shape[-1], self.rank))
        b = self.param("b", nn.initializers.zeros, (self.rank, self.size))
        return x.astype(self.dtype) @ a.astype(self.dtype) @ b.astype(self.dtype) * self.scale


class Block(nn.Module):
    """A pre-LayerNorm Transformer layer: attention, then a GELU network of `ffn` units; see `Transformer`."""

    width: int
    heads: int
    ffn: int
    dropout: float
    attention_block: int
    lead: int
    adapter: Adapter | None
    skip: bool
    dtype: Any

    @nn.compact
    def __call__(self, x, shown, positions, kept, train):
        dense = self._dense
        x = entered = constrain(x, "batch", "frames", "width")
        if self.skip:
            x = dense(self.width, "skip")(jnp.concatenate([x, kept], axis=-1))
        h = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        split = lambda name: constrain(
            dense(self.width, name)(h).reshape(*h.shape[:2], self.heads, -1), "batch", "frames", "heads", "size"
        )
        h = attention(
            split("query"), split("key"), split("value"), shown, positions, lead=self.lead, block=self.attention_block
        )
        x = x + dense(self.width, "out")(h.reshape(x.shape))
        h = nn.LayerNorm(dtype=self.dtype, name="ffn_norm")(x)
        h = gelu(constrain(dense(self.ffn, "up")(h), "batch", "frames", "units"))
        if train and self.dropout:
            h = dropout(h, self.make_rng("dropout"), self.dropout)
        return x + dense(self.width, "down")(h), entered

    def _dense(self, size, name):
        layer = nn.Dense(size, kernel_init=INIT, dtype=self.dtype, name=name)
        if self.adapter is None or name not in self.adapter.targets:
            return layer
        rank = self.adapter.rank
        beside = LowRank(size, rank, self.adapter.alpha / rank, self.dtype, name=name + SUFFIX)
        return lambda x: layer(x) + beside(x)


class Transformer(nn.Module):
    """Layers with U-Net skips: layer L − i + 1 takes in what entered layer i as well (Voicebox 5.1).

    `width`, `heads`, `ffn`, `layers` (even) size it, `dropout` acts inside the FFN; the first `lead` positions stand
    for no moment in time. `attention_block` and `remat` (a key of `REMAT`) trade time for memory, `unroll` is how many
    layers of a half are laid out in one scan step.
    """

    width: int
    layers: int
    heads: int
    ffn: int
    dropout: float
    attention_block: int
    remat: str
    unroll: int
    lead: int
    adapter: Adapter | None
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames width"],
        shown: Bool[Array, "batch frames"],
        positions: Int[Array, "batch frames"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "batch frames width"], Float[Array, "batch frames width"]]:
        """The output of the last layer, normalised, and its input."""
        block = Block
        if self.remat != "none":
            block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False, static_argnums=(5,))
        half = self.layers // 2
        sizes = dict(
            width=self.width, heads=self.heads, ffn=self.ffn, dropout=self.dropout, lead=self.lead,
            attention_block=self.attention_block, adapter=self.adapter, dtype=self.dtype,
        )  # fmt: skip

        def scanned(kept_axis):
            return nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(nn.broadcast, nn.broadcast, kept_axis, nn.broadcast),
                length=half,
                unroll=min(self.unroll, half),
            )

        x = x.astype(self.dtype)
        x, kept = scanned(nn.broadcast)(**sizes, skip=False, name="early")(x, shown, positions, None, train)
        x, entered = scanned(0)(**sizes, skip=True, name="late")(x, shown, positions, kept[::-1], train)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x), entered[-1]


def grouped_conv(
    x: Float[Array, "batch frames width"], kernel: Float[Array, "taps fan width"], *, block: int = 8
) -> Float[Array, "batch frames width"]:
    """A convolution over time in groups of `fan` channels, zeros beyond both ends; as long as `x`.

    Each run of `block` frames is one row of a matrix product with the kernel laid out as a Toeplitz matrix, a product
    for each group. It computes (block + taps − 1) / taps of the needed products, in a shape that matrix units like.
    On a CPU it takes an eighth of the time of XLA's grouped convolution, forward and backward, at 160 channels.
    """
    batch, frames, width = x.shape
    taps, fan, _ = kernel.shape
    groups, span, blocks = width // fan, block + taps - 1, -(-frames // block)
    before = (taps - 1) // 2
    x = jnp.pad(x, ((0, 0), (before, blocks * block - frames + taps - 1 - before), (0, 0)))
    x = x.reshape(batch, -1, groups, fan)[:, jnp.arange(blocks)[:, None] * block + np.arange(span)]
    rows = x.transpose(3, 0, 1, 2, 4).reshape(groups, batch, blocks, span * fan)
    # repeating a row one element longer than the matrix is wide moves each repetition on by one
    kernel = jnp.pad(kernel.reshape(taps, fan, groups, fan).transpose(2, 1, 3, 0), [(0, 0)] * 3 + [(0, block)])
    matrix = jnp.tile(kernel, block)[..., : block * span].reshape(groups, fan, fan, block, span)
    matrix = matrix.transpose(0, 4, 1, 3, 2).reshape(groups, span * fan, block * fan)
    out = jnp.einsum("gbnk,gkm->gbnm", rows, matrix).reshape(groups, batch, blocks, block, fan)
    return out.transpose(1, 2, 3, 0, 4).reshape(batch, blocks * block, width)[:, :frames]


class GroupedConv(nn.Module):
    """`grouped_conv` with a bias; parameters shaped as `nn.Conv`'s."""

    taps: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch frames width"]) -> Float[Array, "batch frames width"]:
        kernel = self.param("kernel", INIT, (self.taps, x.shape[-1] // self.groups, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return grouped_conv(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)


class ConvPos(nn.Module):
    """Convolutional position embedding: `depth` grouped convolutions, each with LayerNorm (no affine) and GELU.

    Padded frames are zeroed before each, so that a padded input sees what it sees alone (data2vec 2.0's form).
    """

    width: int
    kernel: int
    groups: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch frames width"], shown: Bool[Array, "batch frames"]
    ) -> Float[Array, "batch frames width"]:
        for i in range(self.depth):
            x = jnp.where(shown[..., None], x, 0).astype(self.dtype)
            x = GroupedConv(self.kernel, self.groups, self.dtype, name=f"conv_{i}")(x)
            x = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(x)
            x = gelu(x)
        return x


def time_features(t: Float[Array, " batch"], width: int) -> Float[Array, "batch width"]:
    """Sines, then cosines, of 1000 · t at geometrically falling frequencies, 1 down to 1/10000."""
    half = width // 2
    omega = np.power(10000.0, -np.arange(half) / (half - 1)).astype(np.float32)
    angle = 1000.0 * t[:, None].astype(jnp.float32) * omega
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def patches(
    x: Float[Array, "batch frames bands"], lengths: Int[Array, " batch"], patch: int
) -> Float[Array, "batch tokens features"]:
    """Tokens of `patch` frames side by side, as many as hold all frames; the last one ends with zeros where needed.

    Frames from `lengths` on are zeros, so that a token that holds padding does not depend on it. A patch of 1 is `x`.
    """
    if patch == 1:
        return x
    batch, frames, bands = x.shape
    x = jnp.where(masks.valid(lengths, frames)[..., None], x, 0)
    return jnp.pad(x, ((0, 0), (0, -frames % patch), (0, 0))).reshape(batch, -1, patch * bands)


class Estimator(nn.Module):
    """The vector field v_t(x, condition) on Mel frames (SpeechFlow 3.2 and Figure 2); parameters are float32.

    `mels` is the number of bands, `patch` the number of frames in a token, `precondition` "none" or a key of
    `PRECONDITIONS`, `conv_*` size the position embedding, `adapter` says which layers have a low-rank path beside them,
    `phones` is the size of the phone inventory, `copies` the number of copies of a recording that the network knows
    apart (0: none); the rest as in `Transformer`. `embedding` numbers for each bin (0: none), computed from what enters
    the last layer, are kept as the intermediate "bins": training clusters them (`sfjax.sources`). With `residual` the
    network computes what has to be added to (1 − t) times the condition: a recording that is clean passes as it is.
    `dtype` is what layers compute in; the result is float32.
    """

    mels: int
    width: int
    layers: int
    heads: int
    ffn: int
    dropout: float
    conv_kernel: int
    conv_groups: int
    conv_depth: int
    patch: int
    precondition: str
    attention_block: int
    remat: str
    unroll: int
    dtype: Any
    adapter: Adapter | None = None
    phones: int = 0
    copies: int = 0
    embedding: int = 0
    residual: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch frames mels"],
        t: Float[Array, " batch"],
        condition: Float[Array, "batch frames mels"],
        lengths: Int[Array, " batch"],
        phones: Int[Array, "batch frames"] | None = None,
        copy: Int[Array, "batch frames"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch frames mels"]:
        """The field at `x` and time `t` in [0, 1]; frames from `lengths` on are padding and mean nothing.

        The embedding of each frame's phone (1 to `phones`; 0 for none), times a gate that starts at 0, is added to the
        condition (SpeechFlow 4.4). `copy` numbers the copies of one recording that are joined in time (1 to `copies`;
        0 for none): each has an embedding, and ALiBi counts from the start of the copy, so that the same moment of all
        copies is at distance 0. A copy starts with a token.
        """
        frames, given = x.shape[1], condition
        if self.phones and phones is not None:
            table = self.param("phone_table", nn.initializers.normal(1.0), (self.phones, self.mels))
            gate = self.param("phone_gate", nn.initializers.zeros, ())
            condition = condition + gate * jnp.where(phones[..., None] > 0, table[phones - 1], 0.0)
        scales = None
        if self.precondition != "none":
            scales = jax.tree.map(lambda scale: scale[:, None, None], PRECONDITIONS[self.precondition](t))
        seen = x if scales is None else scales.input * x
        h = patches(jnp.concatenate([seen, condition], axis=-1), lengths, self.patch)
        shown = masks.valid(-(-lengths // self.patch), h.shape[1])
        h = nn.Dense(self.width, kernel_init=INIT, dtype=self.dtype, name="input")(h)
        positions = None
        if self.copies and copy is not None:
            copy = copy[:, :: self.patch]
            table = self.param("copy_table", INIT, (self.copies, self.width))
            h = h + jnp.where(copy[..., None] > 0, table[copy - 1], 0.0).astype(h.dtype)
            positions = 1 + masks.moments(copy)  # the time token has position 0
            positions = jnp.pad(positions, ((0, 0), (1, 0)))
        h = h + ConvPos(self.width, self.conv_kernel, self.conv_groups, self.conv_depth, self.dtype, name="position")(
            h, shown
        )
        scale = self.param("time_scale", nn.initializers.ones, ())
        token = (scale * time_features(t, self.width)).astype(h.dtype)
        h = jnp.concatenate([token[:, None], h], axis=1)
        shown = jnp.pad(shown, ((0, 0), (1, 0)), constant_values=True)
        h, before = Transformer(
            self.width, self.layers, self.heads, self.ffn, self.dropout, self.attention_block, self.remat,
            self.unroll, lead=1, adapter=self.adapter, dtype=self.dtype, name="transformer",
        )(h, shown, positions, train=train)  # fmt: skip
        if self.embedding:
            size = self.patch * self.mels * self.embedding
            found = nn.Dense(size, kernel_init=INIT, dtype=self.dtype, name="embedding")(before[:, 1:])
            found = found.reshape(len(x), -1, self.mels, self.embedding)[:, :frames]
            self.sow("intermediates", "bins", found.astype(jnp.float32))
        out = nn.Dense(self.patch * self.mels, kernel_init=INIT, dtype=self.dtype, name="output")(h[:, 1:])
        out = out.reshape(out.shape[0], -1, self.mels)[:, :frames].astype(jnp.float32)
        if self.residual:
            out = out + (1 - t[:, None, None]) * given
        return out if scales is None else scales.skip * x + scales.output * out
