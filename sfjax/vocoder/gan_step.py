"""The training step of HiFi-GAN (Kong et al., arXiv 2010.05646).

Each step trains the discriminators to tell recordings from generated waveforms, then the generator against the updated
discriminators.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from sfjax import audio, train_step
from sfjax.config import VocoderConfig
from sfjax.flow import Error
from sfjax.objective import Batch, Objective
from sfjax.vocoder import hifigan
from sfjax.vocoder.discriminators import Discriminators
from sfjax.vocoder.hifigan import Generator, Weights
from sfjax.vocoder.vocoder_batch import batch_mels, draw

PARTS = ("generator", "discriminators")  # of the parameters, and of the state of the optimisers


def generator(section: VocoderConfig, spec: audio.MelSpec) -> Generator:
    """Return the generator of config section `vocoder`; it computes in float32."""
    return Generator(
        channels=section.channels,
        upsample=section.upsample,
        kernels=section.kernels,
        residual_kernels=section.residual_kernels,
        dilations=section.dilations,
        mels=spec.bands,
        dtype=jnp.float32,
    )


def discriminators(section: VocoderConfig) -> Discriminators:
    """Return the discriminators of config section `vocoder`."""
    return Discriminators(
        channels=section.discriminators,
        periods=section.periods,
        scales=section.scales,
        dtype=jnp.float32,
    )


def optimizers(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return one optimizer for each of `PARTS`; only its `init` is used, as the step updates the parts in turn."""
    return optax.GradientTransformation(lambda params: {part: tx.init(params[part]) for part in PARTS}, tx.update)


def objective(section: VocoderConfig, spec: audio.MelSpec) -> Objective:
    """Return the objective for validation: the mean absolute error of natural log-Mels of whole recordings."""
    network = generator(section, spec)
    return Objective(
        network,
        functools.partial(_init, network, discriminators(section), spec),
        functools.partial(_error, network, spec),
        functools.partial(_draw, network, spec),
    )


def _init(network, judges, spec, key):
    generator_key, discriminators_key = jax.random.split(key)
    frames = 8
    generator = network.init(generator_key, jnp.zeros((1, frames, spec.bands)), jnp.full(1, frames))["params"]
    return {"generator": generator, "discriminators": judges.init(discriminators_key, jnp.zeros((1, 8000)))["params"]}


def _error(network, spec, task):
    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> Error:
        wave, mel, lengths = batch["waves"]["speech"], batch_mels(task, batch, spec), batch["lengths"]
        count = spec.num_frames(lengths)
        generated = network.apply({"params": params["generator"]}, mel, count)[:, : wave.shape[1]]
        inside = jnp.arange(mel.shape[1]) < count[:, None]
        target, estimate = (audio.log_mel(wave, spec, lengths) for wave in (wave, generated))
        distance = jnp.abs(target - estimate).mean(axis=-1) * inside
        return Error(spec.std * distance.sum(), inside.sum().astype(jnp.float32))

    return error


def _draw(network, spec, task, options):
    del options  # of a sampler

    def generate(params, mel, count):
        return network.apply({"params": params["generator"]}, mel, count)

    return draw(generate, spec, task)


def step(
    state: Any,
    batch: Batch,
    *,
    section: VocoderConfig,
    task: Any,
    spec: audio.MelSpec,
    seed: int,
    rule: train_step.UpdateRule,
) -> tuple[Any, dict[str, Float[Array, ""]]]:
    """Train on one batch of segments: update the discriminators, then the generator.

    Segments follow from (seed, step, example). In the first `begin` steps (config section `vocoder`) the generator
    learns from the Mel error alone.
    """
    network, judges = generator(section, spec), discriminators(section)
    now = jax.random.fold_in(jax.random.key(seed), state.step)
    keys = jax.vmap(lambda i: jax.random.fold_in(now, i))(jnp.arange(len(batch["lengths"])))
    wave, mel = hifigan.segments(
        batch["waves"]["speech"],
        batch_mels(task, batch, spec),
        batch["lengths"],
        keys,
        frames=section.frames,
        spec=spec,
    )
    weights = Weights(**{name: section[name] for name in Weights._fields})
    count = len(wave)

    def update(name, gradient, params, opt_state):
        changes, opt = rule.tx.update(gradient, opt_state[name], params[name])
        return params | {name: optax.apply_updates(params[name], changes)}, opt_state | {name: opt}

    def adversarial(params, opt_state):
        def judge_error(own):
            error, parts = hifigan.discriminator_error(network, judges, params["generator"], own, wave, mel)
            return error / count, parts

        (error, _), judge_gradient = jax.value_and_grad(judge_error, has_aux=True)(params["discriminators"])
        params, opt_state = update("discriminators", judge_gradient, params, opt_state)

        def error_of(own):
            error, parts = hifigan.generator_error(
                network, judges, own, params["discriminators"], wave, mel, spec=spec, weights=weights
            )
            return error / count, parts

        (_, parts), gradient = jax.value_and_grad(error_of, has_aux=True)(params["generator"])
        params, opt_state = update("generator", gradient, params, opt_state)
        parts = {name: part / count for name, part in parts.items()} | {"discriminators": error}
        return params, opt_state, parts, optax.tree.norm((judge_gradient, gradient))

    def by_mel_alone(params, opt_state):
        def error_of(own):
            return hifigan.mel_error(network, own, wave, mel, spec=spec) / count

        error, gradient = jax.value_and_grad(error_of)(params["generator"])
        params, opt_state = update("generator", gradient, params, opt_state)
        zero = jnp.zeros(())
        parts = {"adversarial": zero, "features": zero, "mel": error, "discriminators": zero}
        return params, opt_state, parts, optax.tree.norm(gradient)

    if section.begin:
        early = state.step < section.begin
        updated = jax.lax.cond(early, by_mel_alone, adversarial, state.params, state.opt_state)
    else:
        updated = adversarial(state.params, state.opt_state)
    params, opt_state, parts, norm = updated
    finite = jnp.isfinite(norm) & jnp.isfinite(parts["mel"])
    metrics = {"loss": parts.pop("mel"), **parts, "gradient_norm": norm}
    return train_step.guarded(state, params, opt_state, finite, metrics, rule)
