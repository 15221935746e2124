"""`sfjax enhance --live`: clean sound while it arrives, from a microphone to a loudspeaker or through a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sfjax.cli.verb import introduce, load_model
from sfjax.errors import UserError

FULL_SCALE = 2.0**15  # of 16-bit samples
PIPE = 1 << 16  # largest piece in bytes


class Ends(NamedTuple):
    """Where samples come from and go to: `pieces` of any size, and `write(samples)`."""

    pieces: Iterator[np.ndarray]
    write: Callable[[np.ndarray], Any]


def run(arguments: Any) -> int:
    """Enhance until the input ends or Ctrl-C; print the latency and the real-time factor on standard error."""
    piped = arguments.files == ["-"]
    _check(arguments, piped)
    model = load_model(arguments)
    stream = model.stream(arguments.rate, seed=arguments.seed)
    introduce("enhance with", model, arguments.model)
    print(_latency_line(stream), file=sys.stderr, flush=True)
    samples, seconds, slowest = 0, 0.0, 0.0  # of sound; of computing; of computing a block
    with contextlib.suppress(KeyboardInterrupt), _pipe() if piped else _devices(stream) as ends:
        for piece in ends.pieces:
            began = time.perf_counter()
            clean = stream.push(piece)
            spent = time.perf_counter() - began
            samples, seconds = samples + len(piece), seconds + spent
            slowest = max(slowest, spent * stream.samples / max(len(piece), stream.samples))
            ends.write(clean)
        ends.write(stream.flush())
    duration, block = samples / stream.rate, stream.samples / stream.rate
    print(
        f"{duration:.1f} s of sound, real-time factor {seconds / duration if samples else 0:.3f}, "
        f"slowest block {1000 * slowest:.1f} of {1000 * block:.0f} ms",
        file=sys.stderr,
    )
    return 0


def _check(arguments, piped):
    if arguments.files and not piped:
        raise UserError(f"--live takes a microphone or -, got {arguments.files[0]}; leave --live out for files")
    if arguments.output or arguments.plot or arguments.json or arguments.force or arguments.to_rate:
        raise UserError("--live writes no files; leave out -o, --plot, --json, --force and --to-rate")
    if any(getattr(arguments, name) is not None for name in ("solver", "steps", "guidance", "sway")):
        raise UserError("--live takes one Euler step; leave out --solver, --steps, --guidance and --sway")
    if piped and (sys.stdin is None or sys.stdin.isatty()):
        raise UserError("expected raw 16-bit samples on standard input, found a terminal or nothing; pipe a recorder")
    if piped and (sys.stdout is None or sys.stdout.isatty()):
        raise UserError("sound does not go to a terminal; pipe standard output to a player, or use > FILE")


def _latency_line(stream):
    window, token, lookahead = (1000 * part / stream.rate for part in stream.latency)
    return (
        f"latency {window + token + lookahead:.0f} ms at {stream.rate} Hz: window {window:.0f}, token {token:.0f}, "
        f"look-ahead {lookahead:.0f}; Ctrl-C ends"
    )


@contextlib.contextmanager
def _pipe() -> Iterator[Ends]:
    """Read and write raw 16-bit little-endian mono samples. A piece is what the pipe holds."""

    def write(samples):
        clipped = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        sys.stdout.buffer.write(clipped.astype("<i2").tobytes())
        sys.stdout.buffer.flush()

    yield Ends(_pipe_pieces(), write)


def _pipe_pieces():
    pipe: Any = sys.stdin.buffer
    data = pipe.read1(PIPE)
    if data.startswith(b"RIFF"):
        raise UserError("expected raw 16-bit mono samples, got a WAV file; use -t raw of sox, -f s16le of ffmpeg")
    while data:
        whole = len(data) // 2 * 2
        yield np.frombuffer(data[:whole], "<i2").astype(np.int16)
        more = pipe.read1(PIPE)
        data = data[whole:] + more if more else b""


@contextlib.contextmanager
def _devices(stream) -> Iterator[Ends]:
    """Open the default microphone and loudspeaker."""
    try:
        import sounddevice
    except ImportError:
        raise UserError("--live without - needs sounddevice; pip install 'sfjax[live]'") from None
    except OSError as error:
        raise UserError(f"--live without - needs PortAudio ({error}); install libportaudio2") from None

    def pieces():
        while True:
            yield device.read(stream.samples)[0][:, 0]

    def write(samples):
        device.write(np.ascontiguousarray(samples[:, None]))

    try:
        with sounddevice.Stream(
            stream.rate, blocksize=stream.samples, channels=1, dtype="float32", latency="low"
        ) as device:
            write(np.zeros(stream.latency.total, np.float32))  # until the first samples are finished
            yield Ends(pieces(), write)
    except sounddevice.PortAudioError as error:
        raise UserError(f"the microphone or loudspeaker failed ({error}); choose another default device") from None
