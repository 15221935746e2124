"""What the one model is trained to do. A task turns waveforms' features into a target, its condition and a weight.

A task is a frozen dataclass of hyper-parameters (config section `task`) with

- `columns`: the waveforms that an example is made of, and what share of a batch's length each of them takes; the
  loader reads or mixes them;
- `phase`: the column whose phase its waves borrow, which is also what inference is given;
- `condition(features, length)`: the network's inputs as a dict, the same in training and inference;
- `example(features, length, key)`: for training, a dict with `target`, `condition` (that of `condition(…)`, possibly
  dropped), `weight` (1 on frames whose error counts) and `length` (frames of the target);
- `count`: the sources that a target holds; `joined(mels, length)` makes one of their Mels [count, frames, mels], and
  `sources(x, length)` is the way back.

`Phase` is the task of another network, and has the first two only.

All see one example: `features` are [frames, mels] arrays by column, `length` their true number of frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sfjax.errors import UserError
from sfjax.tasks.enhance import Enhance
from sfjax.tasks.phase import Phase
from sfjax.tasks.pretrain import Pretrain
from sfjax.tasks.separate import Separate
from sfjax.tasks.several import Several

TASKS = {"pretrain": Pretrain, "enhance": Enhance, "separate": Separate, "phase": Phase}


def make(*, name: str, **hyperparameters: Any) -> Any:
    """The task called `name` in config section `task`, from that section's other fields.

    `several` is many in one model: each of its fields is the section of a task, under a name of one's choice.
    """
    if name == "several":
        if not hyperparameters:
            raise UserError("task 'several' wants the sections of its tasks, got none; take configs/several.py")
        return Several(tuple(hyperparameters), tuple(make(**section) for section in hyperparameters.values()))
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; choose from {', '.join([*TASKS, 'several'])}")
    wanted = {field.name for field in dataclasses.fields(TASKS[name])}
    if wanted != hyperparameters.keys():
        raise UserError(
            f"task {name!r} wants {', '.join(sorted(wanted))}, got {', '.join(hyperparameters)}; take configs/{name}.py"
        )
    return TASKS[name](**hyperparameters)


def parts(task: Any) -> Mapping[str, Any]:
    """The tasks of a model by their names; a task that is alone has none."""
    return dict(zip(task.names, task.tasks, strict=True)) if isinstance(task, Several) else {"": task}


def predicted(task: Any) -> Mapping[str, int]:
    """The Mels made by another model that an example of a task wants, and of how many sources they are."""
    return task.predicted if isinstance(task, Phase) else {}


def choose(task: Any, kind: type, **fields: Any) -> Any:
    """The task among those of a model that is of `kind` and has these `fields`; None if there is none."""
    alike = lambda part: all(getattr(part, name) == value for name, value in fields.items())
    return next((part for part in parts(task).values() if isinstance(part, kind) and alike(part)), None)
