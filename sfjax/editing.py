"""Recordings with other words in them, and with their gaps filled; all else in them stays as it is.

Some frames of a recording are kept and others found, with or without the phones that are said there (SpeechFlow 4.4;
Voicebox 3.3). The answer is spliced into the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from sfjax import audio, splice
from sfjax.errors import UserError
from sfjax.filling import Gap, regenerate, voiced
from sfjax.text import phones, timing
from sfjax.text.phones import SILENCE, Line
from sfjax.text.pronounce import Pronouncer
from sfjax.voice import aligned, by_frame, plain

LONGEST = 0.75  # of a chunk: the longest stretch that is found at once
FADE = 0.005  # seconds of the cross-fade at both ends of what is spliced in


class Question(NamedTuple):
    """What to find of a recording, cut to a chunk: the frames `span` of the recording become `count` others, which
    stand in `gap` from `place` on."""

    gap: Gap
    span: tuple[int, int]
    place: int
    count: int


class Edit(NamedTuple):
    """A recording with other words, in its own sample type; `span` is where it is new, in seconds, the end exclusive.

    `words` are all words with their times, `line` the same, `unknown` as in `Speech`.
    """

    wave: Shaped[np.ndarray, ...]
    words: list[timing.Said]
    line: Line
    span: tuple[float, float]
    unknown: list[str]


def edit(
    model: Any,
    recording: Shaped[np.ndarray, ...],
    rate: int,
    *,
    old: str | Line,
    new: str,
    lexicon: dict[str, tuple[str, ...]],
    speed: float,
    seed: int,
    options: dict[str, Any],
    align: Callable | None = None,
) -> Edit:
    """A recording in which `new` is said where `old`, a text or a line, was: the words that differ are found anew.

    Outside of them and a cross-fade of 5 ms the samples are those of the recording. `UserError` if the texts are alike,
    the old one does not fit the recording, or more changes than is found at once.
    """
    spec, hop = model.spec, model.spec.hop / model.spec.sample_rate
    wave = audio.resample(_mono(recording), rate, spec.sample_rate)
    line = old if isinstance(old, Line) else aligned(wave, spec, old, align)
    sentences = Pronouncer(lexicon, plain(model))(new)
    words = [word for sentence in sentences for word in sentence.words]
    change = splice.changed(line.words, [word.text for word in words])
    said, hidden = _changed(line, change, words)
    said = _timed(model, said, hidden, speed)
    lengths = list(said.lengths)
    silences = (place for place, phone in enumerate(said.phones) if phone == SILENCE)
    for place, pause in zip(silences, _pauses(sentences), strict=True):
        if hidden[place] and pause is not None:
            lengths[place] = round(pause / hop)
    said = said._replace(lengths=tuple(lengths))
    question = _question(model, wave, line, change.old, said)
    found = voiced(model, regenerate(model, [question.gap], seed, options))
    made = spliced(model, recording, rate, question, found[0])
    unknown = list(dict.fromkeys(word.text for word in words[slice(*change.new)] if not word.known))
    start = question.span[0]
    span = start * hop, (start + question.count) * hop
    return Edit(made, timing.times(said, hop_seconds=hop), said, span, unknown)


def again(model: Any, recording: Shaped[np.ndarray, ...], rate: int, line: Line, words: tuple[int, int]) -> Question:
    """The question how the words [first, end) of a line, with the silences beside them, sound when they are said anew.

    Their lengths follow those of the others. `UserError` if they last longer than is found at once.
    """
    wave = audio.resample(_mono(recording), rate, model.spec.sample_rate)
    before, behind = _kept(line, words)
    hidden = np.zeros(len(line.phones), bool)
    hidden[before.stop : behind.start] = True
    return _question(model, wave, line, words, _timed(model, line, hidden, 1.0))


def spliced(
    model: Any,
    recording: Shaped[np.ndarray, ...],
    rate: int,
    question: Question,
    wave: Float[np.ndarray, " samples"],
) -> Shaped[np.ndarray, ...]:
    """A recording with the wave that answers a question in its place."""
    return splice.splice(recording, [_piece(model, recording, rate, question, wave)], fade=round(FADE * rate))


def _timed(model, said, hidden, speed):
    """The line with lengths of what is `hidden` that follow those of the rest."""
    if model.timing is None:
        raise UserError("editing wants a model of durations; give --timing")
    lengths = np.where(hidden, 0, said.lengths).astype(np.int32)
    fresh = [phone for phone, is_new in zip(said.phones, hidden, strict=True) if is_new]
    found = model.timing(said._replace(lengths=tuple(lengths.tolist())), hidden)
    lengths[hidden] = timing.paced(found[hidden], phones=fresh, speed=speed)
    return said._replace(lengths=tuple(lengths.tolist()))


def _question(model, wave, line, old, said):
    """How `said` sounds in place of a line whose words `old` it changes."""
    kept, rest = _kept(line, old)
    start, count = sum(line.lengths[i] for i in kept), sum(said.lengths) - sum(line.lengths[i] for i in (*kept, *rest))
    end = sum(line.lengths) - sum(line.lengths[i] for i in rest)  # where the old recording goes on
    origin = np.concatenate([np.arange(start), np.full(count, -1), np.arange(end, sum(line.lengths))]).astype(np.int32)
    return _cut(model, Gap(wave, origin, by_frame(model, said)), (start, end))


def _pauses(sentences):
    """The pauses asked for before each word of all sentences and after the last, as of one."""
    first, *others = (sentence.pauses for sentence in sentences)
    whole = list(first)
    for pauses in others:
        whole[-1] = pauses[0] if whole[-1] is None else whole[-1]
        whole += pauses[1:]
    return whole


def _kept(line, old):
    """The tokens before and behind the old words that change, without the silences beside them."""
    groups = line.groups()
    first, last = old
    before = groups[first - 1][1] if first else 1
    behind = groups[last][0] if last < len(groups) else len(line.phones) - 1
    return range(before), range(behind, len(line.phones))


def _changed(line, change, words):
    """The line with its new words, of unknown length, and which of its phones are new.

    The silences at both ends of a recording stay, those beside what changes are found anew.
    """
    before, behind = _kept(line, change.old)
    new = phones.spell([word.phones for word in words[slice(*change.new)]])
    new = new[0 if change.old[0] else 1 : None if change.old[1] < len(line.words) else -1]
    tokens = (*(line.phones[i] for i in before), *new, *(line.phones[i] for i in behind))
    lengths = (*(line.lengths[i] for i in before), *[0] * len(new), *(line.lengths[i] for i in behind))
    said = line.words[: change.old[0]] + tuple(word.text for word in words[slice(*change.new)])
    hidden = np.zeros(len(tokens), bool)
    hidden[len(before) : len(before) + len(new)] = True
    return Line(tokens, lengths, said + line.words[change.old[1] :]), hidden


def infill(
    model: Any,
    recording: Shaped[np.ndarray, ...],
    rate: int,
    *,
    gaps: Sequence[tuple[int, int]],
    seed: int,
    options: dict[str, Any],
) -> Shaped[np.ndarray, ...]:
    """A recording whose `gaps`, spans of samples, are filled by what the model hears around them; no text is wanted.

    The rest, but for a cross-fade of 5 ms, stays as it is. `UserError` for a gap that leaves too little to hear.
    """
    spec, fade = model.spec, round(FADE * rate)
    gaps = splice.merged(gaps, apart=2 * fade + 1)
    wave = audio.resample(_mono(recording), rate, spec.sample_rate)
    total, most = spec.frames(len(wave)), round(model.chunking["seconds"] * spec.sample_rate / spec.hop)
    if not np.abs(wave).max(initial=0.0) or total < 2:
        raise UserError("the recording is silent; there is nothing to go by")
    spans = []
    for begin, end in gaps:
        # every frame whose window a missing sample is in
        edge = (spec.window - spec.hop) // 2
        first = (begin * spec.sample_rate // rate - edge) // spec.hop
        last = -(-(end * spec.sample_rate // rate + edge) // spec.hop)
        first, last = max(first, 0), min(last, total)
        if last - first > min(LONGEST * most, total - 1):
            raise UserError(
                f"the gap from {begin / rate:g} to {end / rate:g} s leaves too little to hear; this model fills "
                f"{LONGEST * model.chunking['seconds']:g} s at most"
            )
        spans.append((first, last))
    lost = np.zeros(total, bool)
    for first, last in spans:
        lost[first:last] = True
    origin = np.where(lost, -1, np.arange(total)).astype(np.int32)
    whole = Gap(wave, origin, np.zeros(total, np.int32))
    questions = [_cut(model, whole, span) for span in spans]
    waves = voiced(model, regenerate(model, [question.gap for question in questions], seed, options))
    pieces = [
        _piece(model, recording, rate, question, found, exact)
        for question, found, exact in zip(questions, waves, gaps, strict=True)
    ]
    return splice.splice(recording, pieces, fade=fade)


def _mono(recording):
    """The average of all channels in [-1, 1]; `UserError` if it is not finite."""
    recording = np.asarray(recording)
    mono = recording.reshape(len(recording), -1).astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("the recording holds NaN; repair it")
    scale = -int(np.iinfo(recording.dtype).min) if recording.dtype.kind == "i" else 1
    return (mono / scale).astype(np.float32)


def _cut(model, gap, span):
    """The question what becomes of the frames `span` of a recording, cut to a chunk around what is to be found."""
    spec, (start, end) = model.spec, span
    most = round(model.chunking["seconds"] * spec.sample_rate / spec.hop)
    count = len(gap.origin) - (spec.frames(len(gap.wave)) - (end - start))  # frames in place of the span
    if count > LONGEST * most:
        raise UserError(
            f"{count * spec.hop / spec.sample_rate:.1f} s are to be found, this model finds "
            f"{LONGEST * model.chunking['seconds']:g} s at once; change less"
        )
    first = max(0, min(start - (most - count) // 2, len(gap.origin) - most))
    window = slice(first, min(first + most, len(gap.origin)))
    known = gap.origin[window][gap.origin[window] >= 0]
    begin, stop = (int(known.min()), int(known.max()) + 1) if len(known) else (0, 1)
    origin = np.where(gap.origin[window] < 0, -1, gap.origin[window] - begin).astype(np.int32)
    cut = Gap(gap.wave[begin * spec.hop : stop * spec.hop], origin, gap.phones[window])
    return Question(cut, span, start - first, count)


def _piece(model, recording, rate, question, wave, exact=None):
    """What to splice into a recording: the answer to a question, of which only the `exact` samples if there are any."""
    samples = lambda frames: round(frames * model.spec.hop * rate / model.spec.sample_rate)
    begin, stop = (min(samples(frame), len(recording)) for frame in question.span)
    length, offset = samples(question.count), samples(question.place)
    if exact is not None:
        offset += exact[0] - samples(question.span[0])
        length, (begin, stop) = exact[1] - exact[0], exact
    before, after = splice.context(begin, stop, len(recording), fade=round(FADE * rate))
    wave = audio.resample(wave, model.spec.sample_rate, rate)[max(offset - before, 0) : offset + length + after]
    return splice.Piece(begin, stop, np.pad(wave, (0, before + length + after - len(wave))))
