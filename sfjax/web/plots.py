"""Draw the waveforms and spectrograms of the web page."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from sfjax import audio, spectrogram_plot

WIDTH = 900  # pixels, as in `sfjax.spectrogram_plot`


def drawn(panels: dict[str, Path], spec: audio.MelSpec) -> UInt8[np.ndarray, "height width 3"]:
    """Draw sound files under their titles: all waveforms on one scale, then all spectrograms below them.

    Returns RGB pixels [height, width, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    waves = {name: _read(path, spec.sample_rate) for name, path in panels.items()}
    figure = Figure(figsize=(WIDTH / 100, 1.3 * len(waves)), dpi=100)
    # about the margins of the spectrograms below, so that their time axes align
    figure.subplots_adjust(left=0.05, right=0.865, top=1 - 0.2 / len(waves), bottom=0.17 / len(waves), hspace=0.4)
    axes = figure.subplots(len(waves), sharex=True, squeeze=False)[:, 0]
    peak = max(float(np.abs(wave).max()) for wave in waves.values()) or 1.0
    for axis, (name, wave) in zip(axes, waves.items(), strict=True):
        step = max(1, len(wave) // WIDTH)
        columns = wave[: len(wave) // step * step].reshape(-1, step)
        seconds = (np.arange(len(columns)) + 0.5) * step / spec.sample_rate
        axis.fill_between(seconds, columns.min(axis=1), columns.max(axis=1), linewidth=0.8)
        axis.set(ylim=(-peak, peak), yticks=[])
        axis.set_title(name, loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].set_xlim(0, max(map(len, waves.values())) / spec.sample_rate)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    mels = {name: _mel(wave, spec) for name, wave in waves.items()}
    return np.concatenate([np.asarray(canvas.buffer_rgba())[..., :3], spectrogram_plot.spectrograms(mels, spec)])


def _read(path, rate):
    return np.concatenate([*audio.blocks(path, rate=rate, seconds=10.0)])


def _mel(wave, spec):
    """Compute the log-Mel frames of a waveform in pieces of 10 s, so that memory does not grow with its length."""
    size = 10 * spec.sample_rate
    pieces = [wave[first : first + size] for first in range(0, len(wave), size)]
    pieces = [np.pad(piece, (0, size - len(piece))) for piece in pieces]  # of one size, to compile one program
    frames = np.concatenate([np.asarray(audio.log_mel(jnp.asarray(piece)[None], spec)[0]) for piece in pieces])
    return frames[: spec.num_frames(len(wave))]
