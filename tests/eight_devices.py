"""The losses, gradients and samples of a toy program on meshes of 1 and of 8 CPU devices, written to a file.

    python tests/eight_devices.py CONFIG OUT.npz CHECKPOINTS MESH…

CONFIG is a JSON object. The first mesh saves its state, which every mesh reads.

`test_sharding` runs it: the devices of a process are fixed when it starts.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sfjax import checkpoint, flow, lora, sharding, tasks, train
from sfjax.config import read

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
    made = train.make_program(read(config))
    like, step = train.on_mesh(made, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, like)
    state = jax.jit(made.random_state, out_shardings=places)(jax.random.key(0))
    across = sharding.batch(mesh)
    drawn = sample(config, made, state, mesh) if hasattr(made.network, "mels") else {}
    state, metrics = step(state, sharding.make_global(batch(config), across))
    with checkpoint.Checkpoints(folder, keep=1, keep_every=0) as saved:
        if not saved.manager.all_steps():
            saved.save(1, state)
            saved.wait()
        restored = saved.newest(like, pass_damaged=False, say=print)
    wanted = like.replace(frozen={})  # which checkpoints leave out
    jax.tree.map(
        lambda leaf, like: leaf.sharding == like.sharding or sys.exit(f"{leaf} lies elsewhere"), restored, wanted
    )
    mean = next(part.mu for part in jax.tree.leaves(state.opt_state, is_leaf=_has_mu) if _has_mu(part))
    gradient = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(mean)}
    digests = jnp.stack([*checkpoint.digests(restored).values()])
    return jax.device_get({"loss": metrics["loss"], "digests": digests, **drawn, **gradient})


def batch(config):
    """Noise of several lengths as each waveform of the task, whose parts take turns."""
    task = tasks.make(**config.task)
    samples, rng = SECONDS * config.mel.sample_rate, np.random.default_rng(0)
    wave = lambda share: 0.1 * rng.standard_normal((BATCH, round(samples * share))).astype(np.float32)
    shortest = min(task.columns.values())
    lengths = (shortest * (samples - 1000 * np.arange(BATCH))).astype(np.int32)
    waves = {name: wave(share) for name, share in task.columns.items()}
    number = np.arange(BATCH, dtype=np.int32) % len(task.parts)
    return {"waves": waves, "mels": {}, "labels": {}, "lengths": lengths, "task": number}


def sample(config, made, state, mesh):
    """Guided samples under a random condition."""

    @sharding.activations(mesh)
    def draw(params, x0, condition, count):
        network = lambda x, t, inputs, lengths: made.network.apply({"params": params}, x, t, lengths=lengths, **inputs)
        return flow.sample(network, x0, {"condition": condition}, count, **config.sample)

    x0, condition = jax.random.normal(jax.random.key(1), (2, BATCH, 100 * SECONDS, config.mel.bands))
    lengths = jnp.asarray(100 * SECONDS - 6 * np.arange(BATCH), jnp.int32)
    given = jax.device_put((x0, condition, lengths), sharding.batch(mesh))
    return {"sample": jax.jit(draw)(lora.join(state.params, state.frozen), *given)}


def _has_mu(part):
    return hasattr(part, "mu")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    given, out, checkpoints, *meshes = sys.argv[1:]
    config, every = ConfigDict(checkpoint.tuples(json.loads(given))), {}
    for mesh in meshes:
        every |= {f"{mesh} {key}": value for key, value in found(config, MESHES[mesh], checkpoints).items()}
    np.savez(out, **every)
