"""Load the auxiliary models of inference: phase net, vocoder, duration model.

Each is a run or an exported folder, which may also have a name (`sfjax.export.locate.folder_of`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from sfjax import audio, networks
from sfjax.config import read_model
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.inference.tts import DurationPredictor
from sfjax.networks import NETWORKS
from sfjax.vocoder import hifigan
from sfjax.vocoder.hifigan import Vocoder
from sfjax.vocoder.phase_net import PhaseNet


class Phase(NamedTuple):
    """A phase net and its parameters."""

    network: PhaseNet
    params: Any


def load_phase(folder: str | Path, spec: audio.MelSpec | None = None) -> Phase:
    """Load a phase net, for log-Mel spectrograms of `spec` if it is given.

    Raises `UserError` if the folder holds another model, or a phase net of other Mels.
    """
    (network, params), own = _load(folder, "phase_net")
    _check_mels(folder, "phase net", own, spec or own)
    return Phase(network, params)


def load_vocoder(path: str | Path, spec: audio.MelSpec) -> Vocoder:
    """Load a vocoder for log-Mel spectrograms of `spec`, or a published HiFi-GAN checkpoint beside its config.json.

    Raises `UserError` if the folder holds another model, or a vocoder of other Mels.
    """
    if Path(path).is_file():
        return hifigan.read_torch(path, spec, dtype=jnp.float32)
    vocoder, own = _load(path, "vocoder")
    _check_mels(path, "vocoder", own, spec)
    return vocoder


def load_duration_model(folder: str | Path) -> DurationPredictor:
    """Load a duration model. Raises `UserError` if the folder holds another model."""
    return DurationPredictor(*_load(folder, "duration_model")[0])


def _check_mels(path, title, own, spec):
    if different := audio.differences(own, spec):
        raise UserError(
            f"{title} {path} uses other log-Mel settings than the model ({different}); use or train a {title} with the "
            "model's settings"
        )


def _load(folder, network):
    params, trained = release.weights(folder, ema=True)
    config = read_model(trained.config)
    trainable = NETWORKS[network]
    if config.task.network != network:
        raise UserError(f"{folder} holds a model to {config.task.description}, not a {trainable.title}")
    return networks.load(release.inference_params(params), config, str(folder)), config.mel
