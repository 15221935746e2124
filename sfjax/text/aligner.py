"""Where each phone of a recording is, from its text: an aligner for those without the Montreal Forced Aligner."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sfjax import audio
from sfjax.errors import UserError
from sfjax.text import espeak, pronounce
from sfjax.text.phones import Alignment, Phone, Word

SAMPLE_RATE, HOP = 16000, 160  # of the acoustic model; 100 frames a second
SILENT = 1e-4  # peak below which there is nothing to align, −80 dB of full scale
SHORTEST = 3  # frames: a phone has three states
SQUEEZED = 0.8  # share of phones of no more than that
# The mean acoustic score of the words' frames or of all frames, whichever is less; 0 if each had its best sound.
# Measured with these beams: −17 to −8 for an American speaker, −38 to −11 for Mandarin speakers, and with somebody
# else's text −78 to −41 and −67 to −33
LEAST_SCORE = -45.0
NO_WORD = ("<", "[", "+")  # what names of silences, noises and breaths start with
BEAMS = {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-80}  # the usual ones lose a fifth of unusual voices


@runtime_checkable
class Aligner(Protocol):
    """What finds the words of a text and their phones in a recording; `name` goes into reports."""

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int, text: str) -> Alignment:
        """The alignment in frames of 10 ms; `UserError` where the two do not fit."""
        ...


class PocketSphinx:
    """Forced alignment by pocketsphinx with its American English model; phones are ARPAbet without stress.

    Words that its dictionary lacks are pronounced by espeak-ng.
    """

    name = "pocketsphinx"

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int, text: str) -> Alignment:
        """The alignment of a recording at `rate` Hz, whatever its level; silence is what lies between words.

        `UserError` for recordings without speech and texts that do not fit, and as `pronounce.Pronouncer`. A wrong text
        of a few words may be found all the same.
        """
        decoder, pronouncer = _decoder()
        words = [word for sentence in pronouncer(text) for word in sentence.words]
        wav = audio.resample(wav, rate, SAMPLE_RATE)
        peak = np.abs(wav).max(initial=0.0)
        if not SILENT < peak < np.inf:
            raise UserError("wanted a recording with speech to align, it is silent or not finite; leave it out")
        found = _align(decoder, (wav * (0.9 / peak * 32767)).astype("<i2").tobytes(), words)
        if found is None:
            raise UserError(f"the text does not fit the recording of {len(wav) / SAMPLE_RATE:.2f} s; correct it")
        return Alignment(found, -(-len(wav) // HOP), 0)


@functools.cache
def _decoder() -> tuple[Any, pronounce.Pronouncer]:
    """The recogniser and the dictionary that it shares with the text; both take a second to load."""
    try:
        import pocketsphinx
    except ImportError:
        raise UserError("aligning needs pocketsphinx: pip install 'sfjax[text]'") from None
    # the best path over a lattice ends where the search for phones then fails, for one recording in ten. Means of the
    # cepstrum over each recording alone ("batch"): nothing depends on what was aligned before
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL", **BEAMS)
    return decoder, pronounce.Pronouncer(pronounce.default_lexicon(), espeak.ARPABET)


def _align(decoder: Any, samples: bytes, words: Sequence[pronounce.Spoken]) -> tuple[Word, ...] | None:
    """The words with their phones, None if they do not fit."""
    for word in words:
        if decoder.lookup_word(word.text) is None:
            decoder.add_word(word.text, " ".join(word.phones), True)
    decoder.set_align_text(" ".join(word.text for word in words))
    try:
        _decode(decoder, samples)
        if decoder.hyp() is None:
            return None
        decoder.set_alignment()
        _decode(decoder, samples)
    except RuntimeError:  # how it says that the phones cannot be fitted
        return None
    entries = [(word.name, list(word)) for word in decoder.get_alignment()]
    spoken = [phones for name, phones in entries if not name.startswith(NO_WORD)]
    if len(spoken) != len(words) or _unfit(_flat(spoken), _flat(phones for _, phones in entries)):
        return None
    return tuple(
        Word(word.text, tuple(Phone(phone.name, phone.start, phone.start + phone.duration) for phone in phones))
        for word, phones in zip(words, spoken, strict=True)
    )


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    try:
        decoder.process_raw(samples, full_utt=True)
    finally:
        decoder.end_utt()


def _flat(words: Iterable[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(words))


def _unfit(spoken: Sequence[Any], every: Sequence[Any]) -> bool:
    """Whether the phones of words are squeezed, or they or what was left to silence sound like others."""
    squeezed = np.mean([phone.duration <= SHORTEST for phone in spoken])
    scores = [
        sum(phone.score for phone in phones) / sum(phone.duration for phone in phones) for phones in (spoken, every)
    ]
    return bool(squeezed > SQUEEZED or min(scores) < LEAST_SCORE)
