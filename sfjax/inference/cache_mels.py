"""Save a model's log-Mel spectrograms, to train a phase net or a vocoder on them."""

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
    """Write the model's log-Mels for all rows of manifest `source` into `dest`, with a manifest that lists them.

    `model` is a `sfjax.inference.Model` that enhances or separates, as the rows need (noisy recordings or mixtures). It
    gets at most a chunk of each. The Mels are NumPy files of float16 arrays [sources, frames, mels]. Their names are
    digests of the row, the parameters, `seed` and `options`, so existing files are skipped. The new manifest has the
    name of `source`. Returns the number of files made and the number of files that existed.

    Raises `UserError` if the rows are neither pairs nor mixtures or if `dest` is the folder of `source`.
    """
    rows = manifest.read(source, split=split)
    if "sources" in rows.columns:
        speakers = len(rows.row(0)["sources"])
        task, reader = model.separating(speakers), examples.Listed(speakers)
    elif "noisy" in rows.columns:
        task, reader = model.enhancing(), examples.Recorded(True)
    else:
        raise UserError(f"{source}: expected a column 'noisy' or 'sources', found neither; prepare pairs or mixtures")
    if dest.resolve() == Path(rows.folder).resolve():
        raise UserError(f"{dest} holds {source} itself; choose another folder")
    size = round(model.chunk_seconds(task) * model.spec.sample_rate)
    settings = [jax.device_get(checkpoint.digests(model.params)), seed, model.sampling(options, task)]
    cached_rows, missing_rows = [], []
    for number in range(len(rows)):
        row = rows.row(number)
        row["frames"] = min(row["frames"], size * row["rate"] // model.spec.sample_rate)
        name = hashlib.sha256(json.dumps([row, settings], sort_keys=True, default=int).encode()).hexdigest()[:20]
        row["estimate"] = str((dest / "mels" / f"{name}.npy").resolve())
        cached_rows.append(row)
        if not os.path.exists(row["estimate"]):
            missing_rows.append(row)

    def read(row):
        return reader(rows, row, size, model.spec.sample_rate, np.random.default_rng(0))[task.phase]

    order = iter(sorted(missing_rows, key=lambda row: row["frames"] / row["rate"]))  # similar lengths share a batch
    with tqdm(total=len(missing_rows), unit="file", desc="predicted", disable=None) as bar:
        while group := list(itertools.islice(order, model.chunking["batch"])):
            mels = model.mels(task, [read(row) for row in group], seed=seed, **options)
            for row, mel in zip(group, mels, strict=True):
                with manifest.replacing(row["estimate"]) as part, open(part, "wb") as file:
                    np.save(file, mel.astype(np.float16))
            bar.update(len(group))
    manifest.write(dest / source.name, cached_rows)
    return len(missing_rows), len(rows) - len(missing_rows)
