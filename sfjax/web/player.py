"""Show recordings one below the other and play them at the same position: waveform and spectrogram of each, as HTML.

player.js plays them, page.css places them. The pictures have no text, so that the labels stay readable at any width.
"""

from __future__ import annotations

import base64
import html
import io
import math
import urllib.parse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sfjax import audio, spectrogram_plot
from sfjax.web.security import API
from sfjax.web.tabs import Result

COLUMNS = 600  # of a waveform
HIGHEST = 8.0  # kHz: the top of the frequency axis
RANGE = 80.0  # dB below the loudest value of all tracks: the bottom of the colour scale
COLOURS = 64  # of a spectrogram
TICKS = 6  # most labels of the time axis, which fit into 300 pixels
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # seconds between two labels


def player(result: Result) -> str:
    """Return the HTML of a player with one track for each recording of a result.

    All tracks share one time axis, one scale of amplitudes and one scale of levels.
    """
    tracks = [*result.before, *result.after]
    waves = [_envelope(track.file) for track in tracks]
    levels = [spectrogram_plot.levels(track.file) for track in tracks]
    seconds = max(info.frames / info.rate for info in (audio.probe(track.file) for track in tracks))
    peak = max(float(np.abs(envelope).max()) for envelope, _ in waves) or 1.0
    top = max(float(decibels.max()) for decibels, _ in levels)
    first = len(result.before)  # the track that plays first: a result
    rows = "".join(
        _row(
            number,
            track,
            _wave(envelope / peak, extent / seconds),
            _spectrogram(decibels, extents, top, extents[0] / seconds, track.title),
            seconds,
        )
        for number, (track, (envelope, extent), (decibels, extents)) in enumerate(
            zip(tracks, waves, levels, strict=True)
        )
    )
    choices = "".join(
        f'<button type="button" data-track="{number}" aria-pressed="{str(number == first).lower()}">'
        f"{html.escape(track.title)}</button>"
        for number, track in enumerate(tracks)
    )
    notes = "".join(f'<p class="sf-note">{html.escape(note)}</p>' for note in result.notes)
    notes += "".join(f'<p class="sf-warning">{html.escape(warning)}</p>' for warning in result.warnings)
    return (
        f'{notes}<div class="sf-player" data-track="{first}">'
        f'<div class="sf-bar"><button type="button" class="sf-play" aria-label="Play">▶</button>'
        f'<div class="sf-choices" role="group" aria-label="Which recording you hear">{choices}</div>'
        f'<span class="sf-time">0.0 / {seconds:.1f} s</span></div>'
        f"{rows}{_legend(seconds)}{_downloads(result.after)}</div>"
    )


def _row(number, track, wave, spectrogram, seconds):
    frames = "".join(
        f'<div class="sf-span" style="left:{100 * start / seconds:.3f}%;width:{100 * (end - start) / seconds:.3f}%" '
        f'title="{start:.2f} to {end:.2f} s"></div>'
        for start, end in track.spans
    )
    return (
        f'<div class="sf-track" data-track="{number}"><div class="sf-title">{html.escape(track.title)}</div>'
        f'<div class="sf-kHz"><span>{HIGHEST:g}</span><span>{HIGHEST / 2:g}</span><span>0 kHz</span></div>'
        f'<div class="sf-plot" data-seconds="{seconds:.6f}">'
        f'<div class="sf-wave">{wave}</div><div class="sf-spectrogram">{spectrogram}</div>{frames}'
        f'<div class="sf-head"></div></div>'
        f'<audio preload="auto" src="{_url(track.file)}"></audio></div>'
    )


def _legend(seconds):
    ticks = "".join(
        f'<span style="left:{100 * tick / seconds:.3f}%">{tick:g}{" s" if not tick else ""}</span>'
        for tick in _ticks(seconds)
    )
    return (
        f'<div class="sf-axis">{ticks}</div><div class="sf-levels">−{RANGE:g} dB <i></i> 0 dB, the loudest sound</div>'
    )


def _ticks(seconds: float) -> list[float]:
    """Return the labels of a time axis in seconds: at most `TICKS`, at round times."""
    step = next((step for step in STEPS if seconds / step < TICKS), math.ceil(seconds / TICKS))
    return [round(float(number * step), 1) for number in range(math.floor(seconds / step) + 1)]


def _downloads(tracks):
    links = " ".join(
        f'<a href="{_url(track.file)}" download="{html.escape(track.file.name)}">Download “{html.escape(track.title)}”'
        "</a>"
        for track in tracks
    )
    return f'<div class="sf-downloads">{links}</div>'


def _url(path: Path) -> str:
    return f"{API.removeprefix('/')}/file={urllib.parse.quote(str(path))}"


def _envelope(path: Path) -> tuple[Float[np.ndarray, "columns 2"], float]:
    """Return the lowest and the highest sample in each column of a recording, and the seconds of all columns."""
    info = audio.probe(path)
    step = max(1, -(-info.frames // COLUMNS))  # samples per column
    pieces = audio.blocks(path, rate=info.rate, seconds=(step + 0.5) / info.rate)
    columns = np.array([(piece.min(), piece.max()) for piece in pieces if len(piece)])
    return columns, len(columns) * step / info.rate


def _wave(envelope, width):
    """Draw an envelope in [-1, 1] as SVG; `width` is its share of the time axis."""
    places = np.arange(len(envelope)) + 0.5
    upper = [f"{place:.1f} {-high:.3f}" for place, high in zip(places, envelope[:, 1], strict=True)]
    lower = [f"{place:.1f} {-low:.3f}" for place, low in zip(places, envelope[:, 0], strict=True)]
    return (
        f'<svg style="width:{100 * width:.3f}%" viewBox="0 -1 {len(envelope)} 2" preserveAspectRatio="none" '
        f'aria-hidden="true"><path d="M{"L".join([*upper, *lower[::-1]])}Z"/></svg>'
    )


def _spectrogram(decibels, extents, top, width, title):
    """Draw levels from 0 to `HIGHEST` kHz as an image; `width` is its share of the time axis."""
    from matplotlib import colormaps
    from PIL import Image

    rows = round(decibels.shape[1] * HIGHEST / extents[1])
    scaled = np.clip((decibels[:, :rows] - top) / RANGE + 1, 0, 1) * (COLOURS - 1)
    scaled = np.pad(scaled, ((0, 0), (0, max(0, rows - decibels.shape[1]))))  # no sound above half of a low sample rate
    image = Image.fromarray(scaled.round().astype(np.uint8).T[::-1], "P")
    palette = colormaps["magma"](np.linspace(0, 1, COLOURS), bytes=True)[:, :3]
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<img alt="Spectrogram of {html.escape(title)}" src="{url}" style="width:{100 * width:.3f}%">'
