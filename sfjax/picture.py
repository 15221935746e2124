"""Spectrogram pictures, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sfjax.audio import MelSpec


def spectrograms(
    panels: dict[str, Float[np.ndarray, "frames mels"]], spec: MelSpec, path: str | Path | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Normalised log-Mel frames as titled panels one under the other, in dB, saved as PNG at `path`.

    The scale spans 80 dB down from the loudest of the last panel, the one that the others are held against.
    """
    from matplotlib.figure import Figure

    decibels = {name: 20 / np.log(10) * (mel * spec.std + spec.mean) for name, mel in panels.items()}
    top = list(decibels.values())[-1].max()
    figure = Figure(figsize=(9, 2.1 * len(panels)), dpi=100, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (name, level) in zip(axes, decibels.items(), strict=True):
        extent = (0, len(level) * spec.hop / spec.sample_rate, 0, spec.bands)
        image = axis.imshow(
            level.T, origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top, cmap="magma"
        )
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_ylabel("Mel band", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.colorbar(image, ax=axes, label="dB", aspect=40)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    if path is not None:
        Path(path).write_bytes(buffer.getvalue())
    from PIL import Image

    return np.asarray(Image.open(buffer).convert("RGB"))
