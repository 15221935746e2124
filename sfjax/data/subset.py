"""A part of a manifest: utterances drawn at random until they last so many hours, and every other split as it is."""

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
    """The rows of a subset, as the manifest that is to be written, and how many hours were `drawn` of those `there`."""

    rows: Manifest
    drawn: float
    there: float


def draw(source: str | os.PathLike, dest: str | os.PathLike, *, hours: float, split: str, seed: int) -> Drawn:
    """Draws utterances of `split` by `seed` until they last `hours`; the last of them may run over.

    Rows without a split are drawn from too, those of all other splits stay. Rows keep the order of the source, and what
    is drawn does not depend on it. `UserError` if the split has no rows or fewer hours, or if `dest` is `source`.
    """
    dest = prepare.named(dest)
    if not hours > 0:
        raise UserError(f"{dest}: a subset wants more than 0 hours, got {hours:g}; 10 is usual")
    if dest.resolve() == Path(source).resolve():
        raise UserError(f"{dest}: the subset is its own source; give it another name")
    found = manifest.read(source, split=None)
    belongs = manifest.belonging(found.table, split, source)
    order = pc.sort_indices(found.table, sort_keys=[("path", "ascending"), ("start", "ascending")]).to_numpy()
    places = np.random.default_rng(seed).permutation(order[belongs[order]])
    ends = np.cumsum(found.seconds[places]) / 3600
    least = hours - 1e-9  # sums are not exact
    if ends[-1] < least:
        raise UserError(f"{source}: {hours:g} hours were asked for, split {split!r} has {ends[-1]:g}; ask for fewer")
    count = int(np.searchsorted(ends, least)) + 1
    kept = ~belongs
    kept[places[:count]] = True
    rows = Manifest(found.folder, found.table.filter(pa.array(kept)))
    return Drawn(prepare.relocated(rows, dest.parent), float(ends[count - 1]), float(ends[-1]))
