"""Typed configs. `read` and `read_model` turn the sections of a config into objects; no other module sees a ConfigDict.

Units and reasons of all fields are in `configs/default.py`. A section can be unpacked: `mesh(**config.mesh)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from sfjax import audio, lora, precision, tasks
from sfjax.errors import UserError
from sfjax.model import EstimatorConfig
from sfjax.transformer import TransformerConfig


class Section:
    """A part of a config whose fields can be unpacked as keyword arguments."""

    def keys(self) -> Iterator[str]:
        """The names of the fields."""
        return (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Which manifests are read, and the sizes of batches (`sfjax.data.loader.Plan`)."""

    train: str
    valid: str
    split: str
    valid_split: str
    buckets: tuple[float, ...]
    seconds: float
    multiple: int


@dataclasses.dataclass(frozen=True)
class MixConfig(Section):
    """Noise that is added while reading (`sfjax.data.noise_mixer.Mixer`)."""

    noise: str
    probability: float
    snr: tuple[float, float]
    gain: tuple[float, float]
    babble: float
    talkers: int
    reach: float


@dataclasses.dataclass(frozen=True)
class DegradeConfig(Section):
    """Degradations that are applied while reading (`sfjax.data.degrade.Chain`)."""

    rooms: str
    room: float
    early: float
    longest: float
    microphone: float
    equaliser: tuple[float, float]
    clip: float
    peak: tuple[float, float]
    soft: float
    band: float
    cutoff: tuple[float, float]
    narrow: float
    codec: float
    codecs: str
    compression: tuple[float, float]
    packets: float
    loss: tuple[float, float]
    packet: tuple[float, float]
    burst: tuple[float, float]
    repeat: float
    level: float
    gain: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class MixtureConfig(Section):
    """Mixtures of speakers that are made while reading (`sfjax.data.examples.Talk`)."""

    noise: str
    probability: float
    loudness: tuple[float, float]
    noise_loudness: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class EnrolmentConfig(Section):
    """Recordings of the voice to extract, before mixtures (`sfjax.data.examples.Enrolled`)."""

    seconds: tuple[float, float]
    absent: float


@dataclasses.dataclass(frozen=True)
class PhaseConfig(Section):
    """The phase net (`sfjax.vocoder.phase_net.PhaseNet`)."""

    width: int
    kernel: int
    layers: int


@dataclasses.dataclass(frozen=True)
class VocoderConfig(Section):
    """HiFi-GAN, its discriminators and its training (`sfjax.vocoder.gan_step`)."""

    network: str
    channels: int
    upsample: tuple[int, ...]
    kernels: tuple[int, ...]
    residual_kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    discriminators: float
    periods: tuple[int, ...]
    scales: int
    frames: int
    adversarial: float
    features: float
    mel: float
    begin: int


@dataclasses.dataclass(frozen=True)
class SpectralConfig(Section):
    """The spectral vocoder (`sfjax.vocoder.spectral.SpectralNet`)."""

    width: int
    blocks: int
    expand: int
    kernel: int
    iterations: int


@dataclasses.dataclass(frozen=True)
class OptimConfig(Section):
    """The optimizer and its schedule (`sfjax.optim.schedule` and `optimizer`)."""

    peak: float
    end: float
    warmup: int
    updates: int
    clip: float
    b1: float
    b2: float
    decay: float
    phones: float
    muon: float


@dataclasses.dataclass(frozen=True)
class MeshConfig(Section):
    """Devices on each axis (`sfjax.sharding.mesh`)."""

    data: int
    fsdp: int
    tensor: int


@dataclasses.dataclass(frozen=True)
class SampleConfig(Section):
    """How samples are drawn (`sfjax.flow.sample`)."""

    solver: str
    steps: int
    sway: float
    tolerance: float
    guidance: float


@dataclasses.dataclass(frozen=True)
class InferConfig(Section):
    """Chunks of long recordings, and how waveforms are made (`sfjax.inference`)."""

    seconds: float
    overlap: float
    reconstruct: str
    batch: int

    def __post_init__(self):
        audio.reconstruction(self.reconstruct)  # checks it


@dataclasses.dataclass(frozen=True)
class RunConfig(Section):
    """Logs, checkpoints and limits of a run; may change when a run is resumed."""

    workers: int
    log: int
    validate: int
    valid_batches: int
    pictures: int
    save: int
    keep: int
    keep_every: int
    pass_damaged: bool
    checkpoints: str
    stop: int
    max_bad: float
    max_streak: int


@dataclasses.dataclass(frozen=True)
class DebugConfig(Section):
    """Debugging; may change when a run is resumed."""

    nans: bool
    profile: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a model is: the fields that inference needs, and that exported folders keep."""

    precision: precision.Policy
    process: str
    mel: audio.MelSpec
    model: TransformerConfig  # EstimatorConfig for all tasks of the estimator
    task: tasks.Task
    lora: lora.Adapter | None
    phase: PhaseConfig
    vocoder: VocoderConfig
    spectral: SpectralConfig
    sample: SampleConfig
    infer: InferConfig


@dataclasses.dataclass(frozen=True)
class Config(ModelConfig):
    """A run."""

    seed: int
    init_from: str
    data: DataConfig
    mix: MixConfig
    degrade: DegradeConfig
    mixture: MixtureConfig
    enrolment: EnrolmentConfig
    optim: OptimConfig
    amplitude: float
    t0_fraction: float
    ema: float
    accumulate: int
    mesh: MeshConfig
    run: RunConfig
    debug: DebugConfig


MODEL_SECTIONS = {
    "phase": PhaseConfig,
    "vocoder": VocoderConfig,
    "spectral": SpectralConfig,
    "sample": SampleConfig,
    "infer": InferConfig,
}
RUN_SECTIONS = {
    "data": DataConfig,
    "mix": MixConfig,
    "degrade": DegradeConfig,
    "mixture": MixtureConfig,
    "enrolment": EnrolmentConfig,
    "optim": OptimConfig,
    "mesh": MeshConfig,
    "run": RunConfig,
    "debug": DebugConfig,
}
NUMBERS = ("seed", "init_from", "amplitude", "t0_fraction", "ema", "accumulate")  # fields outside sections


def read(config: Any) -> Config:
    """Read the config of a run: a ConfigDict with the fields of `configs/default.py`.

    Raises `UserError` for missing and unknown fields, and for values that no run can have.
    """
    _check_integers(config, "config")
    sections = {name: _section(kind, config, name) for name, kind in RUN_SECTIONS.items()}
    run = Config(**_model_fields(config), **{name: config[name] for name in NUMBERS}, **sections)
    if not 0 <= run.t0_fraction <= 1:
        raise UserError(f"config.t0_fraction must be from 0 to 1, got {run.t0_fraction}; take 0 for uniform times")
    if not 0 <= run.amplitude < math.inf:
        raise UserError(f"config.amplitude must be a weight of 0 or more, got {run.amplitude}; the paper's loss has 0")
    return run


def _check_integers(section: Any, name: str) -> None:
    """Raise `UserError` for an integer of more than 32 bits, which would overflow in JAX or NumPy, far from here."""
    for field, value in section.items():
        if hasattr(value, "items"):  # a ConfigDict is no Mapping
            _check_integers(value, f"{name}.{field}")
        elif isinstance(value, int) and abs(value) >= 2**31:
            raise UserError(f"{name}.{field} must be an integer of 32 bits, got {value}; take a smaller number")


def read_model(config: Mapping[str, Any]) -> ModelConfig:
    """Read what a model is from the config of its run or of its exported folder (`config.json`).

    Raises `UserError` for missing and unknown fields.
    """
    return ModelConfig(**_model_fields(config))


def _model_fields(config):
    task = tasks.make(**config["task"])
    network = TransformerConfig if task.network == "duration_model" else EstimatorConfig
    return {
        "process": config["process"],
        "mel": _section(audio.MelSpec, config, "mel"),
        "model": _section(network, config, "model"),
        "task": task,
        "lora": lora.make(**config["lora"]),
        **{name: _section(kind, config, name) for name, kind in MODEL_SECTIONS.items()},
        "precision": precision.policy(config["precision"]),
    }


def _section(kind, config, name):
    """An object of class `kind` with the fields of section `name`; whole numbers become floats where those belong."""
    if name not in config:
        raise UserError(f"the config has no section {name}; see configs/default.py for all of them")
    section, types = config[name], {field.name: field.type for field in dataclasses.fields(kind)}
    if missing := sorted(types.keys() - section.keys()):
        raise UserError(f"config.{name} has no field {missing[0]}; see configs/default.py for all of them")
    if unknown := sorted(section.keys() - types.keys()):
        raise UserError(f"config.{name}.{unknown[0]} is unknown; choose from {', '.join(types)}")
    return kind(**{field: _as_float(section[field], str(types[field])) for field in types})


def _as_float(value, kind):
    if kind == "float":
        return float(value)
    if kind.startswith("tuple[float"):
        return tuple(float(number) for number in value)
    return tuple(value) if kind.startswith("tuple") else value
