"""Many tasks in one model: each example is of one of them (SpeechFlow 4.5)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key


@dataclasses.dataclass(frozen=True)
class Several:
    """The `tasks` called `names`; feature `task` says which of them an example is of.

    In inference one of them is taken alone, see `sfjax.tasks.choose`.
    """

    names: tuple[str, ...]
    tasks: tuple[Any, ...]

    @property
    def columns(self) -> dict[str, float]:
        """The waveforms of all tasks; an example has those of its own, the others are silent."""
        found: dict[str, float] = {}
        for task in self.tasks:
            found |= {name: max(share, found.get(name, 0.0)) for name, share in task.columns.items()}
        return found

    @property
    def labels(self) -> dict[str, float]:
        """The labels of all tasks; 0 for an example of another."""
        return {name: share for task in self.tasks for name, share in getattr(task, "labels", {}).items()}

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
        """One training example of the task that it is of; see `sfjax.tasks`."""
        shapes = [jax.eval_shape(task.example, features, length, key) for task in self.tasks]
        frames = max(len(shape["target"]) for shape in shapes)
        every = {name: shape for found in shapes for name, shape in found.items()}

        def padded(task, features, length, key):
            found = task.example(features, length, key)
            nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), every)
            return jax.tree.map(lambda x: _longer(x, frames - len(x)) if x.ndim else x, nothing | found)

        branches = [functools.partial(padded, task) for task in self.tasks]
        return jax.lax.switch(features["task"], branches, features, length, key)


def _longer(x, more):
    return jnp.pad(x, [(0, more), *[(0, 0)] * (x.ndim - 1)])
