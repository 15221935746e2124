"""How long each phone lasts: a Transformer over phones, trained by regression (Voicebox 3.1 and B.1)."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from sfjax import masks
from sfjax.flow import Error
from sfjax.model import INIT, ConvPos, Transformer
from sfjax.objective import Batch, Objective


class DurationModel(nn.Module):
    """log(1 + frames) of every phone, from all of them and the lengths of those that are known.

    `phones` is how many there are, `size` the units of their embedding; the rest as in `sfjax.model.Estimator`, which
    it is without the time token. Parameters are float32, layers compute in `dtype`.
    """

    phones: int
    size: int
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
    dtype: Any

    @nn.compact
    def __call__(
        self,
        phones: Int[Array, "batch phones"],
        known: Float[Array, "batch phones"],
        lengths: Int[Array, " batch"],
        *,
        train: bool = False,
    ) -> Float[Array, "batch phones"]:
        """`known` is log(1 + frames), 0 where it is to be found; `lengths` count the phones, behind them is padding."""
        shown = masks.valid(lengths, phones.shape[1])
        table = self.param("phone_table", nn.initializers.normal(1.0), (self.phones, self.size))
        spoken = jnp.where(phones[..., None] > 0, table[phones - 1], 0.0)
        h = jnp.concatenate([known[..., None], spoken], axis=-1)
        h = nn.Dense(self.width, kernel_init=INIT, dtype=self.dtype, name="input")(h)
        position = ConvPos(self.width, self.conv_kernel, self.conv_groups, self.conv_depth, self.dtype, name="position")
        h, _ = Transformer(
            self.width, self.layers, self.heads, self.ffn, self.dropout, self.attention_block, self.remat,
            self.unroll, lead=0, adapter=None, dtype=self.dtype, name="transformer",
        )(h + position(h, shown), shown, train=train)  # fmt: skip
        return nn.Dense(1, kernel_init=INIT, dtype=self.dtype, name="output")(h)[..., 0].astype(jnp.float32)


def objective(network: DurationModel) -> Objective:
    """The mean absolute error of log(1 + frames) over the hidden phones."""
    return Objective(network, functools.partial(_init, network), functools.partial(_error, network), None)


def _init(network, key):
    phones = jnp.zeros((1, 8), jnp.int32)
    return network.init(key, phones, jnp.zeros((1, 8)), jnp.full(1, 8))["params"]


def _error(network, task):
    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> Error:
        example = jax.vmap(task.example)(batch["labels"], batch["lengths"], keys)
        rngs = {} if dropout is None else {"dropout": dropout}
        found = network.apply(
            {"params": params}, example["phones"], example["known"], example["length"], train=dropout is not None,
            rngs=rngs,
        )  # fmt: skip
        wrong = jnp.abs(found - example["target"]) * example["weight"]
        return Error(wrong.sum(), example["weight"].sum())

    return error


@functools.partial(jax.jit, static_argnames="network")
def predict(
    network: DurationModel,
    params: Any,
    phones: Int[Array, "batch phones"],
    frames: Float[Array, "batch phones"],
    hidden: Bool[Array, "batch phones"],
    lengths: Int[Array, " batch"],
) -> Float[Array, "batch phones"]:
    """The lengths in frames, 0 or more, of the phones that are `hidden`; those of the others as they are."""
    known = jnp.where(hidden, 0.0, jnp.log1p(frames))
    found = network.apply({"params": params}, phones, known, lengths)
    return jnp.where(hidden, jnp.maximum(jnp.expm1(found), 0.0), frames)
