"""Keep compiled programs on disk, so that a command compiles only once on a machine."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

JAX_FOLDER = "JAX_COMPILATION_CACHE_DIR"  # JAX's own variables
JAX_THRESHOLD = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
CPUINFO = Path("/proc/cpuinfo")


def enable() -> None:
    """Let JAX keep compiled programs in a folder of this kind of processor. Call it before you import JAX.

    The folder is in SFJAX_CACHE, by default `sfjax` in XDG_CACHE_HOME or ~/.cache. An empty SFJAX_CACHE turns the cache
    off. If JAX_COMPILATION_CACHE_DIR is set, it is used unchanged. JAX ignores a folder that it cannot write.
    """
    chosen = os.environ.get("SFJAX_CACHE")
    if chosen == "" or JAX_FOLDER in os.environ:
        return
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ[JAX_FOLDER] = str(Path(chosen or Path(home) / "sfjax") / f"programs-{_processor()}")
    os.environ.setdefault(JAX_THRESHOLD, "0.1")


def _processor() -> str:
    """Return a short name of the processor: a program that was compiled for another one may crash."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features"))})
    return hashlib.sha256("\n".join([platform.machine(), platform.processor(), *kind]).encode()).hexdigest()[:12]
