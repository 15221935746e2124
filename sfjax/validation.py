"""Validate a run: the loss on fixed batches, and samples as pictures and audio."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from sfjax import lora, sharding
from sfjax.data import loader
from sfjax.metric_writer import Journal, Silence
from sfjax.objective import Objective

VALIDATION = 20231016  # the seed of validation noise: the same in every run, so that curves compare
GOLDEN = 0.6180339887498949  # multiples of it spread evenly over [0, 1)


class Validation:
    """Validation losses of each task on fixed batches with fixed noise and times, and pictures of samples.

    `readers` has a reader for each task, by task name; each of them reads `batches` batches. Losses are computed with
    raw and with averaged parameters. `pictures` is the number of examples to draw with the options `sample` (config
    section `sample`). `across` is the sharding of a batch.
    """

    def __init__(
        self,
        objective: Objective,
        readers: dict[str, loader.Reader],
        across: NamedSharding,
        *,
        sample: dict[str, Any],
        batches: int,
        pictures: int,
    ):
        self.judges = [
            _Judge(name, reader, objective, across, sample=sample, batches=batches, pictures=pictures)
            for name, reader in readers.items()
        ]

    def __call__(self, state: Any, journal: Journal | Silence, done: int) -> dict[str, float]:
        """Compute the validation losses of `state`, and write pictures and audio to the journal.

        Keys are loss and loss_ema, followed by the task's name if there are several tasks.
        """
        losses = {}
        raw, averaged = (lora.join(params, state.frozen) for params in (state.params, state.ema))
        for judge in self.judges:
            suffix = f"_{judge.name}" if judge.name else ""
            for name, params in (("loss", raw), ("loss_ema", averaged)) if judge.batches else ():
                losses[name + suffix] = judge.loss(params)
            judge.draw(averaged, journal, done)
        return losses


class _Judge:
    """The validation batches and pictures of one task."""

    def __init__(
        self,
        name: str,
        reader: loader.Reader,
        objective: Objective,
        across: NamedSharding,
        *,
        sample: dict[str, Any],
        batches: int,
        pictures: int,
    ):
        self.name, self.spec, self.across = name, reader.spec, across
        self.whole = sharding.replicated(across.mesh)
        self.batches = [_arrays(batch) for batch in loader.batches(reader, first=0, last=batches, workers=0)]
        first = dataclasses.replace(reader, process=(0, 1))(0)  # the same on every process
        pictures = pictures if objective.draw else 0
        self.shown = jax.tree.map(lambda x: x[:pictures], _arrays(first)) if pictures else None
        split = sharding.activations(across.mesh)
        error = objective.error(reader.task)
        self.error = jax.jit(split(functools.partial(_fixed_error, error)), out_shardings=self.whole)
        if objective.draw and pictures:
            draw = functools.partial(_fixed_samples, objective.draw(reader.task, sample))
            self.sample = jax.jit(split(draw), out_shardings=self.whole)

    def loss(self, params):
        errors = []
        for number, batch in enumerate(self.batches):
            on_devices = sharding.make_global(batch, self.across), jax.device_put(np.int32(number), self.whole)
            errors.append(jax.device_get(self.error(params, *on_devices)))
        return float(sum(error.total for error in errors) / sum(error.count for error in errors))

    def draw(self, params, journal, done):
        if self.shown is not None:
            samples = jax.device_get(self.sample(params, jax.device_put(self.shown, self.whole)))
            journal.write_pictures(done, samples, self.shown["lengths"], self.spec, self.name)


def _arrays(batch):
    return {name: batch[name] for name in loader.ARRAYS}


def _fixed_error(error, params, batch, number):
    count = len(batch["lengths"])
    examples = number * count + jnp.arange(count)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(examples)
    t = jnp.mod((examples + 0.5) * GOLDEN, 1.0).astype(jnp.float32)
    return error(params, batch, keys, t, None)


def _fixed_samples(draw, params, batch):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(jnp.arange(len(batch["lengths"])))
    return draw(params, batch, keys)
