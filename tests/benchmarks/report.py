"""What every benchmark reports alike: the machine it ran on, a file for the record."""

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

SETTINGS = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "XLA_FLAGS", "OMP_NUM_THREADS", "JAX_PLATFORMS")


def machine() -> dict[str, Any]:
    """Facts that a figure means nothing without, with the settings that change speed or memory.

    The load average is of the minute before, so ask before measuring.
    """
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
        "sfjax": importlib.metadata.version("sfjax"),
        "load_average": round(os.getloadavg()[0], 2),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def heading(facts: dict[str, Any]) -> str:
    """Facts as a line, and a warning if the machine had other work to do."""
    line = ", ".join(f"{name}: {value}" for name, value in facts.items())
    busy = facts["load_average"] > 0.5 * facts["cores"]
    return line + ("\nthe machine was busy before this began: speeds and ratios mean little" if busy else "")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pairs_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of what scores a few recordings."""
    parser.add_argument("--pairs", type=Path, required=True, help="folder that enhance_valid.py wrote")
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--workers", type=int, default=cores(), help="processes that score")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path | None, found: dict[str, Any]) -> None:
    """Writes what was found as JSON, unless there is no path; NaN is an error."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
