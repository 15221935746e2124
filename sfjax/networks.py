"""The networks that can be trained, by the name that a task gives (`sfjax.tasks.task.Task.network`)."""

from sfjax import objective
from sfjax.text import duration_model
from sfjax.vocoder import networks as vocoders
from sfjax.vocoder import phase_net

NETWORKS = {
    "estimator": objective.ESTIMATOR,
    "phase_net": phase_net.TRAINABLE,
    "vocoder": vocoders.TRAINABLE,
    "duration_model": duration_model.TRAINABLE,
}
