"""What helps a model: phase nets and vocoders, which make its waves, and models of durations.

Each is a run or an exported folder of its own, also on a hub (`sfjax.release.located`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sfjax import audio, precision, release, tasks
from sfjax.errors import UserError
from sfjax.text.durations import DurationModel
from sfjax.vocoder import gan, hifigan, networks
from sfjax.vocoder.hifigan import Vocoder
from sfjax.vocoder.phase import PhaseNet
from sfjax.voice import Timing


class Phase(NamedTuple):
    """A phase net and its parameters."""

    network: PhaseNet
    params: Any


def load_phase(folder: str | Path) -> Phase:
    """The phase net of a run or of an exported folder."""
    params, found = release.weights(folder, ema=True)
    task = tasks.make(**found.config["task"])
    if not isinstance(task, tasks.Phase):
        raise UserError(f"{folder} holds no phase net but a model to {tasks.names(task)}")
    spec, dtype = audio.MelSpec(**found.config["mel"]), precision.policy(found.config["precision"]).compute
    return Phase(PhaseNet(**found.config["phase"], spec=spec, dtype=dtype), jax.device_put(params))


def load_vocoder(path: str | Path, spec: audio.MelSpec) -> Vocoder:
    """The vocoder of a run or of an exported folder, or a published HiFi-GAN's checkpoint beside its config.json.

    `UserError` if it was made for other Mels than those of `spec`.
    """
    if Path(path).is_file():
        return hifigan.read_torch(path, spec, dtype=jnp.float32)
    params, found = release.weights(path, ema=True)
    task = tasks.make(**found.config["task"])
    if not isinstance(task, tasks.Vocode):
        raise UserError(f"{path} holds no vocoder but a model to {tasks.names(task)}")
    own = audio.MelSpec(**found.config["mel"])
    wrong = [name for name, value in dataclasses.asdict(own).items() if value != getattr(spec, name)]
    if wrong:
        differ = ", ".join(f"{name} {getattr(own, name)} there and {getattr(spec, name)} here" for name in wrong)
        raise UserError(f"{path} is a vocoder of other Mels ({differ}); train one on these")
    return Vocoder(networks.make(found.config, own), jax.device_put(gan.released(params)), own.mean, own.std)


def load_timing(folder: str | Path) -> Timing:
    """The model of durations of a run or of an exported folder."""
    params, found = release.weights(folder, ema=True)
    task = tasks.make(**found.config["task"])
    if not isinstance(task, tasks.Durations):
        raise UserError(f"{folder} holds no model of durations but one to {tasks.names(task)}")
    dtype, phones = precision.policy(found.config["precision"]).compute, task.phones
    network = DurationModel(**found.config["model"], phones=len(phones), size=found.config["mel"]["bands"], dtype=dtype)
    return Timing(network, jax.device_put(params), phones)
