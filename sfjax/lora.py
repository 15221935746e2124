"""Low-rank adapters (LoRA, arXiv 2106.09685): configure them, split trained from frozen parameters, merge them.

The adapter of layer `query` is the module `query_lora` with the matrices `a` and `b`; α/rank · x·a·b is added to the
layer's output. Parameters are nested dicts. This module is independent of files and devices.
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
    """Settings of adapters: their `rank`, their scale `alpha` / rank, and the layers they adapt, `targets` (`LAYERS`).

    Parameters whose path matches the regular expression `train` ("" for none) are trained in full as well. Raises
    `UserError` for a rank below 1, unknown or missing targets, or an invalid expression.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    train: str

    def __post_init__(self):
        unknown = sorted({*self.targets} - {*LAYERS})
        if self.rank < 1 or unknown or not self.targets:
            raise UserError(
                f"lora.rank must be 0 (no adapters) or more and lora.targets one or more of {', '.join(LAYERS)}, got "
                f"rank {self.rank} and targets {self.targets}; correct section lora"
            )
        try:
            re.compile(self.train)
        except re.error as error:
            raise UserError(
                f"lora.train must be a regular expression, got {self.train!r} ({error}); set it to '' for none"
            ) from None

    def trains(self, path: str) -> bool:
        """Return whether a run with these adapters trains the parameter at `path`."""
        return f"{SUFFIX}/" in path or bool(self.train and re.search(self.train, path))


def make(*, rank: int, **fields: Any) -> Adapter | None:
    """Make the adapter settings from config section `lora`; None for rank 0."""
    return Adapter(rank, **fields) if rank else None


def split(params: Any, adapter: Adapter | None) -> tuple[Any, Any]:
    """Split parameters into trained and frozen ones; without adapters none are frozen."""
    if adapter is None:
        return params, {}
    flat: dict[str, Any] = flatten_dict(params, sep="/")
    trained = {path: leaf for path, leaf in flat.items() if adapter.trains(path)}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trained}
    return unflatten_dict(trained, sep="/"), unflatten_dict(frozen, sep="/")


def join(one: Any, other: Any) -> Any:
    """Merge two trees into one with all their leaves; if both have a leaf, the one in `one` is used."""
    return unflatten_dict(flatten_dict(other, sep="/") | flatten_dict(one, sep="/"), sep="/")


def base(params: Any) -> Any:
    """Return the parameters of the network alone, without the adapters."""
    return unflatten_dict(_without_adapters(flatten_dict(params, sep="/")), sep="/")


def _without_adapters(flat):
    return {path: leaf for path, leaf in flat.items() if f"{SUFFIX}/" not in path}


def merge(params: Any, adapter: Adapter) -> Any:
    """Merge adapters into the kernels, each plus α/rank · a·b, for a network without adapters that computes the same.

    Raises `UserError` if an adapter's rank differs from the rank of `adapter`.
    """
    flat: dict[str, Any] = flatten_dict(params, sep="/")
    merged = _without_adapters(flat)
    for path in flat:
        if path.endswith(f"{SUFFIX}/a"):
            layer = path.removesuffix(f"{SUFFIX}/a")
            if flat[path].shape[-1] != adapter.rank:
                raise UserError(
                    f"{path}: expected the config's rank {adapter.rank}, got {flat[path].shape[-1]}; export it again"
                )
            product = jnp.matmul(flat[path], flat[f"{layer}{SUFFIX}/b"], precision="highest")
            merged[f"{layer}/kernel"] = merged[f"{layer}/kernel"] + adapter.alpha / adapter.rank * product
    return unflatten_dict(merged, sep="/")


def count(params: Any) -> int:
    """Count the numbers in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
