"""What a run learned, as others use it: its weights with adapters merged, and a folder to give away.

An exported folder holds `config.json`, the run's resolved config with a section `exported`, and `model.safetensors`,
the averaged parameters by path. Of a run with adapters only what it trained is there, and the digests of what it
stood beside, so that it joins that model and no other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from sfjax import checkpoint, lora
from sfjax.data.manifest import replacing
from sfjax.errors import UserError
from sfjax.vocoder import gan

TENSORS = "model.safetensors"
DTYPES = {"float32": np.float32, "float16": np.float16}


class Trained(NamedTuple):
    """What a run trained: `params` as numpy arrays, its config, the digests of what was frozen, and its step."""

    params: Any
    config: dict[str, Any]
    frozen: Mapping[str, int]
    step: int
    name: str


def trained(folder: str | os.PathLike, *, ema: bool, step: int | None = None) -> Trained:
    """What a run folder (its averaged parameters with `ema`, its newest checkpoint or that of `step`) or an exported
    folder holds; `UserError` if it is neither."""
    config = checkpoint.read_config(folder)
    if "exported" in config:
        if step not in (None, config["exported"]["step"]):
            raise UserError(f"{folder} holds step {config['exported']['step']} alone, not {step}; leave the step out")
        found = config["exported"]
        return Trained(_read(folder), config, found["frozen"], found["step"], str(folder))
    params, sums, step = checkpoint.params(folder, ema=ema, step=step)
    frozen = {name: value for name, value in sums.items() if name.startswith("frozen/")}
    return Trained(params, config, frozen, step, str(folder))


def weights(folder: str | os.PathLike, *, ema: bool, step: int | None = None) -> tuple[Any, Trained]:
    """The network's parameters, adapters merged into the model that they were trained on, and what was trained."""
    found = trained(folder, ema=ema, step=step)
    if lora.make(**found.config["lora"]) is None:
        return found.params, found
    base = found.config["init_from"]
    if not os.path.isdir(base):
        raise UserError(f"{folder} adapts {base}, which is not here; give that model as --model and this as --adapter")
    return adapted(weights(base, ema=True)[0], found), found


def adapted(base: Any, found: Trained) -> Any:
    """The parameters of a base with adapters that were trained beside it, merged; `UserError` for another base."""
    adapter = lora.make(**found.config["lora"])
    if adapter is None:
        raise UserError(f"{found.name} holds no adapters but a whole network; give it as --model")
    frozen = lora.split(base, adapter)[1]
    checkpoint.check_frozen(frozen, found.frozen, found.name)
    try:
        return jax.device_get(lora.merge(lora.join(found.params, frozen), adapter))
    except (KeyError, TypeError) as error:
        raise UserError(f"{found.name}: its adapters do not fit ({error}); export them again") from None


def export(folder: str | os.PathLike, dest: str | os.PathLike, *, ema: bool, step: int | None, dtype: str) -> Path:
    """Writes what a run trained as `dtype` (of `DTYPES`) into the folder `dest`; the path of its tensors."""
    if dtype not in DTYPES:
        raise UserError(f"unknown type {dtype!r}; choose from {', '.join(DTYPES)}")
    found = trained(folder, ema=ema, step=step)
    dest, flat = Path(dest), flatten_dict(gan.released(found.params), sep="/")
    flat = {name: np.asarray(leaf, DTYPES[dtype], order="C") for name, leaf in flat.items()}
    if wrong := [name for name, leaf in flat.items() if not np.isfinite(leaf).all()]:
        raise UserError(f"{folder}: {wrong[0]} is not finite as {dtype}; take float32 or another step")
    config = found.config | {"exported": {"step": found.step, "frozen": dict(found.frozen)}}
    with replacing(dest / TENSORS) as part, replacing(dest / checkpoint.CONFIG) as config_part:
        safetensors.numpy.save_file(flat, part)
        config_part.write_text(json.dumps(config, indent=2) + "\n")
    return dest / TENSORS


def _read(folder):
    try:
        flat = safetensors.numpy.load_file(Path(folder) / TENSORS)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder}/{TENSORS}: cannot be read ({error}); copy or export it again") from None
    return unflatten_dict({name: leaf.astype(np.float32) for name, leaf in flat.items()}, sep="/")
