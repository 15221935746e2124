"""Generate speech with espeak-ng in many voices, and six kinds of noise with numpy.

This data is enough for tests, demonstrations and first runs without a download, but not for training a useful model.

libespeak-ng keeps state from one utterance to the next, so every utterance gets its own process: this file, run as a
script, reads a request from standard input, speaks it and writes the samples to standard output.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sfjax.errors import UserError

# functions import sfjax.audio where they need it, so the process of an utterance starts without JAX, in 0.1 s

RATE = 16000  # Hz of every generated file
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en-029",
    "en",  # espeak-ng's name of en-gb
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-scotland",
)
TIMBRES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
PITCH, SPEED = (25, 75), (140, 200)  # ranges of a voice: espeak-ng's scale of 0 to 100, and words per minute
NOISE_SECONDS = 4
NOISES = ("white", "pink", "brown", "hum", "clicks", "modulated")

SENTENCES = (
    "The ferry leaves the harbour at a quarter past nine.",
    "She measured the width of the window twice.",
    "A jar of thick yellow honey stood beside the bread.",
    "Why would anyone paint a garage door purple?",
    "The judge asked both lawyers to lower their voices.",
    "Fresh snow had covered the tracks by morning.",
    "He usually finishes the crossword before breakfast.",
    "Our cousin grows huge onions behind the shed.",
    "Please put the blue cups on the highest shelf.",
    "The choir practised the same verse for an hour.",
    "Nobody noticed the mouse under the piano.",
    "A gentle breeze pushed the little boat ashore.",
    "Could you explain how the machine knows the weather?",
    "The thief dropped the rings into a leather pouch.",
    "Both engineers checked the bridge after the storm.",
    "I would rather walk than wait for another bus.",
    "Seven geese flew low above the frozen marsh.",
    "The baker opens his shop while the street is dark.",
    "Her answer was short, sharp and rather surprising.",
    "We heard thunder rolling over the southern hills.",
    "The chef poured vinegar over the chopped beetroot.",
    "An old sailor taught us how to tie that knot.",
    "Does the museum charge for children under five?",
    "The lamp in the hallway flickers every evening.",
    "Wash the wool by hand and dry it in the shade.",
    "They sold the farm and moved closer to the coast.",
    "A rough road leads from the village to the quarry.",
    "Joyce enjoys noisy markets and quiet libraries.",
    "The nurse wrapped a bandage around his thumb.",
    "What a pleasure it was to hear that orchestra!",
    "Large brown moths gathered beneath the porch light.",
    "My uncle repairs watches, clocks and music boxes.",
    "The pupils drew a map of the whole neighbourhood.",
    "Keep the change and buy yourself some chocolate.",
    "A yellow taxi waited outside the theatre.",
    "The river was too wide and too fast to cross.",
    "Three of the chairs are broken, but the table is fine.",
    "Put your gloves on before you touch the cactus.",
    "The mayor promised cheaper housing within two years.",
    "Rain dripped through the roof onto the oak floor.",
    "He laughed so hard that his glasses fell off.",
    "Is there enough flour for another batch of scones?",
    "The pilot turned north to avoid the heavy clouds.",
    "Vera found a silver coin under the loose board.",
    "The horses would not go near the burning barn.",
    "An unusual smell came from the kitchen drawer.",
    "Push the red switch, then count slowly to twelve.",
    "The teacher's voice carried to the back of the hall.",
    "We planted a row of birches along the fence.",
    "Thirty people signed the letter to the council.",
    "The fox slipped between the hedges and vanished.",
    "It takes courage to admit such a foolish mistake.",
    "Good soil should be loose, dark and slightly moist.",
    "The young couple argued about the colour of the sofa.",
    "Which of these keys belongs to the cellar?",
    "A huge wave lifted the raft and threw it sideways.",
    "The tailor shortened the sleeves by half an inch.",
    "Every Thursday the shopkeeper gives away stale cake.",
    "His theory about the planets turned out to be true.",
    "The goalkeeper dived left and caught the ball.",
    "Cold water ran from the spring into a stone bowl.",
    "Nine out of ten visitors choose the shorter path.",
    "The zebra looked at us as though we were in its way.",
    "You may borrow the ladder if you bring it back soon.",
    "Hardly any of the audience understood the joke.",
    "The poet read from a thin book with a torn cover.",
    "Charge the battery overnight and try again tomorrow.",
    "A sudden shout woke the baby in the next room.",
    "The valley smelled of smoke, thyme and wet earth.",
    "Few towns can boast of such a beautiful square.",
    "George usually chews gum during long journeys.",
    "That orange jersey shrank in the wash.",
)


def generate(folder: str | os.PathLike, *, voices: int, sentences: int, seed: int, workers: int) -> Path:
    """Speak `sentences` different sentences in each of `voices` voices, as 16 kHz FLAC `<folder>/<voice>/<n>.flac`.

    Returns the path of the list of utterances, `<folder>/voices.jsonl`, for `sfjax.data.prepare.jsonl`. A voice has an
    accent and a timbre (all 96 pairs occur before one occurs again) and its own pitch and speed. The same seed gives
    the same samples for any number of `workers` (utterances spoken at the same time) and of voices. Raises `UserError`
    without espeak-ng.
    """
    if min(voices, workers) < 1 or not 1 <= sentences <= len(SENTENCES):
        raise UserError(
            f"voices and workers must be at least 1 and sentences from 1 to {len(SENTENCES)}, "
            f"got {voices}, {workers} and {sentences}"
        )
    library, data = _espeak()
    requests = []
    for number in range(voices):
        speaker, voice = f"v{number:03d}", _voice(number, seed)
        order = np.random.default_rng([seed, number]).permutation(len(SENTENCES))
        for n, sentence in enumerate(order[:sentences]):
            utterance = {"path": f"{speaker}/{n:03d}.flac", "speaker": speaker, "text": SENTENCES[sentence]}
            requests.append(utterance | voice | {"library": library, "data": data})
    pool = concurrent.futures.ThreadPoolExecutor(workers)  # threads, because they only wait for processes
    try:
        list(pool.map(lambda request: _record(Path(folder), request), requests))
    finally:
        pool.shutdown(cancel_futures=True)
    path = Path(folder, "voices.jsonl")
    lines = [json.dumps({key: request[key] for key in ("path", "speaker", "text", "voice")}) for request in requests]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _voice(number: int, seed: int) -> dict[str, Any]:
    """Return name, pitch and speed of voice `number` of this seed."""
    kinds = [f"{accent}+{timbre}" for accent in ACCENTS for timbre in TIMBRES]
    turn, position = divmod(number, len(kinds))
    # the 0 and the 1 give separate random streams, also from the order of the sentences
    order = np.random.default_rng([seed, turn, 0]).permutation(len(kinds))
    rng = np.random.default_rng([seed, number, 1])
    pitch, speed = (int(rng.integers(low, high + 1)) for low, high in (PITCH, SPEED))
    return {"voice": kinds[order[position]], "pitch": pitch, "speed": speed}


def noises(folder: str | os.PathLike, *, count: int, seed: int) -> list[Path]:
    """Write `count` noises of 4 s as 16 kHz FLAC `<folder>/<kind>/<n>.flac`, the kinds of `NOISES` in turn.

    Returns their paths. Levels are between −35 and −20 dB of full scale, clicks may be lower. The same seed gives the
    same samples for any `count`.
    """
    from sfjax import audio

    if count < 1:
        raise UserError(f"the count of noises must be at least 1, got {count}")
    paths = []
    for n in range(count):
        kind = NOISES[n % len(NOISES)]
        rng = np.random.default_rng([seed, n])
        wav = _noise(kind, rng)
        level = 10 ** (rng.uniform(-35, -20) / 20)
        wav *= min(level / np.sqrt(np.mean(wav**2)), 0.9 / np.abs(wav).max())
        paths.append(Path(folder, kind, f"{n:03d}.flac"))
        audio.write(paths[-1], wav.astype(np.float32), RATE)
    return paths


def _noise(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a noise of a kind, at no particular level."""
    samples = NOISE_SECONDS * RATE
    time = np.arange(samples) / RATE
    if kind == "white":
        return rng.standard_normal(samples)
    if kind == "pink":
        return _coloured(rng, lambda hertz: hertz**-0.5)
    if kind == "brown":
        return _coloured(rng, lambda hertz: 1 / hertz)
    if kind == "hum":
        mains = rng.choice([50.0, 60.0]) * (1 + 0.002 * rng.standard_normal())
        heights, phases = rng.uniform(0.2, 1, 12) / np.arange(1, 13), rng.random(12)
        tones = [height * np.sin(2 * np.pi * (k * mains * time + phases[k - 1])) for k, height in enumerate(heights, 1)]
        return sum(tones, 0.01 * rng.standard_normal(samples))
    if kind == "clicks":
        impulses = (rng.random(samples) < rng.uniform(3, 30) / RATE) * rng.standard_normal(samples)
        impulses[rng.integers(samples // 2)] += 1  # at least one
        ring = np.exp(-time[:800] * rng.uniform(300, 2000)) * np.cos(2 * np.pi * rng.uniform(500, 6000) * time[:800])
        return np.convolve(impulses, ring)[:samples] + 0.001 * rng.standard_normal(samples)
    low = np.exp(rng.uniform(np.log(100), np.log(3000)))
    high = low * rng.uniform(1.5, 2.5)
    band = _coloured(rng, lambda hertz: 1.0 * ((hertz >= low) & (hertz <= high)))
    return band * (1 + 0.9 * np.sin(2 * np.pi * (rng.uniform(0.5, 8) * time + rng.random())))


def _coloured(rng: np.random.Generator, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Draw white noise and multiply its spectrum by `gain`, a function of Hz; nothing below 20 Hz remains."""
    samples = NOISE_SECONDS * RATE
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples)) * gain(np.maximum(hertz, 20))
    return np.fft.irfft(np.where(hertz < 20, 0, spectrum), samples)


def _espeak() -> tuple[str, str]:
    """Return the paths of libespeak-ng and of its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError('generated voices need espeak-ng: pip install "sfjax[voices]"') from None
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _record(folder: Path, request: dict[str, Any]) -> None:
    """Speak one utterance in a new process and write it."""
    from sfjax import audio

    # -P keeps this file's folder out of the child's module search path; PYTHONPATH gives it the sfjax of this process
    command = [sys.executable, "-P", os.path.abspath(__file__)]
    python_path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": python_path}
    child = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, env=environment)
    if child.returncode or len(child.stdout) <= 4:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {child.returncode}, no sound"
        raise UserError(f"espeak-ng cannot speak as {request['voice']} ({reason}); reinstall it")
    rate = int.from_bytes(child.stdout[:4], "little")
    wav = np.frombuffer(child.stdout[4:], "<i2").astype(np.float32) / 32768
    audio.write(folder / request["path"], audio.resample(wav, rate, RATE), RATE)


# The process of one utterance. The numbers are from espeak-ng's speak_lib.h

SYNCHRONOUS, DONT_EXIT = 2, 0x8000  # espeak_Initialize: espeak_Synth returns after the last sample; errors are returned
SPEED_PARAMETER, PITCH_PARAMETER = 1, 3
FROM_CHARACTER, UTF8 = 1, 1


def _speak(request: dict[str, Any]) -> bytes:
    """Return the sample rate as four bytes, then the 16-bit samples."""
    espeak = ctypes.CDLL(request["library"])
    samples = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def gather(wav, count, events):
        if wav and count > 0:
            samples.extend(ctypes.string_at(wav, 2 * count))
        return 0  # continue

    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(request["data"]), DONT_EXIT)
    if rate <= 0:
        sys.exit(f"no voice data in {request['data']}")
    espeak.espeak_ng_SetRandSeed(
        ctypes.c_long(1)
    )  # the default is the clock, which changes the breathy timbres (f2, f3, f5)
    espeak.espeak_SetSynthCallback(gather)
    text = request["text"].encode()
    error_code = (
        espeak.espeak_SetVoiceByName(request["voice"].encode())
        or espeak.espeak_SetParameter(PITCH_PARAMETER, request["pitch"], 0)
        or espeak.espeak_SetParameter(SPEED_PARAMETER, request["speed"], 0)
        or espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, FROM_CHARACTER, 0, UTF8, None, None)
    )
    if error_code:
        sys.exit(f"libespeak-ng returned {error_code}")
    return rate.to_bytes(4, "little") + bytes(samples)


if __name__ == "__main__":
    sys.stdout.buffer.write(_speak(json.load(sys.stdin)))
