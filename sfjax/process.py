"""How noise becomes data: flow matching, or diffusion to compare it with. Each has `loss`, `sample` and `check`."""

from __future__ import annotations

from typing import Any

from sfjax import diffusion, flow
from sfjax.errors import UserError

PROCESSES = {"flow": flow, "diffusion": diffusion}


def process(name: str) -> Any:
    """The module of that name in `PROCESSES`."""
    if name not in PROCESSES:
        raise UserError(f"unknown process {name!r}; choose from {', '.join(PROCESSES)}")
    return PROCESSES[name]
