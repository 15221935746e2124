"""Collect the phones of the training data once and store them in the config of the run."""

from __future__ import annotations

import copy
from typing import Any

from ml_collections import ConfigDict

from sfjax import tasks
from sfjax.data import loader, manifest
from sfjax.errors import UserError
from sfjax.export import release
from sfjax.text import phones


def with_phones(config: Any) -> Any:
    """Return the config with the phone inventory of its task, if it needs one and has none.

    The phones come from the model that training starts from, or from all training manifests.
    """
    section = config.task.to_dict()
    if tasks.with_phones(section, ("",)) == section:
        return config
    base_task = release.config(config.init_from)["task"] if config.init_from else None
    base_phones = tasks.make(**base_task).phones if base_task else ()
    config = copy.deepcopy(config)
    config.task = ConfigDict(tasks.with_phones(section, base_phones or _training_phones(config.data)))
    return config


def _training_phones(data):
    """Return the inventory of all phones in the training manifests of the config section `data`."""
    names: set[str] = set()
    has_task_names = "=" in data.train
    for part in filter(None, (part.strip() for part in data.train.split(","))):
        _, path, _ = loader.entry(part, named=has_task_names)
        rows = manifest.read(path, split=data.split, columns=("phones",))
        if "phones" in rows.columns:
            names |= {phone for line in rows.table.column("phones").to_pylist() for phone in line or ()}
    if not names:
        raise UserError(
            f"{data.train or 'data.train'}: expected a manifest with phones, found none; make one with "
            "`sfjax prepare align`"
        )
    return phones.inventory([names])
