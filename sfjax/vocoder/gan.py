"""How a HiFi-GAN is trained by the one loop: a step of two optimisers, one after the other.

First the discriminators learn to tell recordings from what the generator makes of their Mels, then the generator learns
to pass before the discriminators that came of it (Kong et al., arXiv 2010.05646).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from sfjax import audio, optim
from sfjax.flow import Error
from sfjax.objective import Batch, Objective
from sfjax.vocoder import hifigan
from sfjax.vocoder.discriminators import Discriminators
from sfjax.vocoder.hifigan import Generator, Weights

PARTS = ("generator", "discriminators")  # of the parameters, and of the state of the optimisers


def generator(section: Any, spec: audio.MelSpec) -> Generator:
    """The generator of config section `vocoder`; it computes in float32."""
    names = ("channels", "upsample", "kernels", "residual_kernels", "dilations")
    sizes = {name: tuple(value) if isinstance(value := section[name], (list, tuple)) else value for name in names}
    return Generator(**sizes, mels=spec.bands, dtype=jnp.float32)


def discriminators(section: Any) -> Discriminators:
    """The discriminators of config section `vocoder`."""
    return Discriminators(
        channels=section["discriminators"], periods=tuple(section["periods"]), scales=section["scales"],
        dtype=jnp.float32,
    )  # fmt: skip


def released(params: Any) -> Any:
    """What of a vocoder's parameters makes waves: the generator's."""
    return params.get("generator", params)


def optimizers(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """One optimiser of a kind for each of `PARTS`; only its `init` is used, the step updates them in turn."""
    return optax.GradientTransformation(lambda params: {part: rule.init(params[part]) for part in PARTS}, rule.update)


def objective(section: Any, spec: audio.MelSpec) -> Objective:
    """What a vocoder is judged by: the mean absolute error of natural log-Mels, of whole recordings."""
    network = generator(section, spec)
    return Objective(
        network,
        functools.partial(_init, network, discriminators(section), spec),
        functools.partial(_error, network, spec),
        functools.partial(_draw, network, spec),
    )


def _init(network, judges, spec, key):
    one, other = jax.random.split(key)
    frames = 8
    made = network.init(one, jnp.zeros((1, frames, spec.bands)), jnp.full(1, frames))["params"]
    return {"generator": made, "discriminators": judges.init(other, jnp.zeros((1, 8000)))["params"]}


def _mels(task, batch, spec):
    clean = lambda: audio.log_mel(batch["waves"]["speech"], spec, batch["lengths"])
    return batch["mels"]["estimate"][:, 0] if task.predicted else clean()


def _error(network, spec, task):
    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> Error:
        wave, mel, lengths = batch["waves"]["speech"], _mels(task, batch, spec), batch["lengths"]
        count = (lengths + spec.hop - 1) // spec.hop
        made = network.apply({"params": params["generator"]}, mel, count)
        inside = jnp.arange(mel.shape[1]) < count[:, None]
        log_mel = lambda wave: audio.log_mel(wave, spec, lengths)
        wrong = jnp.abs(log_mel(wave) - log_mel(made[:, : wave.shape[1]])).mean(axis=-1) * inside
        return Error(spec.std * wrong.sum(), inside.sum().astype(jnp.float32))

    return error


def _draw(network, spec, task, options):
    del options  # of a sampler

    def draw(params: Any, batch: Batch, keys: Key[Array, " batch"]) -> dict[str, Array]:
        wave, mel, lengths = batch["waves"]["speech"], _mels(task, batch, spec), batch["lengths"]
        count = (lengths + spec.hop - 1) // spec.hop
        made = network.apply({"params": params["generator"]}, mel, count)[:, : wave.shape[1]]
        log_mel = lambda wave: audio.log_mel(wave, spec, lengths)
        return {"condition": mel, "sample": log_mel(made), "target": log_mel(wave), "wave": made, "frames": count}

    return draw


def step(
    state: Any,
    batch: Batch,
    *,
    section: Any,
    task: Any,
    spec: audio.MelSpec,
    seed: int,
    rule: optax.GradientTransformation,
    rate: optax.Schedule,
    decay: float,
) -> tuple[Any, dict[str, Float[Array, ""]]]:
    """One batch of segments: an update of the discriminators, then one of the generator.

    Segments follow from (seed, step, example). In the first `begin` steps of config section `vocoder` the generator
    learns from its Mels alone. A step without finite gradients changes nothing but the counters.
    """
    network, judges = generator(section, spec), discriminators(section)
    now = jax.random.fold_in(jax.random.key(seed), state.step)
    keys = jax.vmap(lambda i: jax.random.fold_in(now, i))(jnp.arange(len(batch["lengths"])))
    wave, mel = hifigan.segments(
        batch["waves"]["speech"], _mels(task, batch, spec), batch["lengths"], keys, frames=section["frames"], spec=spec
    )
    weights = Weights(**{name: section[name] for name in Weights._fields})
    count = len(wave)

    def update(name, gradient, params, opt_state):
        changes, opt = rule.update(gradient, opt_state[name], params[name])
        return params | {name: optax.apply_updates(params[name], changes)}, opt_state | {name: opt}

    def adversarial(params, opt_state):
        judge = lambda own: hifigan.discriminator_error(network, judges, params["generator"], own, wave, mel)
        (wrong, _), gradient = jax.value_and_grad(lambda own: _mean(judge(own), count), has_aux=True)(
            params["discriminators"]
        )
        params, opt_state = update("discriminators", gradient, params, opt_state)
        make = lambda own: hifigan.generator_error(
            network, judges, own, params["discriminators"], wave, mel, spec=spec, weights=weights
        )
        (_, parts), own = jax.value_and_grad(lambda own: _mean(make(own), count), has_aux=True)(params["generator"])
        params, opt_state = update("generator", own, params, opt_state)
        parts = {name: part / count for name, part in parts.items()} | {"discriminators": wrong}
        return params, opt_state, parts, optax.tree.norm((gradient, own))

    def alone(params, opt_state):
        make = lambda own: (hifigan.mel_error(network, own, wave, mel, spec=spec), {})
        (wrong, _), own = jax.value_and_grad(lambda own: _mean(make(own), count), has_aux=True)(params["generator"])
        params, opt_state = update("generator", own, params, opt_state)
        zero = jnp.zeros(())
        parts = {"adversarial": zero, "features": zero, "mel": wrong, "discriminators": zero}
        return params, opt_state, parts, optax.tree.norm(own)

    if section["begin"]:
        made = jax.lax.cond(state.step < section["begin"], alone, adversarial, state.params, state.opt_state)
    else:
        made = adversarial(state.params, state.opt_state)
    params, opt_state, parts, norm = made
    ema = optim.average(state.ema, params, state.step - state.skipped, decay)
    finite = jnp.isfinite(norm) & jnp.isfinite(parts["mel"])
    old = (state.params, state.ema, state.opt_state)
    params, ema, opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), (params, ema, opt_state), old)
    bad = (~finite).astype(jnp.int32)
    metrics = {
        "loss": parts.pop("mel"),
        **parts,
        "gradient_norm": norm,
        "learning_rate": rate(state.step - state.skipped),
        "loss_scale": state.scale.value,
        "skipped": state.skipped + bad,
        "streak": (state.streak + 1) * bad,
    }
    state = state.replace(
        step=state.step + 1, params=params, ema=ema, opt_state=opt_state, skipped=state.skipped + bad,
        streak=(state.streak + 1) * bad,
    )  # fmt: skip
    return state, metrics


def _mean(found, count):
    total, parts = found
    return total / count, parts
