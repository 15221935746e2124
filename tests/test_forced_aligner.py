"""Forced alignment finds words and phones in generated speech, and in a real voice if SFJAX_DATA is set."""

import json
import lzma

import numpy as np
import pytest

from sfjax import audio
from sfjax.data import synthetic
from sfjax.errors import UserError
from sfjax.text import espeak, forced_aligner, phones

TEXT = "The zylographic ferry leaves at a quarter past nine."
WORDS = TEXT.lower().strip(".").split()
RATE = 22050  # not the aligner's own


@pytest.fixture(scope="module")
def align():
    return forced_aligner.PocketSphinx()


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    """`TEXT` in a plain voice."""
    folder = tmp_path_factory.mktemp("voice")
    library, data = synthetic._espeak()
    sound = {"library": library, "data": data, "voice": "en-us+m1", "pitch": 50, "speed": 150}
    synthetic._record(folder, sound | {"path": "a.flac", "text": TEXT})
    return audio.resample(audio.read(folder / "a.flac")[0], 16000, RATE)


@pytest.fixture(scope="module")
def alignment(align, wav):
    return align(wav, RATE, TEXT)


def starts(alignment):
    return np.array([phone.start for word in alignment.words for phone in word.phones])


def test_every_word_has_its_phones_in_order_within_the_recording(align, wav, alignment):
    assert isinstance(align, forced_aligner.Aligner) and align.name == "pocketsphinx"
    assert [word.text for word in alignment.words] == WORDS
    said = {word.text: tuple(phone.symbol for phone in word.phones) for word in alignment.words}
    assert said["zylographic"] == espeak.pronounce(["zylographic"])[0]
    assert said["nine"] == ("N", "AY", "N")
    every = [phone for word in alignment.words for phone in word.phones]
    assert {phone.symbol for phone in every} <= espeak.ARPABET
    assert all(phone.end - phone.start >= 3 for phone in every)
    assert alignment.frames == -(-len(audio.resample(wav, RATE, 16000)) // 160) and alignment.repaired == 0
    line = phones.line(alignment, alignment.frames)  # refuses gaps within words and overlaps
    assert sum(line.lengths) == alignment.frames


def test_words_are_where_the_sound_is(align, wav, alignment):
    """Between the first phone and the last is the energy; a silence put between two words is between them."""
    first, last = alignment.words[0].phones[0].start, alignment.words[-1].phones[-1].end
    power = wav.astype(np.float64) ** 2
    inside = power[first * RATE // 100 : last * RATE // 100].sum()
    assert inside > 0.97 * power.sum()
    cut = alignment.words[4].phones[0].start  # of "at"
    here, gap = cut * RATE // 100, np.zeros(RATE // 2, np.float32)
    longer = align(np.concatenate([gap, wav[:here], gap, wav[here:]]), RATE, TEXT)
    moved = starts(longer) - starts(alignment)
    late = starts(alignment) >= cut
    assert np.median(np.abs(moved[~late] - 50)) <= 1 and np.median(np.abs(moved[late] - 100)) <= 1
    assert longer.words[4].phones[0].start - longer.words[3].phones[-1].end >= 40


def test_neither_level_nor_what_was_aligned_before_matters(align, wav, alignment):
    with pytest.raises(UserError):
        align(wav[::-1].copy(), RATE, TEXT)
    assert align(0.01 * wav, RATE, TEXT) == alignment


@pytest.mark.parametrize(
    "make, text, line",
    [
        (lambda wav: 0 * wav, TEXT, "expected a recording with speech, got one that is silent"),
        (lambda wav: wav[:0], TEXT, "is silent"),
        (lambda wav: np.where(wav > 0.1, np.nan, wav), TEXT, "not finite"),
        (lambda wav: wav[8000:8020], TEXT, "does not fit the recording of 0.00 s; correct"),
        (lambda wav: wav[:RATE], TEXT, "does not fit the recording of 1.00 s"),
        (lambda wav: wav[::2].copy(), TEXT, "does not fit"),
        (lambda wav: wav, "My uncle repairs watches, clocks and music boxes.", "the text does not fit the recording"),
        (lambda wav: wav, TEXT + TEXT + TEXT, "the text does not fit"),
        (lambda wav: np.random.default_rng(0).normal(size=wav.shape).astype(np.float32), TEXT, "does not fit"),
        (lambda wav: wav, "...", "got no word"),
        (lambda wav: wav, "犬", "Latin letters"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(align, wav, make, text, line):
    with pytest.raises(UserError, match=line) as refused:
        align(make(wav), RATE, text)
    assert "\n" not in str(refused.value)


def test_phones_squeezed_to_their_shortest_do_not_fit():
    class Heard:
        def __init__(self, duration, score):
            self.duration, self.score = duration, score * duration

    squeezed, long = [Heard(3, -1)] * 9 + [Heard(10, -1)], [Heard(3, -1)] * 8 + [Heard(10, -1)] * 2
    assert forced_aligner._fits_badly(squeezed, squeezed) and not forced_aligner._fits_badly(long, long)
    assert forced_aligner._fits_badly(long, [*long, Heard(100, -90)])  # speech taken for silence


def test_a_real_voice_is_aligned_to_30_ms(align, real_data):
    """A regression of the whole path against the alignments that come with the data."""
    if real_data is None:  # the tests above prove the same on generated speech
        return
    rows = [json.loads(line) for line in (real_data / "manifest.jsonl").read_text().splitlines()]
    texts = {row["path"]: row["text"] for row in rows if row["set"] == "kathleen"}
    with lzma.open(real_data / "align.jsonl.xz") as file:
        given = {row["id"]: row["words"] for row in map(json.loads, file)}
    for name in ("arctic_a0002", "arctic_a0003", "arctic_a0023"):
        path = f"speech/kathleen/{name}.ogg"
        found = align(*audio.read(real_data / path), texts[path])
        words = [(word, sounds) for word, sounds in given[f"kathleen/{name}"] if word != "<sil>"]
        assert [word.text for word in found.words] == [word for word, _ in words]
        errors = [word.phones[0].start - sounds[0][1] for word, (_, sounds) in zip(found.words, words, strict=True)]
        assert np.median(np.abs(errors)) <= 3
