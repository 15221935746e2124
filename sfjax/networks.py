"""The networks that can be trained, by the name that a task gives (`sfjax.tasks.task.Task.network`)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from sfjax import objective
from sfjax.config import ModelConfig
from sfjax.errors import UserError
from sfjax.export import locate
from sfjax.text import duration_model
from sfjax.vocoder import networks as vocoders
from sfjax.vocoder import phase_net

NETWORKS = {
    "estimator": objective.ESTIMATOR,
    "phase_net": phase_net.TRAINABLE,
    "vocoder": vocoders.TRAINABLE,
    "duration_model": duration_model.TRAINABLE,
}


def load(params: Any, config: ModelConfig, name: str) -> Any:
    """Make what inference uses from the parameters of the model `name`; see `sfjax.objective.Trainable.load`.

    Raises `UserError` if the parameters do not have the names and shapes that the config needs. The models of this
    package are not checked: their tests do, and the check takes 0.2 s.
    """
    trainable = NETWORKS[config.task.network]
    if not locate.is_own(name):
        _check_shapes(params, trainable.initial(config), name)
    return trainable.load(params, config)


def _check_shapes(params, initial, name):
    shapes = {path: np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    expected = jax.eval_shape(initial, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        if shapes.get(path) != leaf.shape:
            parameter = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{name}: its config needs {parameter} of shape {leaf.shape}, its parameters have "
                f"{shapes.get(path, 'none')}; export it again, or restore its config.json"
            )
