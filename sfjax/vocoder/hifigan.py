"""HiFi-GAN's generator and its losses (Kong et al., arXiv 2010.05646).

The generator is the original's V1 without weight normalisation. It is trained against `Discriminators` by
`generator_error` and `discriminator_error`. Each of the two errors has no gradient for the other network's parameters,
so the gradient of their sum trains both. `read_torch` reads the original's checkpoints.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int, Key

from sfjax import audio, masks, sharding
from sfjax.errors import UserError
from sfjax.vocoder import torch_checkpoint
from sfjax.vocoder.discriminators import Discriminators

SLOPE, LAST_SLOPE = 0.1, 0.01  # of leaky ReLUs; the original's last one has PyTorch's default
PAIR = "use both files of one checkpoint"
FLOOR = 1e-5  # the smallest Mel amplitude in the original; its config does not have it
TINY = np.finfo(np.float32).tiny  # avoids a division by zero: a direction of length zero stays zero


def released(params: Any) -> Any:
    """Return the parameters of the generator, which are all that inference needs."""
    return params.get("generator", params)


class Generator(nn.Module):
    """HiFi-GAN's generator: stages of upsampling and residual blocks.

    Each stage turns one sample into `upsample` samples by a transposed convolution of `kernels` taps, which halves the
    channels. Then it averages residual blocks: one block for each of `residual_kernels`, with one step for each of
    `dilations`. Raises `UserError` for sizes that do not give exactly prod(`upsample`) samples for each frame.
    """

    channels: int
    upsample: tuple[int, ...]
    kernels: tuple[int, ...]
    residual_kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    mels: int
    dtype: Any

    def __post_init__(self):
        super().__post_init__()
        pairs = list(zip(self.upsample, self.kernels, strict=False))
        if len(self.upsample) != len(self.kernels) or not pairs or any(k < u or (k - u) % 2 for u, k in pairs):
            raise UserError(
                f"the generator needs one kernel for each upsampling step, as long as the step or longer by an even "
                f"number of taps, got steps {self.upsample} and kernels {self.kernels}; change one of the two"
            )
        if not self.residual_kernels or any(kernel % 2 == 0 for kernel in self.residual_kernels):
            raise UserError(
                f"the generator needs residual kernels of odd lengths, got {self.residual_kernels}; change them"
            )
        if self.channels % 2 ** len(pairs):
            raise UserError(
                f"the generator halves its channels {len(pairs)} times, got {self.channels}; take a multiple of "
                f"{2 ** len(pairs)}"
            )

    @nn.compact
    def __call__(
        self, mel: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch samples"]:
        """Compute prod(upsample) samples for each frame; behind the first `lengths` frames there is silence."""

        def shown(x):
            ends = lengths * (x.shape[1] // mel.shape[1])
            return jnp.where(masks.valid(ends, x.shape[1])[..., None], x, 0)

        x = _conv(self.channels, 7, self.dtype, name="before")(shown(mel.astype(self.dtype)))
        for stage, (factor, kernel) in enumerate(zip(self.upsample, self.kernels, strict=True)):
            width = self.channels >> (stage + 1)
            x = shown(nn.leaky_relu(x, SLOPE))
            x = _Upsample(width, kernel, factor, self.dtype, name=f"upsample_{stage}")(x)
            blocks = [
                _Residual(width, size, self.dilations, self.dtype, name=f"residual_{stage}_{number}")(x, shown)
                for number, size in enumerate(self.residual_kernels)
            ]
            x = sum(blocks) / len(blocks)
        x = _conv(1, 7, self.dtype, name="after")(shown(nn.leaky_relu(x, LAST_SLOPE)))
        return jnp.tanh(shown(x)[..., 0].astype(jnp.float32))


class _Residual(nn.Module):
    width: int
    kernel: int
    dilations: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x: Any, shown: Callable) -> Any:
        for number, dilation in enumerate(self.dilations):
            h = shown(nn.leaky_relu(x, SLOPE))
            h = _conv(self.width, self.kernel, self.dtype, dilation, name=f"dilated_{number}")(h)
            h = shown(nn.leaky_relu(h, SLOPE))
            x = x + _conv(self.width, self.kernel, self.dtype, name=f"plain_{number}")(h)
        return x


class _Upsample(nn.Module):
    """PyTorch's transposed convolution with padding (kernel − factor) / 2.

    It is computed as a convolution with `factor` outputs for each input sample, so that nothing is multiplied by the
    zeros between samples.
    """

    width: int
    kernel: int
    factor: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        inputs = x.shape[-1]
        init = nn.initializers.variance_scaling(self.factor / 3, "fan_in", "uniform")  # x meets one of `factor` taps
        kernel = self.param("kernel", init, (self.kernel, inputs, self.width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        cut = (self.kernel - self.factor) // 2
        reach = (cut + self.factor - 1) // self.factor  # neighbours on each side that an output depends on
        margin = reach * self.factor - cut
        taps = jnp.pad(kernel, ((margin, margin), (0, 0), (0, 0))).reshape(-1, self.factor, inputs, self.width)
        taps = taps[::-1].swapaxes(1, 2).reshape(-1, inputs, self.factor * self.width)
        edge = [(reach, reach)]
        x = jax.lax.conv_general_dilated(x, taps, (1,), edge, dimension_numbers=("NWC", "WIO", "NWC"))
        return x.reshape(len(x), -1, self.width) + bias


def _conv(width, kernel, dtype, dilation=1, *, name):
    """Return a convolution by XLA.

    On 2 CPU cores value and gradient take less time than with a sum of products over taps or one product over all taps
    (8000 × 8 channels, 11 taps, batch of 4: 3.3 against 7.5 and 6.5 ms; 8000 × 32: 16 against 112 and 89).
    """
    init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's
    return nn.Conv(width, (kernel,), kernel_dilation=dilation, kernel_init=init, dtype=dtype, name=name)


class Vocoder(NamedTuple):
    """A network from Mels to waves, its parameters, and the normalisation of its Mels: (natural log − mean) / std."""

    network: Any
    params: Any
    mean: float
    std: float


def vocode(
    network: Any,
    vocoder: tuple[Any, Any, Any],
    mels: Float[Array, "batch frames mels"],
    spec: audio.MelSpec,
    counts: Int[Array, " batch"],
) -> Float[Array, "batch samples"]:
    """Compute the waves of Mels of `spec` by a vocoder: its network, and its parameters, mean and deviation."""
    params, mean, std = vocoder
    return network.apply({"params": params}, (mels * spec.std + spec.mean - mean) / std, counts)


# Training


class Weights(NamedTuple):
    """The weight of each part of the generator's error: 1, 2 and 45 in the original."""

    adversarial: float
    features: float
    mel: float


def segments(
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
    lengths: Int[Array, " batch"],
    keys: Key[Array, " batch"],
    *,
    frames: int,
    spec: audio.MelSpec,
) -> tuple[Float[Array, "batch cut_samples"], Float[Array, "batch cut_frames mels"]]:
    """Cut a random segment of `frames` frames from each wave, of true `lengths` in samples, and from its Mels.

    Waves that are too short are padded with silence.
    """
    room = max(mel.shape[1], frames)
    wav = jnp.pad(wav, ((0, 0), (0, room * spec.hop - wav.shape[1])))
    mel = jnp.pad(mel, ((0, 0), (0, room - mel.shape[1]), (0, 0)))
    silence = (math.log(spec.floor) - spec.mean) / spec.std

    def cut(wav, mel, length, key):
        count = spec.num_frames(length)
        wav = jnp.where(jnp.arange(len(wav)) < length, wav, 0.0)
        mel = jnp.where((jnp.arange(room) < count)[:, None], mel, silence)
        start = jax.random.randint(key, (), 0, jnp.maximum(count - frames, 0) + 1)
        wav = jax.lax.dynamic_slice_in_dim(wav, start * spec.hop, frames * spec.hop)
        return wav, jax.lax.dynamic_slice_in_dim(mel, start, frames)

    return jax.vmap(cut)(wav, mel, lengths, keys)


def generator_error(
    generator: Generator,
    discriminators: Discriminators,
    params_g: Any,
    params_d: Any,
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
    *,
    spec: audio.MelSpec,
    weights: Weights,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Compute the generator's error summed over the segments of a batch, and its parts without weights.

    The parts are the least-squares adversarial error, the difference of the features in all layers of all
    discriminators, and the difference of natural log-Mels. The discriminators get no gradient.
    """
    generated = _generate(generator, params_g, mel)
    params_d = jax.lax.stop_gradient(params_d)
    real_judgements = _run_discriminators(discriminators, params_d, wav)
    fake_judgements = _run_discriminators(discriminators, params_d, generated)
    parts = {
        "adversarial": _sum(_total(jnp.square, 1.0 - score) for score, _ in fake_judgements),
        "features": _sum(
            _total(jnp.abs, real - fake)
            for (_, real_layers), (_, fake_layers) in zip(real_judgements, fake_judgements, strict=True)
            for real, fake in zip(real_layers, fake_layers, strict=True)
        ),
        "mel": _mel_total(wav, generated, spec),
    }
    return _sum(getattr(weights, name) * part for name, part in parts.items()), parts


def mel_error(
    generator: Generator,
    params: Any,
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
    *,
    spec: audio.MelSpec,
) -> Float[Array, ""]:
    """Compute the mean absolute error of natural log-Mels, summed over the segments of a batch."""
    return _mel_total(wav, _generate(generator, params, mel), spec)


def _mel_total(wav, generated, spec):
    def log_mel(wav):
        return sharding.by_example(lambda wav: audio.log_mel(wav, spec), wav)

    return spec.std * _total(jnp.abs, log_mel(wav) - log_mel(generated))


def discriminator_error(
    generator: Generator,
    discriminators: Discriminators,
    params_g: Any,
    params_d: Any,
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Compute the discriminators' error summed over the segments of a batch, and its parts.

    The targets of the scores are 1 for recordings and 0 for generated waves. The generator gets no gradient.
    """
    generated = _generate(generator, jax.lax.stop_gradient(params_g), mel)
    parts = {
        "real": _sum(
            _total(jnp.square, 1.0 - score) for score, _ in _run_discriminators(discriminators, params_d, wav)
        ),
        "made": _sum(
            _total(jnp.square, score) for score, _ in _run_discriminators(discriminators, params_d, generated)
        ),
    }
    return parts["real"] + parts["made"], parts


def _generate(generator, params, mel):
    return generator.apply({"params": params}, mel, jnp.full(len(mel), mel.shape[1]))


def _run_discriminators(discriminators, params, wav) -> Any:
    return discriminators.apply({"params": params}, wav)


def _sum(errors: Iterable[Float[Array, ""]]) -> Float[Array, ""]:
    return sum(errors, start=jnp.zeros(()))


def _total(size, difference):
    """Sum the mean of `size(difference)` of each example over all examples."""
    sizes = size(difference.astype(jnp.float32))
    return sizes.sum() / math.prod(sizes.shape[1:])


# Checkpoints of the original


def read_torch(path: str | os.PathLike, spec: audio.MelSpec, *, dtype: Any) -> Vocoder:
    """Read the generator of a PyTorch checkpoint with a config.json in the same folder; it computes in `dtype`.

    Weight normalisation is folded into the weights. The generator's Mels are not normalised unless the config has
    `mean` and `std`. Raises `UserError` if its Mels differ from those of `spec` in anything else, or if the two files
    do not fit each other.
    """
    config_path = Path(path).parent / "config.json"
    settings = _settings(config_path)
    _check_mel(config_path, settings, spec)
    dilations: set[tuple[int, ...]] = {tuple(sizes) for sizes in settings["resblock_dilation_sizes"]}
    if str(settings["resblock"]) != "1" or len(dilations) != 1:
        raise UserError(
            f"{config_path}: expected residual blocks of kind 1 that all have the same dilations, got kind "
            f"{settings['resblock']} with {settings['resblock_dilation_sizes']}; take HiFi-GAN V1 or V2"
        )
    try:
        network = Generator(
            channels=settings["upsample_initial_channel"],
            upsample=tuple(settings["upsample_rates"]),
            kernels=tuple(settings["upsample_kernel_sizes"]),
            dilations=dilations.pop(),
            residual_kernels=tuple(settings["resblock_kernel_sizes"]),
            mels=spec.bands,
            dtype=dtype,
        )
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if math.prod(network.upsample) != spec.hop:
        raise UserError(
            f"{config_path}: expected upsampling by the hop of {spec.hop}, got {math.prod(network.upsample)}; take "
            f"another vocoder"
        )
    checkpoint = torch_checkpoint.read(path)
    state_dict = checkpoint.get("generator", checkpoint)
    if not isinstance(state_dict, dict):
        raise UserError(
            f"{path}: expected a dict of tensors as 'generator', got {type(state_dict).__name__}; save its state_dict"
        )
    return Vocoder(network, _params(path, network, state_dict), float(settings["mean"]), float(settings["std"]))


def _is_count(value):
    return type(value) is int and value > 0


def _is_counts(value):
    return type(value) is list and len(value) > 0 and all(map(_is_count, value))


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


SETTINGS = {  # the required settings of a config.json, and the test of their values
    "resblock": lambda value: type(value) in (int, str),
    "resblock_dilation_sizes": lambda value: type(value) is list and len(value) > 0 and all(map(_is_counts, value)),
    "resblock_kernel_sizes": _is_counts,
    "upsample_rates": _is_counts,
    "upsample_kernel_sizes": _is_counts,
    "upsample_initial_channel": _is_count,
    "num_mels": _is_count,
    "n_fft": _is_count,
    "hop_size": _is_count,
    "win_size": _is_count,
    "sampling_rate": _is_count,
    "fmin": _is_number,
    "fmax": lambda value: value is None or _is_number(value),
    "mean": _is_number,
    "std": lambda value: _is_number(value) and value > 0,
}


def _settings(path) -> dict[str, Any]:
    """Read and check a config.json."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected the generator's settings as JSON, found none ({error}); copy config.json there"
        ) from None
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: expected a JSON object of settings, got {type(settings).__name__}; take the checkpoint's own file"
        )
    settings = {"mean": 0.0, "std": 1.0} | settings
    missing = sorted(SETTINGS.keys() - settings.keys())
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; take the config.json that the weights were trained with")
    for name, is_valid in SETTINGS.items():
        if not is_valid(settings[name]):
            raise UserError(f"{path}: {name} is {settings[name]!r}, which is not valid for HiFi-GAN; correct it")
    return settings


def _check_mel(path, settings, spec):
    """Raise `UserError` if the Mels of the settings are not those of `spec`."""
    high = settings["fmax"] if settings["fmax"] is not None else settings["sampling_rate"] / 2
    pairs = {
        "sampling_rate": (settings["sampling_rate"], spec.sample_rate),
        "n_fft": (settings["n_fft"], spec.n_fft),
        "win_size": (settings["win_size"], spec.window),
        "hop_size": (settings["hop_size"], spec.hop),
        "num_mels": (settings["num_mels"], spec.bands),
        "fmin": (settings["fmin"], spec.low),
        "fmax": (high, spec.high),
        "the floor of amplitudes": (FLOOR, spec.floor),
    }
    differences = [
        f"{name} {theirs} where this model has {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours
    ]
    if differences:
        raise UserError(
            f"{path}: expected this model's Mels, got {', '.join(differences)}; train a vocoder, or take another"
        )


def _params(path, network, state_dict):
    """Convert a state_dict to the names and shapes of the network's parameters."""
    tensors = {name: value for name, value in state_dict.items() if isinstance(value, np.ndarray)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 1, network.mels)), jnp.ones(1, int))
    leaves: dict[tuple[str, ...], Any] = flatten_dict(shapes["params"])
    params = {}
    for ours, leaf in leaves.items():
        name = _original_name(ours[:-1], len(network.residual_kernels))
        axes = {1: (0,), 3: (1, 2, 0) if name.startswith("ups") else (2, 1, 0)}[leaf.ndim]  # our axes in their order
        shape = tuple(leaf.shape[axis] for axis in axes)
        value = _weight(path, tensors, name, shape) if leaf.ndim == 3 else _take(path, tensors, f"{name}.bias", shape)
        params[ours] = value.transpose(np.argsort(axes))
    if tensors:
        raise UserError(f"{path} and its config.json do not belong together ({min(tensors)} is not needed); {PAIR}")
    return unflatten_dict(params)


def _original_name(ours, blocks):
    """Return the original's name of a module; each stage has `blocks` residual blocks."""
    layer, *inner = ours
    kind, *numbers = layer.split("_")
    if kind == "residual":
        stage, number = map(int, numbers)
        convolution, step = inner[0].split("_")
        group = {"dilated": "convs1", "plain": "convs2"}[convolution]
        return f"resblocks.{stage * blocks + number}.{group}.{step}"
    return {"before": "conv_pre", "after": "conv_post"}.get(layer) or f"ups.{numbers[0]}"


def _weight(path, tensors, name, shape):
    """Return a weight, folded from lengths and directions if it is normalised; PyTorch has two names for these."""
    prefix = f"{name}.parametrizations.weight.original"
    for length, direction in ((f"{name}.weight_g", f"{name}.weight_v"), (f"{prefix}0", f"{prefix}1")):
        if length in tensors:
            value = _take(path, tensors, direction, shape)
            size = np.sqrt(np.square(value).sum(axis=(1, 2), keepdims=True))
            return value / np.maximum(size, TINY) * _take(path, tensors, length, (shape[0], 1, 1))
    return _take(path, tensors, f"{name}.weight", shape)


def _take(path, tensors, name, shape):
    """Remove a tensor from `tensors` and return it as float32."""
    if name not in tensors:
        raise UserError(f"{path} and its config.json do not belong together ({name} is missing); {PAIR}")
    value = tensors.pop(name).astype(np.float32)
    if value.shape != shape:
        raise UserError(
            f"{path} and its config.json do not belong together (expected {name} of shape {shape}, got {value.shape}); "
            f"{PAIR}"
        )
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds NaN or infinite numbers; take a checkpoint from before it diverged")
    return value
