"""Several tasks in one model: each example belongs to one of them (SpeechFlow 4.5)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from sfjax.errors import UserError
from sfjax.tasks.task import GenerativeTask, Task


@dataclasses.dataclass(frozen=True)
class Several(Task):
    """The `tasks` with their `names`; feature `task` is the number of an example's task.

    Inference uses one of them at a time, see `sfjax.tasks.choose`. `guidance` has the strength of guidance of the
    tasks that do not take the one in config section `sample`, by name.
    """

    names: tuple[str, ...]
    tasks: tuple[GenerativeTask, ...]
    guidance: tuple[tuple[str, float], ...] = ()

    kind = "several"

    @property
    def parts(self) -> Mapping[str, GenerativeTask]:
        """The tasks by name."""
        return dict(zip(self.names, self.tasks, strict=True))

    def sampling(self, part: Any) -> dict[str, float]:
        """The guidance of a part, if it has its own."""
        return next(({"guidance": value} for name, value in self.guidance if self.parts[name] == part), {})

    def chunk_share(self, part: Any) -> float:
        """The share of a part's longest waveform in an example: 1/2 for the separation of two speakers."""
        return max(part.columns.values(), default=1.0)

    @property
    def columns(self) -> dict[str, float]:
        """The waveforms of all tasks. An example has those of its own task, the others are silent."""
        columns: dict[str, float] = {}
        for task in self.tasks:
            columns |= {name: max(share, columns.get(name, 0.0)) for name, share in task.columns.items()}
        return columns

    @property
    def labels(self) -> dict[str, float]:
        """The labels of all tasks; 0 in an example of another task."""
        return {name: share for task in self.tasks for name, share in task.labels.items()}

    @property
    def phones(self) -> tuple[str, ...]:
        """The inventory of the tasks that need phones; all of them have the same."""
        return next((task.phones for task in self.tasks if task.labels), ())

    @property
    def aligned_copies(self) -> int:
        """The largest number among the tasks."""
        return max(task.aligned_copies for task in self.tasks)

    @property
    def compared_sources(self) -> int:
        """The number of the tasks that compare sources. Raises `UserError` if they compare different numbers."""
        numbers = {task.compared_sources for task in self.tasks} - {0}
        if len(numbers) > 1:
            raise UserError(
                f"one model cannot be trained to separate {' and '.join(map(str, sorted(numbers)))} speakers at the "
                "same time with order=best, mask or cluster; train two models, or set order=random, mask=0 and "
                "cluster=0 in the sections of these tasks"
            )
        return max(numbers, default=0)

    @property
    def embedding_size(self) -> int:
        """The largest number among the tasks."""
        return max(task.embedding_size for task in self.tasks)

    @property
    def description(self) -> str:
        """The descriptions of all tasks."""
        return " and ".join(task.description for task in self.tasks)

    def example(self, features: dict[str, Array], length: Int[Array, ""], key: Key[Array, ""]) -> dict[str, Any]:
        """One training example of the task that feature `task` names; see `sfjax.tasks.task.GenerativeTask`."""
        shapes = [jax.eval_shape(task.example, features, length, key) for task in self.tasks]
        frames = max(len(shape["target"]) for shape in shapes)
        all_shapes = {name: array for shape in shapes for name, array in shape.items()}

        def padded(task, features, length, key):
            zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), all_shapes)
            example = zeros | task.example(features, length, key)
            return jax.tree.map(lambda x: _pad(x, frames - len(x)) if x.ndim else x, example)

        branches = [functools.partial(padded, task) for task in self.tasks]
        return jax.lax.switch(features["task"], branches, features, length, key)


def _pad(x, frames):
    return jnp.pad(x, [(0, frames), *[(0, 0)] * (x.ndim - 1)])
