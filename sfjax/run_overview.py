"""Describe a run before it compiles: parameters, data, batches, and whether they fit into memory."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sfjax import sharding
from sfjax.config import Config
from sfjax.data.loader import Plan
from sfjax.model import EstimatorConfig

GIB = 2**30
# Memory of a training step, fitted to XLA's figures for sizes tiny, box and small on a CPU (within 30 %)
SAVED = 35  # activations of a layer that wait for the backward pass, in multiples of the width, for each token
SAVED_REMAT = 2  # with rematerialisation of whole layers: their inputs and outputs
WORKER = 0.3 * GIB  # of a process that reads data
RUNTIME = 0.8 * GIB  # of Python and XLA, mostly for compiling


def describe(like: Any, plan: Plan, config: Config, mesh: jax.sharding.Mesh) -> list[str]:
    """Return lines about a run: what it trains, on how much data, in which batches, with how much memory.

    `like` holds the shapes and shardings of the training state.
    """
    count, trained = _size((like.params, like.frozen)), _size(like.params)
    seconds = sum(weight * float(np.sum(row)) for weight, row in zip(plan.weights, plan.lengths, strict=True))
    rows = sum(round(weight * len(row)) for weight, row in zip(plan.weights, plan.lengths, strict=True))
    sizes = ", ".join(f"{plan.size(i)} × {length:g} s" for i, length in enumerate(plan.buckets))
    part = f", {trained / 1e6:.1f} M of them are trained" if trained < count else ""
    epoch = sum(plan.counts)
    lines = [
        f"task: {config.task.description}; {count / 1e6:.1f} M parameters{part}",
        f"data: {seconds / 3600:.1f} h in {rows:,} utterances; an epoch is {epoch:,} updates, "
        f"and the run {config.optim.updates:,} updates ({config.optim.updates / max(epoch, 1):.3g} epochs)",
        f"batch: {sizes} of audio",
    ]
    if isinstance(config.model, EstimatorConfig):
        lines.append(_memory_line(like, plan, config, mesh))
    return lines


def _size(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _memory_line(like, plan, config, mesh):
    estimate, free = _step_bytes(like, plan, config, mesh), _free_bytes()
    if jax.default_backend() == "cpu":
        estimate += RUNTIME + WORKER * config.run.workers
    line = f"memory: about {estimate / GIB:.1f} GiB"
    if free is None:
        return line
    line += f" of {free / GIB:.1f} GiB that are free"
    if estimate > free:
        line += "; this may not fit: lower --config.data.seconds, or split batches with --config.accumulate"
    return line


def _step_bytes(like, plan, config, mesh):
    """Estimate the bytes of the state and of a training step on a device: activations and a gradient."""
    model, frames = config.model, config.mel.sample_rate / config.mel.hop
    state = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like)
    )
    shares = sharding.parts(mesh) * config.accumulate
    activations = 0.0
    for bucket, seconds in enumerate(plan.buckets):
        length = math.ceil(seconds * frames / model.patch)  # tokens
        tokens = plan.size(bucket) / shares * length
        scores = model.heads * min(length, model.attention_block or length)
        layer = SAVED * model.width + scores
        saved = SAVED_REMAT * model.width * model.layers + layer if model.remat == "full" else layer * model.layers
        activations = max(activations, tokens * saved)
    return state + activations * np.dtype(config.precision.compute).itemsize


def _free_bytes() -> float | None:
    """Return the free memory of the first device in bytes; of the machine if that is its CPU. None if unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    limits = [_available(), _cgroup_rest()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _available():
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    if "SC_PHYS_PAGES" in os.sysconf_names:  # macOS
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return None


def _cgroup_rest():
    """Return what the limit of a container leaves, in bytes; None if there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        return float(int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text()))
    except (OSError, ValueError):  # no cgroup of version 2, or no limit ("max")
        return None
