"""Low-rank adapters (LoRA, arXiv 2106.09685): which parameters a run trains, which it keeps, and how the two join.

An adapter of layer `query` is the module `query_lora` beside it, with matrices `a` and `b`: the layer adds
α/rank · x·a·b to what it computes. Parameters are nested dicts; nothing here knows files or devices.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from sfjax.errors import UserError

SUFFIX = "_lora"
LAYERS = ("query", "key", "value", "out", "up", "down", "skip")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Adapters of a `rank`, scaled by `alpha` / rank, beside the layers `targets`, of `LAYERS`.

    Parameters whose path matches the regular expression `train` ("" for none) are trained in full beside them.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    train: str

    def __post_init__(self):
        unknown = sorted({*self.targets} - {*LAYERS})
        if self.rank < 1 or unknown or not self.targets:
            raise UserError(
                f"adapters want a rank of 1 or more (0: none) and targets among {', '.join(LAYERS)}, got rank "
                f"{self.rank} and targets {self.targets}"
            )
        try:
            re.compile(self.train)
        except re.error as error:
            raise UserError(f"lora.train wants a regular expression, got {self.train!r} ({error})") from None

    def trains(self, path: str) -> bool:
        """Whether a run with these adapters trains the parameter of that path."""
        return f"{SUFFIX}/" in path or bool(self.train and re.search(self.train, path))


def make(*, rank: int, **fields: Any) -> Adapter | None:
    """The adapters that config section `lora` asks for; None at rank 0."""
    return Adapter(rank, **fields) if rank else None


def split(params: Any, adapter: Adapter | None) -> tuple[Any, Any]:
    """The parameters that are trained, and those that are frozen, which are none where there are no adapters."""
    if adapter is None:
        return params, {}
    parts: tuple[dict, dict] = ({}, {})
    for path, leaf in flatten_dict(params, sep="/").items():
        parts[not adapter.trains(path)][path] = leaf
    trained, frozen = (unflatten_dict(part, sep="/") for part in parts)
    return trained, frozen


def join(one: Any, other: Any) -> Any:
    """The tree of all leaves of two trees; where both have a leaf, that of `one` is taken."""
    return unflatten_dict(flatten_dict(other, sep="/") | flatten_dict(one, sep="/"), sep="/")


def base(params: Any) -> Any:
    """The parameters without adapters."""
    kept = {path: leaf for path, leaf in flatten_dict(params, sep="/").items() if f"{SUFFIX}/" not in path}
    return unflatten_dict(kept, sep="/")


def merge(params: Any, adapter: Adapter) -> Any:
    """The parameters of a network without adapters that computes the same: each kernel plus α/rank · a·b."""
    flat: dict[str, Any] = flatten_dict(params, sep="/")
    kept = {path: leaf for path, leaf in flat.items() if f"{SUFFIX}/" not in path}
    for path in flat:
        if path.endswith(f"{SUFFIX}/a"):
            layer = path.removesuffix(f"{SUFFIX}/a")
            if flat[path].shape[-1] != adapter.rank:
                raise UserError(
                    f"{path} has rank {flat[path].shape[-1]}, its config says {adapter.rank}; export it again"
                )
            product = jnp.matmul(flat[path], flat[f"{layer}{SUFFIX}/b"], precision="highest")
            kept[f"{layer}/kernel"] = kept[f"{layer}/kernel"] + adapter.alpha / adapter.rank * product
    return unflatten_dict(kept, sep="/")


def count(params: Any) -> int:
    """How many numbers a tree of arrays or shapes holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
