"""Text in the voice of a prompt: its frames are kept, those behind it are found by the phones of the text.

Zero-shot text-to-speech as SpeechFlow 4.4 and Voicebox 3.3 do it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32

from sfjax import audio
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
    line = said if isinstance(said, Line) else aligned(wave, spec, said, align)
    if not line.words:
        raise UserError("the prompt's alignment holds no words; give a recording in which something is said")
    most = round(SHARE * model.chunking["seconds"] * spec.sample_rate / spec.hop)
    ends = [sum(line.lengths[:end]) for _, end in line.groups()]
    if sum(line.lengths) > most:
        kept = sum(end <= most for end in ends)
        if not kept:
            raise UserError(f"the prompt's first word ends after {ends[0] * spec.hop / spec.sample_rate} s; cut it")
        line, _ = line.cut(kept)
        wave = wave[: ends[kept - 1] * spec.hop]
    return Prompt(wave, line)


def aligned(wave: Float[np.ndarray, " samples"], spec: audio.MelSpec, text: str, align: Callable | None) -> Line:
    """A text as a line that fits a recording at the model's rate, by `align` or by pocketsphinx; `UserError` if none
    fits."""
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
        unknown = [
            Line(tokens, (0,) * len(tokens), tuple(word.text for word in sentence.words))
            for sentence, tokens in zip(sentences, spelled, strict=True)
        ]
        lines = [
            timing.with_pauses(timed(model, line, prompt, speed=speed), sentence.pauses, hop_seconds=hop)
            for line, sentence in zip(unknown, sentences, strict=True)
        ]
    elif [line.phones for line in lines] != spelled:
        raise UserError(
            f"the durations are of {sum(len(line.phones) for line in lines)} phones, the text has "
            f"{sum(map(len, spelled))} others; give the text that they were written for"
        )
    asked = questions(model, lines, prompt)
    lap("durations")
    mels = regenerate(model, asked.gaps, seed, options)
    lap("mel")
    waves = voiced(model, mels)
    lap("wave")
    wave, whole = joined(model, asked, waves)
    words = timing.times(whole, hop_seconds=hop)
    lap("join")
    return Speech(wave, model.spec.sample_rate, words, whole, list(lines), pronounce.unknown(sentences), dict(spent))


def plain(model: Any) -> frozenset[str]:
    """The phones that a model knows, without their positions; `UserError` if it knows none."""
    if not model.phones:
        raise UserError(f"{model.name} knows no phones; give a model of configs/speak.py")
    return frozenset(phone.rpartition("_")[0] or phone for phone in model.phones) - {SILENCE}


def timed(model: Any, line: Line, prompt: Prompt | None, *, speed: float) -> Line:
    """A line with the lengths that follow those of the prompt, at a pace; `UserError` if the model has no timing."""
    if model.timing is None:
        raise UserError("speaking wants a model of durations or a file of them; give --timing or --durations")
    known = len(prompt.line.phones) if prompt else 0
    whole = line._replace(lengths=(0,) * len(line.phones))
    if prompt:  # the silence between the two is the prompt's
        whole = timing.joined(prompt.line, whole)
    frames = model.timing(whole, np.arange(len(whole.phones)) >= known)
    frames = np.concatenate([[float(EDGE)], frames[known:]]) if prompt else frames
    paced = timing.paced(frames, phones=line.phones, speed=speed)
    return timing.trimmed(line._replace(lengths=tuple(paced.tolist())), most=EDGE)


class Questions(NamedTuple):
    """What to find so that lines are said: `parts` of them that the model takes at once, behind `before` frames of the
    prompt, and a gap for each."""

    before: int
    parts: list[Line]
    gaps: list[Gap]


def questions(model: Any, lines: Sequence[Line], prompt: Prompt | None) -> Questions:
    """The questions whose answers, `joined`, are lines of known lengths in the voice of a prompt.

    `UserError` for a word that is too long.
    """
    before = sum(prompt.line.lengths) if prompt else 0
    most = round(model.chunking["seconds"] * model.spec.sample_rate / model.spec.hop) - before
    parts = [part for line in lines for part in _parts(line, most - JOIN)]
    parts = parts if len(parts) == 1 else [_wider(part) for part in parts]
    return Questions(before, parts, [gap(model, part, prompt) for part in parts])


def gap(model: Any, line: Line, prompt: Prompt | None) -> Gap:
    """The question how a line of known lengths sounds behind a prompt."""
    before = sum(prompt.line.lengths) if prompt else 0
    said = timing.joined(prompt.line, line) if prompt else line
    wave = prompt.wave if prompt else np.zeros(0, np.float32)
    origin = np.concatenate([np.arange(before), np.full(sum(line.lengths), -1)]).astype(np.int32)
    return Gap(wave, origin, by_frame(model, said))


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


def joined(
    model: Any, asked: Questions, waves: Sequence[Float[np.ndarray, " _"]]
) -> tuple[Float[np.ndarray, " samples"], Line]:
    """The waves of all gaps behind the prompt, one after the other, cross-faded, and what is said in them as one
    line."""
    fade = JOIN * model.spec.hop
    rise = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    (wave, *others), (line, *lines) = [one[asked.before * model.spec.hop :] for one in waves], asked.parts
    for further, said in zip(others, lines, strict=True):
        mixed = wave[-fade:] * (1 - rise) + further[:fade] * rise
        wave = np.concatenate([wave[:-fade], mixed, further[fade:]])
        line = timing.joined(line, said._replace(lengths=(said.lengths[0] - JOIN, *said.lengths[1:])))
    return wave, line


def by_frame(model: Any, line: Line) -> Int32[np.ndarray, " frames"]:
    """The number of the phone of each frame of a line, as the model numbers them."""
    return phones.by_frame(phones.numbers(line.phones, model.phones), line.lengths)
