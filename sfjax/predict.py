"""What a model makes of every recording of a manifest, kept as Mels for a phase net or a vocoder to learn from."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from sfjax import checkpoint
from sfjax.data import examples, manifest
from sfjax.errors import UserError


def run(source: Path, model: Any, dest: Path, *, split: str | None, seed: int, **options: Any) -> tuple[int, int]:
    """Writes the Mels of all rows of `source` into `dest`, with a manifest of the same name that names them.

    `model` is a `sfjax.infer.Model` for what the rows are: mixtures or noisy recordings, of which it hears at most a
    chunk. Mels are float16 arrays [sources, frames, mels], NumPy's files, named by what they are made of: the row, the
    parameters, `seed` and `options`. So those that are there are left. Returns how many were made and how many were
    there.
    """
    rows = manifest.read(source, split=split)
    if "sources" in rows.columns:
        speakers = len(rows.row(0)["sources"])
        task, maker = model.separating(speakers), examples.Listed(speakers)
    elif "noisy" in rows.columns:
        task, maker = model.enhancing(), examples.Recorded(True)
    else:
        raise UserError(f"{source}: expected a column 'noisy' or 'sources', found neither; prepare pairs or mixtures")
    if dest.resolve() == Path(rows.folder).resolve():
        raise UserError(f"{dest} holds {source} itself; choose another folder")
    size = round(model.chunking["seconds"] * model.spec.sample_rate)
    how = [jax.device_get(checkpoint.digests(model.params)), seed, model.sampling(options)]
    found, wanted = [], []
    for number in range(len(rows)):
        row = rows.row(number)
        row["frames"] = min(row["frames"], size * row["rate"] // model.spec.sample_rate)
        name = hashlib.sha256(json.dumps([row, how], sort_keys=True, default=int).encode()).hexdigest()[:20]
        row["estimate"] = str((dest / "mels" / f"{name}.npy").resolve())
        found.append(row)
        if not os.path.exists(row["estimate"]):
            wanted.append(row)
    order = iter(sorted(wanted, key=lambda row: row["frames"] / row["rate"]))  # alike lengths share a batch
    with tqdm(total=len(wanted), unit="file", desc="predicted", disable=None) as bar:
        while group := list(itertools.islice(order, model.chunking["batch"])):
            read = lambda row: maker(rows, row, size, model.spec.sample_rate, np.random.default_rng(0))
            made = model.mels(task, [read(row)[task.phase] for row in group], seed=seed, **options)
            for row, mel in zip(group, made, strict=True):
                with manifest.replacing(row["estimate"]) as part, open(part, "wb") as file:
                    np.save(file, mel.astype(np.float16))
            bar.update(len(group))
    manifest.write(dest / source.name, found)
    return len(wanted), len(rows) - len(wanted)
