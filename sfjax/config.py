"""Typed configs. `read` and `read_model` turn the sections of a config into objects; no other module sees a ConfigDict.

Units and reasons of all fields are in `configs/default.py`. A section can be unpacked: `mesh(**config.mesh)`.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from sfjax import audio, lora, precision, tasks
from sfjax.errors import UserError
from sfjax.model import EstimatorConfig
from sfjax.transformer import REMAT, TransformerConfig


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
    """The optimizer, its schedule and its updates (`sfjax.optim.count_updates`, `schedule` and `optimizer`)."""

    peak: float
    end: float
    warmup: int
    updates: int
    epochs: float
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
    hang: float
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
    types = {field.name: str(field.type) for field in dataclasses.fields(Config)}
    fields = {name: typed(config[name], types[name], f"config.{name}") for name in NUMBERS}
    run = Config(**_model_fields(config), **fields, **sections)
    if run.seed < 0:
        raise UserError(f"config.seed must be 0 or more, got {run.seed}; set 0")
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
        "mel": _checked_mel(_section(audio.MelSpec, config, "mel")),
        "model": _checked_model(_section(network, config, "model")),
        "task": task,
        "lora": lora.make(**config["lora"]),
        **{name: _section(kind, config, name) for name, kind in MODEL_SECTIONS.items()},
        "precision": precision.policy(config["precision"]),
    }


def _checked_mel(mel: audio.MelSpec) -> audio.MelSpec:
    """Return a specification of log-Mel spectrograms. Raises `UserError` for one that cannot be computed."""
    if not mel.hop <= mel.window <= mel.n_fft:
        raise UserError(
            f"config.mel needs hop <= window <= n_fft, got {mel.hop}, {mel.window} and {mel.n_fft}; "
            "see configs/default.py"
        )
    if not mel.low < mel.high <= mel.sample_rate / 2:
        raise UserError(
            f"config.mel needs low < high <= sample_rate / 2, got {mel.low:g}, {mel.high:g} and {mel.sample_rate} Hz; "
            "see configs/default.py"
        )
    return mel


def _checked_model(model: TransformerConfig) -> TransformerConfig:
    """Return the size of a network. Raises `UserError` for one that cannot be built."""
    if model.layers % 2:
        raise UserError(f"config.model.layers must be even, got {model.layers}; take one more")
    if model.width % model.heads or model.width % model.conv_groups:
        raise UserError(
            f"config.model.width must be a multiple of heads ({model.heads}) and conv_groups ({model.conv_groups}), "
            f"got {model.width}; change one of them"
        )
    if model.remat not in REMAT:
        raise UserError(f"unknown model.remat {model.remat!r}; choose from {', '.join(REMAT)}")
    if isinstance(model, EstimatorConfig):
        _check_lookahead(model)
    if not model.dropout < 1:
        raise UserError(f"config.model.dropout must be below 1, got {model.dropout}; the paper has 0.1")
    return model


def _check_lookahead(model: EstimatorConfig) -> None:
    """Raise `UserError` if a causal network cannot look so many frames ahead and back."""
    patch = max(model.patch, 1)  # `sfjax.objective` checks it
    most = model.conv_depth * (model.conv_kernel // 2) * patch
    if model.causal and (model.lookahead % patch or model.lookahead > most):
        raise UserError(
            f"config.model.lookahead must be a multiple of patch ({patch}) up to {most}, got {model.lookahead}; "
            "take -1 for a network that sees all frames"
        )
    if model.causal and model.history % patch:
        raise UserError(f"config.model.history must be a multiple of patch ({patch}), got {model.history}; take 200")


def _section(kind, config, name):
    """Return an object of class `kind` with the fields of section `name`, whose types and ranges are checked."""
    if name not in config:
        raise UserError(f"the config has no section {name}; see configs/default.py for all of them")
    section, types = config[name], {field.name: field.type for field in dataclasses.fields(kind)}
    if missing := sorted(types.keys() - section.keys()):
        raise UserError(f"config.{name} has no field {missing[0]}; see configs/default.py for all of them")
    if unknown := sorted(section.keys() - types.keys()):
        raise UserError(f"config.{name}.{unknown[0]} is unknown; choose from {', '.join(types)}")
    values = {field: typed(section[field], str(types[field]), f"config.{name}.{field}") for field in types}
    for field, value in values.items():
        _check_range(value, f"{name}.{field}")
    return kind(**values)


WORDS = {"float": "a finite number", "int": "an integer", "bool": "True or False", "str": "a text"}
# The least value of fields that are sizes or counts
LEAST = {
    **dict.fromkeys(("mel.n_fft", "mel.window", "mel.hop", "mel.bands", "model.width", "model.heads", "model.ffn"), 1),
    **dict.fromkeys(("model.conv_kernel", "model.conv_groups", "model.conv_depth", "model.unroll"), 1),
    **dict.fromkeys(("phase.width", "phase.kernel", "phase.layers", "spectral.width", "spectral.blocks"), 1),
    **dict.fromkeys(("spectral.expand", "spectral.kernel", "vocoder.channels", "vocoder.frames", "infer.batch"), 1),
    **dict.fromkeys(("vocoder.upsample", "vocoder.kernels", "vocoder.residual_kernels", "vocoder.dilations"), 1),
    **dict.fromkeys(("vocoder.periods", "data.multiple", "run.log", "run.validate", "run.save", "run.keep"), 1),
    **dict.fromkeys(("model.attention_block", "model.dropout", "vocoder.scales", "vocoder.begin", "mel.low"), 0),
    **dict.fromkeys(("run.workers", "run.valid_batches", "run.pictures", "run.keep_every", "run.stop"), 0),
    **dict.fromkeys(
        ("spectral.iterations", "optim.warmup", "optim.updates", "run.max_bad", "run.max_streak", "run.hang"), 0
    ),
    "model.layers": 2,
    "model.lookahead": -1,
    "model.history": 1,
    "mel.sample_rate": 1000,
}
ABOVE_ZERO = {
    "mel.floor",
    "mel.std",
    "mel.high",
    "data.seconds",
    "data.buckets",
    "infer.seconds",
}


def typed(value: Any, kind: str, name: str) -> Any:
    """Return a value as the type `kind` of its field, such as `tuple[float, ...]`; whole numbers become floats.

    Raises `UserError` for other types, NaN and infinity; `name` names the field.
    """
    if kind.startswith("tuple["):
        item, *rest = kind[len("tuple[") : -1].split(", ")
        count = None if rest == ["..."] else 1 + len(rest)
        if not isinstance(value, tuple | list) or len(value) != (count or max(1, len(value))):
            expected = f"{count or 'one or more'} values, each {WORDS[item]}"
            raise UserError(f"{name} must be {expected}, got {value!r}; see configs/default.py")
        return tuple(typed(each, item, name) for each in value)
    fits = {
        "float": isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value),
        "int": isinstance(value, numbers.Integral) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
    }
    if not fits[kind]:
        raise UserError(f"{name} must be {WORDS[kind]}, got {value!r}; see configs/default.py")
    return float(value) if kind == "float" else value


def _check_range(value: Any, name: str) -> None:
    """Raise `UserError` for a value below the least one of its field."""
    least = LEAST.get(name, 0 if name in ABOVE_ZERO else None)
    for number in value if isinstance(value, tuple) else (value,):
        if least is not None and (number < least or (number == 0 and name in ABOVE_ZERO)):
            expected = "above 0" if name in ABOVE_ZERO else f"{least} or more"
            raise UserError(f"config.{name} must be {expected}, got {number}; see configs/default.py")
