"""Speech that was never recorded: text in the voice of a prompt, other words in a recording, lost packets filled.

All three are one question to the model: some frames of a recording are kept and others are to be found, with or
without the phones that are said there (SpeechFlow 4.4; Voicebox 3.3).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from sfjax import audio, splice
from sfjax.chunks import padded
from sfjax.errors import UserError
from sfjax.filling import Gap, regenerate, voiced
from sfjax.text import durations, espeak, phones, pronounce, timing
from sfjax.text.phones import SILENCE, Line
from sfjax.text.pronounce import Pronouncer

LEAST = 0.5  # seconds of a prompt
QUIET = 1e-3  # peak of a prompt that is called silent
EDGE = 10  # frames of silence that are left at both ends of a sentence (Voicebox A.2)
SHARE = 0.5  # of a chunk: the longest prompt; longer ones are cut behind a word
LONGEST = 0.75  # of a chunk: the longest stretch that is found at once
FADE = 0.005  # seconds of the cross-fade at both ends of what is spliced in
JOIN = 2  # frames of silence by which sentences are cross-faded


class Prompt(NamedTuple):
    """A voice to speak in: a recording at the model's rate, and what is said in it."""

    wave: Float[np.ndarray, " samples"]
    line: Line


class Speech(NamedTuple):
    """What was said: the wave at `rate` Hz, its words with their times and phones, and the same as one line.

    `lines` are the sentences before they were joined, as they go into a file of durations; `unknown` the words that
    the lexicon lacks, which were spelled by rule; `spent` the seconds that each stage took.
    """

    wave: Float[np.ndarray, " samples"]
    rate: int
    words: list[timing.Said]
    line: Line
    lines: list[Line]
    unknown: list[str]
    spent: dict[str, float]


class Edit(NamedTuple):
    """A recording with other words, in its own sample type; `span` is where it is new, in seconds, the end exclusive.

    `words` are all words with their times, `line` the same, `unknown` as in `Speech`.
    """

    wave: Shaped[np.ndarray, ...]
    words: list[timing.Said]
    line: Line
    span: tuple[float, float]
    unknown: list[str]


class Timing(NamedTuple):
    """A model of durations: its network, parameters and the phones that it knows."""

    network: durations.DurationModel
    params: Any
    phones: tuple[str, ...]

    def __call__(
        self, line: Line, hidden: Sequence[bool] | Bool[np.ndarray, " phones"]
    ) -> Float[np.ndarray, " phones"]:
        """The frames of each phone of a line, those that are `hidden` found from the others."""
        numbers, count = phones.numbers(line.phones, self.phones), len(line.phones)
        room = padded(count, 1024)
        fill = lambda x, dtype: np.pad(np.asarray(x, dtype), (0, room - count))[None]
        found = durations.predict(
            self.network, self.params, fill(numbers, np.int32), fill(line.lengths, np.float32), fill(hidden, bool),
            np.array([count], np.int32),
        )  # fmt: skip
        return np.asarray(found)[0, :count]


def prompt(
    wave: Float[np.ndarray, ...], rate: int, said: str | Line, *, model: Any, align: Callable | None = None
) -> Prompt:
    """A prompt from a recording at any rate and what is said in it: a text, aligned by `align`, or a line.

    What is longer than half a chunk is cut behind a word. `UserError` for a prompt that is empty, silent or too short.
    """
    wave, spec = np.asarray(wave, np.float32), model.spec
    if wave.ndim != 1 or not np.isfinite(wave).all():
        raise UserError(f"the prompt wants a finite one-dimensional wave, got shape {wave.shape}; average its channels")
    if len(wave) < LEAST * rate:
        raise UserError(f"the prompt lasts {len(wave) / rate:.2f} s, wanted {LEAST} s or more; 3 s are enough")
    if np.abs(wave).max() < QUIET:
        raise UserError("the prompt is silent; give a recording of the voice to speak in")
    wave = audio.resample(wave, rate, spec.sample_rate)
    line = said if isinstance(said, Line) else _aligned(wave, spec, said, align)
    if not line.words:
        raise UserError("the prompt's alignment holds no words; give a recording in which something is said")
    most = round(SHARE * model.chunking["seconds"] * spec.sample_rate / spec.hop)
    ends = [(end, sum(line.lengths[:end])) for _, end in line.groups()]
    if sum(line.lengths) > most:
        kept = [(number, *found) for number, found in enumerate(ends, 1) if found[1] <= most]
        if not kept:
            raise UserError(f"the prompt's first word ends after {ends[0][1] * spec.hop / spec.sample_rate} s; cut it")
        number, end, frames = kept[-1]
        line = Line((*line.phones[:end], SILENCE), (*line.lengths[:end], 0), line.words[:number])
        wave = wave[: frames * spec.hop]
    return Prompt(wave, line)


def _aligned(wave, spec, text, align):
    if not text.strip():
        raise UserError("the recording wants the text that is said in it, got none; give it word by word")
    if align is None:
        from sfjax.text.aligner import PocketSphinx

        align = PocketSphinx()
    said = " ".join(word.text for sentence in _plain(text) for word in sentence.words)
    return phones.line(align(wave, spec.sample_rate, said), spec.frames(len(wave)))


def _plain(text):
    """The sentences of a text whose pronunciation is the aligner's."""
    return Pronouncer(pronounce.default_lexicon(), espeak.ARPABET)(text)


def speak(
    model: Any,
    text: str,
    *,
    prompt: Prompt | None,
    lexicon: dict[str, tuple[str, ...]],
    speed: float,
    lines: Sequence[Line] | None,
    seed: int,
    options: dict[str, Any],
) -> Speech:
    """A text in the voice of a prompt, or in any voice without one, sentence by sentence.

    Lengths are those of `lines`, or found by the model's timing and divided by `speed`. `UserError` for a text that
    cannot be said, or lines of another text.
    """
    began, spent = time.perf_counter(), Counter()

    def lap(stage):
        nonlocal began
        now = time.perf_counter()
        spent[stage] += now - began
        began = now

    hop = model.spec.hop / model.spec.sample_rate
    sentences = Pronouncer(lexicon, plain(model))(text)
    spelled = [phones.spell([word.phones for word in sentence.words]) for sentence in sentences]
    lap("text")
    if lines is None:
        lines = [
            _timed(model, sentence, tokens, prompt, speed) for sentence, tokens in zip(sentences, spelled, strict=True)
        ]
    elif [line.phones for line in lines] != spelled:
        raise UserError(
            f"the durations are of {sum(len(line.phones) for line in lines)} phones, the text has "
            f"{sum(map(len, spelled))} others; give the text that they were written for"
        )
    before = sum(prompt.line.lengths) if prompt else 0
    most = round(model.chunking["seconds"] / hop) - before
    parts = [part for line in lines for part in _parts(line, most - JOIN)]
    parts = parts if len(parts) == 1 else [_wider(part) for part in parts]
    lap("durations")
    asked = []
    for part in parts:
        said = timing.joined(prompt.line, part) if prompt else part
        wave = prompt.wave if prompt else np.zeros(0, np.float32)
        origin = np.concatenate([np.arange(before), np.full(sum(part.lengths), -1)]).astype(np.int32)
        asked.append(Gap(wave, origin, _by_frame(model, said)))
    mels = regenerate(model, asked, seed, options)
    lap("mel")
    waves = [wave[before * model.spec.hop :] for wave in voiced(model, mels, seed)]
    lap("wave")
    wave, whole = _joined(waves, parts, JOIN * model.spec.hop)
    words = timing.times(whole, hop_seconds=hop)
    lap("join")
    return Speech(wave, model.spec.sample_rate, words, whole, list(lines), pronounce.unknown(sentences), dict(spent))


def plain(model: Any) -> frozenset[str]:
    """The phones that a model knows, without their positions; `UserError` if it knows none."""
    if not model.phones:
        raise UserError(f"{model.name} knows no phones; give a model of configs/speak.py")
    return frozenset(phone.rpartition("_")[0] or phone for phone in model.phones) - {SILENCE}


def _timed(model, sentence, tokens, prompt, speed):
    """A sentence as a line: lengths that follow those of the prompt, at a pace, with the pauses that were asked for."""
    if model.timing is None:
        raise UserError("speaking wants a model of durations or a file of them; give --timing or --durations")
    own = Line(tokens, (0,) * len(tokens), tuple(word.text for word in sentence.words))
    known = len(prompt.line.phones) if prompt else 0
    whole = own
    if prompt:  # the silence between the two is the prompt's
        whole = timing.joined(prompt.line, own)
    frames = model.timing(whole, np.arange(len(whole.phones)) >= known)
    frames = np.concatenate([[float(EDGE)], frames[known:]]) if prompt else frames
    paced = timing.paced(frames, phones=tokens, speed=speed)
    line = timing.trimmed(own._replace(lengths=tuple(paced.tolist())), most=EDGE)
    return timing.with_pauses(line, sentence.pauses, hop_seconds=model.spec.hop / model.spec.sample_rate)


def _parts(line, most):
    """A line cut at silences into lines of at most `most` frames, near the middle first."""
    if sum(line.lengths) <= most:
        return [line]
    silences = [i for i, token in enumerate(line.phones) if token == SILENCE][1:-1]
    if not silences:
        raise UserError(f"the word {line.words[0]!r} takes more than the {most} frames that are left; speak faster")
    ends = np.cumsum(line.lengths)
    cut = min(silences, key=lambda i: abs(2 * ends[i] - ends[-1]))
    words = sum(silence <= cut for silence in silences)
    first = Line(line.phones[: cut + 1], line.lengths[: cut + 1], line.words[:words])
    second = Line(line.phones[cut:], (0, *line.lengths[cut + 1 :]), line.words[words:])
    return _parts(first, most) + _parts(second, most)


def _wider(line):
    """A line whose first silence lasts as long as a cross-fade."""
    return line._replace(lengths=(max(line.lengths[0], JOIN), *line.lengths[1:]))


def _joined(waves, lines, fade):
    """Waves one after the other, cross-faded, and what is said in all of them as one line."""
    rise = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    wave, line = waves[0], lines[0]
    for further, said in zip(waves[1:], lines[1:], strict=True):
        mixed = wave[-fade:] * (1 - rise) + further[:fade] * rise
        wave = np.concatenate([wave[:-fade], mixed, further[fade:]])
        line = timing.joined(line, said._replace(lengths=(said.lengths[0] - JOIN, *said.lengths[1:])))
    return wave, line


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
    line = old if isinstance(old, Line) else _aligned(wave, spec, old, align)
    sentences = Pronouncer(lexicon, plain(model))(new)
    words = [word for sentence in sentences for word in sentence.words]
    change = splice.changed(line.words, [word.text for word in words])
    said, hidden = _changed(line, change, words)
    if model.timing is None:
        raise UserError("editing wants a model of durations; give --timing")
    lengths = np.array(said.lengths, np.int32)
    fresh = [phone for phone, is_new in zip(said.phones, hidden, strict=True) if is_new]
    lengths[hidden] = timing.paced(model.timing(said, hidden)[hidden], phones=fresh, speed=speed)
    silences = (place for place, phone in enumerate(said.phones) if phone == SILENCE)
    for place, pause in zip(silences, _pauses(sentences), strict=True):
        if hidden[place] and pause is not None:
            lengths[place] = round(pause / hop)
    said = said._replace(lengths=tuple(lengths.tolist()))

    kept, rest = _kept(line, change)
    start, count = sum(line.lengths[i] for i in kept), sum(said.lengths) - sum(line.lengths[i] for i in (*kept, *rest))
    end = sum(line.lengths) - sum(line.lengths[i] for i in rest)  # where the old recording goes on
    origin = np.concatenate([np.arange(start), np.full(count, -1), np.arange(end, sum(line.lengths))]).astype(np.int32)
    asked = Gap(wave, origin, _by_frame(model, said))
    pieces = _pieces(model, [asked], [(start, end)], recording, rate, seed, options)
    made = splice.splice(recording, pieces, fade=round(FADE * rate))
    unknown = list(dict.fromkeys(word.text for word in words[slice(*change.new)] if not word.known))
    span = start * hop, (start + count) * hop
    return Edit(made, timing.times(said, hop_seconds=hop), said, span, unknown)


def _pauses(sentences):
    """The pauses asked for before each word of all sentences and after the last, as of one."""
    first, *others = (sentence.pauses for sentence in sentences)
    whole = list(first)
    for pauses in others:
        whole[-1] = pauses[0] if whole[-1] is None else whole[-1]
        whole += pauses[1:]
    return whole


def _kept(line, change):
    """The tokens before and behind the old words that change, without the silences beside them."""
    groups = line.groups()
    first, last = change.old
    before = groups[first - 1][1] if first else 1
    behind = groups[last][0] if last < len(groups) else len(line.phones) - 1
    return range(before), range(behind, len(line.phones))


def _changed(line, change, words):
    """The line with its new words, of unknown length, and which of its phones are new.

    The silences at both ends of a recording stay, those beside what changes are found anew.
    """
    before, behind = _kept(line, change)
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
    asked = [Gap(wave, origin, np.zeros(total, np.int32))] * len(spans)
    pieces = _pieces(model, asked, spans, recording, rate, seed, options, exact=gaps)
    return splice.splice(recording, pieces, fade=fade)


def _mono(recording):
    """The average of all channels in [-1, 1]; `UserError` if it is not finite."""
    recording = np.asarray(recording)
    mono = recording.reshape(len(recording), -1).astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("the recording holds NaN; repair it")
    scale = -int(np.iinfo(recording.dtype).min) if recording.dtype.kind == "i" else 1
    return (mono / scale).astype(np.float32)


def _pieces(model, asked, spans, recording, rate, seed, options, exact=None):
    """What to splice into a recording: for each question the frames `span` of the recording become what is found.

    With `exact` samples in the places of the spans only these are replaced. Each question is cut to a chunk around
    what is to be found.
    """
    spec = model.spec
    most = round(model.chunking["seconds"] * spec.sample_rate / spec.hop)
    cut, places = [], []
    for gap, (start, end) in zip(asked, spans, strict=True):
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
        cut.append(Gap(gap.wave[begin * spec.hop : stop * spec.hop], origin, gap.phones[window]))
        places.append((start - first, count))
    found = []
    samples = lambda frames: round(frames * spec.hop * rate / spec.sample_rate)
    waves = voiced(model, regenerate(model, cut, seed, options), seed)
    for number, (wave, (start, end), (place, count)) in enumerate(zip(waves, spans, places, strict=True)):
        begin, stop = (min(samples(frame), len(recording)) for frame in (start, end))
        length = samples(count) if exact is None else exact[number][1] - exact[number][0]
        offset = samples(place)
        if exact is not None:
            offset += exact[number][0] - samples(start)
            begin, stop = exact[number]
        before, after = splice.context(begin, stop, len(recording), fade=round(FADE * rate))
        wave = audio.resample(wave, spec.sample_rate, rate)[max(offset - before, 0) : offset + length + after]
        found.append(splice.Piece(begin, stop, np.pad(wave, (0, before + length + after - len(wave)))))
    return found


def _by_frame(model, line):
    return phones.by_frame(phones.numbers(line.phones, model.phones), line.lengths)
