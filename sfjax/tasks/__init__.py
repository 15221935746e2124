"""What the one model is trained to do. A task turns waveforms' features into a target, its condition and a weight.

A task is a frozen dataclass of hyper-parameters (config section `task`) with

- `columns`: the waveforms that an example is made of; the loader reads or mixes them;
- `phase`: the column whose phase its waves borrow;
- `condition(features)`: the network's inputs as a dict, the same in training and inference;
- `example(features, length, key)`: for training, a dict with `target`, `condition` (that of `condition(features)`,
  possibly dropped), `weight` (1 on frames whose error counts) and `length` (frames of the target).

All see one example: `features` are [frames, mels] arrays by column, `length` its true number of frames.
"""

from __future__ import annotations

import dataclasses

from sfjax.errors import UserError
from sfjax.tasks.enhance import Enhance
from sfjax.tasks.pretrain import Pretrain

TASKS = {"pretrain": Pretrain, "enhance": Enhance}


def make(*, name: str, **hyperparameters):
    """The task called `name` in config section `task`, from that section's other fields."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}; choose from {', '.join(TASKS)}")
    wanted = {field.name for field in dataclasses.fields(TASKS[name])}
    if wanted != hyperparameters.keys():
        raise UserError(
            f"task {name!r} wants {', '.join(sorted(wanted))}, got {', '.join(hyperparameters)}; take configs/{name}.py"
        )
    return TASKS[name](**hyperparameters)
