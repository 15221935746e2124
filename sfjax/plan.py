"""Compile the training step for devices that you do not have: memory, arithmetic and communication.

Nothing is measured. Bytes are the compiler's, FLOPs are counted from shapes, collectives are read from the compiled
program, and times are lower bounds from peak rates (a roofline).
"""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import math
import os
import re
import time
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import AbstractMesh, AxisType, Mesh

from sfjax import sharding
from sfjax.errors import UserError

GIB = 2**30


class Chip(NamedTuple):
    """One chip: GiB of memory, bfloat16 FLOP/s, and bytes/s of its memory and of all its links in one direction."""

    memory: float
    flops: float
    bandwidth: float
    links: float


CHIPS = {  # cloud.google.com/tpu/docs, system architecture; links are half of the bidirectional figure
    "v5e": Chip(16, 197e12, 819e9, 200e9),
    "v5p": Chip(95, 459e12, 2765e9, 600e9),
    "v6e": Chip(32, 918e12, 1640e9, 400e9),
}
LIBTPU = {  # without these, libtpu queries a machine that is not there, and refuses a second process
    "TPU_ACCELERATOR_TYPE": "v5e-256",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def devices(topology: str) -> tuple[list[Any], Chip | None]:
    """Return the devices of a topology, and the chip: `v5e:16x16` is described by libtpu, `cpu:32` are virtual devices.

    Call it before JAX starts its backends. Raises `UserError` for an unknown topology.
    """
    kind, _, shape = topology.partition(":")
    if kind == "cpu" and shape.isdigit() and int(shape):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", int(shape))
        return jax.devices(), None
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise UserError(
            f"unknown topology {topology!r}; give cpu:N or one of {', '.join(CHIPS)} with its shape, like v5e:16x16"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"{topology} needs libtpu, which describes it: pip install 'sfjax[tpu]'")
    jax.config.update("jax_platforms", "cpu")
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"unknown topology {topology!r} ({reason}); give a shape that {kind} chips come in") from None
    return list(description.devices), CHIPS[kind]


class Moved(NamedTuple):
    """Collectives of one kind in a step: how many, and the bytes that a device receives through them."""

    count: int
    bytes: float


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(
    r"= (\(.*?\)|\S+) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BITS = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, Moved]:
    """Count the collectives in the text of a compiled program; those in a loop count once for each turn."""
    bodies: dict[str, list[str]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name = header[1]
            bodies[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            bodies[name].append(line)
    times: dict[str, int] = collections.Counter()

    def visit(name, factor):
        times[name] += factor
        for line in bodies.get(name, ()):
            turns = _turns(line, bodies) if " while(" in line else 1
            called = _CALLED.findall(line)
            if branches := re.search(r"branch_computations=\{([^}]*)\}", line):
                called += [branch.strip().lstrip("%") for branch in branches[1].split(",")]
            for other in called:
                visit(other, factor * turns)

    visit(entry, 1)
    partitions = re.search(r"num_partitions=(\d+)", text)
    devices = int(partitions[1]) if partitions else 1
    by_channel: dict[str, tuple[str, int, float]] = {}
    for name, lines in bodies.items():
        for number, line in enumerate(lines):
            if times[name] and (match := _COLLECTIVE.search(line)):
                # a TPU program repeats a collective in the phases of its asynchronous form, under one channel
                channel = re.search(r"channel_id=(\d+)", line)
                key = channel[1] if channel else f"{name} {number}"
                by_channel[key] = match[2], times[name], _received_bytes(match, line, devices)
    total: dict[str, Moved] = {}
    for kind, count, size in by_channel.values():
        before = total.get(kind, Moved(0, 0.0))
        total[kind] = Moved(before.count + count, before.bytes + count * size)
    return total


def _turns(line, bodies):
    """Return how often a loop turns: as the compiler states, or the number that its condition compares with."""
    if stated := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
        return int(stated[1])
    condition = re.findall(r"condition=%?([\w.\-]+)", line)[0]
    numbers = [re.search(r"s32\[\]\S* constant\((\d+)\)", line) for line in bodies.get(condition, ())]
    return max((int(number[1]) for number in numbers if number), default=1)


def _received_bytes(match, line, devices):
    """Return the bytes that a device receives through one collective, if it runs on a ring."""
    shape, kind, started = match.groups()
    sizes = [_array_bytes(array) for array in _BITS.finditer(shape)]
    size = max(sizes) if started else sum(sizes)  # an asynchronous start lists its operands too
    group = _group_size(line, devices)
    share = (group - 1) / group
    factor = {"all-gather": share, "all-reduce": 2 * share, "reduce-scatter": group - 1, "all-to-all": share}
    return size * factor.get(kind, 1.0)


def _array_bytes(match):
    length = math.prod(int(size) for size in match[3].split(",") if size)
    return length * (int(match[2]) // 8 if match[2] else 1)


def _group_size(line, devices):
    """Return how many devices take part in a collective together; all of them if it names no groups."""
    if groups := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(groups[1].split(","))
    if groups := re.search(r"replica_groups=\[(?:\d+,)*(\d+)\]<=", line):
        return int(groups[1])
    if groups := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", groups[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", groups[2]))
    return devices


def flops(params: Any, frozen: Any, *, width: int, layers: int, batch: int, tokens: int) -> float:
    """Count the FLOPs of a step from its shapes, forward and backward, without recomputation by rematerialisation.

    Every matrix is applied once to every token (the time is one more token), and attention to every pair of tokens.
    Frozen matrices have no gradient of their own.
    """
    positions = tokens + 1
    products = 3 * _matrix_elements(params) + 2 * _matrix_elements(frozen)
    return batch * (2.0 * products * positions + 3.0 * 4 * layers * width * positions**2)


def _matrix_elements(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return sum(leaf.size for path, leaf in leaves if re.search(r"kernel|_lora", jax.tree_util.keystr(path)))


def on_chip(tree: Any) -> int:
    """Count the bytes on one device of a tree of shapes with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class Report:
    """A plan: sizes in bytes on one device, `moved` by kind, times in seconds, and `failure` if it did not compile."""

    mesh: dict[str, int]
    parameters: int
    kinds: dict[str, int]
    memory: float | None
    flops: float
    moved: dict[str, Moved]
    bounds: dict[str, float]
    audio: float
    updates: int
    utilisation: float
    step: float | None
    compiling: float
    failure: str
    advice: str

    @property
    def total(self) -> int:
        """Bytes in use on one device."""
        return sum(self.kinds.values())

    def text(self) -> str:
        """Return the report for a terminal."""
        mesh = " × ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        lines = [f"mesh {mesh}; {self.parameters:,} parameters; compiled in {self.compiling:.0f} s", ""]
        if self.failure:
            lines += [f"does not compile: {self.failure}", ""]
        lines += [f"{kind:24}{size / GIB:9.3f} GiB per device" for kind, size in self.kinds.items() if size]
        share = f", {self.total / GIB / self.memory:.0%} of {self.memory:g}" if self.memory else ""
        lines += [f"{'in all':24}{self.total / GIB:9.3f} GiB{share}", ""]
        lines += [
            f"{kind:24}{moved.count:9,} in a step, {moved.bytes / GIB:.3f} GiB received by a device"
            for kind, moved in sorted(self.moved.items())
        ]
        lines += ["", f"{'arithmetic':24}{self.flops / 1e12:9.1f} TFLOP in a step of {self.audio:.0f} s of audio"]
        if self.bounds:
            lines += [f"{name:24}{1000 * bound:9.1f} ms at the least" for name, bound in self.bounds.items()]
            slowest = max(self.bounds, key=lambda name: self.bounds[name])
            lines.append(f"roofline: no step is faster than {1000 * self.bounds[slowest]:.1f} ms ({slowest})")
        if self.step is not None:
            lines.append(
                f"at {self.utilisation:.0%} of the peak rate: {1000 * self.step:.0f} ms a step, "
                f"{self.audio / self.step:,.0f} hours of audio an hour, {self.updates * self.step / 86400:.1f} days "
                f"for {self.updates:,} steps"
            )
        return "\n".join([*lines, "", self.advice])


class Work(NamedTuple):
    """The work of a run: FLOPs and seconds of audio of one step, and the number of steps."""

    flops: float
    audio: float
    updates: int


def plan(
    lowered: Any,
    state: Any,
    batch: Any,
    *,
    mesh: Mesh,
    chip: Chip | None,
    memory: float | None,
    work: Work,
    utilisation: float,
) -> Report:
    """Compile a lowered step on `mesh` and report on it.

    `state` and `batch` are shapes with shardings; `memory` is the GiB of a device and replaces the `chip`'s own;
    `utilisation` is the share of the peak rate to assume.
    """
    memory = chip.memory if memory is None and chip else memory
    start, failure, compiled = time.perf_counter(), "", None
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:  # out of memory
        failure = " ".join(str(error).split())[:300]
    compiling = time.perf_counter() - start
    kinds = {
        "parameters": on_chip(state.params),
        "their average": on_chip(state.ema),
        "frozen parameters": on_chip(state.frozen),
        "optimizer": on_chip(state.opt_state),
        "batch": on_chip(batch),
    }
    moved: dict[str, Moved] = {}
    if compiled is not None:
        analysis = compiled.memory_analysis()
        kinds["activations and the rest"] = analysis.temp_size_in_bytes + max(
            analysis.output_size_in_bytes - analysis.alias_size_in_bytes, 0
        )
        moved = collectives(compiled.as_text())
    bounds, step = {}, None
    if chip is not None:
        device_flops = work.flops / mesh.size
        bounds = {
            "arithmetic at its peak": device_flops / chip.flops,
            "state read and written": 2 * on_chip((state.params, state.ema, state.opt_state)) / chip.bandwidth,
            "collectives on all links": sum(collective.bytes for collective in moved.values()) / chip.links,
        }
        step = device_flops / (chip.flops * utilisation)
    return Report(
        mesh=dict(mesh.shape),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        kinds=kinds,
        memory=memory,
        flops=work.flops,
        moved=moved,
        bounds=bounds,
        audio=work.audio,
        updates=work.updates,
        utilisation=utilisation,
        step=step,
        compiling=compiling,
        failure=failure,
        advice=_advice(state, kinds, memory, mesh, failure),
    )


def _advice(state, kinds, memory, mesh, failure):
    """Recommend the mesh that fits with the least traffic of parameters; the batch is split as before."""
    if memory is None:
        return "set --memory to the GiB of a device to see which mesh fits"
    parts, tensor = mesh.shape["data"] * mesh.shape["fsdp"], mesh.shape["tensor"]
    other = kinds["batch"] + kinds.get("activations and the rest", 0)
    for fsdp in (size for size in range(1, parts + 1) if parts % size == 0):
        shape = (parts // fsdp, fsdp, tensor)
        candidate = AbstractMesh(shape, sharding.AXES, axis_types=(AxisType.Auto,) * 3)
        try:
            shardings = sharding.shardings(state, candidate)
        except UserError:
            continue
        split = jax.tree.map(_with_sharding, state, shardings)
        gradients = max(on_chip(split.params) - kinds["parameters"], 0)  # the gradients of `mesh` are in `other`
        needed = (on_chip(split) + gradients + other) / GIB
        if needed <= 0.9 * memory and not (failure and fsdp <= mesh.shape["fsdp"]):
            flags = " ".join(f"--config.mesh.{axis}={size}" for axis, size in zip(sharding.AXES, shape, strict=True))
            caveat = " (without activations, which could not be compiled)" if failure else ""
            return f"the mesh that fits with the least traffic: {flags}, about {needed:.1f} GiB per device{caveat}"
    return (
        f"no split of the state over these devices fits into {memory:g} GiB; try --config.model.remat=full, "
        "--config.accumulate, fewer --config.data.seconds or more devices"
    )


def _with_sharding(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
