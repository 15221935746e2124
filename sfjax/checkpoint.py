"""Save and restore training states with orbax and digests; write and check the config of a run.

Functions import orbax when they need it: its import takes 0.2 s, and exported models do without it.
"""

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
from etils import epath

from sfjax.errors import UserError

CONFIG = "config.json"
# The sections that a config needs for its run to be used
NEEDED = {"precision", "process", "mel", "model", "task", "lora", "phase", "sample", "infer", "init_from", "run"}
# What may change between two starts of a run: sections, and fields that change how a result is computed, not the result
FREE = {"run", "debug", "mesh", "model.remat", "model.unroll", "model.attention_block"}
BEFORE = "; set --config.run.pass_damaged=True to resume from the checkpoint before it"


@jax.jit
def digests(tree: Any) -> dict[str, jax.Array]:
    """Compute a 32-bit sum for each leaf over its bits, each weighted by an odd number that depends on its position.

    Integer sums have no order, so the digest is the same however the leaf is sharded. Any single flipped bit changes
    it.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _digest(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _digest(leaf):
    bits = jax.lax.bitcast_convert_type(leaf, f"uint{leaf.dtype.itemsize * 8}").astype(jnp.uint32)
    position = jnp.uint32(0)
    for axis in range(leaf.ndim):
        stride = jnp.uint32(math.prod(leaf.shape[axis + 1 :]))
        position = position + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * stride
    return (bits * ((position * jnp.uint32(2654435761)) | 1)).sum(dtype=jnp.uint32)


def choose_folder(workdir: str | os.PathLike, elsewhere: str) -> epath.Path:
    """Return the folder of a run's checkpoints: `elsewhere`, also gs://…, or one in the workdir if that is empty.

    Raises `UserError` for what orbax cannot write to, such as s3:// (github.com/google/orbax/pull/2739).
    """
    scheme, remote, _ = elsewhere.partition("://")
    if remote and scheme != "gs":
        raise UserError(
            f"{elsewhere}: checkpoints must be in a folder or at gs://, got {scheme}://; mount it as a folder"
        )
    if remote and importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{elsewhere} needs gcsfs: pip install 'sfjax[gcs]'")
    return epath.Path(elsewhere if remote else os.path.abspath(elsewhere or Path(workdir) / "checkpoints"))


class Checkpoints:
    """The checkpoints in the folder of `choose_folder`; a context manager that waits for the last save on exit.

    The newest `keep` checkpoints are kept. Steps that are multiples of `keep_every` are kept for good (0: none).
    """

    def __init__(self, folder: str | os.PathLike, *, keep: int, keep_every: int):
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

        self.folder = epath.Path(folder)
        policies: list[Any] = [preservation.LatestN(keep)]
        if keep_every:
            policies.append(preservation.EveryNSteps(keep_every))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation.AnyPreservationPolicy(policies), create=True, cleanup_tmp_directories=True
        )
        self.manager, self.saving = ocp.CheckpointManager(self.folder, options=options), 0

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.manager.close()

    def save(self, step: int, state: Any) -> None:
        """Start writing `state`; it becomes a checkpoint only when it is whole. Raises `UserError` if writing fails.

        Frozen parameters belong to another run, so only their digests are written.
        """
        import orbax.checkpoint as ocp

        self.wait()
        self.saving = step
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state.replace(frozen={})), digests=ocp.args.JsonSave(_host_digests(state))
        )
        try:
            self.manager.save(step, args=args)
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Wait for the save in progress. Raises `UserError` if it failed."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error):
        return UserError(
            f"{self.folder}: step {self.saving} was not saved ({_one_line(error)}); free space, then the same command "
            "resumes from the checkpoint before it"
        )

    def newest(self, like: Any, *, pass_damaged: bool, say: Callable[[str], Any]) -> Any:
        """Restore the newest state, without frozen parameters, in the shapes and shardings of `like`; None without one.

        Raises `UserError` if any part of it is damaged, unless `pass_damaged`: then the state before it is restored
        and, if that one is whole, the damaged checkpoints are removed. `say` is called with a line for each of them.
        """
        import orbax.checkpoint as ocp

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
            for damaged_step, error in damaged.items():
                say(f"{error}; removed, resuming from step {step}")
                self.manager.delete(damaged_step)
            return state
        if damaged:
            raise next(iter(damaged.values()))
        return None

    def digests(self, step: int) -> dict[str, int]:
        """Read the digests that were written with the checkpoint of `step`."""
        import orbax.checkpoint as ocp

        return self.manager.restore(step, args=ocp.args.Composite(digests=ocp.args.JsonRestore()))["digests"]


def _host_digests(tree):
    return {path: int(value) for path, value in jax.device_get(digests(tree)).items()}


def check_frozen(frozen: Any, sums: Mapping[str, int], where: str) -> None:
    """Check frozen parameters against the digests of a run, which is at `where`. Raises `UserError` if they differ."""
    actual = _host_digests({"frozen": frozen})
    expected = {path: value for path, value in sums.items() if path.startswith("frozen/")}
    if actual != expected:
        wrong = next(path for path in sorted(actual | expected) if actual.get(path) != expected.get(path))
        raise UserError(
            f"the adapters in {where} were trained on a different base model (first difference: "
            f"{wrong.removeprefix('frozen/')}); use that base model"
        )


def params(workdir: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, dict[str, int], int]:
    """Load the parameters that a run trained as numpy arrays, averaged ones with `ema`.

    Returns the parameters, the digests and the step of its newest checkpoint, or of the one of `step`.
    """
    import orbax.checkpoint as ocp

    folder = choose_folder(workdir, read_config(workdir)["run"]["checkpoints"])
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
        state, saved_digests = _restore(manager, folder, step, items)
        return state[name], saved_digests, step


def _restore(manager, folder, step, items):
    import orbax.checkpoint as ocp

    try:
        restored = manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
        raise _damaged(folder, step, error) from error
    actual = jax.device_get(digests(restored["state"]))
    wrong = [path for path, value in actual.items() if restored["digests"].get(path) != int(value)]
    if wrong:
        raise UserError(
            f"{folder / str(step)}: the checkpoint is damaged in {wrong[0]} (and {len(wrong) - 1} more){BEFORE}"
        )
    return restored["state"], restored["digests"]


def _damaged(folder, step, error):
    reason = _one_line(error)
    return UserError(f"{folder / str(step)}: the checkpoint is damaged or of another model ({reason}){BEFORE}")


def _one_line(error):
    line = " ".join(str(error).split())
    if len(line) > 200:  # TensorStore names every layer; the cause is at the end
        line = f"{line[:80]} … {line[-110:]}"
    return f"{type(error).__name__}: {line}"


def write_config(workdir: str | os.PathLike, config: Any) -> None:
    """Write the resolved config of a run; if the run has a checkpoint, check first that its config is the same.

    Fields in `FREE` may differ, and `optim.updates` may grow, also through `optim.epochs`. Raises `UserError` for any
    other difference, and names it. The config of a run without a checkpoint, for example of a run that ran out of
    memory, is replaced without a check.
    """
    path = Path(workdir) / CONFIG
    config = tuples(json.loads(json.dumps(config)))
    folder = choose_folder(workdir, config["run"]["checkpoints"])
    if path.exists() and folder.is_dir() and any(child.name.isdigit() for child in folder.iterdir()):
        before = read_config(workdir)
        updates = config["optim"]["updates"]
        before["optim"]["epochs"] = config["optim"]["epochs"]  # `updates` has its effect
        if before["optim"]["updates"] < updates:
            before["optim"]["updates"] = updates  # a run may be lengthened
        differences = _differences("", before, config)
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
    """Read the resolved config of a run, or the config of an exported folder, which has no section `run`.

    Fields that are newer than the config get their values from `configs/default.py`.
    """
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(
            f"{workdir}: expected a run folder with {CONFIG}, found none; give the workdir of `sfjax train`"
        )
    try:
        config = tuples(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a config ({error}); restore it or start in another workdir") from None
    config = config if isinstance(config, dict) else {}
    missing = sorted(NEEDED - config.keys() - ({"run"} if "exported" in config else set()))
    if missing:
        raise UserError(
            f"{path}: lacks {', '.join(missing)}; it is of another version or damaged: train or export again"
        )
    return _with_defaults(config)


def _with_defaults(config):
    """Add the fields and sections that were introduced after a config was written, with the values of `default.py`."""
    from sfjax.configs import default  # pyright: ignore[reportMissingImports] # a folder beside sfjax

    skipped = {"task"}  # has fields of its own
    if isinstance(config["task"], dict) and config["task"].get("name") == "durations":
        skipped.add("model")
    if "exported" in config:
        skipped |= {"run", "debug", "mesh"}
    filled = dict(config)
    for name, value in default.get_config().to_dict().items():
        if name in skipped:
            continue
        if name not in config:
            filled[name] = value
        elif isinstance(value, dict) and isinstance(config[name], dict):
            filled[name] = value | config[name]
    return filled


def tuples(value):
    """Return a JSON value with tuples instead of lists, as they were before it was written."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _differences(name, old, new):
    if name in FREE or old == new:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [f"{name}: {old} there, {new} here"]
    prefix = f"{name}." if name else ""
    return [line for key in sorted(old | new) for line in _differences(prefix + key, old.get(key), new.get(key))]
