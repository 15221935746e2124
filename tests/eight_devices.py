"""The losses, gradients and samples of one toy program on meshes of 1 and of 8 CPU devices, written to a file.

    python tests/eight_devices.py CONFIG OUT.npz CHECKPOINTS

The first mesh saves its state, which every mesh reads.

`test_sharding` runs it: the devices of a process are fixed when it starts.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sfjax import checkpoint, flow, sharding, train

MESHES = {
    "one": dict(data=1, fsdp=1, tensor=1),
    "data": dict(data=8, fsdp=1, tensor=1),
    "fsdp": dict(data=1, fsdp=8, tensor=1),
    "all": dict(data=2, fsdp=2, tensor=2),
}
BATCH, SECONDS = 8, 1


def found(config, sizes, folder):
    """On a mesh: loss, gradient (first moments of Adam after one step), guided samples, digests of what was saved."""
    mesh = sharding.mesh(jax.devices()[: np.prod([*sizes.values()])], **sizes)
    made = train.program(config)
    like, step = train.on_mesh(made, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, like)
    state = jax.jit(made.init, out_shardings=places)(jax.random.key(0))
    samples = SECONDS * config.mel.sample_rate
    waves = 0.1 * np.random.default_rng(0).standard_normal((BATCH, samples)).astype(np.float32)
    lengths = (samples - 1000 * np.arange(BATCH)).astype(np.int32)

    @sharding.activations(mesh)
    def sample(params, x0, condition, count):
        network = lambda x, t, inputs, lengths: made.network.apply({"params": params}, x, t, lengths=lengths, **inputs)
        return flow.sample(network, x0, {"condition": condition}, count, **config.sample)

    across = sharding.batch(mesh)
    x0, condition = jax.random.normal(jax.random.key(1), (2, BATCH, 100 * SECONDS, config.mel.bands))
    given = jax.device_put((x0, condition, jnp.asarray(lengths // 160)), across)
    drawn = jax.jit(sample)(state.params, *given)
    state, metrics = step(state, *sharding.place(({"speech": waves}, lengths), across))
    with checkpoint.Checkpoints(folder, keep=1, keep_every=0) as saved:
        if not saved.manager.all_steps():
            saved.save(1, state)
            saved.wait()
        read = saved.newest(like, pass_damaged=False, say=print)
    assert all(
        leaf.sharding == wanted.sharding for leaf, wanted in zip(*map(jax.tree.leaves, (read, like)), strict=True)
    )
    mean = next(part.mu for part in jax.tree.leaves(state.opt_state, is_leaf=_has_mu) if _has_mu(part))
    gradient = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(mean)}
    digests = jnp.stack([*checkpoint.digests(read).values()])
    return jax.device_get({"loss": metrics["loss"], "sample": drawn, "digests": digests, **gradient})


def _has_mu(part):
    return hasattr(part, "mu")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    config = ConfigDict(checkpoint.tuples(json.loads(sys.argv[1])))
    every = {name: found(config, sizes, sys.argv[3]) for name, sizes in MESHES.items()}
    np.savez(sys.argv[2], **{f"{name} {key}": value for name, one in every.items() for key, value in one.items()})
