"""The duration model: a Transformer over phones, trained by regression (Voicebox 3.1 and B.1)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from sfjax import masks
from sfjax.config import Config, ModelConfig
from sfjax.flow import Error
from sfjax.objective import Batch, Objective, Trainable
from sfjax.transformer import INIT, ConvPos, Transformer, TransformerConfig


class DurationModel(nn.Module):
    """A network that predicts log(1 + frames) of every phone from all phones and the known lengths.

    `phones` is the number of different phones, `size` the width of their embedding. Unlike `sfjax.model.Estimator` it
    has no time token. Parameters are float32, layers compute in `dtype`.
    """

    config: TransformerConfig
    phones: int
    size: int
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
        """Return log(1 + frames) of every phone.

        `known` is log(1 + frames), and 0 for a length to predict. `lengths` counts the phones of each line; the rest is
        padding.
        """
        config, shown = self.config, masks.valid(lengths, phones.shape[1])
        table = self.param("phone_table", nn.initializers.normal(1.0), (self.phones, self.size))
        spoken = jnp.where(phones[..., None] > 0, table[phones - 1], 0.0)
        h = jnp.concatenate([known[..., None], spoken], axis=-1)
        h = nn.Dense(config.width, kernel_init=INIT, dtype=self.dtype, name="input")(h)
        position = ConvPos(
            config.width, config.conv_kernel, config.conv_groups, config.conv_depth, self.dtype, name="position"
        )
        h, _ = Transformer(
            config,
            lead=0,
            adapter=None,
            dtype=self.dtype,
            name="transformer",
        )(h + position(h, shown), shown, train=train)
        return nn.Dense(1, kernel_init=INIT, dtype=self.dtype, name="output")(h)[..., 0].astype(jnp.float32)


def network(config: ModelConfig) -> DurationModel:
    """Return the duration model of a config."""
    phones, dtype = len(config.task.phones), config.precision.compute
    return DurationModel(config.model, phones=phones, size=config.mel.bands, dtype=dtype)


def objective(network: DurationModel) -> Objective:
    """Return the objective: the mean absolute error of log(1 + frames) over the hidden phones."""
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
        lengths = network.apply(
            {"params": params},
            example["phones"],
            example["known"],
            example["length"],
            train=dropout is not None,
            rngs=rngs,
        )
        distance = jnp.abs(lengths - example["target"]) * example["weight"]
        return Error(distance.sum(), example["weight"].sum())

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
    """Return the phones' lengths in frames: predicted (0 or more) where `hidden`, unchanged elsewhere."""
    known = jnp.where(hidden, 0.0, jnp.log1p(frames))
    predicted: Any = network.apply({"params": params}, phones, known, lengths)
    return jnp.where(hidden, jnp.maximum(jnp.expm1(predicted), 0.0), frames)


def _objective(config: Config) -> Objective:
    return objective(network(config))


def _load(params: Any, config: ModelConfig) -> tuple[DurationModel, Any, tuple[str, ...]]:
    return network(config), jax.device_put(params), config.task.phones


def _initial(config: ModelConfig) -> Callable:
    return objective(network(config)).init


TRAINABLE = Trainable(
    _objective,
    check=lambda config: None,
    load=_load,
    initial=_initial,
    title="duration model",
    argument="duration_model",
)
