"""Saved training states: written by orbax, checked by digests of our own, and where a run starts from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from sfjax.errors import UserError

CONFIG = "config.json"
FREE = {"run", "debug"}  # sections that may change between two starts of one run


@jax.jit
def digests(tree: Any) -> dict[str, jax.Array]:
    """A 32-bit sum for each leaf over its bits, each weighted by an odd number of its place.

    Integer sums have no order, so the digest is the same however the leaf is sharded. Any single flipped bit changes
    it.
    """

    def digest(leaf):
        bits = jnp.ravel(jax.lax.bitcast_convert_type(leaf, f"uint{leaf.dtype.itemsize * 8}")).astype(jnp.uint32)
        place = jnp.arange(bits.size, dtype=jnp.uint32)
        weight = (place * jnp.uint32(2654435761)) | 1
        return (bits * weight).sum(dtype=jnp.uint32)

    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): digest(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


class Checkpoints:
    """The checkpoints of a run, in `<workdir>/checkpoints`; use it as a context, leaving it waits for the last save."""

    def __init__(self, workdir: str | os.PathLike, *, keep: int):
        self.folder = Path(workdir).absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
        self.manager, self.saving = ocp.CheckpointManager(self.folder, options=options), 0

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self.manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state`; it becomes a checkpoint only when it is whole. `UserError` if the disk refuses."""
        self.wait()
        self.saving = step
        sums = {name: int(value) for name, value in jax.device_get(digests(state)).items()}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), digests=ocp.args.JsonSave(sums))
        try:
            self.manager.save(step, args=args)
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Waits for the save under way; `UserError` if it failed."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error):
        why = f"step {self.saving} was not saved ({_line(error)})"
        return UserError(f"{self.folder}: {why}; free space, the same command goes on from the checkpoint before")

    def restore(self, step: int, like: Any) -> Any:
        """The state saved at `step`, in the shapes and shardings of `like`; `UserError` if any part is damaged."""
        items = {"state": ocp.args.StandardRestore(like), "digests": ocp.args.JsonRestore()}
        return _restore(self.manager, self.folder, step, items)


def params(workdir: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, int]:
    """The parameters in a run's newest checkpoint (or that of `step`) as numpy arrays, averaged ones with `ema`."""
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir}: expected a run with checkpoints, found none; give the workdir of `sfjax train`")
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "digests": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        steps = manager.all_steps()
        if not steps:
            raise UserError(f"{workdir}: the run has no finished checkpoint yet")
        step = max(steps) if step is None else step
        if step not in steps:
            raise UserError(f"{workdir}: no checkpoint of step {step}; there are {sorted(steps)}")
        name = "ema" if ema else "params"
        try:
            tree = {name: manager.item_metadata(step)["state"].tree[name]}
        except Exception as error:
            raise _damaged(folder, step, error) from error
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        items = {
            "state": ocp.args.PyTreeRestore(item=like, restore_args=restore_args, partial_restore=True),
            "digests": ocp.args.JsonRestore(),
        }
        return _restore(manager, folder, step, items)[name], step


def _restore(manager, folder, step, items):
    try:
        found = manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        raise _damaged(folder, step, error) from error
    have = jax.device_get(digests(found["state"]))
    wrong = [name for name, value in have.items() if found["digests"].get(name) != int(value)]
    if wrong:
        raise UserError(
            f"{folder / str(step)}: the checkpoint is damaged in {wrong[0]} (and {len(wrong) - 1} more); remove that "
            "folder to go on from the one before"
        )
    return found["state"]


def _damaged(folder, step, error):
    return UserError(
        f"{folder / str(step)}: the checkpoint is damaged or of another model ({_line(error)}); remove that folder to "
        "go on from the one before"
    )


def _line(error):
    line = " ".join(str(error).split())
    if len(line) > 200:  # TensorStore names every layer; what happened stands at the end
        line = f"{line[:80]} … {line[-110:]}"
    return f"{type(error).__name__}: {line}"


def write_config(workdir: str | os.PathLike, config: Any) -> None:
    """Writes the resolved config of a run, or checks that the run already there has the same.

    The sections `FREE` may change between starts of one run; any other difference is a `UserError` that names it. A run
    without a checkpoint, as one that ran out of memory, has nothing to lose: its config is replaced.
    """
    path = Path(workdir) / CONFIG
    config = tuples(json.loads(json.dumps(config)))
    if path.exists() and any(child.name.isdigit() for child in (Path(workdir) / "checkpoints").glob("*")):
        there = read_config(workdir)
        changed = [key for key in sorted(there | config) if key not in FREE and there.get(key) != config.get(key)]
        differences = [line for key in changed for line in _differences(key, there.get(key), config.get(key))]
        if differences:
            raise UserError(
                f"{workdir} holds a run with another config ({'; '.join(differences[:3])}); "
                "give the same config or another workdir"
            )
    Path(workdir).mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(part, path)


def read_config(workdir: str | os.PathLike) -> dict:
    """The resolved config that a run was started with."""
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(
            f"{workdir}: expected a run folder with {CONFIG}, found none; give the workdir of `sfjax train`"
        )
    try:
        return tuples(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path}: not a config ({error}); restore it or start in another workdir") from None


def tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _differences(key, old, new):
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in sorted(old | new)
            if old.get(name) != new.get(name)
            for line in _differences(f"{key}.{name}", old.get(name), new.get(name))
        ]
    return [f"{key}: {old} there, {new} here"]
