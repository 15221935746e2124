"""Draw spectrograms with matplotlib, without a display."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sfjax import audio
from sfjax.audio import MelSpec
from sfjax.overwrite import PICTURE

COLUMNS = 1200  # the most columns in the picture of a recording
KILOHERTZ = (0.5, 1, 2, 4, 8)  # the frequencies to label in a picture with Mel bands


def spectrograms(
    panels: dict[str, Float[np.ndarray, "frames mels"]], spec: MelSpec, path: str | Path | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw normalised log-Mel spectrograms as titled panels, one below the other, in dB.

    Returns the picture, and saves it as PNG at `path` if given. The scale spans 80 dB down from the loudest value of
    the last panel, which is the reference for the others.
    """
    decibels = {name: 20 / np.log(10) * (mel * spec.std + spec.mean) for name, mel in panels.items()}
    top = list(decibels.values())[-1].max()
    figure = _figure(
        {name: (levels, (len(levels) * spec.hop / spec.sample_rate, spec.bands)) for name, levels in decibels.items()},
        top,
        ticks=kilohertz_ticks(spec),
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata=PICTURE)
    if path is not None:
        Path(path).write_bytes(buffer.getvalue())
    from PIL import Image

    return np.asarray(Image.open(buffer).convert("RGB"))


def kilohertz_ticks(spec: MelSpec) -> tuple[list[float], list[str]]:
    """Return the ticks of an axis over Mel bands, from 0 to `spec.bands`: positions, and their labels in kHz."""
    bank = audio.filterbank(spec)
    centres = bank @ np.linspace(0, spec.sample_rate / 2000, bank.shape[1]) / bank.sum(axis=1)
    labelled = [frequency for frequency in KILOHERTZ if centres[0] <= frequency <= centres[-1]]
    positions = np.interp(labelled, centres, np.arange(spec.bands) + 0.5)
    return positions.tolist(), [f"{frequency:g}" for frequency in labelled]


def recordings(panels: dict[str, Path], path: str | Path) -> None:
    """Draw sound files as titled panels, one below the other, as PNG, in dB of full scale up to half their sample rate.

    One scale for all panels spans 80 dB down from the loudest value. The memory is bounded for any length of file.
    """
    levels_and_extents = {name: levels(file) for name, file in panels.items()}
    top = max(decibels.max() for decibels, _ in levels_and_extents.values())
    _figure(levels_and_extents, top).savefig(path, format="png", metadata=PICTURE)


def levels(path: str | Path) -> tuple[Float[np.ndarray, "times frequencies"], tuple[float, float]]:
    """Return the levels of a sound file in dB of full scale, and their extent in seconds and kHz, in bounded memory."""
    info = audio.probe(path)
    step = max(info.rate // 100, -(-info.frames // COLUMNS))  # samples in a column, which is the mean of its windows
    window, hop = info.rate // 25, max(info.rate // 100, step // 32)  # a few windows per long column are enough
    hann = np.hanning(window)
    overlap = max(window - hop, 0)  # samples of the column before that the first window of a column includes
    buffer, columns = np.zeros(overlap, np.float32), []
    for piece in audio.blocks(path, rate=info.rate, seconds=(step + 0.5) / info.rate):
        buffer = np.concatenate([buffer, np.pad(piece, (0, step - len(piece)))])
        frames = np.lib.stride_tricks.sliding_window_view(buffer, window)[::hop]
        columns.append(np.mean(np.abs(np.fft.rfft(frames * hann)) ** 2, axis=0))
        buffer = buffer[len(buffer) - overlap :]
    power = np.stack(columns) * (2 / hann.sum()) ** 2
    return 10 * np.log10(power + 1e-20), (len(columns) * step / info.rate, info.rate / 2000)


def _figure(panels, top, *, ticks=None):
    """Draw each panel's levels, [times, frequencies], over its extent in time and frequency.

    `ticks` are the positions and labels of frequencies, if the extent is not in kHz.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 * len(panels)), dpi=100, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (name, (levels, (seconds, height))) in zip(axes, panels.items(), strict=True):
        extent = (0, seconds, 0, height)
        image = axis.imshow(
            levels.T, origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top, cmap="magma"
        )
        axis.set_title(name.encode(errors="replace").decode(), loc="left", fontsize=9, parse_math=False)
        axis.set_ylabel("kHz", fontsize=8)
        if ticks is not None:
            axis.set_yticks(*ticks)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.colorbar(image, ax=axes, label="dB", aspect=40)
    return figure
