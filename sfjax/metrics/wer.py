"""Word error rate: the transcript of a speech recogniser, compared with the reference text.

A word error rate also measures the recogniser. Rates of two recognisers do not compare, so every recogniser has a name
to print with its rates. The paper uses HuBERT-L (`sfjax.metrics.torch_models.Hubert`).
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
from jaxtyping import Float

from sfjax.errors import UserError
from sfjax.metrics.model_input import RATE, resampled
from sfjax.metrics.perceptual import Unscorable

DIGITS = 15  # longer numbers are written digit by digit


@runtime_checkable
class Transcriber(Protocol):
    """A speech recogniser: it returns the words of a waveform in [-1, 1] at `rate` Hz.

    Earlier waveforms must not influence the result.
    """

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str: ...


@functools.cache
def transcriber(name: str) -> Transcriber:
    """Load the recogniser 'pocketsphinx', 'hubert:FOLDER' or 'command:COMMAND', once in a process.

    Raises `UserError` if the name is unknown or the recogniser cannot be loaded.
    """
    kind, colon, rest = name.partition(":")
    if name == "pocketsphinx":
        return PocketSphinx()
    if kind == "command" and colon:
        return Command(rest)
    if kind == "hubert" and rest:
        from sfjax.metrics.torch_models import Hubert

        return Hubert(rest)
    raise UserError(f"unknown recogniser {name!r}; choose from pocketsphinx, hubert:FOLDER, command:COMMAND")


class PocketSphinx:
    """CMU PocketSphinx with the American English models of its package: offline and small, with many errors.

    Raises `UserError` if the package is missing.
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
        self.decoder.reinit_feat()  # otherwise earlier waveforms influence the result
        self.decoder.start_utt()
        self.decoder.process_raw(pcm.tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Command:
    """Any recogniser that is a command: {} stands for the path of a WAV file, and the output is the text.

    The file is 16 kHz, 16-bit and mono, and is deleted afterwards. The command does not run in a shell. Raises
    `UserError` if the command lacks {}, cannot be run, or fails.
    """

    def __init__(self, command: str):
        self.name = command
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"{command}: not a command ({str(error).lower()}); check its quotes") from None
        if not any("{}" in word for word in self.words):
            raise UserError(f"expected a command with {{}} for the path of the WAV file, got {command!r}; add {{}}")

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "speech.wav"))
            soundfile.write(path, np.clip(resampled(wav, rate), -1, 1), RATE, subtype="PCM_16")
            words = [word.replace("{}", path) for word in self.words]
            try:
                result = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL)
            except OSError as error:
                raise UserError(f"{self.name}: could not be run ({error.strerror}); check the command") from None
        if result.returncode:
            lines = result.stderr.decode(errors="replace").split("\n")
            message = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise UserError(f"{self.name}: failed with exit code {result.returncode} ({message}); try it on a file")
        return " ".join(result.stdout.decode(errors="replace").split())


def normalise(text: str) -> str:
    """Return English text as words to compare: lower case, numbers as words, no punctuation but apostrophes in words.

    Raises `UserError` if num2words is missing.
    """
    try:
        from num2words import num2words
    except ImportError:
        raise UserError("comparing words needs num2words: pip install 'sfjax[text]'") from None

    def in_words(match: re.Match) -> str:
        number = match["number"].replace(",", "")
        if len(number) > DIGITS:
            return f" {' '.join(num2words(int(digit)) for digit in number if digit.isdigit())} "
        return f" {num2words(int(number), to='ordinal') if match['th'] and number.isdigit() else num2words(number)} "

    text = text.translate({ord(mark): "'" for mark in "’‘ʼ`´"})
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)(?P<th>(?:st|nd|rd|th)\b)?", in_words, text)
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w']|_", " ", text)
    return " ".join(text.split())


class Words(NamedTuple):
    """The number of wrong words (replaced, left out or inserted), and the number of words of the reference."""

    errors: int
    words: int


def word_errors(reference: str, hypothesis: str) -> Words:
    """Count the errors of a transcript at the alignment with the fewest errors; both texts are normalised first.

    Raises `Unscorable` if the reference has no words, and `UserError` if jiwer is missing.
    """
    try:
        import jiwer
    except ImportError:
        raise UserError("comparing words needs jiwer: pip install 'sfjax[text]'") from None
    normalised = normalise(reference)
    if not normalised:
        raise Unscorable(f"the reference text has no words: {reference!r}")
    alignment = jiwer.process_words(normalised, normalise(hypothesis))
    missed = alignment.substitutions + alignment.deletions
    return Words(missed + alignment.insertions, missed + alignment.hits)


def rate(counts: Iterable[Words]) -> float:
    """Compute the word error rate of many recordings: all errors divided by all words of the references.

    Long recordings count more. The rate is 0 without errors, and above 1 if there are more errors than words (many
    insertions). Raises `Unscorable` if there are no words.
    """
    counts = list(counts)
    words = sum(count.words for count in counts)
    if not words:
        raise Unscorable("no recording has a transcript to count the errors of")
    return sum(count.errors for count in counts) / words
