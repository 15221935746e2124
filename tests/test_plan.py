"""`sfjax plan` counts FLOPs, bytes and traffic as theory says, and refuses unknown topologies."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from sfjax import plan, train
from sfjax.config import read
from sfjax.configs import default
from sfjax.errors import UserError


@pytest.mark.parametrize("patch", [1, 2])
def test_flops_are_those_that_the_compiler_counts(patch):
    config = default.get_config("tiny")
    config.model.patch = patch
    config.model.attention_block, config.model.unroll = 0, 2  # the compiler counts the body of a loop once
    made = train.make_program(read(config))
    params = jax.eval_shape(made.random_state, jax.random.key(0)).params
    frames = jax.ShapeDtypeStruct((2, 800, 80), jnp.float32)
    given = frames, jax.ShapeDtypeStruct((2,), jnp.float32), frames, jax.ShapeDtypeStruct((2,), jnp.int32)
    counted = jax.jit(lambda params, *given: made.network.apply({"params": params}, *given)).lower(params, *given)
    counted = counted.compile().cost_analysis()["flops"]
    ours = plan.flops(params, {}, width=64, layers=4, batch=2, tokens=800 // patch) / 3  # forward only
    # the compiler adds the softmax and other elementwise work, and the spare products of the Toeplitz convolution
    assert 0.8 * counted < ours < counted


def planned(tmp_path, *words):
    """What `sfjax plan` says and writes, from a process of its own: devices are chosen when it starts."""
    out = tmp_path / "plan.json"
    command = [sys.executable, "-m", "sfjax", "plan", *words, "-o", str(out)]
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done, json.loads(out.read_text()) if out.exists() else None


@pytest.mark.slow
def test_a_data_parallel_step_reduces_each_gradient_once(tmp_path):
    done, found = planned(
        tmp_path,
        "--config=configs/pretrain.py:tiny",
        "--topology=cpu:8",
        "--memory=1",
        "--config.data.seconds=32",
        "--config.data.buckets=(2.0,)",
    )
    assert done.returncode == 0, done.stderr
    assert "--config.data.multiple=8" in done.stdout and "--config.mesh.fsdp=1" in done.stdout
    kinds = found["kinds"]
    assert kinds["parameters"] == kinds["their average"] == 4 * found["parameters"]
    assert kinds["optimizer"] == 2 * kinds["parameters"] + 8  # two moments, two counts
    assert kinds["batch"] == 4 * (32 * 16_000 + 2 * 16) // 8  # samples, and a length and a task for each example
    # a ring moves 2 (n − 1) / n of what it reduces; two convolutions do so in the form of their Toeplitz matrices
    matrices = 2 * (16 * (8 * 4) * (22 * 4) - 15 * 4 * 64)
    assert set(found["moved"]) == {"all-reduce"}
    _, size = found["moved"]["all-reduce"]
    assert size == pytest.approx(2 * 7 / 8 * 4 * (found["parameters"] + matrices), rel=1e-4)


@pytest.mark.slow
def test_parameters_are_gathered_for_each_use_under_fsdp(tmp_path):
    done, found = planned(
        tmp_path,
        "--config=configs/pretrain.py:tiny",
        "--topology=cpu:4",
        "--config.data.seconds=32",
        "--config.data.buckets=(2.0,)",
        "--config.mesh.fsdp=4",
        "--config.model.unroll=1",
        "--config.mesh.data=1",
    )
    assert done.returncode == 0, done.stderr
    kinds = found["kinds"]
    assert kinds["parameters"] < 0.4 * 4 * found["parameters"]  # a quarter, but for what lies whole
    _, gathered = found["moved"]["all-gather"]
    # forward and backward, and the first layers of a loop's turn may be gathered again: two to three times
    assert 2 < gathered / (3 / 4 * 4 * found["parameters"] * 0.85) < 3


TEXT = """
HloModule step, num_partitions=8

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %gather = bf16[1,8,16]{2,1,0} all-gather(%x), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={1}
  ROOT %again = bf16[1,8,16]{2,1,0} all-gather(%x), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={1}
}

%condition (p: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %loop = (s32[], f32[4]) while(%init), condition=%condition, body=%body
  %started = (f32[10]{0}, f32[40]{0}) all-gather-start(%y), channel_id=4, replica_groups=[2,4]<=[8], dimensions={0}
  %done = f32[40]{0} all-gather-done(%started)
  %sum = (f32[100]{0}, f32[]) all-reduce(%y, %z), replica_groups={}, to_apply=%add
  %pass = f32[25]{0} collective-permute(%y), source_target_pairs={{0,1},{1,0}}
}
"""


def test_traffic_is_read_from_the_forms_that_compilers_write():
    found = plan.collectives(TEXT)
    assert found["all-gather"].count == 13
    assert found["all-gather"].bytes == pytest.approx(12 * 256 * 3 / 4 + 160 * 3 / 4)
    assert found["all-reduce"] == plan.Moved(1, pytest.approx(2 * 7 / 8 * 404))
    assert found["collective-permute"] == plan.Moved(1, 100)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_the_small_step_compiles_for_four_chips(tmp_path):
    done, found = planned(
        tmp_path,
        "--config=configs/pretrain.py:small",
        "--topology=v5e:2x2",
        "--config.precision=bf16",
        "--config.mesh.data=2",
        "--config.mesh.fsdp=2",
        "--config.data.seconds=64",
        "--config.model.unroll=1",
    )
    assert done.returncode == 0, done.stderr
    assert found["parameters"] == 15_747_537
    assert 0 < sum(found["kinds"].values()) < 16 * 2**30
    assert found["bounds"]["arithmetic at its peak"] == pytest.approx(found["flops"] / 4 / 197e12)
    assert "roofline: no step is faster than" in done.stdout
    _, gathered = found["moved"]["all-gather"]  # bfloat16 is gathered, forward and backward
    assert 0.9 * 2 * 2 / 2 * found["parameters"] < gathered < 3 * 2 / 2 * found["parameters"]


@pytest.mark.parametrize("topology", ["v5e", "v9:2x2", "cpu:0", "cpu:two", "gpu:8", "v5e:2x"])
def test_an_unknown_topology_is_refused(topology):
    with pytest.raises(UserError, match="unknown topology .*cpu:N or one of v5e, v5p, v6e"):
        plan.devices(topology)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_is_said_what_to_install():
    with pytest.raises(UserError, match=r"pip install 'sfjax\[tpu\]'"):
        plan.devices("v5e:2x2")
