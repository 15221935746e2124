"""Where arrays live: the processes of a run, their mesh of devices, and the table from parameter paths to its axes.

Only this module names axes.
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
SILENCE = 30  # seconds without a sign of life after which a process is given up, and the others end
EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
BATCH = PartitionSpec(("data", "fsdp"))
LARGE = 2**24  # bytes of a leaf that must not lie whole on every device of a mesh that splits parameters

# The first pattern found in a leaf's path decides; the leading axis of transformer leaves is the layer.
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

# The model's words for the axes of its activations; those that are not here are whole.
ACTIVATIONS = {"batch": ("data", "fsdp"), "heads": "tensor", "units": "tensor"}

_mesh: contextvars.ContextVar[Mesh | AbstractMesh | None] = contextvars.ContextVar("mesh", default=None)


def join(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the processes that the environment names into one run; alone if it names none. Call it before all else.

    These are the tasks of a SLURM step, the hosts of a TPU pod in Kubernetes (TPU_WORKER_HOSTNAMES), those that JAX
    finds by itself where SFJAX_CLUSTER=auto, or those that the variables `EXPLICIT` give, all three. `UserError` if
    they are incomplete.
    """
    found = {name: environment[name] for name in EXPLICIT if name in environment}
    if found:
        try:
            address, count, number = found[EXPLICIT[0]], int(found[EXPLICIT[1]]), int(found[EXPLICIT[2]])
        except (KeyError, ValueError):
            raise UserError(f"wanted {', '.join(EXPLICIT)}, host:port and two numbers; got {found}") from None
        jax.distributed.initialize(address, count, number, heartbeat_timeout_seconds=SILENCE)
    elif (
        int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1
        or "," in environment.get("TPU_WORKER_HOSTNAMES", "")
        or environment.get("SFJAX_CLUSTER") == "auto"
    ):
        jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)


def agree(text: str, what: str) -> None:
    """`UserError` on every process unless all of them hold the same text."""
    if jax.process_count() == 1:
        return
    mine = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)
    every = np.asarray(multihost_utils.process_allgather(mine))
    others = [i for i, found in enumerate(every) if not np.array_equal(found, every[0])]
    if others:
        raise UserError(f"processes {others} of {len(every)} have another {what} than process 0; start all alike")


def meet(name: str) -> None:
    """Returns when every process has come to the place of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def mesh(devices: Sequence[Any] | None = None, /, *, data: int, fsdp: int, tensor: int) -> Mesh:
    """Devices (default: all) as a data × fsdp × tensor mesh; one size may be −1, which takes the devices left."""
    sizes, devices = [data, fsdp, tensor], jax.devices() if devices is None else devices
    known = int(np.prod([size for size in sizes if size != -1]))
    wrong = sizes.count(-1) > 1 or (sizes.count(-1) == 0 and known != len(devices))
    if wrong or min(size for size in sizes if size != -1) < 1 or len(devices) % known:
        asked = " × ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise UserError(f"the mesh {asked} does not divide {len(devices)} devices; set one axis to -1 for the rest")
    shape = [len(devices) // known if size == -1 else size for size in sizes]
    return jax.make_mesh(tuple(shape), AXES, devices=devices, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(tree, on: Mesh | AbstractMesh):
    """The NamedSharding of every leaf of a tree of arrays or shapes, by `RULES`.

    `UserError` for a leaf without a rule, for one that the mesh does not divide, and for a large one that would lie
    whole on devices that split parameters.
    """

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in RULES:
            if re.search(pattern, name):
                return _checked(name, leaf, NamedSharding(on, spec))
        raise UserError(f"no sharding rule for {name} {leaf.shape}; add one to sfjax.sharding.RULES")

    return jax.tree_util.tree_map_with_path(place, tree)


def _checked(name, leaf, sharding):
    try:
        shard = sharding.shard_shape(leaf.shape)
    except ValueError:
        sizes = " × ".join(f"{axis} {size}" for axis, size in sharding.mesh.shape.items())
        raise UserError(
            f"{name} {leaf.shape}, split by {sharding.spec}, does not divide into the mesh {sizes}; "
            "choose sizes of fsdp and tensor that divide the network's width and ffn"
        ) from None
    whole = leaf.size * leaf.dtype.itemsize if jnp.issubdtype(leaf.dtype, jnp.number) else 0
    splits = sharding.mesh.shape["fsdp"] * sharding.mesh.shape["tensor"]
    if whole >= LARGE and math.prod(shard) * splits > leaf.size:
        raise UserError(
            f"{name} has {whole / 2**20:.0f} MiB, of which every device would hold {math.prod(shard)} of {leaf.size} "
            f"elements though fsdp × tensor is {splits}; split it by a rule in sfjax.sharding.RULES"
        )
    return sharding


@contextlib.contextmanager
def activations(on: Mesh | AbstractMesh) -> Iterator[None]:
    """While it is open (or around the function that it decorates), `constrain` splits activations over a mesh."""
    token = _mesh.set(on)
    try:
        yield
    finally:
        _mesh.reset(token)


def constrain(x: Array, *names: str) -> Array:
    """`x`, with its axes split as `ACTIVATIONS` says of their names, where the mesh divides them; no mesh, no change.

    The compiler would find a split from those of parameters and batch, but for fsdp it takes one that moves the
    activations rather than the parameters.
    """
    on = _mesh.get()
    if on is None:
        return x
    spec = [ACTIVATIONS.get(name) for name in names]
    size = lambda axes: math.prod(on.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ()))
    spec = [None if length % size(axes) else axes for axes, length in zip(spec, x.shape, strict=True)]
    return jax.lax.with_sharding_constraint(x, NamedSharding(on, PartitionSpec(*spec)))


def by_example(function: Callable, *arrays: Any) -> Any:
    """`function(*arrays)`, which treats each example of the first axis by itself, on every device for its own examples.

    The arrays may be trees of arrays.

    For what the compiler cannot split: it would gather the batch for an FFT, and do all of it everywhere.
    """
    on = _mesh.get()
    if on is None or any(len(x) % parts(on) for x in jax.tree.leaves(arrays)):
        return function(*arrays)
    return jax.shard_map(function, mesh=on, in_specs=BATCH, out_specs=BATCH)(*arrays)


def parts(on: Mesh | AbstractMesh) -> int:
    """How many equal parts a batch is split into."""
    return math.prod(on.shape[axis] for axis in BATCH[0])


def batch(on: Mesh) -> NamedSharding:
    """Arrays whose first axis is the batch: split over data and fsdp."""
    return NamedSharding(on, BATCH)


def place(share: Any, to: NamedSharding) -> Any:
    """Arrays of which every process holds its own share of the first axis, as arrays of all of it."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(to, x), share)


def replicated(on: Mesh) -> NamedSharding:
    """Arrays that every device holds whole."""
    return NamedSharding(on, PartitionSpec())
