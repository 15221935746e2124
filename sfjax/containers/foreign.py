"""Decode the formats of phones and browsers that libsndfile lacks (AAC, M4A, WebM, AMR, WMA) by PyAV or ffmpeg."""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from sfjax.containers import BadSound

SUFFIXES = (".m4a", ".mp4", ".aac", ".webm", ".3gp", ".amr", ".wma")
LARGEST = 2**32 - 2**16  # bytes of a WAV file
KEPT = 4  # decoded files that a process keeps until it ends


def kind(head: bytes) -> str | None:
    """Return the name of a format that this module decodes, from the first bytes of a file after ID3 tags."""
    if head[4:8] == b"ftyp":
        return "M4A"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "WebM"
    if (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0) or head[:4] == b"ADIF":
        return "AAC"
    if head[:5] == b"#!AMR":
        return "AMR"
    return "WMA" if head[:4] == b"\x30\x26\xb2\x75" else None


def open(path: str | os.PathLike, name: str) -> soundfile.SoundFile:
    """Open a file of the format `name` as a decoded WAV of floats in the temporary folder.

    Raises `BadSound` without PyAV and ffmpeg, or if they cannot decode the file.
    """
    stat = os.stat(path)
    decoded = _decoded(os.path.abspath(path), (stat.st_ino, stat.st_mtime_ns, stat.st_size, os.getpid()), name)
    if os.path.getsize(decoded.name) > LARGEST:
        raise BadSound(f"is {name} of more than 4 GiB of samples; split it")
    return soundfile.SoundFile(decoded.name)


@functools.lru_cache(maxsize=KEPT)
def _decoded(path: str, stamp: tuple, name: str) -> Any:
    """Return the open temporary file with a decoded recording; it is removed with the object."""
    file = tempfile.NamedTemporaryFile(prefix="sfjax-", suffix=".wav")  # noqa: SIM115 (the cache keeps it)
    try:
        import av  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        _decode_by_ffmpeg(path, file.name, name)
    else:
        _decode_by_av(av, path, file.name, name)
    return file


def _decode_by_av(av: Any, path: str, target: str, name: str) -> None:
    try:
        with io.FileIO(path) as content, av.open(content) as container:
            if not container.streams.audio:
                raise BadSound(f"is {name} without sound; choose another file")
            blocks = _blocks(av, container)
            rate, first = next(blocks, (0, None))
            if first is None:
                raise BadSound(f"is {name} without a sample of sound; choose another file")
            with soundfile.SoundFile(target, "w", rate, first.shape[1], "FLOAT", format="WAV") as out:
                out.write(first)
                for _, block in blocks:
                    out.write(block)
    except (av.error.FFmpegError, soundfile.LibsndfileError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
        raise BadSound(f"not readable as {name} ({reason.strip().rstrip('.')}); convert it to WAV or FLAC") from None


def _blocks(av: Any, container: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate and samples [samples, channels] of each frame, all in the format of the first."""
    resampler = None
    for frame in container.decode(audio=0):
        if resampler is None:
            resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
        for converted in resampler.resample(frame):
            yield converted.sample_rate, converted.to_ndarray().reshape(-1, len(converted.layout.channels))


def _decode_by_ffmpeg(path: str, target: str, name: str) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise BadSound(f"is {name}; install PyAV to read it (pip install 'sfjax[av]'), or ffmpeg, or convert it to WAV")
    words = ["-nostdin", "-loglevel", "error", "-y", "-i", f"file:{path}", "-vn", "-c:a", "pcm_f32le"]
    done = subprocess.run(
        [os.fsencode(word) for word in (program, *words, "-f", "wav", target)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BadSound(f"not readable as {name} ({reason[0].rstrip('.')}); convert it to WAV or FLAC")
