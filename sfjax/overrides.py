"""A config and the overrides that a command line adds to it."""

from __future__ import annotations

import functools
import runpy
from pathlib import Path
from typing import Any

from sfjax.errors import UserError


def config(spec: str, overrides: list[str]) -> Any:
    """A config from `FILE.py[:size]` and overrides `--config.section.field=value`; `UserError` on any that is wrong."""
    from absl import flags
    from ml_collections import config_flags

    from sfjax import configs

    file, colon, size = spec.partition(":")
    if not Path(file).is_file():  # away from a checkout: the configs of the installed package
        packaged = Path(configs.__path__[0]) / Path(file).name
        if not packaged.is_file():
            raise UserError(f"{file}: no such config; give one of configs/*.py, as in configs/enhance.py:small")
        file = str(packaged)
    try:
        found = runpy.run_path(file)["get_config"](*[size] if colon else [])
    except Exception as error:  # a config is a program of the user's
        raise UserError(f"config {spec}: {error} ({type(error).__name__}); mend it or take another") from None
    before, values, words = found.to_dict(), flags.FlagValues(), ["sfjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", found, flag_values=values, sys_argv=words)
        left = values(words)
    except (AttributeError, KeyError) as error:
        name: Any = error
        while isinstance(name, Exception):  # one wraps the other
            name = name.args[0]
        name = name.replace("\n", "; ")
        raise UserError(f"config {spec} has no field {name}; see configs/default.py for every field") from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"config {spec}: {error}; see configs/default.py for every field") from None
    if left[1:]:
        raise UserError(f"unexpected {left[1]!r}; overrides look like --config.optim.peak=1e-4")
    overriding: Any = values["config"]
    for name, value in overriding.override_values.items():  # flags do not check what is in a tuple
        old = functools.reduce(dict.get, name.split("."), before)
        kind = str if isinstance(old, tuple) and isinstance(old[0], str) else int | float
        if isinstance(old, tuple) and not all(isinstance(item, kind) for item in value):
            raise UserError(f"config {spec}: {name} wants values as in {old}, got {value}")
    return found
