"""What a run is judged by while it trains: the error on fixed batches, and samples to look at and listen to."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from sfjax import lora, sharding, tasks
from sfjax.data import loader
from sfjax.journal import Journal, Silence

VALIDATION = 20231016  # the seed of validation noise: the same in every run, so that curves compare
GOLDEN = 0.6180339887498949  # multiples of it spread evenly over [0, 1)


class Validation:
    """The error on fixed batches of each task with fixed noise and times, and pictures of it.

    `readers` are those of the tasks by their names. Errors are those of raw and of averaged parameters.
    """

    def __init__(self, config: Any, made: Any, readers: dict[str, loader.Reader], across: NamedSharding):
        self.across, options = across, config.sample.to_dict()
        split, whole = sharding.activations(across.mesh), sharding.replicated(across.mesh)
        parts = tasks.parts(made.task)
        self.judges = [
            _Judge(name, parts[name], reader, config.run, made, options, split, whole)
            for name, reader in readers.items()
        ]

    def __call__(self, state: Any, journal: Journal | Silence, done: int) -> dict[str, float]:
        """Validation losses of `state`: loss and loss_ema, with the task's name where there are several.

        Pictures and audio go to the journal.
        """
        found = {}
        raw, mean = (lora.join(params, state.frozen) for params in (state.params, state.ema))
        for judge in self.judges:
            ending = f"_{judge.name}" if judge.name else ""
            for name, params in (("loss", raw), ("loss_ema", mean)) if judge.batches else ():
                found[name + ending] = judge.loss(params, self.across)
            judge.draw(mean, journal, done)
        return found


class _Judge:
    """One task's batches and pictures."""

    def __init__(self, name, task, reader, options, made, sample, split, whole):
        self.name, self.spec, self.whole = name, made.spec, whole
        arrays = lambda batch: {name: batch[name] for name in loader.ARRAYS}
        self.batches = [
            arrays(batch) for batch in loader.batches(reader, first=0, last=options.valid_batches, workers=0)
        ]
        first = dataclasses.replace(reader, share=(0, 1))(0)  # the same on every process
        pictures = options.pictures if made.objective.draw else 0
        self.shown = jax.tree.map(lambda x: x[:pictures], arrays(first)) if pictures else None
        error = made.objective.error(task)
        self.error = jax.jit(split(functools.partial(_valid_error, error)), out_shardings=whole)
        if pictures:
            draw = functools.partial(_drawn, made.objective.draw(task, sample))
            self.sample = jax.jit(split(draw), out_shardings=whole)

    def loss(self, params, across):
        totals = []
        for number, batch in enumerate(self.batches):
            given = sharding.place(batch, across), jax.device_put(np.int32(number), self.whole)
            totals.append(jax.device_get(self.error(params, *given)))
        return float(sum(e.total for e in totals) / sum(e.count for e in totals))

    def draw(self, params, journal, done):
        if self.shown is not None:
            drawn = jax.device_get(self.sample(params, jax.device_put(self.shown, self.whole)))
            journal.pictures(done, drawn, self.shown["lengths"], self.spec, self.name)


def _valid_error(error, params, batch, number):
    count = len(batch["lengths"])
    examples = number * count + jnp.arange(count)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(examples)
    t = jnp.mod((examples + 0.5) * GOLDEN, 1.0).astype(jnp.float32)
    return error(params, batch, keys, t, None)


def _drawn(draw, params, batch):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(VALIDATION), i))(jnp.arange(len(batch["lengths"])))
    return draw(params, batch, keys)
