"""HiFi-GAN: from Mels to a wave, whatever they come from (Kong et al., arXiv 2010.05646).

The generator is the original's V1 without weight normalisation. `generator_error` and `discriminator_error` are what
it is trained by against `Discriminators`; each holds still what the other trains, so that the gradient
of their sum trains both. `read_torch` reads the original's checkpoints.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
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
from sfjax.vocoder import pickled
from sfjax.vocoder.discriminators import Discriminators

SLOPE, LAST_SLOPE = 0.1, 0.01  # of leaky ReLUs; the original leaves the last one at PyTorch's own
FLOOR = 1e-5  # the smallest Mel amplitude in the original, which its config does not name
TINY = np.finfo(np.float32).tiny  # a direction of length zero stays zero


class Generator(nn.Module):
    """Each stage makes `upsample` samples of one by a transposed convolution of `kernels` taps, which halves the
    channels, and averages residual blocks: one for each of `residual_kernels`, one step for each of `dilations`.

    Raises `UserError` for sizes with which lengths would drift.
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
                f"the generator wants for each step of upsampling a kernel that is as long or longer by an even number "
                f"of taps, got steps {self.upsample} and kernels {self.kernels}"
            )
        if not self.residual_kernels or any(kernel % 2 == 0 for kernel in self.residual_kernels):
            raise UserError(f"the generator wants residual kernels of odd lengths, got {self.residual_kernels}")
        if self.channels % 2 ** len(pairs):
            raise UserError(f"the generator halves {self.channels} channels {len(pairs)} times; take a multiple")

    @nn.compact
    def __call__(
        self, mel: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch samples"]:
        """prod(upsample) samples for each frame; `lengths` are the true frames, behind which there is silence."""

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
    """PyTorch's transposed convolution with padding (kernel − factor) / 2, as a convolution that makes `factor`
    samples at each place: nothing is multiplied by the zeros between samples."""

    width: int
    kernel: int
    factor: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        inputs = x.shape[-1]
        init = nn.initializers.variance_scaling(self.factor / 3, "fan_in", "uniform")  # one tap in `factor` meets x
        kernel = self.param("kernel", init, (self.kernel, inputs, self.width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        cut = (self.kernel - self.factor) // 2
        reach = (cut + self.factor - 1) // self.factor  # neighbours on each side that a sample is made of
        margin = reach * self.factor - cut
        taps = jnp.pad(kernel, ((margin, margin), (0, 0), (0, 0))).reshape(-1, self.factor, inputs, self.width)
        taps = taps[::-1].swapaxes(1, 2).reshape(-1, inputs, self.factor * self.width)
        edge = [(reach, reach)]
        x = jax.lax.conv_general_dilated(x, taps, (1,), edge, dimension_numbers=("NWC", "WIO", "NWC"))
        return x.reshape(len(x), -1, self.width) + bias


def _conv(width, kernel, dtype, dilation=1, *, name):
    """A convolution by XLA, which on 2 CPU cores takes less time for value and gradient than a sum of products over
    taps or one product over all taps (8000 × 8 channels, 11 taps, batch of 4: 3.3 against 7.5 and 6.5 ms; 8000 × 32:
    16 against 112 and 89)."""
    init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's
    return nn.Conv(width, (kernel,), kernel_dilation=dilation, kernel_init=init, dtype=dtype, name=name)


class Vocoder(NamedTuple):
    """A network from Mels to waves, its parameters, and how the Mels that it takes are normalised.

    That is (natural logarithm − mean) / std.
    """

    network: Any
    params: Any
    mean: float
    std: float


# Training


class Weights(NamedTuple):
    """What each part of the generator's error counts for: 1, 2 and 45 in the original."""

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
    """`frames` frames of each wave, of true `lengths` in samples, and of its Mels, from one random place.

    What is too short is followed by silence.
    """
    room = max(mel.shape[1], frames)
    wav = jnp.pad(wav, ((0, 0), (0, room * spec.hop - wav.shape[1])))
    mel = jnp.pad(mel, ((0, 0), (0, room - mel.shape[1]), (0, 0)))
    silence = (math.log(spec.floor) - spec.mean) / spec.std

    def cut(wav, mel, length, key):
        count = (length + spec.hop - 1) // spec.hop
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
    """The generator's error summed over the segments of a batch, and its parts before they are weighted.

    It has to pass for a recording (least squares), to look like it in every layer of every discriminator, and to have
    its log-Mels, compared as natural logarithms. The discriminators get no gradient.
    """
    made = _made(generator, params_g, mel)
    params_d = jax.lax.stop_gradient(params_d)
    judged = list(zip(*(_judged(discriminators, params_d, wave) for wave in (wav, made)), strict=True))
    parts = {
        "adversarial": sum(_total(jnp.square, 1.0 - fake) for _, (fake, _) in judged),
        "features": sum(
            _total(jnp.abs, real - fake)
            for (_, layers), (_, imitated) in judged
            for real, fake in zip(layers, imitated, strict=True)
        ),
        "mel": _mel_total(wav, made, spec),
    }
    return sum(getattr(weights, name) * part for name, part in parts.items()), parts


def mel_error(
    generator: Generator,
    params: Any,
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
    *,
    spec: audio.MelSpec,
) -> Float[Array, ""]:
    """The mean absolute error of natural log-Mels, summed over the segments of a batch."""
    return _mel_total(wav, _made(generator, params, mel), spec)


def _mel_total(wav, made, spec):
    log_mel = lambda wav: sharding.by_example(lambda wav: audio.log_mel(wav, spec), wav)
    return spec.std * _total(jnp.abs, log_mel(wav) - log_mel(made))


def discriminator_error(
    generator: Generator,
    discriminators: Discriminators,
    params_g: Any,
    params_d: Any,
    wav: Float[Array, "batch samples"],
    mel: Float[Array, "batch frames mels"],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The discriminators' error summed over the segments of a batch, and its parts: recordings score 1, waves made 0.

    The generator gets no gradient.
    """
    made = _made(generator, jax.lax.stop_gradient(params_g), mel)
    parts = {
        "real": sum(_total(jnp.square, 1.0 - score) for score, _ in _judged(discriminators, params_d, wav)),
        "made": sum(_total(jnp.square, score) for score, _ in _judged(discriminators, params_d, made)),
    }
    return parts["real"] + parts["made"], parts


def _made(generator, params, mel):
    return generator.apply({"params": params}, mel, jnp.full(len(mel), mel.shape[1]))


def _judged(discriminators, params, wav) -> Any:
    return discriminators.apply({"params": params}, wav)


def _total(size, difference):
    """The sum over examples of the mean size of an example's differences."""
    each = size(difference.astype(jnp.float32))
    return each.sum() / math.prod(each.shape[1:])


# Checkpoints of the original


def read_torch(path: str | os.PathLike, spec: audio.MelSpec, *, dtype: Any) -> Vocoder:
    """The generator of a checkpoint of PyTorch, beside which its config.json lies; it computes in `dtype`.

    Weight normalisation is folded into the weights. Its Mels are taken as not normalised unless the config has `mean`
    and `std`. Raises `UserError` if its Mels differ from those of `spec` in anything else, or the two files from one
    another.
    """
    config_path = Path(path).parent / "config.json"
    settings = _settings(config_path)
    _check_mel(config_path, settings, spec)
    dilations: set[tuple[int, ...]] = {tuple(one) for one in settings["resblock_dilation_sizes"]}
    if str(settings["resblock"]) != "1" or len(dilations) != 1:
        raise UserError(
            f"{config_path}: wanted residual blocks of kind 1 that all have the same dilations, found kind "
            f"{settings['resblock']} with {settings['resblock_dilation_sizes']}; take HiFi-GAN V1 or V2"
        )
    try:
        network = Generator(
            channels=settings["upsample_initial_channel"], upsample=tuple(settings["upsample_rates"]),
            kernels=tuple(settings["upsample_kernel_sizes"]), dilations=dilations.pop(),
            residual_kernels=tuple(settings["resblock_kernel_sizes"]), mels=spec.bands, dtype=dtype,
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"{config_path}: {error}") from None
    if math.prod(network.upsample) != spec.hop:
        raise UserError(f"{config_path}: upsamples {math.prod(network.upsample)} times, wanted the hop of {spec.hop}")
    found = pickled.read(path)
    found = found.get("generator", found)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a dict of tensors as 'generator', found {type(found).__name__}")
    return Vocoder(network, _params(path, network, found), float(settings["mean"]), float(settings["std"]))


_whole = lambda value: type(value) is int and value > 0
_row = lambda value: type(value) is list and len(value) > 0 and all(map(_whole, value))
_number = lambda value: type(value) in (int, float) and math.isfinite(value)
SETTINGS = {  # of a config.json, and what their values can be
    "resblock": lambda value: type(value) in (int, str),
    "resblock_dilation_sizes": lambda value: type(value) is list and len(value) > 0 and all(map(_row, value)),
    "resblock_kernel_sizes": _row, "upsample_rates": _row, "upsample_kernel_sizes": _row,
    "upsample_initial_channel": _whole, "num_mels": _whole, "n_fft": _whole, "hop_size": _whole, "win_size": _whole,
    "sampling_rate": _whole, "fmin": _number, "fmax": lambda value: value is None or _number(value),
    "mean": _number, "std": lambda value: _number(value) and value > 0,
}  # fmt: skip


def _settings(path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected the settings of the generator beside it as JSON, found none ({error}); put them there"
        ) from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected a JSON object of settings, found {type(settings).__name__}")
    settings = {"mean": 0.0, "std": 1.0} | settings
    missing = sorted(SETTINGS.keys() - settings.keys())
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; take the config.json that the weights were trained with")
    for name, fits in SETTINGS.items():
        if not fits(settings[name]):
            raise UserError(f"{path}: {name} is {settings[name]!r}, which no HiFi-GAN has; mend it")
    return settings


def _check_mel(path, settings, spec):
    high = settings["fmax"] if settings["fmax"] is not None else settings["sampling_rate"] / 2
    pairs = {
        "sampling_rate": (settings["sampling_rate"], spec.sample_rate), "n_fft": (settings["n_fft"], spec.n_fft),
        "win_size": (settings["win_size"], spec.window), "hop_size": (settings["hop_size"], spec.hop),
        "num_mels": (settings["num_mels"], spec.bands), "fmin": (settings["fmin"], spec.low),
        "fmax": (high, spec.high), "the floor of amplitudes": (FLOOR, spec.floor),
    }  # fmt: skip
    wrong = [f"{name} {theirs} where this model has {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours]
    if wrong:
        raise UserError(f"{path}: its Mels are not this model's: {', '.join(wrong)}; train a vocoder, or take another")


def _params(path, network, found):
    """The parameters of a state_dict, as the network names and shapes them."""
    tensors = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 1, network.mels)), jnp.ones(1, int))
    leaves: dict[tuple[str, ...], Any] = flatten_dict(shapes["params"])
    params = {}
    for ours, leaf in leaves.items():
        name = _original_name(ours[:-1], len(network.residual_kernels))
        axes = {1: (0,), 3: (1, 2, 0) if name.startswith("ups") else (2, 1, 0)}[leaf.ndim]  # where ours lie in theirs
        shape = tuple(leaf.shape[axis] for axis in axes)
        value = _weight(path, tensors, name, shape) if leaf.ndim == 3 else _take(path, tensors, f"{name}.bias", shape)
        params[ours] = value.transpose(np.argsort(axes))
    if tensors:
        raise UserError(f"{path}: has {min(tensors)}, for which its config.json has no place; take the pair that fits")
    return unflatten_dict(params)


def _original_name(ours, blocks):
    layer, *inner = ours
    kind, *numbers = layer.split("_")
    if kind == "residual":
        stage, number = map(int, numbers)
        where, step = inner[0].split("_")
        half = {"dilated": "convs1", "plain": "convs2"}[where]
        return f"resblocks.{stage * blocks + number}.{half}.{step}"
    return {"before": "conv_pre", "after": "conv_post"}.get(layer) or f"ups.{numbers[0]}"


def _weight(path, tensors, name, shape):
    """A weight as it stands, or folded from its lengths and directions, which PyTorch has named in two ways."""
    both = "parametrizations.weight.original"
    for length, direction in ((f"{name}.weight_g", f"{name}.weight_v"), (f"{name}.{both}0", f"{name}.{both}1")):
        if length in tensors:
            value = _take(path, tensors, direction, shape)
            size = np.sqrt(np.square(value).sum(axis=(1, 2), keepdims=True))
            return value / np.maximum(size, TINY) * _take(path, tensors, length, (shape[0], 1, 1))
    return _take(path, tensors, f"{name}.weight", shape)


def _take(path, tensors, name, shape):
    if name not in tensors:
        raise UserError(f"{path}: lacks {name}, which its config.json asks for; take the pair that fits")
    value = tensors.pop(name).astype(np.float32)
    if value.shape != shape:
        raise UserError(f"{path}: {name} has the shape {value.shape}, its config.json asks for {shape}; take its own")
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds NaN or infinite numbers; take a checkpoint from before it diverged")
    return value
