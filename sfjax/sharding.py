"""Where arrays live: the device mesh and the table from parameter paths to its axes. Only this module names axes."""

from __future__ import annotations

import math
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sfjax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))

# The first pattern found in a leaf's path decides; the leading axis of transformer leaves is the layer.
RULES = (
    (r"transformer/(early|late)/(query|key|value|up)/kernel$", PartitionSpec(None, "fsdp", "tensor")),
    (r"transformer/(early|late)/(out|down)/kernel$", PartitionSpec(None, "tensor", "fsdp")),
    (r"transformer/(early|late)/skip/kernel$", PartitionSpec(None, "fsdp", "tensor")),
    (r"transformer/(early|late)/(query|key|value|up)/bias$", PartitionSpec(None, "tensor")),
    (r"transformer/(early|late)/(out|down|skip)/bias$", PartitionSpec()),
    (r"(norm|attention_norm|ffn_norm)/(scale|bias)$", PartitionSpec()),
    (r"position/conv_\d+/(kernel|bias)$", PartitionSpec()),
    (r"(input|output)/(kernel|bias)$", PartitionSpec()),
    (r"time_scale$", PartitionSpec()),
    (r"(^|/)(step|count|skipped|streak|scale/value|scale/steps)$", PartitionSpec()),
)


def mesh(*, data: int, fsdp: int, tensor: int) -> Mesh:
    """The devices as a data × fsdp × tensor mesh; one size may be −1, which takes the devices that are left."""
    sizes, devices = [data, fsdp, tensor], jax.devices()
    known = int(np.prod([size for size in sizes if size != -1]))
    wrong = sizes.count(-1) > 1 or (sizes.count(-1) == 0 and known != len(devices))
    if wrong or min(size for size in sizes if size != -1) < 1 or len(devices) % known:
        asked = " × ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise UserError(f"the mesh {asked} does not divide {len(devices)} devices; set one axis to -1 for the rest")
    shape = [len(devices) // known if size == -1 else size for size in sizes]
    return jax.make_mesh(tuple(shape), AXES, devices=devices, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(tree, on: Mesh):
    """The NamedSharding of every leaf of a tree of arrays or shapes, by `RULES`; KeyError for one without a rule."""

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in RULES:
            if re.search(pattern, name):
                return NamedSharding(on, spec)
        raise KeyError(f"no sharding rule for {name} {leaf.shape}: add one to sfjax.sharding.RULES")

    return jax.tree_util.tree_map_with_path(place, tree)


def parts(on: Mesh) -> int:
    """How many equal parts a batch is split into."""
    return math.prod(on.shape[axis] for axis in BATCH[0])


def batch(on: Mesh) -> NamedSharding:
    """Arrays whose first axis is the batch: split over data and fsdp."""
    return NamedSharding(on, BATCH)


def replicated(on: Mesh) -> NamedSharding:
    """Arrays that every device holds whole."""
    return NamedSharding(on, PartitionSpec())
