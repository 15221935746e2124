"""Choose the network of a vocoder by its config, and how it is trained.

Functions import `gan_step` when they need it: it trains HiFi-GAN and imports Optax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sfjax.config import Config, ModelConfig
from sfjax.errors import UserError
from sfjax.objective import Objective, Trainable
from sfjax.vocoder import hifigan, spectral
from sfjax.vocoder.hifigan import Generator, Vocoder
from sfjax.vocoder.spectral import SpectralNet


class _Kind(NamedTuple):
    """A network of `config.vocoder.network`: how it is made, its objective, and its training step if it has its own."""

    network: Callable[[ModelConfig], Any]
    objective: Callable[[Config], Objective]
    training: Callable | None = None


def _hifigan(config):
    from sfjax.vocoder import gan_step

    return gan_step.generator(config.vocoder, config.mel)


def _hifigan_objective(config):
    from sfjax.vocoder import gan_step

    return gan_step.objective(config.vocoder, config.mel)


def _hifigan_training(config, rule):
    from sfjax.vocoder import gan_step

    step = functools.partial(
        gan_step.step,
        section=config.vocoder,
        task=config.task,
        spec=config.mel,
        seed=config.seed,
        rule=rule,
    )
    return gan_step.optimizers(rule.tx), step


def _spectral(config):
    return SpectralNet(**config.spectral, spec=config.mel, dtype=config.precision.compute)


def _spectral_objective(config):
    return spectral.objective(_spectral(config))


NETWORKS = {
    "hifigan": _Kind(_hifigan, _hifigan_objective, _hifigan_training),
    "spectral": _Kind(_spectral, _spectral_objective),
}


def network(config: ModelConfig) -> Generator | SpectralNet:
    """Return the network of a config. Raises `UserError` if `vocoder.network` is unknown."""
    return _kind(config).network(config)


def objective(config: Config) -> Objective:
    """Return the objective of a config's network; raises as `network` does."""
    return _kind(config).objective(config)


def _kind(config):
    name = config.vocoder.network
    if name not in NETWORKS:
        raise UserError(f"unknown vocoder.network {name!r}; choose from {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _training(config, rule):
    training = _kind(config).training
    return training and training(config, rule)


def _load(params: Any, config: ModelConfig) -> Vocoder:
    return Vocoder(network(config), jax.device_put(hifigan.released(params)), config.mel.mean, config.mel.std)


def _initial(config: Any) -> Callable:  # a `ModelConfig`
    def init(key):
        return hifigan.released(_kind(config).objective(config).init(key))

    return init


TRAINABLE = Trainable(
    objective,
    check=lambda config: None,
    load=_load,
    initial=_initial,
    training=_training,
    title="vocoder",
    argument="vocoder",
)
