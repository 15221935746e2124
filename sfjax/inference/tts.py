"""Zero-shot text-to-speech: the model sees the frames of a prompt and generates the frames of the text in its voice.

Source: SpeechFlow 4.4 and Voicebox 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32

from sfjax import audio
from sfjax.errors import UserError
from sfjax.inference import waveform
from sfjax.inference.chunking import padded
from sfjax.inference.infill import Gap, regenerate, to_waves
from sfjax.inference.speech_model import SpeechModel
from sfjax.inference.waveform import Recording
from sfjax.text import duration_model, durations, encoding, espeak, g2p, phones
from sfjax.text.g2p import Pronouncer
from sfjax.text.phones import SILENCE, Line

LEAST = 0.5  # seconds: the shortest prompt
QUIET = 1e-3  # a prompt with a lower peak counts as silent
EDGE = 10  # frames of silence to leave at both ends of a sentence, at most (Voicebox A.2)
SHARE = 0.5  # of a chunk: the longest prompt; longer ones are cut after a word
PEAK = 0.99  # of full scale: the highest sample of generated speech
JOIN = 2  # frames of silence over which sentences are cross-faded


class Prompt(NamedTuple):
    """The voice to speak in: a recording at the model's rate, and the line of its words."""

    wave: Float[np.ndarray, " samples"]
    line: Line


class Speech(NamedTuple):
    """Generated speech at `rate` Hz, its words with their times and phones, and the same as one line.

    `lines` are the sentences before joining, as in a file of durations. `unknown` are the words that are missing in the
    lexicon and were spelled by rule. `spent` are the seconds that each stage took.
    """

    wave: Float[np.ndarray, " samples"]
    rate: int
    words: list[durations.TimedWord]
    line: Line
    lines: list[Line]
    unknown: list[str]
    spent: dict[str, float]


class DurationPredictor(NamedTuple):
    """A duration model: its network, its parameters and its phone inventory."""

    network: duration_model.DurationModel
    params: Any
    phones: tuple[str, ...]

    def __call__(
        self, line: Line, hidden: Sequence[bool] | Bool[np.ndarray, " phones"]
    ) -> Float[np.ndarray, " phones"]:
        """Return the length of each phone of a line in frames; `hidden` ones are predicted from the others."""
        numbers, count = phones.numbers(line.phones, self.phones), len(line.phones)
        padding = 0, padded(count, 1024) - count

        def batch_of_one(values, dtype):
            return np.pad(np.asarray(values, dtype), padding)[None]

        frames = duration_model.predict(
            self.network,
            self.params,
            batch_of_one(numbers, np.int32),
            batch_of_one(line.lengths, np.float32),
            batch_of_one(hidden, bool),
            np.array([count], np.int32),
        )
        return np.asarray(frames)[0, :count]


def prompt(
    wave: Recording, rate: Any, said: str | Line, *, model: SpeechModel, align: Callable | None = None
) -> Prompt:
    """Make a prompt from a recording at any rate and its words: `said` is a text, which `align` aligns, or a line.

    `wave` may also be integers, several channels, or a path with the rate None (`sfjax.inference.waveform.mono`).
    A prompt longer than half a chunk is cut after a word. Raises `UserError` for a prompt that is too short, silent or
    without words, or whose first word ends too late.
    """
    (wave, rate), spec = waveform.mono(wave, rate), model.spec
    if len(wave) < LEAST * rate:
        raise UserError(f"the prompt must last {LEAST} s or more, got {len(wave) / rate:.2f} s; 3 s are enough")
    if np.abs(wave).max() < QUIET:
        raise UserError("the prompt is silent; give a recording of the voice to speak in")
    wave = audio.resample(wave, rate, spec.sample_rate)
    try:
        line = said if isinstance(said, Line) else aligned(wave, spec, said, align)
    except UserError as error:
        raise UserError(f"the prompt: {error}") from None
    if not line.words:
        raise UserError("the prompt's alignment has no words; give a recording of speech")
    most = round(SHARE * model.chunk_frames)
    ends = [sum(line.lengths[:end]) for _, end in line.groups()]
    if sum(line.lengths) > most:
        words = sum(end <= most for end in ends)
        if not words:
            seconds, limit = (frames * spec.hop / spec.sample_rate for frames in (ends[0], most))
            raise UserError(
                f"the prompt's first word must end within {limit:g} s, got {seconds:g} s; remove the silence before it"
            )
        line, _ = line.cut(words)
        wave = wave[: ends[words - 1] * spec.hop]
    return Prompt(wave, line)


def aligned(wave: Float[np.ndarray, " samples"], spec: audio.MelSpec, text: str, align: Callable | None) -> Line:
    """Align a text with a recording at the model's rate, by `align` or by pocketsphinx, and return it as a line.

    Raises `UserError` if the text is empty or does not fit the recording.
    """
    encoding.check_characters(text)
    if not text.strip():
        raise UserError("expected the text of the recording, got none; give it word by word")
    if align is None:
        from sfjax.text.forced_aligner import PocketSphinx

        align = PocketSphinx()
    sentences = Pronouncer(g2p.default_lexicon(), espeak.ARPABET)(text)  # splits the text into the aligner's words
    words = " ".join(word.text for sentence in sentences for word in sentence.words)
    return phones.line(align(wave, spec.sample_rate, words), spec.num_frames(len(wave)))


def speak(
    model: SpeechModel,
    text: str,
    *,
    prompt: Prompt | None,
    lexicon: dict[str, tuple[str, ...]],
    speed: float,
    lines: Sequence[Line] | None,
    seed: int,
    options: dict[str, Any],
) -> Speech:
    """Speak a text sentence by sentence in the voice of a prompt; without one, in any voice.

    `lines` give the lengths of the phones. Without them, the duration model does, and `speed` divides its lengths.
    Raises `UserError` for a text that cannot be pronounced, or if `lines` belong to another text.
    """
    timer = _StageTimer()
    hop = model.spec.hop_seconds
    sentences = Pronouncer(lexicon, plain_phones(model))(text)
    spelled = [phones.spell([word.phones for word in sentence.words]) for sentence in sentences]
    timer.end("text")
    if lines is None:
        untimed = [
            Line(tokens, (0,) * len(tokens), tuple(word.text for word in sentence.words))
            for sentence, tokens in zip(sentences, spelled, strict=True)
        ]
        lines = [
            durations.with_pauses(with_durations(model, line, prompt, speed=speed), sentence.pauses, hop_seconds=hop)
            for line, sentence in zip(untimed, sentences, strict=True)
        ]
    elif [line.phones for line in lines] != spelled:
        raise UserError(
            f"the durations belong to another text (they have {sum(len(line.phones) for line in lines)} phones, this "
            f"text has {sum(map(len, spelled))}); use the text that they were written for"
        )
    timer.end("durations")
    return _speech(model, lines, prompt, seed, options, timer)._replace(unknown=g2p.unknown(sentences))


def convert(
    model: SpeechModel,
    recording: Recording,
    rate: Any,
    said: str | Line,
    *,
    prompt: Prompt,
    seed: int,
    options: dict[str, Any],
) -> Speech:
    """Say the words of a recording in the voice of a prompt, with the recording's timing; `said` is as in `prompt`.

    The result is as long as the recording, at the model's rate. Raises `UserError` as `prompt` and `speak` do.
    """
    timer, spec = _StageTimer(), model.spec
    plain_phones(model)  # checks that there are phones
    samples, rate = waveform.mono(recording, rate)
    if len(samples) < spec.window * rate / spec.sample_rate or np.abs(samples).max() < QUIET:
        raise UserError("the recording to convert is silent or too short; give a recording of speech")
    wave = audio.resample(samples, rate, spec.sample_rate)
    line = said if isinstance(said, Line) else aligned(wave, spec, said, None)
    timer.end("text")
    speech = _speech(model, [line], prompt, seed, options, timer)
    length = min(len(wave), len(speech.wave))
    return speech._replace(wave=np.pad(speech.wave[:length], (0, len(wave) - length)))


def _speech(model, lines, prompt, seed, options, timer):
    """Generate lines of known lengths."""
    asked = questions(model, lines, prompt)
    mels = regenerate(model, asked.gaps, seed, options)
    timer.end("mel")
    waves = to_waves(model, mels)
    timer.end("wave")
    wave, whole = joined(model, asked, waves)
    words = durations.times(whole, hop_seconds=model.spec.hop_seconds)
    timer.end("join")
    return Speech(wave, model.spec.sample_rate, words, whole, list(lines), [], timer.seconds)


class _StageTimer:
    """Measures the seconds that each stage takes."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def end(self, stage: str) -> None:
        """End a stage and start the next one."""
        now = time.perf_counter()
        self.seconds[stage] = now - self.start
        self.start = now


def plain_phones(model: SpeechModel) -> frozenset[str]:
    """Return the phones of a model without their positions; `UserError` if it was trained without phones."""
    if not model.phones:
        raise UserError(
            f"{model.name} was trained without phones, so it cannot speak; give a model of configs/speak.py"
        )
    return frozenset(phone.rpartition("_")[0] or phone for phone in model.phones) - {SILENCE}


def with_durations(model: SpeechModel, line: Line, prompt: Prompt | None, *, speed: float) -> Line:
    """Predict the lengths of a line behind a prompt, divided by `speed`.

    Raises `UserError` if the model has no duration model.
    """
    if model.duration_model is None:
        raise UserError(
            "speaking needs a duration model or durations; give duration_model or lines (--duration-model, --durations)"
        )
    whole = line._replace(lengths=(0,) * len(line.phones))
    if prompt is None:
        frames = model.duration_model(whole, np.ones(len(whole.phones), bool))
    else:
        known = len(prompt.line.phones)
        whole = durations.joined(prompt.line, whole)  # the silence between them belongs to the prompt
        frames = model.duration_model(whole, np.arange(len(whole.phones)) >= known)
        frames = np.concatenate([[float(EDGE)], frames[known:]])
    paced = durations.paced(frames, phones=line.phones, speed=speed)
    return durations.trimmed(line._replace(lengths=tuple(paced.tolist())), most=EDGE)


class Questions(NamedTuple):
    """A batch of gaps: the model fills them to speak some lines.

    `parts` are the lines, cut where they are too long for the model. `gaps` has one gap for each part, behind `before`
    frames of the prompt.
    """

    before: int
    parts: list[Line]
    gaps: list[Gap]


def questions(model: SpeechModel, lines: Sequence[Line], prompt: Prompt | None) -> Questions:
    """Return the gaps to fill to speak lines of known lengths in the voice of a prompt; `joined` joins the results.

    Raises `UserError` for a word that is too long.
    """
    before = sum(prompt.line.lengths) if prompt else 0
    most = model.chunk_frames - before
    parts = [part for line in lines for part in _split_line(line, most - JOIN)]
    parts = parts if len(parts) == 1 else [_with_silence_to_join(part) for part in parts]
    return Questions(before, parts, [gap(model, part, prompt) for part in parts])


def gap(model: SpeechModel, line: Line, prompt: Prompt | None) -> Gap:
    """Return the gap to fill to speak a line of known lengths behind a prompt."""
    before = sum(prompt.line.lengths) if prompt else 0
    whole = durations.joined(prompt.line, line) if prompt else line
    wave = prompt.wave if prompt else np.zeros(0, np.float32)
    origin = np.concatenate([np.arange(before), np.full(sum(line.lengths), -1)]).astype(np.int32)
    return Gap(wave, origin, by_frame(model, whole))


def _split_line(line, most):
    """Split a line into lines of at most `most` frames, at the silence nearest to the middle, again and again."""
    if sum(line.lengths) <= most:
        return [line]
    silences = [i for i, token in enumerate(line.phones) if token == SILENCE][1:-1]
    if not silences:
        raise UserError(
            f"the word {line.words[0]!r} must fit into the {most} frames behind the prompt, got {sum(line.lengths)}; "
            f"speak faster"
        )
    ends = np.cumsum(line.lengths)
    cut = min(silences, key=lambda i: abs(2 * ends[i] - ends[-1]))
    words = sum(silence <= cut for silence in silences)
    first = Line(line.phones[: cut + 1], line.lengths[: cut + 1], line.words[:words])
    second = Line(line.phones[cut:], (0, *line.lengths[cut + 1 :]), line.words[words:])
    return _split_line(first, most) + _split_line(second, most)


def _with_silence_to_join(line):
    """Make the first silence of a line as long as the cross-fade, or longer."""
    return line._replace(lengths=(max(line.lengths[0], JOIN), *line.lengths[1:]))


def joined(
    model: SpeechModel, asked: Questions, waves: Sequence[Float[np.ndarray, " _"]]
) -> tuple[Float[np.ndarray, " samples"], Line]:
    """Join the generated `waves` of all parts with cross-fades, without the prompt; also return them as one line.

    The speech has the level of the prompt, and no sample is clipped.
    """
    fade = JOIN * model.spec.hop
    rise = (np.arange(fade, dtype=np.float32) + 0.5) / fade
    wave, *next_waves = (wave[asked.before * model.spec.hop :] for wave in waves)
    line, *next_lines = asked.parts
    for next_wave, next_line in zip(next_waves, next_lines, strict=True):
        mixed = wave[-fade:] * (1 - rise) + next_wave[:fade] * rise
        wave = np.concatenate([wave[:-fade], mixed, next_wave[fade:]])
        lengths = next_line.lengths[0] - JOIN, *next_line.lengths[1:]
        line = durations.joined(line, next_line._replace(lengths=lengths))
    return _at_level(wave, asked.gaps[0].wave, model.spec.sample_rate), line


def _at_level(wave, prompt, rate):
    """Scale speech to the level of the prompt, if there is one, and so that its peak is at most `PEAK`."""
    from sfjax.data.noise_mixer import active_level  # imports PyArrow, which only speech from text needs

    levels = [active_level(samples, rate) if len(samples) else -np.inf for samples in (prompt, wave)]
    gain = 10 ** ((levels[0] - levels[1]) / 20) if np.isfinite(levels).all() else 1.0
    return wave * np.float32(min(gain, PEAK / max(float(np.abs(wave).max(initial=0.0)), 1e-9)))


def by_frame(model: SpeechModel, line: Line) -> Int32[np.ndarray, " frames"]:
    """Return the number of each frame's phone in the model's inventory."""
    return phones.by_frame(phones.numbers(line.phones, model.phones), line.lengths)
