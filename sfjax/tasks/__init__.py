"""What the one model is trained to do. A task turns waveforms' features into a target, its condition and a weight.

A task is a frozen dataclass of hyper-parameters (config section `task`) with

- `columns`: the waveforms that an example is made of, and what share of a batch's length each of them takes; the
  loader reads or mixes them;
- `phase`: the column whose phase its waves borrow, which is also what inference is given;
- `condition(features, length)`: the network's inputs as a dict, the same in training and inference;
- `example(features, length, key)`: for training, a dict with `target`, `condition` (that of `condition(…)`, possibly
  dropped), `weight` (1 on frames whose error counts) and `length` (frames of the target);
- `count`: the sources that a target holds; `joined(mels, length)` makes one of their Mels [count, frames, mels], with
  `joined_length(length)` frames, and `sources(x, length)` is the way back. Tasks of one source inherit
  `sfjax.tasks.single.Single`.

A task with `labels` wants numbers beside its waveforms, and says how many of each there are to a frame: they are read
from a manifest with phones. `Phase`, `Vocode` and `Durations` are the tasks of other networks, and have no more than
these need.

All see one example: `features` are [frames, mels] arrays by column and labels, `length` their true number of frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sfjax.errors import UserError
from sfjax.tasks.durations import Durations
from sfjax.tasks.enhance import Enhance
from sfjax.tasks.phase import Phase
from sfjax.tasks.pretrain import Pretrain
from sfjax.tasks.separate import EMBEDDING, Separate
from sfjax.tasks.several import Several
from sfjax.tasks.speak import Speak
from sfjax.tasks.vocode import Vocode

TASKS = {
    "pretrain": Pretrain,
    "enhance": Enhance,
    "separate": Separate,
    "speak": Speak,
    "durations": Durations,
    "phase": Phase,
    "vocode": Vocode,
}


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
    return task.predicted if isinstance(task, (Phase, Vocode)) else {}


def labels(task: Any) -> Mapping[str, float]:
    """The labels that an example of a task wants, and how many of each there are to a frame."""
    return task.labels if isinstance(task, (Speak, Durations, Several)) else {}


def phones(task: Any) -> tuple[str, ...]:
    """The inventory of phones that a task knows; none if it knows no phones."""
    found = [part.phones for part in parts(task).values() if isinstance(part, (Speak, Durations))]
    return found[0] if found else ()


def copies(task: Any) -> int:
    """The most copies of a recording that the tasks of a model tell apart; 0 if none does."""
    return max((part.speakers for part in _separations(task) if part.copies == "aligned"), default=0)


def compared(task: Any) -> int:
    """The sources of an example that training compares with each other; 0 if it compares none."""
    found = {part.speakers for part in _separations(task) if part.compared}
    if len(found) > 1:
        raise UserError(
            f"one model cannot compare sources of {' and '.join(map(str, sorted(found)))} speakers; "
            "train two, or set order=random, mask=0 and cluster=0 in the sections of these tasks"
        )
    return max(found, default=0)


def embedding(task: Any) -> int:
    """The size of the embedding of each bin that training clusters; 0 if it clusters none."""
    return EMBEDDING if any(part.cluster > 0 for part in _separations(task)) else 0


def _separations(task):
    return [part for part in parts(task).values() if isinstance(part, Separate)]


def with_phones(section: Mapping[str, Any], inventory: tuple[str, ...]) -> dict[str, Any]:
    """Config section `task`, and those of its tasks, with an inventory wherever one is wanted and none is given."""
    given = lambda value: with_phones(value, inventory) if isinstance(value, Mapping) else value
    made = {name: given(value) for name, value in section.items()}
    return made | ({"phones": inventory} if made.get("phones") == () else {})


def choose(task: Any, kind: type, **fields: Any) -> Any:
    """The task among those of a model that is of `kind` and has these `fields`; None if there is none."""
    alike = lambda part: all(getattr(part, name) == value for name, value in fields.items())
    return next((part for part in parts(task).values() if isinstance(part, kind) and alike(part)), None)


def names(task: Any) -> str:
    """What a model was trained to do, in words."""
    many = lambda part: f" {part.speakers} speakers" if isinstance(part, Separate) else ""
    return " and ".join(type(part).__name__.lower() + many(part) for part in parts(task).values())
