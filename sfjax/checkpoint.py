"""Saved training states: written by orbax, checked by digests of our own, and where a run starts from."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from sfjax.errors import UserError

CONFIG = "config.json"
# What is asked of a config when its run is used
NEEDED = {"precision", "process", "mel", "model", "task", "lora", "phase", "sample", "infer", "init_from", "run"}
# What may change between two starts of one run: sections, and fields that say how a network is computed, not what it is
FREE = {"run", "debug", "mesh", "model.remat", "model.unroll", "model.attention_block"}
BEFORE = "; --config.run.pass_damaged=True goes on from the one before"


@jax.jit
def digests(tree: Any) -> dict[str, jax.Array]:
    """A 32-bit sum for each leaf over its bits, each weighted by an odd number of its place.

    Integer sums have no order, so the digest is the same however the leaf is sharded. Any single flipped bit changes
    it.
    """

    def digest(leaf):
        bits = jax.lax.bitcast_convert_type(leaf, f"uint{leaf.dtype.itemsize * 8}").astype(jnp.uint32)
        strides = [math.prod(leaf.shape[axis + 1 :]) for axis in range(leaf.ndim)]
        count = lambda axis: jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = sum((count(axis) * jnp.uint32(stride) for axis, stride in enumerate(strides)), jnp.uint32(0))
        return (bits * ((place * jnp.uint32(2654435761)) | 1)).sum(dtype=jnp.uint32)

    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): digest(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def place(workdir: str | os.PathLike, elsewhere: str) -> epath.Path:
    """The folder of a run's checkpoints: `elsewhere`, also gs://…; if that is empty, one in the workdir.

    `UserError` for what orbax cannot write to, s3:// among others (github.com/google/orbax/pull/2739).
    """
    scheme, remote, _ = elsewhere.partition("://")
    if remote and scheme != "gs":
        raise UserError(
            f"{elsewhere}: checkpoints go to folders and to gs://, not to {scheme}://; mount it as a folder"
        )
    if remote and importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{elsewhere} wants gcsfs: pip install 'sfjax[gcs]'")
    return epath.Path(elsewhere if remote else os.path.abspath(elsewhere or Path(workdir) / "checkpoints"))


class Checkpoints:
    """The checkpoints in a folder, as `place` names it; use it as a context, leaving it waits for the last save.

    The newest `keep` are kept, and for good those of steps that are multiples of `keep_every` (0: none).
    """

    def __init__(self, folder: str | os.PathLike, *, keep: int, keep_every: int):
        self.folder = epath.Path(folder)
        kept: list[Any] = [preservation.LatestN(keep)]
        if keep_every:
            kept.append(preservation.EveryNSteps(keep_every))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(kept), create=True, cleanup_tmp_directories=True
        )
        self.manager, self.saving = ocp.CheckpointManager(self.folder, options=options), 0

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.manager.close()

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state`; it becomes a checkpoint only when it is whole. `UserError` if the disk refuses.

        Frozen parameters are those of another run: their digests are written, they are not.
        """
        self.wait()
        self.saving = step
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state.replace(frozen={})), digests=ocp.args.JsonSave(_sums(state))
        )
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

    def newest(self, like: Any, *, pass_damaged: bool, say: Callable[[str], Any]) -> Any:
        """The state saved last, in the shapes and shardings of `like`, but for what is frozen; None if there is none.

        `UserError` if any part of it is damaged, unless `pass_damaged`: then the one before is taken and, if that is
        whole, what is damaged is removed. `say` hears of it.
        """
        items = {"state": ocp.args.StandardRestore(like.replace(frozen={})), "digests": ocp.args.JsonRestore()}
        damaged: dict[int, UserError] = {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                state, _ = _restore(self.manager, self.folder, step, items)
            except UserError as error:
                damaged[step] = error
                if not pass_damaged:
                    raise
                continue
            for wrong, error in damaged.items():
                say(f"{error}; removed, going on from step {step}")
                self.manager.delete(wrong)
            return state
        if damaged:
            raise next(iter(damaged.values()))
        return None

    def digests(self, step: int) -> dict[str, int]:
        """The digests that were written with the checkpoint of `step`."""
        return self.manager.restore(step, args=ocp.args.Composite(digests=ocp.args.JsonRestore()))["digests"]


def _sums(tree):
    return {name: int(value) for name, value in jax.device_get(digests(tree)).items()}


def check_frozen(frozen: Any, sums: Mapping[str, int], where: str) -> None:
    """`UserError` unless the frozen parameters are those that the digests of a run, found at `where`, say."""
    have = _sums({"frozen": frozen})
    wanted = {name: value for name, value in sums.items() if name.startswith("frozen/")}
    if have != wanted:
        wrong = next(name for name in sorted(have | wanted) if have.get(name) != wanted.get(name))
        raise UserError(
            f"{where} adapts another model, which differs in {wrong.removeprefix('frozen/')}; give the one that it was "
            "trained on"
        )


def params(workdir: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, dict[str, int], int]:
    """What a run trained, in its newest checkpoint (or that of `step`), as numpy arrays, averaged ones with `ema`.

    With it come the digests of that checkpoint and its step.
    """
    folder = place(workdir, read_config(workdir)["run"]["checkpoints"])
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
        found, sums = _restore(manager, folder, step, items)
        return found[name], sums, step


def _restore(manager, folder, step, items):
    try:
        found = manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        raise _damaged(folder, step, error) from error
    have = jax.device_get(digests(found["state"]))
    wrong = [name for name, value in have.items() if found["digests"].get(name) != int(value)]
    if wrong:
        raise UserError(
            f"{folder / str(step)}: the checkpoint is damaged in {wrong[0]} (and {len(wrong) - 1} more){BEFORE}"
        )
    return found["state"], found["digests"]


def _damaged(folder, step, error):
    return UserError(f"{folder / str(step)}: the checkpoint is damaged or of another model ({_line(error)}){BEFORE}")


def _line(error):
    line = " ".join(str(error).split())
    if len(line) > 200:  # TensorStore names every layer; what happened stands at the end
        line = f"{line[:80]} … {line[-110:]}"
    return f"{type(error).__name__}: {line}"


def write_config(workdir: str | os.PathLike, config: Any) -> None:
    """Writes the resolved config of a run, or checks that the run already there has the same.

    Any difference outside of `FREE` is a `UserError` that names it. A run without a checkpoint, as one that ran out of
    memory, has nothing to lose: its config is replaced.
    """
    path = Path(workdir) / CONFIG
    config = tuples(json.loads(json.dumps(config)))
    folder = place(workdir, config["run"]["checkpoints"])
    if path.exists() and folder.is_dir() and any(child.name.isdigit() for child in folder.iterdir()):
        differences = _differences("", read_config(workdir), config)
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
    """The resolved config that a run was started with; that of an exported folder, which has no section `run`."""
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(
            f"{workdir}: expected a run folder with {CONFIG}, found none; give the workdir of `sfjax train`"
        )
    try:
        found = tuples(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a config ({error}); restore it or start in another workdir") from None
    found = found if isinstance(found, dict) else {}
    missing = sorted(NEEDED - found.keys() - ({"run"} if "exported" in found else set()))
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; of another version or damaged, train or export again")
    return found


def tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _differences(name, old, new):
    if name in FREE or old == new:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [f"{name}: {old} there, {new} here"]
    inner = lambda key: f"{name}.{key}" if name else key
    return [line for key in sorted(old | new) for line in _differences(inner(key), old.get(key), new.get(key))]
