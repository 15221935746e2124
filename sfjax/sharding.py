"""Join processes, make the device mesh, and map parameter paths to mesh axes.

Only this module names mesh axes.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from sfjax.errors import UserError

AXES = ("data", "fsdp", "tensor")
SILENCE = 30  # seconds without a heartbeat after which a process counts as dead, and the others end
EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
BATCH = PartitionSpec(("data", "fsdp"))
LARGE = 2**24  # bytes from which on a leaf must be split on a mesh that splits parameters

# The first pattern that matches a leaf's path applies; the leading axis of transformer leaves is the layer.
RULES = (
    (r"transformer/(early|late)/(query|key|value|up)/kernel$", PartitionSpec(None, "fsdp", "tensor")),
    (r"transformer/(early|late)/(out|down)/kernel$", PartitionSpec(None, "tensor", "fsdp")),
    (r"transformer/(early|late)/skip/kernel$", PartitionSpec(None, "fsdp", "tensor")),
    (r"transformer/(early|late)/(query|key|value|up|skip)_lora/a$", PartitionSpec(None, "fsdp")),
    (r"transformer/(early|late)/(query|key|value|up|skip)_lora/b$", PartitionSpec(None, None, "tensor")),
    (r"transformer/(early|late)/(out|down)_lora/a$", PartitionSpec(None, "tensor")),
    (r"transformer/(early|late)/(out|down)_lora/b$", PartitionSpec(None, None, "fsdp")),
    (r"transformer/(early|late)/(query|key|value|up)/bias$", PartitionSpec(None, "tensor")),
    (r"transformer/(early|late)/(out|down|skip)/bias$", PartitionSpec()),
    (r"(norm|attention_norm|ffn_norm|norm_\d+)/(scale|bias)$", PartitionSpec()),
    (r"position/conv_\d+/(kernel|bias)$", PartitionSpec()),
    (r"(input|output|embedding)/(kernel|bias)$", PartitionSpec()),
    (r"(time_scale|phone_gate|phone_table|copy_table)$", PartitionSpec()),
    (r"(^|/)(generator|discriminators)/", PartitionSpec()),
    (r"(first|second)_\d+/(kernel|bias)$", PartitionSpec()),
    (r"(^|/)blocks/(taps|scale|(up|down)/(kernel|bias))$", PartitionSpec()),
    (r"(^|/)(step|count|skipped|streak|ns_coeffs|scale/value|scale/steps)$", PartitionSpec()),
)

# Mesh axes of the model's activations by their names in the model; other axes are not split.
ACTIVATIONS = {"batch": ("data", "fsdp"), "heads": "tensor", "units": "tensor"}

_mesh: contextvars.ContextVar[Mesh | AbstractMesh | None] = contextvars.ContextVar("mesh", default=None)


def join_processes(environment: Mapping[str, str] = os.environ) -> None:
    """Join the processes that the environment names into one run; alone if it names none. Call it before all else.

    The processes are the tasks of a SLURM step, the hosts of a TPU pod in Kubernetes (TPU_WORKER_HOSTNAMES), those that
    JAX detects if SFJAX_CLUSTER=auto, or those of the three variables `EXPLICIT`. Raises `UserError` if these three
    are incomplete.
    """
    settings = {name: environment[name] for name in EXPLICIT if name in environment}
    if settings:
        try:
            address, count, number = settings[EXPLICIT[0]], int(settings[EXPLICIT[1]]), int(settings[EXPLICIT[2]])
        except (KeyError, ValueError):
            raise UserError(
                f"expected {', '.join(EXPLICIT)} as host:port and two numbers, got {settings}; set all three"
            ) from None
        jax.distributed.initialize(address, count, number, heartbeat_timeout_seconds=SILENCE)
    elif (
        int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
        or environment.get("SFJAX_CLUSTER") == "auto"
    ):
        jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)


def check_processes_agree(text: str, what: str) -> None:
    """Check that all processes hold the same text. Raises `UserError` on every process otherwise."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)
    digests = np.asarray(multihost_utils.process_allgather(digest))
    others = [i for i, other in enumerate(digests) if not np.array_equal(other, digests[0])]
    if others:
        raise UserError(
            f"processes {others} of {len(digests)} have another {what} than process 0; start all with the same {what}"
        )


def wait_for_processes(name: str) -> None:
    """Wait until every process has called this with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def mesh(devices: Sequence[Any] | None = None, /, *, data: int, fsdp: int, tensor: int) -> Mesh:
    """Return a data × fsdp × tensor mesh of devices (default: all); one size may be −1, for the remaining devices.

    Raises `UserError` if the sizes do not divide the devices.
    """
    sizes, devices = [data, fsdp, tensor], jax.devices() if devices is None else devices
    known = int(np.prod([size for size in sizes if size != -1]))
    wrong = sizes.count(-1) > 1 or (sizes.count(-1) == 0 and known != len(devices))
    if wrong or min(size for size in sizes if size != -1) < 1 or len(devices) % known:
        axes = " × ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise UserError(f"the mesh {axes} does not divide {len(devices)} devices; set one axis to -1 for the rest")
    shape = [len(devices) // known if size == -1 else size for size in sizes]
    return jax.make_mesh(tuple(shape), AXES, devices=devices, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(tree, on: Mesh | AbstractMesh):
    """Return the NamedSharding of every leaf of a tree of arrays or shapes, by `RULES`.

    Raises `UserError` for a leaf without a rule, and for a leaf that the mesh does not divide. On a mesh that splits
    parameters (fsdp or tensor above 1), also for a leaf of `LARGE` bytes or more in fewer than fsdp × tensor parts.
    """

    def by_rule(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in RULES:
            if re.search(pattern, name):
                return _checked_sharding(name, leaf, NamedSharding(on, spec))
        raise UserError(f"no sharding rule for {name} {leaf.shape}; add one to sfjax.sharding.RULES")

    return jax.tree_util.tree_map_with_path(by_rule, tree)


def _checked_sharding(name, leaf, sharding):
    try:
        shard = sharding.shard_shape(leaf.shape)
    except ValueError:
        sizes = " × ".join(f"{axis} {size}" for axis, size in sharding.mesh.shape.items())
        raise UserError(
            f"parameter {name} has shape {leaf.shape}, which is not divisible by the mesh ({sizes}) as {sharding.spec} "
            "splits it; choose fsdp and tensor that divide the network's width and ffn"
        ) from None
    size = leaf.size * leaf.dtype.itemsize if jnp.issubdtype(leaf.dtype, jnp.number) else 0
    splits = sharding.mesh.shape["fsdp"] * sharding.mesh.shape["tensor"]
    if size >= LARGE and math.prod(shard) * splits > leaf.size:
        raise UserError(
            f"parameter {name} ({size / 2**20:.0f} MiB) is not split over the mesh (fsdp × tensor = {splits}): every "
            f"device would hold {math.prod(shard)} of {leaf.size} elements; add or change its rule in RULES of "
            "sfjax/sharding.py"
        )
    return sharding


@contextlib.contextmanager
def activations(on: Mesh | AbstractMesh) -> Iterator[None]:
    """Let `constrain` split activations over a mesh, in this context or in the function that this decorates."""
    token = _mesh.set(on)
    try:
        yield
    finally:
        _mesh.reset(token)


def constrain(x: Array, *names: str) -> Array:
    """Split the axes of `x` by their names in `ACTIVATIONS`, where the mesh divides them; without a mesh, return `x`.

    The compiler would derive a split from the parameters and the batch, but with fsdp it chooses one that moves the
    activations rather than the parameters.
    """
    on = _mesh.get()
    if on is None:
        return x
    spec = [ACTIVATIONS.get(name) for name in names]
    spec = [None if length % _mesh_size(on, axes) else axes for axes, length in zip(spec, x.shape, strict=True)]
    return jax.lax.with_sharding_constraint(x, NamedSharding(on, PartitionSpec(*spec)))


def _mesh_size(on, axes):
    """Return how many parts one mesh axis, a tuple of them, or None splits an array axis into."""
    return math.prod(on.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ()))


def by_example(function: Callable, *arrays: Any) -> Any:
    """Compute `function(*arrays)` on every device for its own examples.

    `function` must treat each example of the first axis separately. The arrays may be trees of arrays. Use this for
    what the compiler cannot split: for an FFT, it would gather the batch and compute all of it on every device.
    """
    on = _mesh.get()
    if on is None or any(len(x) % parts(on) for x in jax.tree.leaves(arrays)):
        return function(*arrays)
    return jax.shard_map(function, mesh=on, in_specs=BATCH, out_specs=BATCH)(*arrays)


def parts(on: Mesh | AbstractMesh) -> int:
    """Return how many equal parts a batch is split into."""
    return math.prod(on.shape[axis] for axis in BATCH[0])


def batch(on: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose first axis is the batch: split over data and fsdp."""
    return NamedSharding(on, BATCH)


def make_global(share: Any, to: NamedSharding) -> Any:
    """Make global arrays; `share` is what this process holds of their first axis."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(to, x), share)


def replicated(on: Mesh | AbstractMesh) -> NamedSharding:
    """Return the sharding of arrays that every device holds whole."""
    return NamedSharding(on, PartitionSpec())
