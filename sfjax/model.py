"""The network of the vector field (Linen): a Transformer with inputs for time, condition, phones and copies."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfjax import flow, masks
from sfjax.lora import Adapter
from sfjax.transformer import INIT, ConvPos, Transformer, TransformerConfig, delayed

PRECONDITIONS = {"flow": flow.scales}  # how the network's output becomes the field; "none" is the other choice


@dataclasses.dataclass(frozen=True)
class EstimatorConfig(TransformerConfig):
    """The size of an estimator.

    `patch` is the number of frames in a token; `precondition` is "none" or a key of `PRECONDITIONS`. With `residual`
    the network computes the difference from (1 − t) times the condition, so that a clean recording passes unchanged.

    With `lookahead` −1, each frame sees all others. Otherwise the network is causal: it sees `lookahead` frames after
    the present one, all through the convolutions of the position embedding, and its attention sees `history` frames
    before it. Both are multiples of `patch`.
    """

    patch: int
    precondition: str
    residual: bool
    lookahead: int
    history: int

    @property
    def causal(self) -> bool:
        """Return whether the network sees a bounded part of the future."""
        return self.lookahead >= 0


def time_features(t: Float[Array, " batch"], width: int) -> Float[Array, "batch width"]:
    """Compute the sines, then the cosines, of 1000 · t at frequencies that fall geometrically from 1 to 1/10000."""
    half = width // 2
    omega = np.power(10000.0, -np.arange(half) / (half - 1)).astype(np.float32)
    angle = 1000.0 * t[:, None].astype(jnp.float32) * omega
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def patches(
    x: Float[Array, "batch frames bands"], lengths: Int[Array, " batch"], patch: int
) -> Float[Array, "batch tokens features"]:
    """Concatenate each `patch` frames into a token; the last token is filled with zeros.

    Frames from `lengths` on are set to zero, so a token with padding does not depend on it. A patch of 1 returns `x`.
    """
    if patch == 1:
        return x
    batch, frames, bands = x.shape
    x = jnp.where(masks.valid(lengths, frames)[..., None], x, 0)
    tokens = -(-frames // patch)
    return jnp.pad(x, ((0, 0), (0, tokens * patch - frames), (0, 0))).reshape(batch, tokens, patch * bands)


class Estimator(nn.Module):
    """The vector field v_t(x, condition) on Mel frames (SpeechFlow 3.2 and Figure 2); parameters are float32.

    - `mels`: the number of bands.
    - `adapter`: the layers that have a low-rank adapter.
    - `phones`: the size of the phone inventory.
    - `copies`: the number of copies of a recording that the network can tell apart (0: none).
    - `embedding`: the number of values for each bin (0: none). They are computed from the input of the last layer and
      stored as the intermediate "bins"; training clusters them (`sfjax.separation_loss`).
    - `dtype`: the type that layers compute in; the result is float32.

    A causal network also computes a stream, block by block, with the same result: make collection `PAST` of
    `sfjax.transformer` mutable, pass its values to the next call, and count the `lengths` of each block in it. The
    result of a block is `lookahead` frames behind its inputs.
    """

    config: EstimatorConfig
    mels: int
    dtype: Any
    adapter: Adapter | None = None
    phones: int = 0
    copies: int = 0
    embedding: int = 0

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
        """Compute the field at `x` and time `t` in [0, 1]; values of frames from `lengths` on are undefined.

        The embedding of each frame's phone (1 to `phones`; 0 for none), times a gate that starts at 0, is added to the
        condition (SpeechFlow 4.4). `copy` numbers the copies of one recording that are joined in time (1 to `copies`;
        0 for none). Each copy has an embedding, and ALiBi counts from the start of the copy, so the same moment of all
        copies is at distance 0. Each copy must start at the first frame of a token.
        """
        config = self.config
        frames, speech_condition = x.shape[1], condition
        if self.phones and phones is not None:
            table = self.param("phone_table", nn.initializers.normal(1.0), (self.phones, self.mels))
            gate = self.param("phone_gate", nn.initializers.zeros, ())
            condition = condition + gate * jnp.where(phones[..., None] > 0, table[phones - 1], 0.0)
        scales = None
        if config.precondition != "none":
            scales = jax.tree.map(lambda scale: scale[:, None, None], PRECONDITIONS[config.precondition](t))
        scaled = x if scales is None else scales.input * x
        h = patches(jnp.concatenate([scaled, condition], axis=-1), lengths, config.patch)
        valid = masks.valid(-(-lengths // config.patch), h.shape[1])
        h = nn.Dense(config.width, kernel_init=INIT, dtype=self.dtype, name="input")(h)
        positions = None
        if self.copies and copy is not None:
            copy = copy[:, :: config.patch]
            table = self.param("copy_table", INIT, (self.copies, config.width))
            h = h + jnp.where(copy[..., None] > 0, table[copy - 1], 0.0).astype(h.dtype)
            positions = 1 + masks.moments(copy)  # the time token has position 0
            positions = jnp.pad(positions, ((0, 0), (1, 0)))
        ahead, history = (
            (config.lookahead // config.patch, config.history // config.patch) if config.causal else (0, None)
        )
        position = ConvPos(
            config.width,
            config.conv_kernel,
            config.conv_groups,
            config.conv_depth,
            self.dtype,
            lookahead=ahead if config.causal else None,
            name="position",
        )
        h = delayed(self, "embedded", h, ahead) + position(h, valid)
        valid = delayed(self, "valid", valid, ahead)
        scale = self.param("time_scale", nn.initializers.ones, ())
        token = (scale * time_features(t, config.width)).astype(h.dtype)
        h = jnp.concatenate([token[:, None], h], axis=1)
        valid = jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)
        h, last_input = Transformer(
            config,
            lead=1,
            adapter=self.adapter,
            dtype=self.dtype,
            history=history,
            name="transformer",
        )(h, valid, positions, train=train)
        if self.embedding:
            size = config.patch * self.mels * self.embedding
            bins = nn.Dense(size, kernel_init=INIT, dtype=self.dtype, name="embedding")(last_input[:, 1:])
            bins = bins.reshape(len(x), -1, self.mels, self.embedding)[:, :frames]
            self.sow("intermediates", "bins", bins.astype(jnp.float32))
        out = nn.Dense(config.patch * self.mels, kernel_init=INIT, dtype=self.dtype, name="output")(h[:, 1:])
        out = out.reshape(out.shape[0], -1, self.mels)[:, :frames].astype(jnp.float32)
        x = delayed(self, "x", x, ahead * config.patch)
        speech_condition = delayed(self, "condition", speech_condition, ahead * config.patch)
        if config.residual:
            out = out + (1 - t[:, None, None]) * speech_condition
        return out if scales is None else scales.skip * x + scales.output * out
