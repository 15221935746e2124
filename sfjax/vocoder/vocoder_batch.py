"""The Mels of a vocoder's batch, and samples of it to look at and listen to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int, Key

from sfjax import audio
from sfjax.objective import Batch


def batch_mels(task: Any, batch: Batch, spec: audio.MelSpec) -> Float[Array, "batch frames mels"]:
    """Return the Mels that a vocoder learns from: predicted ones, or those of the recordings."""
    if task.predicted:
        return batch["mels"]["estimate"][:, 0]
    return audio.log_mel(batch["waves"]["speech"], spec, batch["lengths"])


def draw(
    generate: Callable[[Any, Float[Array, "batch frames mels"], Int[Array, " batch"]], Float[Array, "batch samples"]],
    spec: audio.MelSpec,
    task: Any,
) -> Callable:
    """Return `Objective.draw` of a vocoder; `generate` makes waveforms from parameters, Mels and frame counts."""

    def drawn(params: Any, batch: Batch, keys: Key[Array, " batch"]) -> dict[str, Array]:
        wave, lengths, mel = batch["waves"]["speech"], batch["lengths"], batch_mels(task, batch, spec)
        count = spec.num_frames(lengths)
        generated = generate(params, mel, count)[:, : wave.shape[1]]
        target, sample = (audio.log_mel(wave, spec, lengths) for wave in (wave, generated))
        return {"condition": mel, "sample": sample, "target": target, "wave": generated, "frames": count}

    return drawn
