"""What a run is judged by while it trains: the error on fixed batches, and samples to look at and listen to."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from sfjax import audio, flow, sharding
from sfjax.data import loader
from sfjax.journal import Journal

VALIDATION = 20231016  # the seed of validation noise: the same in every run, so that curves compare
GOLDEN = 0.6180339887498949  # multiples of it spread evenly over [0, 1)


class Validation:
    """The error on fixed batches with fixed noise and times, for raw and averaged parameters, and pictures of it."""

    def __init__(self, config: Any, made: Any, reader: loader.Reader | None, across: NamedSharding):
        self.spec, self.across, self.whole = made.spec, across, sharding.replicated(across.mesh)
        self.batches, self.shown = [], None
        if reader is not None:
            found = loader.batches(reader, first=0, last=config.run.valid_batches, workers=0)
            self.batches = [(batch["waves"], batch["lengths"]) for batch in found]
        if reader is not None and config.run.pictures:
            first = dataclasses.replace(reader, share=(0, 1))(0)  # the same on every process
            few = slice(0, config.run.pictures)
            self.shown = {name: wave[few] for name, wave in first["waves"].items()}, first["lengths"][few]
        split = sharding.activations(across.mesh)
        self.error = jax.jit(split(functools.partial(_valid_error, made.error)), out_shardings=self.whole)
        sample = functools.partial(_sample, made.network, made.task, made.spec, config.sample.to_dict())
        self.sample = jax.jit(split(sample), out_shardings=self.whole)

    def __call__(self, state: Any, journal: Journal, done: int) -> dict[str, float]:
        """Validation losses of `state`, {"loss", "loss_ema"}; pictures and audio go to the journal."""
        found = {}
        for name, params in (("loss", state.params), ("loss_ema", state.ema)) if self.batches else ():
            totals = []
            for number, batch in enumerate(self.batches):
                given = *sharding.place(batch, self.across), jax.device_put(np.int32(number), self.whole)
                totals.append(jax.device_get(self.error(params, *given)))
            found[name] = float(sum(e.total for e in totals) / sum(e.count for e in totals))
        if self.shown is not None:
            drawn = jax.device_get(self.sample(state.ema, *jax.device_put(self.shown, self.whole)))
            journal.pictures(done, drawn, self.shown[1], self.spec)
        return found


def _valid_error(error, params, waves, lengths, number):
    examples = number * len(lengths) + jnp.arange(len(lengths))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(examples)
    t = jnp.mod((examples + 0.5) * GOLDEN, 1.0).astype(jnp.float32)
    return error(params, waves, lengths, keys, t, None)


def _sample(network, task, spec, options, params, waves, lengths):
    """What the model makes of a few examples: Mels of condition, sample and target, and the sample as a wave."""
    features = {name: audio.log_mel(wav, spec, lengths) for name, wav in waves.items()}
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(jnp.arange(len(lengths)))
    example = jax.vmap(task.example)(features, (lengths + spec.hop - 1) // spec.hop, keys)
    target, weight, count = example.pop("target"), example.pop("weight"), example.pop("length")
    apply = lambda x, t, inputs, lengths: network.apply({"params": params}, x, t, lengths=lengths, **inputs)
    x0 = jax.vmap(lambda key: flow.noise(key, target.shape[1], target.shape[2]))(keys)
    x1 = flow.sample(apply, x0, example, count, **options)
    x1 = jnp.where(weight[..., None] > 0, x1, target)  # what was shown is pasted back
    wave = audio.borrow_phase(x1, audio.stft(waves[task.phase], spec, lengths), spec, lengths)
    return {"condition": example["condition"], "sample": x1, "target": target, "wave": wave}
