"""Spectrogram pictures, drawn by matplotlib without a screen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sfjax import audio
from sfjax.audio import MelSpec

COLUMNS = 1200  # of a recording's picture, at most


def spectrograms(
    panels: dict[str, Float[np.ndarray, "frames mels"]], spec: MelSpec, path: str | Path | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Normalised log-Mel frames as titled panels one under the other, in dB, saved as PNG at `path`.

    The scale spans 80 dB down from the loudest of the last panel, the one that the others are held against.
    """
    decibels = {name: 20 / np.log(10) * (mel * spec.std + spec.mean) for name, mel in panels.items()}
    top = list(decibels.values())[-1].max()
    size = lambda level: (len(level) * spec.hop / spec.sample_rate, spec.bands)
    figure = _figure({name: (level, size(level)) for name, level in decibels.items()}, "Mel band", top)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    if path is not None:
        Path(path).write_bytes(buffer.getvalue())
    from PIL import Image

    return np.asarray(Image.open(buffer).convert("RGB"))


def recordings(panels: dict[str, Path], path: str | Path) -> None:
    """Draws sound files as titled panels one under the other, in dB of full scale up to half their rates, as PNG.

    The scale of all spans 80 dB down from the loudest of all. The memory is bounded, however long they are.
    """
    drawn = {name: _levels(file) for name, file in panels.items()}
    top = max(level.max() for level, _ in drawn.values())
    _figure(drawn, "kHz", top).savefig(path, format="png")


def _levels(path):
    """The levels of a sound file at [times, frequencies] in dB, and what time in s and frequency in kHz they reach."""
    info = audio.probe(path)
    step = max(info.rate // 100, -(-info.frames // COLUMNS))  # samples of a column, the mean of the windows in it
    window, hop = info.rate // 25, max(info.rate // 100, step // 32)  # a few windows show a long column well enough
    shape = np.hanning(window)
    held, columns = np.zeros(max(window - hop, 0), np.float32), []
    for piece in audio.blocks(path, rate=info.rate, seconds=(step + 0.5) / info.rate):
        held = np.concatenate([held, np.pad(piece, (0, step - len(piece)))])
        frames = np.lib.stride_tricks.sliding_window_view(held, window)[::hop]
        columns.append(np.mean(np.abs(np.fft.rfft(frames * shape)) ** 2, axis=0))
        held = held[len(held) - max(window - hop, 0) :]
    power = np.stack(columns) * (2 / shape.sum()) ** 2
    return 10 * np.log10(power + 1e-20), (len(columns) * step / info.rate, info.rate / 2000)


def _figure(panels, unit, top):
    """Levels over time and frequency, of which each panel says how far they reach."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 * len(panels)), dpi=100, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (name, (level, (time, height))) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(
            level.T, origin="lower", aspect="auto", extent=(0, time, 0, height), vmin=top - 80, vmax=top, cmap="magma"
        )
        axis.set_title(name.encode(errors="replace").decode(), loc="left", fontsize=9, parse_math=False)
        axis.set_ylabel(unit, fontsize=8)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.colorbar(image, ax=axes, label="dB", aspect=40)
    return figure
