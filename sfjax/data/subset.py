"""Draw some hours of a split of a manifest at random and keep all other splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sfjax.data import manifest, prepare
from sfjax.data.manifest import Manifest, pc
from sfjax.errors import UserError


class Drawn(NamedTuple):
    """The manifest of a subset, the hours that were `drawn` and the hours that are `available` to draw from."""

    rows: Manifest
    drawn: float
    available: float


def draw(source: str | os.PathLike, dest: str | os.PathLike, *, hours: float, split: str, seed: int) -> Drawn:
    """Draw utterances of `split` by `seed` until they last `hours` hours; the last utterance may exceed them.

    Rows without a split are drawn from, too; rows of all other splits are kept. Rows keep the order of the source, and
    the choice does not depend on this order. Raises `UserError` if the split has no rows or fewer hours, or if `dest`
    is `source`.
    """
    dest = prepare.manifest_path(dest)
    if not hours > 0:
        raise UserError(f"{dest}: a subset must have more than 0 hours, got {hours:g}; 10 is usual")
    if dest.resolve() == Path(source).resolve():
        raise UserError(f"{dest}: the subset would overwrite its own source; give it another name")
    rows = manifest.read(source, split=None)
    belongs = manifest.rows_of_split(rows.table, split, source)
    order = pc.sort_indices(rows.table, sort_keys=[("path", "ascending"), ("start", "ascending")]).to_numpy()
    shuffled = np.random.default_rng(seed).permutation(order[belongs[order]])
    cumulative_hours = np.cumsum(rows.seconds[shuffled]) / 3600
    available = cumulative_hours[-1]
    least = hours - 1e-9  # sums are not exact
    if available < least:
        raise UserError(f"{source}: expected {hours:g} hours of split {split!r}, got {available:g}; ask for fewer")
    count = int(np.searchsorted(cumulative_hours, least)) + 1
    selected = ~belongs
    selected[shuffled[:count]] = True
    subset = Manifest(rows.folder, rows.table.filter(pa.array(selected)))
    return Drawn(prepare.relocated(subset, dest.parent), float(cumulative_hours[count - 1]), float(available))
