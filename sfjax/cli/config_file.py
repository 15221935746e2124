"""Load a config file and apply the overrides of the command line."""

from __future__ import annotations

import functools
import re
import runpy
from pathlib import Path
from typing import Any

from sfjax.errors import UserError

FIELD = re.compile(r"    config\.([\w.]+) = .*?  # (.*)")  # a line of configs/default.py: a field and its comment


def describe(spec: str) -> str:
    """Return a line for each field of a config: its flag with its value, and its comment from `configs/default.py`."""
    from sfjax import configs

    comments = dict(FIELD.findall((Path(configs.__path__[0]) / "default.py").read_text()))
    lines = []
    for name, value in _flat(load_config(spec, []).to_dict()):
        flag, comment = f"  --config.{name}={value}", comments.get(name, "")
        lines.append(f"{flag:<56}  {comment}" if comment else flag)
    return "\n".join(lines)


def _flat(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def load_config(spec: str, overrides: list[str]) -> Any:
    """Load a config from `FILE.py[:size]` and apply overrides of the form `--config.section.field=value`.

    Raises `UserError` if the file, a field or a value is wrong.
    """
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
        config = runpy.run_path(file)["get_config"](*[size] if colon else [])
    except Exception as error:  # the user may have written the config
        raise UserError(f"config {spec}: {error} ({type(error).__name__}); correct it or take another") from None
    before, values, words = config.to_dict(), flags.FlagValues(), ["sfjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        left = values(words)
    except (AttributeError, KeyError) as error:
        name: Any = error
        while isinstance(name, Exception):  # nested errors
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
        kind = int | float if isinstance(old, tuple) and old and not isinstance(old[0], str) else str  # (): phones
        if isinstance(old, tuple) and not all(isinstance(item, kind) for item in value):
            example, items = old or ("AH_S", "B_B"), "strings" if kind is str else "numbers"
            raise UserError(f"config {spec}: {name} must be a tuple of {items}, for example {example}, got {value}")
    return config
