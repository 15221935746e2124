"""Sound that benchmarks are run on where no recording is needed: voice-like waves, noise, and files of them."""

from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sfjax.data import manifest

RATE = 16_000  # Hz


def voice(seconds: float, seed: int) -> Float[np.ndarray, " samples"]:
    """A buzz with a gliding pitch, about three syllables a second and breath between them; peak 0.3."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 220) * 2 ** (0.2 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * time))
    angle = 2 * np.pi * np.cumsum(pitch) / RATE
    buzz = sum(np.sin(k * angle + rng.uniform(0, 6)) / k for k in range(1, 16))
    open_mouth = np.maximum(np.sin(2 * np.pi * rng.uniform(2.5, 3.5) * time), 0.0)
    wav = open_mouth * buzz + 0.03 * rng.standard_normal(len(time))
    return (0.3 * wav / np.abs(wav).max()).astype(np.float32)


def noise(seconds: float, seed: int) -> Float[np.ndarray, " samples"]:
    """White noise at −30 dB of full scale."""
    return (10**-1.5 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def corpus(folder: Path, *, count: int, seconds: tuple[float, float]) -> tuple[Path, Path]:
    """Writes `count` FLAC files of speech and of noise, evenly between two lengths; returns their two manifests."""
    made = []
    for kind, make in (("speech", voice), ("noise", noise)):
        rows = []
        for i, length in enumerate(np.linspace(*seconds, count)):
            wav, name = make(length, i), f"{kind}_{i}.flac"
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, wav, RATE)
            rows.append({"path": name, "start": 0, "frames": len(wav), "rate": RATE, "speaker": f"s{i}", "kind": kind})
        made.append(folder / f"{kind}.parquet")
        manifest.write(made[-1], rows)
    return made[0], made[1]
