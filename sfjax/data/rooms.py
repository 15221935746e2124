"""Simulate impulse responses of rooms; measure the decay time and direct-to-reverberant ratio of any response."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import audio, worker_process
from sfjax.errors import UserError

SIZES = ((3.0, 10.0), (2.5, 8.0), (2.3, 3.5))  # metres: length, width and height
DISTANCES = (0.3, 3.0)  # metres from the speaker to the microphone
WALL = 0.5  # least metres from both to every wall, less in small rooms
SCATTERING = 0.1  # scattering coefficient of the walls
ORDER = 6  # highest order of reflections by image sources; ray tracing makes the later ones
PEAK = 0.9  # peak of a written response
DIRECT = 0.0025  # seconds before and after the peak that count as direct sound


def simulate(
    folder: str | os.PathLike,
    *,
    count: int,
    seed: int,
    rt60: tuple[float, float],
    valid_share: float,
    rate: int,
    workers: int,
) -> list[dict[str, Any]]:
    """Write `count` impulse responses of shoebox rooms as `<folder>/<number>.flac` and return their manifest rows.

    A room has a random size, decay time (`rt60`, a range in seconds), and positions of speaker and microphone. Rows
    have the columns `rt60` in seconds and `drr` in dB, measured on the response; the last share `valid_share` of them
    has split valid, the others train. The same seed gives the same samples for any `count` and `workers`. Raises
    `UserError` without pyroomacoustics, and for invalid counts, ranges and shares.
    """
    if count < 1 or workers < 1:
        raise UserError(f"the count of rooms and the workers must be at least 1, got {count} and {workers}")
    if not 0.1 <= rt60[0] <= rt60[1] <= 5:
        raise UserError(f"the decay times must be a range (low, high) between 0.1 and 5 s, got {rt60}")
    if not 0 <= valid_share < 1:
        raise UserError(f"the share of rooms for validation must be from 0 to below 1, got {valid_share}")
    _pyroomacoustics()
    train_count = count - round(valid_share * count)
    jobs = [(Path(folder, f"{n:05d}.flac"), seed, n, rt60, rate) for n in range(count)]
    if workers == 1:
        rows = list(map(_simulated_room, jobs))
    else:  # spawn, because a process with JAX's threads must not fork
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(min(workers, count), context, worker_process.initialize) as pool:
            rows = list(pool.map(_simulated_room, jobs))
    return [row | {"split": "train" if n < train_count else "valid"} for n, row in enumerate(rows)]


def _pyroomacoustics():
    os.environ.setdefault("PRA_NUM_THREADS", "1")
    try:
        import pyroomacoustics
    except ImportError:
        raise UserError('simulated rooms need pyroomacoustics: pip install "sfjax[rooms]"') from None
    return pyroomacoustics


def _simulated_room(job):
    """Simulate one room, write its response and return its row."""
    path, seed, number, span, rate = job
    pra, rng = _pyroomacoustics(), np.random.default_rng([seed, number])
    while True:
        size, rt60 = np.array([rng.uniform(*limits) for limits in SIZES]), rng.uniform(*span)
        try:
            absorption, _ = pra.inverse_sabine(rt60, size)
            break
        except ValueError:  # a room of this size cannot decay so fast
            continue
    speaker, microphone = _positions(size, rng)
    pra.seed(*map(int, rng.integers(2**31, size=2)))
    room = pra.ShoeBox(
        size,
        fs=rate,
        materials=pra.Material(absorption, SCATTERING),
        max_order=ORDER,
        ray_tracing=True,
        air_absorption=True,
    )
    room.add_source(speaker)
    room.add_microphone(microphone)
    room.compute_rir()
    wav = np.asarray(room.rir[0][0])
    wav = (PEAK * wav / np.abs(wav).max()).astype(np.float32)
    audio.write(path, wav, rate)
    return {
        "path": str(path),
        "start": 0,
        "frames": len(wav),
        "rate": rate,
        "kind": "room",
        "rt60": decay_time(wav, rate),
        "drr": direct_ratio(wav, rate),
    }


def _positions(size, rng):
    """Draw the positions of speaker and microphone inside the room, with a log-uniform distance in `DISTANCES`."""
    margin = np.minimum(WALL, size / 4)
    distance, inside = np.exp(rng.uniform(*np.log(DISTANCES))), False
    while not inside:
        microphone, direction = rng.uniform(margin, size - margin), rng.standard_normal(3)
        speaker = microphone + distance * direction / np.linalg.norm(direction)
        inside = bool(np.all((speaker >= margin) & (speaker <= size - margin)))
    return speaker, microphone


def decay_time(wav: Float[np.ndarray, " taps"], rate: int) -> float:
    """Measure the RT60 of an impulse response in seconds: three times its decay from −5 to −25 dB.

    Source: M. R. Schroeder, New method of measuring reverberation time, 1965; T20 of ISO 3382.
    """
    energy = np.cumsum(np.square(wav[np.argmax(np.abs(wav)) :], dtype=np.float64)[::-1])[::-1]
    decibels = 10 * np.log10(np.maximum(energy / energy[0], 1e-12))
    samples = np.flatnonzero((decibels <= -5) & (decibels >= -25))
    if len(samples) < 2:
        return 0.0
    slope = np.polyfit(samples / rate, decibels[samples], 1)[0]
    return float(-60 / slope) if slope < 0 else 0.0


def direct_ratio(wav: Float[np.ndarray, " taps"], rate: int) -> float:
    """Measure the direct-to-reverberant ratio of an impulse response in dB; direct sound is 2.5 ms around the peak."""
    power, peak, reach = np.square(wav, dtype=np.float64), int(np.argmax(np.abs(wav))), round(DIRECT * rate)
    direct = power[max(peak - reach, 0) : peak + reach + 1].sum()
    return float(10 * np.log10(direct / max(power[peak + reach + 1 :].sum(), 1e-12)))
