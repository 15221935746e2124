"""Every parameter has a sharding rule that its mesh divides, and eight devices compute the same loss as one."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from sfjax import sharding, train
from sfjax.config import read
from sfjax.configs import default
from sfjax.errors import UserError


@pytest.mark.parametrize("size", default.SIZES)
def test_every_leaf_of_a_state_has_a_rule(size):
    config = default.get_config(size)
    config.precision = "fp16"
    state = jax.eval_shape(train.make_program(read(config)).random_state, jax.random.key(0))
    places = sharding.shardings(state, sharding.mesh(data=-1, fsdp=1, tensor=1))
    up = places.params["transformer"]["early"]["up"]["kernel"].spec
    assert up == PartitionSpec(None, "fsdp", "tensor")
    # the moments lie where their parameters do, those of Adam or of Muon
    leaves = jax.tree_util.tree_leaves_with_path(places.opt_state)
    moments = [
        place.spec for path, place in leaves if "mu" in str(path) and "'early'" in str(path) and "'up'" in str(path)
    ]
    assert moments.count(up) == 1 and len(moments) == 2  # of the kernel and of its bias


def test_the_momentum_of_muon_lies_where_its_kernels_do():
    config = default.get_config("large")
    config.optim.muon = 10.0
    state = jax.eval_shape(train.make_program(read(config)).random_state, jax.random.key(0))
    places = sharding.shardings(state, described(data=2, fsdp=2, tensor=2))
    by_name = lambda tree: {
        jax.tree_util.keystr(path, simple=True, separator="/"): (leaf.shape, place.spec)
        for (path, leaf), place in zip(
            jax.tree_util.tree_leaves_with_path(tree[0]), jax.tree.leaves(tree[1]), strict=True
        )
    }
    params, moments = by_name((state.params, places.params)), by_name((state.opt_state, places.opt_state))
    momentum = {
        name.partition("/mu/")[2]: leaf for name, leaf in moments.items() if "/muon/" in name and "/mu/" in name
    }
    squares = {name.partition("/nu/")[2]: leaf for name, leaf in moments.items() if "/nu/" in name}
    assert len(momentum) == 2 * 6 + 1 and all(name.startswith("transformer/") for name in momentum)
    assert momentum == {name: params[name] for name in momentum}
    assert squares == {name: leaf for name, leaf in params.items() if name not in momentum}  # Adam has the rest


def test_a_leaf_without_a_rule_is_an_error():
    with pytest.raises(UserError, match="no sharding rule for transformer/early/surprise"):
        sharding.shardings(
            {"transformer": {"early": {"surprise": jnp.zeros(3)}}}, sharding.mesh(data=-1, fsdp=1, tensor=1)
        )


def test_a_mesh_that_does_not_divide_the_devices_is_an_error():
    for sizes in (dict(data=3, fsdp=1, tensor=1), dict(data=-1, fsdp=-1, tensor=1), dict(data=-1, fsdp=7, tensor=1)):
        with pytest.raises(UserError, match="does not divide 1 devices"):
            sharding.mesh(**sizes)


HERE = Path(__file__).parent


def described(**sizes):
    """A mesh without devices: enough for shapes."""
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def test_every_large_leaf_is_split_as_the_golden_file_says():
    made = train.make_program(read(default.get_config("large")))
    shapes = jax.eval_shape(made.random_state, jax.random.key(0))
    places = sharding.shardings(shapes, described(data=2, fsdp=2, tensor=2))
    lines = []
    for (path, leaf), place in zip(jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(places), strict=True):
        if math.prod(leaf.shape) >= 2**16:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            lines.append(f"{name} {leaf.shape} {tuple(place.spec)} {place.shard_shape(leaf.shape)}")
    golden = HERE / "shards_large.txt"
    assert golden.read_text().splitlines() == lines


def test_a_large_leaf_that_would_lie_whole_on_every_device_is_an_error(monkeypatch):
    leaf = {"output/kernel": jax.ShapeDtypeStruct((4096, 1024), jnp.float32)}
    sharding.shardings(leaf, described(data=8, fsdp=1, tensor=1))  # nothing is to be split there
    with pytest.raises(UserError, match=r"output/kernel .16 MiB.* \(fsdp × tensor = 4\).*RULES"):
        sharding.shardings(leaf, described(data=2, fsdp=2, tensor=2))
    half = {"transformer/early/up/bias": jax.ShapeDtypeStruct((4096, 1024), jnp.float32)}  # by tensor, not by fsdp
    with pytest.raises(UserError, match="every device would hold 2097152 of 4194304"):
        sharding.shardings(half, described(data=2, fsdp=2, tensor=2))


def test_a_leaf_that_the_mesh_does_not_divide_is_an_error():
    leaf = {"transformer/early/up/kernel": jax.ShapeDtypeStruct((2, 64, 256), jnp.float32)}
    with pytest.raises(UserError, match=r"up/kernel .*\(2, 64, 256\).*not divisible by the mesh .data 1 × fsdp 3"):
        sharding.shardings(leaf, described(data=1, fsdp=3, tensor=1))


def test_activations_are_split_where_the_mesh_divides_them():
    x = jax.ShapeDtypeStruct((6, 10, 8), jnp.float32)
    named = lambda x: sharding.constrain(x, "batch", "frames", "heads")
    lowered = lambda fun: str(jax.jit(fun).trace(x).jaxpr)
    assert "sharding_constraint" not in lowered(named)
    text = lowered(sharding.activations(described(data=1, fsdp=2, tensor=4))(named))
    assert "('data', 'fsdp'), None, 'tensor'" in text
    text = lowered(sharding.activations(described(data=2, fsdp=2, tensor=1))(named))
    assert "None, None, 'tensor'" in text


SIZES = {"width": 64, "ffn": 128, "heads": 4, "layers": 4, "attention_block": 32, "remat": "full"}
TOY = {f"model.{name}": value for name, value in SIZES.items()}
PROGRAMS = {  # adapters in a model of several tasks stand for the rest outside of the nightly tests
    "adapters": ("several", TOY | {"lora.rank": 8}, ["all"]),
    "pretrain": ("pretrain", TOY, ["data", "fsdp", "all"]),
    "phase": ("phase", {"phase.width": 64, "precision": "fp32"}, ["all"]),
}
MANY = [
    pytest.param(program, mesh, marks=pytest.mark.slow if program == "adapters" else pytest.mark.nightly)
    for program, (_, _, meshes) in PROGRAMS.items()
    for mesh in meshes
]


@pytest.fixture(scope="module")
def on_eight(toy_config, tmp_path_factory):
    """What `eight_devices.py` finds of a program, by mesh and name."""

    @functools.cache
    def found(program):
        kind, changes, meshes = PROGRAMS[program]
        folder = tmp_path_factory.mktemp(program)
        given = json.dumps(toy_config(kind, **changes).to_dict())
        command = [sys.executable, HERE / "eight_devices.py", given, folder / "found.npz", folder / "checkpoints"]
        done = subprocess.run([*command, "one", *meshes], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        by_mesh = {}
        for key, value in np.load(folder / "found.npz").items():
            mesh, name = key.split(" ", 1)
            by_mesh.setdefault(mesh, {})[name] = value
        return by_mesh

    return found


@pytest.mark.parametrize("program, mesh", MANY)
def test_eight_devices_find_the_loss_gradient_and_samples_of_one(on_eight, program, mesh):
    one, many = on_eight(program)["one"], on_eight(program)[mesh]
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert one.keys() == many.keys() and len(one) > 8
    one, many = ({name: value for name, value in found.items() if name != "digests"} for found in (one, many))
    largest = max(np.abs(value).max() for name, value in one.items() if name not in ("loss", "sample"))
    for name, value in one.items():
        # sums over devices round differently: relative to a leaf's largest element, or a thousandth of all leaves'
        size = max(np.abs(value).max(), 1e-3 * largest)
        np.testing.assert_allclose(many[name], value, rtol=0, atol=1e-5 * size, err_msg=name)
    assert program == "phase" or np.abs(one["sample"]).max() > 1


@pytest.mark.parametrize("program, mesh", MANY)
def test_a_checkpoint_is_read_bit_for_bit_on_another_mesh(on_eight, program, mesh):
    np.testing.assert_array_equal(on_eight(program)[mesh]["digests"], on_eight(program)["one"]["digests"])
