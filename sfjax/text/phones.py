"""A line of phones: words, the silences between them, and the length of each phone.

There is one silence between any two words. Where nobody pauses it is a ghost silence of no frames, so that the duration
model predicts pauses like any other length (Voicebox A.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from sfjax.errors import UserError

SILENCE = "SIL"
RATE = 100  # frames a second of every alignment
TOLERANCE = 5  # frames by which an alignment may be longer than its recording: aligners pad the last window
POSITIONS = "IBES"  # inside, begin, end of a word, and alone; a missing position is replaced in this order


class Phone(NamedTuple):
    """A phone without its position in the word; `start` and `end` are in frames, the end is exclusive."""

    symbol: str
    start: int
    end: int


class Word(NamedTuple):
    """A word and its phones, none of them silent."""

    text: str
    phones: tuple[Phone, ...]


class Alignment(NamedTuple):
    """The words of a recording; `frames` is its length or None if unknown, `repaired` counts removed overlaps."""

    words: tuple[Word, ...]
    frames: int | None
    repaired: int


class Line(NamedTuple):
    """An utterance with its silences: tokens such as 'SIL' and 'AH_B', the frames of each token, and the words.

    It starts and ends with a silence, and has exactly one silence, perhaps of no frames, between two words.
    """

    phones: tuple[str, ...]
    lengths: tuple[int, ...]
    words: tuple[str, ...]

    def groups(self) -> list[tuple[int, int]]:
        """Return the index of each word's first token and the index behind its last token."""
        silences = [i for i, token in enumerate(self.phones) if token == SILENCE]
        return [(before + 1, after) for before, after in itertools.pairwise(silences)]

    def nearest(self, frames: int, *, left: int) -> int:
        """Return the number of words up to the one whose end is nearest to a frame; at least `left` words follow."""
        edges = np.cumsum(self.lengths)[[end - 1 for _, end in self.groups()][: len(self.words) - left]]
        return int(np.argmin(np.abs(edges - frames))) + 1

    def cut(self, words: int) -> tuple[Line, Line]:
        """Split into the first `words` words, with a silence of no frames behind them, and the rest."""
        end = self.groups()[words - 1][1]
        first = Line((*self.phones[:end], SILENCE), (*self.lengths[:end], 0), self.words[:words])
        return first, Line(self.phones[end:], self.lengths[end:], self.words[words:])


def spell(words: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the tokens of words given as plain phones: with _B, _I and _E or _S, and silences around every word.

    Raises `UserError` if a word has no phones or holds a silence.
    """
    tokens = [SILENCE]
    for number, word in enumerate(words, 1):
        if not word or SILENCE in word:
            raise UserError(
                f"word {number}: expected phones other than {SILENCE}, got {list(word)}; correct its pronunciation"
            )
        marks = "S" if len(word) == 1 else "B" + "I" * (len(word) - 2) + "E"
        tokens += [f"{phone}_{mark}" for phone, mark in zip(word, marks, strict=True)] + [SILENCE]
    return tuple(tokens)


def line(alignment: Alignment, frames: int) -> Line:
    """Return an alignment as a line of exactly `frames` frames, the length of the recording's log-Mel spectrogram.

    Everything outside words is silence. What passes the end of the recording is cut. Raises `UserError` if that is more
    than `TOLERANCE` frames, or if words overlap or have gaps between their phones.
    """
    tokens = spell([[phone.symbol for phone in word.phones] for word in alignment.words])
    edges = [0]
    for word in alignment.words:
        location = f"the word {word.text!r} at {word.phones[0].start / RATE} s"
        if word.phones[0].start < edges[-1]:
            raise UserError(
                f"{location} must start at {edges[-1] / RATE} s or later, so that words do not overlap; align it again"
            )
        for phone in word.phones:
            if phone.end < phone.start:
                raise UserError(f"{location} has a phone {phone.symbol} that ends before it starts; align it again")
        for phone, after in itertools.pairwise(word.phones):
            if phone.end != after.start:
                times = f"{phone.symbol} ends at {phone.end / RATE} s, {after.symbol} starts at {after.start / RATE} s"
                raise UserError(f"{location} has a gap or overlap: {times}; align it again")
        edges += [*(phone.start for phone in word.phones), word.phones[-1].end]
    end = max(edges[-1], alignment.frames or 0)
    if end > frames + TOLERANCE:
        raise UserError(
            f"the alignment lasts {end / RATE} s, the recording {frames / RATE} s; align this recording again"
        )
    lengths = np.diff(np.minimum([*edges, frames], frames)).tolist()
    return Line(tokens, tuple(lengths), tuple(word.text for word in alignment.words))


def inventory(lines: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return all tokens of the lines once: silence first, the others sorted."""
    return (SILENCE, *sorted(set(itertools.chain.from_iterable(lines)) - {SILENCE}))


def numbers(phones: Sequence[str], inventory: Sequence[str]) -> Int32[np.ndarray, " phones"]:
    """Return each token as 1 + its index in the inventory; the number 0 means no phone.

    A phone that the inventory has only in other positions gets the number of the first of these in the order of
    `POSITIONS`: inside, begin, end, alone. Raises `UserError`, which names the phones, if the inventory lacks some in
    every position.
    """
    number_of = {token: number for number, token in enumerate(inventory, 1)}
    numbered = [next((number_of[name] for name in _candidates(token) if name in number_of), 0) for token in phones]
    unknown = sorted({token for token, number in zip(phones, numbered, strict=True) if not number})
    if unknown:
        raise UserError(
            f"expected phones among the {len(number_of)} that are known, got {', '.join(unknown)}; "
            "use the phone set of the alignments that the model was trained on"
        )
    return np.array(numbered, np.int32)


def _candidates(token: str) -> Iterator[str]:
    """Yield the token itself, then its phone in every position."""
    yield token
    phone, mark, _ = token.rpartition("_")
    if mark:
        yield from (f"{phone}_{position}" for position in POSITIONS)


def by_frame(
    numbers: Int[np.ndarray, " phones"], lengths: Sequence[int] | Int[np.ndarray, " phones"]
) -> Int32[np.ndarray, " frames"]:
    """Return the number of each frame's phone."""
    return np.repeat(numbers, np.asarray(lengths, np.int64)).astype(np.int32)
