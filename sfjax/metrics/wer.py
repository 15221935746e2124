"""Word error rate: what a speech recogniser hears in a recording against what should have been said.

A rate is a measure of the recogniser as well: rates of two recognisers do not compare, so each has a name to print with
them. The paper's rates are those of HuBERT-L (`sfjax.metrics.local.Hubert`).
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from sfjax.errors import UserError
from sfjax.metrics.perceptual import Unscorable

RATE = 16_000  # Hz, of all recognisers and speaker encoders
DIGITS = 15  # a longer number is read digit by digit


@runtime_checkable
class Transcriber(Protocol):
    """A speech recogniser: the words of a wave in [-1, 1] at `rate` Hz, whatever it heard before."""

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str: ...


@functools.cache
def transcriber(name: str) -> Transcriber:
    """The recogniser called 'pocketsphinx', 'hubert:FOLDER' or 'command:COMMAND'; loaded once in a process.

    Raises `UserError` if there is none of that name or it cannot be loaded.
    """
    kind, colon, rest = name.partition(":")
    if name == "pocketsphinx":
        return PocketSphinx()
    if kind == "command" and colon:
        return Command(rest)
    if kind == "hubert" and rest:
        from sfjax.metrics.local import Hubert

        return Hubert(rest)
    raise UserError(f"a recogniser is 'pocketsphinx', 'hubert:FOLDER' or 'command:COMMAND', got {name!r}")


class PocketSphinx:
    """CMU PocketSphinx with the American English models of its package: offline and small, with many errors.

    `UserError` if the package is missing.
    """

    name = "pocketsphinx en-us"

    def __init__(self):
        try:
            import pocketsphinx
        except ImportError:
            raise UserError("this recogniser needs pocketsphinx: pip install 'sfjax[text]'") from None
        self.decoder = pocketsphinx.Decoder(loglevel="FATAL")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str:
        pcm = (np.clip(resampled(wav, rate), -1, 1) * 32767).astype("<i2")
        self.decoder.reinit_feat()  # else what it heard before decides what it hears now
        self.decoder.start_utt()
        self.decoder.process_raw(pcm.tobytes(), full_utt=True)
        self.decoder.end_utt()
        heard = self.decoder.hyp()
        return heard.hypstr if heard else ""


class Command:
    """Any recogniser that is a command: {} stands for a 16 kHz WAV, and what it prints is the text.

    The WAV is 16-bit, mono and gone afterwards. No shell reads the command. Raises `UserError` unless {} occurs in it,
    and if it cannot be run or fails.
    """

    def __init__(self, command: str):
        self.name = command
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"{command}: not a command ({str(error).lower()}); check its quotes") from None
        if not any("{}" in word for word in self.words):
            raise UserError(f"{command!r}: the command of a recogniser wants {{}} in the place of the WAV; add it")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "speech.wav"))
            soundfile.write(path, np.clip(resampled(wav, rate), -1, 1), RATE, subtype="PCM_16")
            words = [word.replace("{}", path) for word in self.words]
            try:
                done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL)
            except OSError as error:
                raise UserError(f"{self.name}: could not be run ({error.strerror}); check the command") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").split("\n")
            why = next((line.strip() for line in reversed(said) if line.strip()), "no message")
            raise UserError(f"{self.name}: failed with exit code {done.returncode} ({why}); try it on a file")
        return " ".join(done.stdout.decode(errors="replace").split())


def resampled(wav: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " resampled"]:
    """The wave at 16 kHz, as float32. Raises `Unscorable` if it is empty or not finite."""
    if wav.ndim != 1:
        raise Unscorable(f"the recording has shape {wav.shape}, expected one axis of samples")
    if not np.isfinite(wav).all():
        raise Unscorable("the recording holds NaN or infinite samples")
    wav = np.asarray(wav, np.float32)
    wav = wav if rate == RATE else soxr.resample(wav, rate, RATE)
    if not wav.size:
        raise Unscorable("the recording is empty")
    return wav


def normalise(text: str) -> str:
    """English text as words to compare: lower case, numbers as words, apostrophes inside words, no other punctuation.

    `UserError` if num2words is missing.
    """
    try:
        from num2words import num2words
    except ImportError:
        raise UserError("comparing words needs num2words: pip install 'sfjax[text]'") from None

    def spoken(found: re.Match) -> str:
        number = found["number"].replace(",", "")
        if len(number) > DIGITS:
            return f" {' '.join(num2words(int(digit)) for digit in number if digit.isdigit())} "
        return f" {num2words(int(number), to='ordinal') if found['th'] and number.isdigit() else num2words(number)} "

    text = text.translate({ord(mark): "'" for mark in "’‘ʼ`´"})
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)(?P<th>(?:st|nd|rd|th)\b)?", spoken, text)
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w']|_", " ", text)
    return " ".join(text.split())


class Words(NamedTuple):
    """How many words a recogniser got wrong (replaced, left out or put in), of how many words of the reference."""

    errors: int
    words: int


def word_errors(reference: str, hypothesis: str) -> Words:
    """The errors of a transcript, both texts normalised, at the alignment with the fewest.

    Raises `Unscorable` if the reference holds no words, and `UserError` if jiwer is missing.
    """
    try:
        import jiwer
    except ImportError:
        raise UserError("comparing words needs jiwer: pip install 'sfjax[text]'") from None
    wanted = normalise(reference)
    if not wanted:
        raise Unscorable(f"the reference text holds no words: {reference!r}")
    found = jiwer.process_words(wanted, normalise(hypothesis))
    missed = found.substitutions + found.deletions
    return Words(missed + found.insertions, missed + found.hits)


def rate(counts: Iterable[Words]) -> float:
    """The word error rate of many recordings: all their errors by all their words, so long ones count for more.

    0 without errors and above 1 if more was put in than there was to say. Raises `Unscorable` if there are no words.
    """
    counts = list(counts)
    words = sum(count.words for count in counts)
    if not words:
        raise Unscorable("no recording has a transcript to count the errors of")
    return sum(count.errors for count in counts) / words
