"""Which phones a run knows: none are ours, they are read from its data once and kept in its config."""

from __future__ import annotations

import copy
from typing import Any

from ml_collections import ConfigDict

from sfjax import release, tasks
from sfjax.data import loader, manifest
from sfjax.errors import UserError
from sfjax.text import phones


def with_phones(config: Any) -> Any:
    """The config with the phones that its task is to know, if it names none: those of the model it starts from, or
    all of its training manifests'."""
    section = config.task.to_dict()
    if tasks.with_phones(section, ("",)) == section:
        return config
    start = release.config(config.init_from)["task"] if config.init_from else None
    known = tasks.phones(tasks.make(**start)) if start else ()
    config = copy.deepcopy(config)
    config.task = ConfigDict(tasks.with_phones(section, known or _inventory(config.data)))
    return config


def _inventory(data):
    found: set[str] = set()
    several = "=" in data.train
    for part in filter(None, (part.strip() for part in data.train.split(","))):
        rows = manifest.read(loader.entry(part, named=several)[1], split=data.split, columns=("phones",))
        if "phones" in rows.columns:
            found |= {phone for line in rows.table.column("phones").to_pylist() for phone in line or ()}
    if not found:
        raise UserError(
            f"{data.train or 'data.train'}: expected a manifest with phones, found none; make one with "
            "`sfjax prepare align`"
        )
    return phones.inventory([found])
