"""The mesh, the strict table, and that devices change no loss."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from sfjax import optim, precision, sharding, train
from sfjax.configs import default
from sfjax.errors import UserError
from sfjax.model import Estimator


@pytest.mark.parametrize("size", default.SIZES)
def test_every_leaf_of_a_state_has_a_rule(size):
    config = default.get_config(size)
    network = Estimator(**config.model, mels=80, dtype=jnp.float32)
    tx = optim.adam(**config.optim)
    state = jax.eval_shape(lambda key: train.init(network, tx, precision.policy("fp16"), key), jax.random.key(0))
    places = sharding.shardings(state, sharding.mesh(data=-1, fsdp=1, tensor=1))
    up = places.params["transformer"]["early"]["up"]["kernel"].spec
    assert up == jax.sharding.PartitionSpec(None, "fsdp", "tensor")
    # the moments of Adam lie where their parameters do
    moments = [
        leaf for leaf in jax.tree.leaves(places.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(leaf, "mu")
    ]
    assert moments[0].mu["transformer"]["early"]["up"]["kernel"].spec == up


def test_a_leaf_without_a_rule_is_an_error():
    with pytest.raises(KeyError, match="no sharding rule for transformer/early/surprise"):
        sharding.shardings(
            {"transformer": {"early": {"surprise": jnp.zeros(3)}}}, sharding.mesh(data=-1, fsdp=1, tensor=1)
        )


def test_a_mesh_that_does_not_divide_the_devices_is_an_error():
    for sizes in (dict(data=3, fsdp=1, tensor=1), dict(data=-1, fsdp=-1, tensor=1), dict(data=-1, fsdp=7, tensor=1)):
        with pytest.raises(UserError, match="does not divide 1 devices"):
            sharding.mesh(**sizes)


TWO_DEVICES = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)
from ml_collections import ConfigDict
from sfjax import precision, train
config = ConfigDict(json.loads(sys.argv[1]), convert_dict=True)
config.data.buckets, config.task.fraction = tuple(config.data.buckets), tuple(config.task.fraction)
train.run(config, sys.argv[2])
"""


def test_two_devices_learn_what_one_does(toy_config, tmp_path):
    config = toy_config("pretrain", **{"data.multiple": 2, "optim.updates": 3, "run.valid_batches": 0})
    train.run(config, tmp_path / "one")
    arguments = [json.dumps(config.to_dict()), str(tmp_path / "two")]
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    # sums over devices round differently, and Adam's first updates amplify that
    assert two == pytest.approx(one, rel=1e-4)
