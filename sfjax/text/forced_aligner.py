"""Forced alignment: find the times of the phones of a recording from its text, with pocketsphinx."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sfjax import audio
from sfjax.errors import UserError
from sfjax.text import espeak, g2p
from sfjax.text.phones import Alignment, Phone, Word

SAMPLE_RATE, HOP = 16000, 160  # Hz and samples of the acoustic model, which has 100 frames a second
SILENT = 1e-4  # peak of a silent recording, −80 dB of full scale
SHORTEST = 3  # frames; a phone has three states
SQUEEZED = 0.8  # a text does not fit if more than this share of its phones has the shortest length
# A text does not fit if its score is below this. The score is the mean acoustic score of a frame, over the frames of
# words or over all frames, whichever is less; 0 means that every frame got its best sound. Measured with these beams:
# −17 to −8 for an American speaker, −38 to −11 for Mandarin speakers; with the text of another recording −78 to −41
# and −67 to −33.
LEAST_SCORE = -45.0
NO_WORD = ("<", "[", "+")  # first characters of the names of silences, noises and breaths
BEAMS = {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-80}  # the default beams lose a fifth of unusual voices


@runtime_checkable
class Aligner(Protocol):
    """A forced aligner: it finds the words of a text and their phones in a recording. Reports record its `name`."""

    name: str

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int, text: str) -> Alignment:
        """Return the alignment in frames of 10 ms. Raises `UserError` if the text does not fit the recording."""
        ...


class PocketSphinx:
    """Forced alignment by pocketsphinx with its American English model; phones are ARPAbet without stress.

    espeak-ng pronounces the words that the dictionary lacks.
    """

    name = "pocketsphinx"

    def __call__(self, wav: Float[np.ndarray, " samples"], rate: int, text: str) -> Alignment:
        """Align a recording at `rate` Hz and of any level with its text; everything between words is silence.

        Raises `UserError` if the recording has no speech or the text does not fit, and as `g2p.Pronouncer` does. A
        wrong text of a few words may pass.
        """
        decoder, pronouncer = _decoder()
        words = [word for sentence in pronouncer(text) for word in sentence.words]
        wav = audio.resample(wav, rate, SAMPLE_RATE)
        peak = np.abs(wav).max(initial=0.0)
        if not SILENT < peak < np.inf:
            raise UserError("expected a recording with speech, got one that is silent or not finite; leave it out")
        aligned = _align(decoder, (wav * (0.9 / peak * 32767)).astype("<i2").tobytes(), words)
        if aligned is None:
            raise UserError(f"the text does not fit the recording of {len(wav) / SAMPLE_RATE:.2f} s; correct the text")
        return Alignment(aligned, -(-len(wav) // HOP), 0)


@functools.cache
def _decoder() -> tuple[Any, g2p.Pronouncer]:
    """Load pocketsphinx, and a pronouncer with its dictionary; both take a second, so they are cached."""
    try:
        import pocketsphinx
    except ImportError:
        raise UserError("aligning needs pocketsphinx: pip install 'sfjax[text]'") from None
    # With bestpath (the best path over a lattice), the search for phones then fails for one recording in ten.
    # cmn="batch" takes the mean of the cepstrum over each recording alone, so earlier recordings have no influence.
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL", **BEAMS)
    return decoder, g2p.Pronouncer(g2p.default_lexicon(), espeak.ARPABET)


def _align(decoder: Any, samples: bytes, words: Sequence[g2p.Spoken]) -> tuple[Word, ...] | None:
    """Return the words with their phones, or None if the text does not fit."""
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
    except RuntimeError:  # pocketsphinx raises it if the phones do not fit
        return None
    entries = [(word.name, list(word)) for word in decoder.get_alignment()]
    spoken = [phones for name, phones in entries if not name.startswith(NO_WORD)]
    if len(spoken) != len(words) or _fits_badly(_flat(spoken), _flat(phones for _, phones in entries)):
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


def _fits_badly(spoken: Sequence[Any], all_phones: Sequence[Any]) -> bool:
    """Return whether the phones of words are too short, or the phones or silences sound like something else."""
    squeezed = np.mean([phone.duration <= SHORTEST for phone in spoken])
    scores = [
        sum(phone.score for phone in phones) / sum(phone.duration for phone in phones)
        for phones in (spoken, all_phones)
    ]
    return bool(squeezed > SQUEEZED or min(scores) < LEAST_SCORE)
