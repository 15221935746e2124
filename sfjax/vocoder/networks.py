"""The network of a vocoder, chosen by `vocoder.network` of a config, and how it is trained."""

from __future__ import annotations

from typing import Any

from sfjax import audio, precision
from sfjax.errors import UserError
from sfjax.objective import Objective
from sfjax.vocoder import gan, spectral
from sfjax.vocoder.hifigan import Generator
from sfjax.vocoder.spectral import SpectralNet

NETWORKS = ("hifigan", "spectral")


def make(config: Any, spec: audio.MelSpec) -> Generator | SpectralNet:
    """The network of a config (ConfigDict or dict); `UserError` if `vocoder.network` is unknown."""
    if is_adversarial(config):
        return gan.generator(config["vocoder"], spec)
    return SpectralNet(**config["spectral"], spec=spec, dtype=precision.policy(config["precision"]).compute)


def is_adversarial(config: Any) -> bool:
    """Whether discriminators train the network of a config; `UserError` as in `make`."""
    name = config["vocoder"]["network"]
    if name not in NETWORKS:
        raise UserError(f"unknown vocoder.network {name!r}; choose from {', '.join(NETWORKS)}")
    return name == "hifigan"


def objective(config: Any, spec: audio.MelSpec) -> Objective:
    """The objective of a config's network; `UserError` as in `make`."""
    if is_adversarial(config):
        return gan.objective(config["vocoder"], spec)
    return spectral.objective(make(config, spec))
