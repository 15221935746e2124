"""What a network is trained by: its first parameters, the error of a batch, and pictures of what it makes.

`estimation` is the paper's: log-Mel → task → loss of the process. `sfjax.vocoder.phase` has the other one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sfjax import amplitude, audio, flow, sharding, sources, tasks
from sfjax.model import Estimator

Batch = dict[str, Any]  # what `loader.ARRAYS` names: waves, Mels and labels by name, lengths and task [batch]


class Objective(NamedTuple):
    """`init(key)` makes parameters; `error(task)` is a function (parameters, batch, keys, t, dropout) → flow.Error,
    `draw(task, options)` one (parameters, batch, keys) → Mels `condition`, `sample`, `target`, their true `frames`,
    and a `wave`; None where there is nothing to see."""

    network: Any
    init: Callable
    error: Callable
    draw: Callable | None


def estimation(network: Estimator, process: Any, spec: audio.MelSpec, amplitudes: float = 0.0) -> Objective:
    """The objective of the estimator, by flow matching or another process.

    `amplitudes` is the weight of `sfjax.amplitude.error` beside the error of the process.
    """
    return Objective(
        network,
        functools.partial(_init, network),
        functools.partial(_error, network, process.loss, spec, amplitudes),
        functools.partial(_draw, network, process.sample, spec),
    )


def _init(network, key):
    frames = jnp.zeros((1, 8, network.mels))
    number = jnp.zeros((1, 8), jnp.int32)
    labels = {"phones": number if network.phones else None, "copy": number if network.copies else None}
    return network.init(key, frames, jnp.zeros(1), frames, jnp.full(1, 8), **labels)["params"]


def _error(network, loss, spec, amplitudes, task):
    def error(
        params: Any,
        batch: Batch,
        keys: Key[Array, " batch"],
        t: Float[Array, " batch"],
        dropout: Key[Array, ""] | None,
    ) -> flow.Error:
        lengths = batch["lengths"]
        mel = lambda wav, lengths: audio.log_mel(wav, spec, jnp.minimum(lengths, wav.shape[1]))
        features = {name: sharding.by_example(mel, wav, lengths) for name, wav in batch["waves"].items()}
        features |= {"task": batch["task"], **batch["labels"]}
        keys = jax.vmap(functools.partial(jax.random.split, num=2))(keys)
        example = jax.vmap(task.example)(features, (lengths + spec.hop - 1) // spec.hop, keys[:, 0])
        target, weight, count = example.pop("target"), example.pop("weight"), example.pop("length")
        compared = example.pop("sources", None)
        x0 = jax.vmap(lambda key: flow.noise(key, target.shape[1], target.shape[2]))(keys[:, 1])
        rngs = {} if dropout is None else {"dropout": dropout}

        kept: dict[str, Any] = {}

        def field(x, t):
            inputs = {"params": params}
            more = dict(lengths=count, train=dropout is not None, rngs=rngs, mutable=["intermediates"])
            v, found = network.apply(inputs, x, t, **more, **example)
            kept.update(found.get("intermediates", {}))
            return v

        def heard(squared, estimate):
            """The error of each frame as a function of x1."""
            if not amplitudes:
                return squared
            return lambda x1: squared(x1) + amplitudes * amplitude.error(estimate, x1, weight, spec.std)

        if compared is None:
            return loss(field, target, weight, x0, t, lambda squared, estimate: heard(squared, estimate)(target))
        bins = amplitude.emphasis(compared.pop("mixture"), weight, spec.std)
        joined, number = sources.Joined(emphasis=bins, **compared), tasks.compared(task)
        order = functools.partial(sources.error, x1=target, t=t, joined=joined, count=number, std=spec.std)
        found = loss(field, target, weight, x0, t, lambda squared, estimate: order(heard(squared, estimate), estimate))
        if not network.embedding:
            return found
        (bins,) = kept["bins"]
        clusters = sources.cluster_error(bins, target, joined, number) * joined.cluster
        return found._replace(total=found.total + (clusters * weight.sum(axis=1)).sum() * spec.bands)

    return error


def _draw(network, sampler, spec, task, options):
    def draw(params: Any, batch: Batch, keys: Key[Array, " batch"]) -> dict[str, Array]:
        waves, lengths = batch["waves"], batch["lengths"]
        features = {name: audio.log_mel(wav, spec, lengths) for name, wav in waves.items()} | batch["labels"]
        frames = (lengths + spec.hop - 1) // spec.hop
        example = jax.vmap(task.example)(features, frames, keys)
        target, weight, count = example.pop("target"), example.pop("weight"), example.pop("length")
        example.pop("sources", None)
        apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
        x0 = jax.vmap(lambda key: flow.noise(key, target.shape[1], target.shape[2]))(keys)
        x1 = sampler(apply, x0, example, count, **options)
        x1 = jnp.where(weight[..., None] > 0, x1, target)  # what was shown is pasted back
        spectrum = audio.stft(waves[task.phase], spec, lengths)
        first = jax.vmap(task.sources)(x1, frames)[:, :1, : spectrum.shape[1]]  # one of several can be heard
        wave = audio.borrow_phase(first, spectrum, spec, lengths)[:, 0]
        return {"condition": example["condition"], "sample": x1, "target": target, "wave": wave, "frames": count}

    return draw
