"""Tasks: from the features of an example to a target, its condition and its weight.

A task is a frozen dataclass of hyper-parameters, config section `task`. `sfjax.tasks.task` has the two contracts:
`Task` is what the loader asks of every task, `GenerativeTask` what the estimator asks in training and inference.
`Phase`, `Vocode` and `Durations` are tasks of other networks (`sfjax.networks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sfjax.errors import UserError
from sfjax.tasks.durations import Durations
from sfjax.tasks.enhance import Enhance
from sfjax.tasks.extract import Extract
from sfjax.tasks.phase import Phase
from sfjax.tasks.pretrain import Pretrain
from sfjax.tasks.separate import Separate
from sfjax.tasks.several import Several
from sfjax.tasks.speak import Speak
from sfjax.tasks.task import GenerativeTask, Task
from sfjax.tasks.vocode import Vocode

__all__ = [
    "TASKS",
    "Durations",
    "Enhance",
    "Extract",
    "GenerativeTask",
    "Phase",
    "Pretrain",
    "Separate",
    "Several",
    "Speak",
    "Task",
    "Vocode",
    "choose",
    "make",
    "with_phones",
]

TASKS = {task.kind: task for task in (Pretrain, Enhance, Separate, Extract, Speak, Durations, Phase, Vocode)}


def make(*, name: str, **hyperparameters: Any) -> Any:
    """Make the task of config section `task`: its `name` and the hyper-parameters of that task.

    The name `several` means several tasks in one model: each hyper-parameter is the section of a task, under a name of
    your choice. Such a section may also have `guidance`, which inference uses for this task. Raises `UserError` if the
    name is unknown, or if hyper-parameters are missing or unknown.
    """
    if name == "several":
        if not hyperparameters:
            raise UserError("task 'several' needs the sections of its tasks, got none; start from configs/several.py")
        sections = {part: dict(section) for part, section in hyperparameters.items()}
        guidance = tuple((part, section.pop("guidance")) for part, section in sections.items() if "guidance" in section)
        return Several(tuple(sections), tuple(make(**section) for section in sections.values()), guidance)
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; choose from {', '.join([*TASKS, 'several'])}")
    fields = {field.name for field in dataclasses.fields(TASKS[name])}
    if fields != hyperparameters.keys():
        raise UserError(
            f"task {name!r} needs {', '.join(sorted(fields))}, got {', '.join(hyperparameters)}; start from "
            f"configs/{name}.py"
        )
    return TASKS[name](**hyperparameters)


def choose(task: Any, kind: str, **fields: Any) -> Any:
    """Return the first part of a task that has this `kind` and these `fields`, or None.

    ```python
    task = tasks.make(name="pretrain", drop=0.1, fraction=(0.7, 1.0), shortest=10)
    assert tasks.choose(task, "pretrain") is task and tasks.choose(task, "separate", speakers=2) is None
    ```
    """
    for part in task.parts.values():
        if part.kind == kind and all(getattr(part, name) == value for name, value in fields.items()):
            return part
    return None


def with_phones(section: Mapping[str, Any], inventory: tuple[str, ...]) -> dict[str, Any]:
    """Return config section `task` with `inventory` wherever a task needs phones and names none."""
    filled = {
        name: with_phones(value, inventory) if isinstance(value, Mapping) else value for name, value in section.items()
    }
    return filled | ({"phones": inventory} if filled.get("phones") == () else {})
