"""Change words in a recording and fill its gaps; all other samples stay unchanged.

The model generates some frames of a recording, with or without the phones of the speech there (SpeechFlow 4.4; Voicebox
3.3). The generated speech is spliced into the samples.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from sfjax import audio
from sfjax.errors import UserError
from sfjax.inference import splicing
from sfjax.inference.infill import Gap, regenerate, to_waves
from sfjax.inference.speech_model import SpeechModel
from sfjax.inference.tts import aligned, by_frame
from sfjax.text import durations, phones
from sfjax.text.g2p import Sentence
from sfjax.text.phones import SILENCE, Line

LONGEST = 0.75  # of a chunk: the longest span that is generated in one piece
FADE = 0.005  # seconds of the cross-fade at both ends of a spliced piece


class Question(NamedTuple):
    """A gap to fill, cut to a chunk of the recording around it.

    `count` new frames replace the frames `span` of the recording. In `gap` the new frames start at `place`.
    """

    gap: Gap
    span: tuple[int, int]
    place: int
    count: int


class Edit(NamedTuple):
    """An edited recording, in its own sample type.

    `span` is the start and the exclusive end of the new part in seconds. `words` are all words with their times, `line`
    is the same as a line, `unknown` as in `sfjax.inference.tts.Speech`.
    """

    wave: Shaped[np.ndarray, "*_"]
    words: list[durations.TimedWord]
    line: Line
    span: tuple[float, float]
    unknown: list[str]


def edit(
    model: SpeechModel,
    recording: Shaped[np.ndarray, "*_"],
    rate: int,
    *,
    old: str | Line,
    new: list[Sentence],
    speed: float,
    seed: int,
    options: dict[str, Any],
) -> Edit:
    """Change the words of a recording from `old`, its text or its line, to `new`; only differing words are generated.

    All samples outside the changed words and a cross-fade of 5 ms stay unchanged. Raises `UserError` if the texts are
    the same, if `old` does not fit the recording, or if the change is longer than `LONGEST` of a chunk.
    """
    spec, hop = model.spec, model.spec.hop_seconds
    wave = audio.resample(_mono(recording), rate, spec.sample_rate)
    line = old if isinstance(old, Line) else aligned(wave, spec, old, None)
    words = [word for sentence in new for word in sentence.words]
    change = splicing.changed(line.words, [word.text for word in words])
    new_line, hidden = _replace_words(line, change, words)
    new_line = _predict_lengths(model, new_line, hidden, speed)
    lengths = list(new_line.lengths)
    silences = (index for index, phone in enumerate(new_line.phones) if phone == SILENCE)
    for index, pause in zip(silences, _join_pauses(new), strict=True):
        if hidden[index] and pause is not None:
            lengths[index] = round(pause / hop)
    new_line = new_line._replace(lengths=tuple(lengths))
    question = _replacement(model, wave, line, change.old, new_line)
    [generated] = to_waves(model, regenerate(model, [question.gap], seed, options))
    edited = spliced(model, recording, rate, question, generated)
    unknown = list(dict.fromkeys(word.text for word in words[slice(*change.new)] if not word.known))
    start = question.span[0]
    span = start * hop, (start + question.count) * hop
    return Edit(edited, durations.times(new_line, hop_seconds=hop), new_line, span, unknown)


def regenerate_words(
    model: SpeechModel, recording: Shaped[np.ndarray, "*_"], rate: int, line: Line, words: tuple[int, int]
) -> Question:
    """Return the question that generates the words [first, end) of a line again, with the silences around them.

    The duration model predicts their lengths from the lengths of the other words. Raises `UserError` if they last
    longer than `LONGEST` of a chunk.
    """
    wave = audio.resample(_mono(recording), rate, model.spec.sample_rate)
    before, behind = _unchanged_tokens(line, words)
    hidden = np.zeros(len(line.phones), bool)
    hidden[before.stop : behind.start] = True
    return _replacement(model, wave, line, words, _predict_lengths(model, line, hidden, 1.0))


def spliced(
    model: SpeechModel,
    recording: Shaped[np.ndarray, "*_"],
    rate: int,
    question: Question,
    wave: Float[np.ndarray, " samples"],
) -> Shaped[np.ndarray, "*_"]:
    """Splice the generated `wave` of a question into the recording."""
    return splicing.splice(recording, [_piece(model, recording, rate, question, wave)], fade=round(FADE * rate))


def _predict_lengths(model, line, hidden, speed):
    """Replace the lengths of the `hidden` phones by those that the duration model predicts from the others."""
    if model.duration_model is None:
        raise UserError("editing needs a duration model; give duration_model (--duration-model)")
    lengths = np.where(hidden, 0, line.lengths).astype(np.int32)
    hidden_phones = [phone for phone, is_hidden in zip(line.phones, hidden, strict=True) if is_hidden]
    predicted = model.duration_model(line._replace(lengths=tuple(lengths.tolist())), hidden)
    lengths[hidden] = durations.paced(predicted[hidden], phones=hidden_phones, speed=speed)
    return line._replace(lengths=tuple(lengths.tolist()))


def _replacement(model, wave, line, old, new_line):
    """Return the question that generates `new_line` in a recording of `line`, whose words `old` it replaces."""
    before, behind = _unchanged_tokens(line, old)
    total = sum(line.lengths)
    start = sum(line.lengths[index] for index in before)
    end = total - sum(line.lengths[index] for index in behind)  # the recording continues here
    count = sum(new_line.lengths) - start - (total - end)
    origin = np.concatenate([np.arange(start), np.full(count, -1), np.arange(end, total)]).astype(np.int32)
    return _cut_to_chunk(model, Gap(wave, origin, by_frame(model, new_line)), (start, end))


def _join_pauses(sentences):
    """Join the pauses of all sentences: one before each word, and one after the last word."""
    first, *others = (sentence.pauses for sentence in sentences)
    joined = list(first)
    for pauses in others:
        joined[-1] = pauses[0] if joined[-1] is None else joined[-1]
        joined += pauses[1:]
    return joined


def _unchanged_tokens(line, old):
    """Return the ranges of tokens before and behind the words `old`, without the silences next to these words."""
    groups = line.groups()
    first, last = old
    before = groups[first - 1][1] if first else 1
    behind = groups[last][0] if last < len(groups) else len(line.phones) - 1
    return range(before), range(behind, len(line.phones))


def _replace_words(line, change, words):
    """Return the line with its new words, their lengths unknown (0), and a mask of its new phones.

    The silences at both ends of a recording stay; the silences next to the change are new.
    """
    before, behind = _unchanged_tokens(line, change.old)
    new_words = words[slice(*change.new)]
    new_tokens = phones.spell([word.phones for word in new_words])
    if change.old[0] == 0:  # the silence at the start stays
        new_tokens = new_tokens[1:]
    if change.old[1] == len(line.words):  # the silence at the end stays
        new_tokens = new_tokens[:-1]
    tokens = (*line.phones[before.start : before.stop], *new_tokens, *line.phones[behind.start : behind.stop])
    lengths = (
        *line.lengths[before.start : before.stop],
        *[0] * len(new_tokens),
        *line.lengths[behind.start : behind.stop],
    )
    texts = tuple(word.text for word in new_words)
    hidden = np.zeros(len(tokens), bool)
    hidden[len(before) : len(before) + len(new_tokens)] = True
    return Line(tokens, lengths, line.words[: change.old[0]] + texts + line.words[change.old[1] :]), hidden


def infill(
    model: SpeechModel,
    recording: Shaped[np.ndarray, "*_"],
    rate: int,
    *,
    gaps: Sequence[tuple[int, int]],
    seed: int,
    options: dict[str, Any],
) -> Shaped[np.ndarray, "*_"]:
    """Fill the `gaps` of a recording, spans of samples, from the sound around them; no text is needed.

    All samples outside the gaps and a cross-fade of 5 ms stay unchanged. Raises `UserError` if the recording is silent,
    or for a gap longer than `LONGEST` of a chunk or as long as the recording.
    """
    spec, fade = model.spec, round(FADE * rate)
    gaps = splicing.merged(_checked_gaps(gaps, len(recording)), apart=2 * fade + 1)
    wave = audio.resample(_mono(recording), rate, spec.sample_rate)
    total, most = spec.num_frames(len(wave)), model.chunk_frames
    if not np.abs(wave).max(initial=0.0) or total < 2:
        raise UserError("the recording is silent; give one with sound around the gaps")
    spans = []
    for begin, end in gaps:
        # all frames whose windows hold a missing sample
        edge = (spec.window - spec.hop) // 2
        first = (begin * spec.sample_rate // rate - edge) // spec.hop
        last = -(-(end * spec.sample_rate // rate + edge) // spec.hop)
        first, last = max(first, 0), min(last, total)
        if last - first > min(LONGEST * most, total - 1):
            raise UserError(
                f"the gap from {begin / rate:g} to {end / rate:g} s leaves too little sound around it; fill gaps of "
                f"at most {LONGEST * model.chunking['seconds']:g} s in a longer recording"
            )
        spans.append((first, last))
    origin = np.arange(total, dtype=np.int32)
    for first, last in spans:
        origin[first:last] = -1
    whole = Gap(wave, origin, np.zeros(total, np.int32))
    questions = [_cut_to_chunk(model, whole, span) for span in spans]
    waves = to_waves(model, regenerate(model, [question.gap for question in questions], seed, options))
    pieces = [
        _piece(model, recording, rate, question, generated, samples)
        for question, generated, samples in zip(questions, waves, gaps, strict=True)
    ]
    return splicing.splice(recording, pieces, fade=fade)


def _checked_gaps(gaps, samples):
    """Return gaps as pairs of integers. Raises `UserError` for others, and for gaps outside the recording."""
    try:
        spans = [(operator.index(first), operator.index(end)) for first, end in gaps]
    except (TypeError, ValueError):
        raise UserError(f"gaps must be pairs of sample numbers, as in [(800, 1600)], got {str(gaps)[:60]}") from None
    for first, end in spans:
        if not 0 <= first < end <= samples:
            raise UserError(
                f"a gap must be [first, end) within the {samples} samples of the recording, got [{first}, {end})"
            )
    return spans


def _mono(recording):
    """Average all channels, scaled to [-1, 1]; `UserError` if the result is not finite."""
    recording = np.asarray(recording)
    mono = recording.reshape(len(recording), -1).astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("expected finite samples, got NaN or infinity; repair the recording")
    scale = -int(np.iinfo(recording.dtype).min) if recording.dtype.kind == "i" else 1
    return (mono / scale).astype(np.float32)


def _cut_to_chunk(model, gap, span):
    """Cut a gap in place of the frames `span` of a recording to a chunk with the new frames in its middle."""
    spec, (start, end) = model.spec, span
    most = model.chunk_frames
    count = len(gap.origin) - (spec.num_frames(len(gap.wave)) - (end - start))  # frames in place of the span
    if count > LONGEST * most:
        raise UserError(
            f"the new part must last at most {LONGEST * model.chunking['seconds']:g} s, got "
            f"{count * spec.hop / spec.sample_rate:.1f} s; change less"
        )
    first = max(0, min(start - (most - count) // 2, len(gap.origin) - most))
    window = slice(first, min(first + most, len(gap.origin)))
    known = gap.origin[window][gap.origin[window] >= 0]
    begin, stop = (int(known.min()), int(known.max()) + 1) if len(known) else (0, 1)
    origin = np.where(gap.origin[window] < 0, -1, gap.origin[window] - begin).astype(np.int32)
    chunk = Gap(gap.wave[begin * spec.hop : stop * spec.hop], origin, gap.phones[window])
    return Question(chunk, span, start - first, count)


def _piece(model, recording, rate, question, wave, samples=None):
    """Return the piece of the generated `wave` to splice into a recording, only for the span `samples` if given."""

    def to_samples(frames):
        return round(frames * model.spec.hop * rate / model.spec.sample_rate)

    length, offset = to_samples(question.count), to_samples(question.place)
    if samples is None:
        begin, stop = (min(to_samples(frame), len(recording)) for frame in question.span)
    else:
        begin, stop = samples
        length = stop - begin
        offset += begin - to_samples(question.span[0])
    before, after = splicing.context(begin, stop, len(recording), fade=round(FADE * rate))
    wave = audio.resample(wave, model.spec.sample_rate, rate)[max(offset - before, 0) : offset + length + after]
    return splicing.Piece(begin, stop, np.pad(wave, (0, before + length + after - len(wave))))
