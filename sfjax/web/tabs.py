"""The tabs of the web page: their inputs, their examples, and the work of the model behind each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfjax import audio, examples, tasks
from sfjax.errors import UserError
from sfjax.inference import Model, splicing, tts
from sfjax.inference.batch import FileJob
from sfjax.inference.chunking import NO_VOICE
from sfjax.inference.enrolment import enrolment
from sfjax.web import FOLDER, fields
from sfjax.web.fields import Field, FieldError, Limits, concerning, plain, recording

CONSENT = "**Ask people for consent** before you imitate their voice, and say that the result is synthetic."
GAPS = ((0.62, 0.72), (1.28, 1.4), (2.0, 2.15))  # seconds, of the example with lost packets
SHORTEST = 0.005  # seconds of zeros that count as a gap
AROUND = 0.3  # seconds on each side of a gap that its level is compared with
QUIETER = 12.0  # dB: a filled gap that is softer than the sound around it by more than this is reported


class Track(NamedTuple):
    """A recording to play and draw: its title, its file, and the spans in seconds to frame."""

    title: str
    file: Path
    spans: Sequence[tuple[float, float]] = ()


class Result(NamedTuple):
    """The result of a tab: the tracks before and after, and notes and warnings for the user."""

    before: list[Track]
    after: list[Track]
    notes: list[str]
    warnings: Sequence[str] = ()

    @property
    def files(self) -> list[Path]:
        """The files to offer for download."""
        return [track.file for track in self.after]


class Tab(NamedTuple):
    """A tab: its model and that model's task, a sentence for the user, its fields by name, and its functions.

    `work(values, options, progress)` takes the values of the fields by name, and the sampling options with the seed; it
    reports with `progress(share, text)` and raises FieldError for a value that cannot be used. `example()` returns
    values to try. `outputs` is the number of files of a result.
    """

    model: Model
    task: Any
    sentence: str
    fields: dict[str, Field]
    outputs: int
    work: Callable[[dict[str, Any], dict[str, Any], Callable[[float, str], Any]], Result]
    example: Callable[[], dict[str, Any]]


def tabs(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> dict[str, Tab]:
    """Return the tabs that the models can offer, by name; the first model that can do a task does it.

    Gaps are filled by a pre-trained model if there is one, and else by a model that speaks. Long jobs end early once
    `leaving()` is true.
    """
    offered: dict[str, Tab] = {}
    for model in models:
        if tasks.choose(model.task, "enhance") is not None:
            offered.setdefault("enhance", _enhance_tab(model, limits, leaving))
        if (separation := tasks.choose(model.task, "separate")) is not None:
            offered.setdefault("separate", _separate_tab(model, separation, limits, leaving))
        if tasks.choose(model.task, "extract") is not None:
            offered.setdefault("extract", _extract_tab(model, limits, leaving))
        if model.phones:
            offered.setdefault("convert", _convert_tab(model, limits))
        if model.phones and model.duration_model is not None:
            offered.setdefault("speak", _speak_tab(model, limits))
            offered.setdefault("edit", _edit_tab(model, limits))
    for kind in ("pretrain", "speak"):
        for model in models:
            if tasks.choose(model.task, kind) is not None:
                offered.setdefault("infill", _infill_tab(model, limits))
    order = ("enhance", "separate", "extract", "infill", "speak", "edit", "convert")
    return {name: offered[name] for name in order if name in offered}


def _enhance_tab(model, limits, leaving):
    return _file_tab(
        model,
        model.enhancing(),
        "Remove noise from a recording of one speaker.",
        ["enhanced"],
        lambda: {"recording": _example_file("noisy")},
        (limits, leaving),
    )


def _separate_tab(model, task, limits, leaving):
    return _file_tab(
        model,
        task,
        f"Get one recording for each of the {task.speakers} people who speak at the same time in a recording.",
        [f"speaker {number}" for number in range(1, task.speakers + 1)],
        lambda: {"recording": _example_mixture()},
        (limits, leaving),
    )


def _extract_tab(model, limits, leaving):
    return _file_tab(
        model,
        model.extracting(),
        "Get one speaker alone out of a recording in which others speak, too. A recording of the voice says which one.",
        ["extracted"],
        lambda: {"recording": _example_mixture(), "voice": _example_file("voice")},
        (limits, leaving),
        voice=fields.sound("Voice, 1 to 5 s", limits, required=True),
    )


def _file_tab(model, task, sentence, titles, example, bounds, voice=None):
    limits, leaving = bounds

    def work(values, options, report):
        with concerning("recording"):
            path, info = recording(values["recording"], limits)
        enrolled = NO_VOICE
        if voice is not None:
            with concerning("voice"):
                source, _ = recording(values["voice"], limits)
                enrolled = enrolment(source, None, model.spec)
        files = [_new_wav(f"{path.stem}-{title.replace(' ', '')}") for title in titles]
        job = FileJob(path, files, model, made_by=model.name, voice=enrolled)
        job.info = info._replace(format="WAV", subtype="PCM_16")  # whatever format was uploaded
        done = 0.0

        def progress(seconds):
            nonlocal done
            if leaving():
                raise UserError("the server was stopped; start it again and repeat the job")
            done = min(done + seconds, job.seconds)  # chunks overlap
            report(0.95 * done / job.seconds, f"{done:.0f} of {job.seconds:.0f} s")

        report(0.0, "starting; the first run takes longer")
        try:
            model.run([job], task, progress=progress, **options)
        finally:
            job.abandon()
        if job.failure:
            raise FieldError("recording", job.failure)
        averaged = info.channels > job.like.channels
        notes = [f"The recording has {info.channels} channels; their average was used."] if averaged else []
        after = [Track(title.capitalize(), file) for title, file in zip(titles, files, strict=True)]
        return Result([Track("Before", path)], after, notes)

    inputs = {"recording": fields.sound("Recording", limits, required=True)}
    inputs |= {} if voice is None else {"voice": voice}
    return Tab(model, task, sentence, inputs, len(titles), work, example)


def _infill_tab(model, limits):
    def work(values, options, report):
        with concerning("recording"):
            path, _ = recording(values["recording"], limits)
            wave, rate, _ = splicing.read(path)
        with concerning("gaps"):
            text = plain(values["gaps"])
            if text:
                gaps = splicing.read_gaps(text, rate, len(wave))
            else:
                gaps = splicing.gaps(wave, shortest=max(1, round(SHORTEST * rate)))
                if not gaps:
                    raise UserError("expected samples that are exactly 0 for 5 ms, found none; enter the gaps")
        report(0.1, f"filling {len(gaps)} gaps")
        filled = model.infill(wave, rate, gaps=gaps, **options)
        file, notes = _write_spliced(path, filled, "whole")
        spans = [(start / rate, end / rate) for start, end in gaps]
        warnings = _near_silence(filled, gaps, rate, model.folder)
        return Result([Track("Before", path, spans)], [Track("Filled", file, spans)], notes, warnings)

    inputs = {
        "recording": fields.sound("Recording", limits, required=True),
        "gaps": fields.text(
            "Gaps in seconds",
            required=False,
            example="1.20-1.45, 3.0-3.5",
            info="START-END, START-END …; empty: wherever the sound is exactly 0 for 5 ms, as in lost packets",
        ),
    }
    sentence = f"Fill gaps in a recording of speech, such as lost packets, from the sound around them. {CONSENT}"
    return Tab(model, model.filling(), sentence, inputs, 1, work, lambda: {"recording": _example_gaps(), "gaps": ""})


def _near_silence(wave, gaps, rate, name):
    """Return a note about the gaps that are much softer than the sound around them, if there are any."""
    scale = -int(np.iinfo(wave.dtype).min) if wave.dtype.kind == "i" else 1
    power = np.square(wave.reshape(len(wave), -1).mean(axis=1, dtype=np.float64) / scale)
    inside = np.zeros(len(wave), bool)
    for start, end in gaps:
        inside[start:end] = True
    soft, margin = [], round(AROUND * rate)
    for start, end in gaps:
        nearby = slice(max(0, start - margin), end + margin)
        around = power[nearby][~inside[nearby]]
        below = 10 * np.log10((around.mean() if len(around) else 0.0) + 1e-12) - 10 * np.log10(
            power[start:end].mean() + 1e-12
        )
        if below > QUIETER:
            soft.append(f"{start / rate:.2f}–{end / rate:.2f} s ({below:.0f} dB softer)")
    if not soft:
        return []
    return [
        f"Nearly silent compared with the sound around them: {', '.join(soft)}. {name} could not continue the speech "
        "there; try another seed under “Sampling options”, or enter shorter gaps."
    ]


def _speak_tab(model, limits):
    def work(values, options, report):
        path, transcript = values["voice"], plain(values["transcript"])
        with concerning("transcript"):
            if path is not None and not transcript:
                raise UserError("expected the text of the voice, got none; write what it says, or remove the voice")
        with concerning("voice"):
            if path is None and transcript:
                raise UserError("expected a recording with this text, got none; give one, or clear its text")
        prompt, before = None, []
        if path is not None:
            report(0.05, "aligning the text of the voice")
            with concerning("voice"):
                source, info = recording(path, limits)
                voice = tts.prompt(*audio.read(source, frames=info.frames), transcript, model=model)
            prompt, before = (voice.wave, model.spec.sample_rate, voice.line), [Track("Voice", source)]
        report(0.3, "speaking")
        with concerning("text"):
            speech = model.speak(plain(values["text"]), prompt=prompt, speed=float(values["speed"]), **options)
        report(0.9, "writing")
        file = _new_wav("spoken")
        audio.write(file, speech.wave, speech.rate)
        return Result(before, [Track("Spoken", file)], _unknown_notes(speech.unknown))

    inputs = {
        "text": fields.text("Text to speak", required=True, info='<break time="500ms"/> is a pause', lines=3),
        "voice": fields.sound("Voice to imitate, about 3 s", limits, required=False),
        "transcript": fields.text("Text of that voice", required=False, info="needed with a voice, word by word"),
        "speed": fields.speed(),
    }

    def example():
        text = "The rain has stopped, and the sun is coming out."
        return {"text": text, "voice": _example_file("voice"), "transcript": examples.TEXT, "speed": 1.0}

    sentence = f"Speak a text in the voice of a recording; without one, in any voice. {CONSENT}"
    return Tab(model, model.filling(), sentence, inputs, 1, work, example)


def _edit_tab(model, limits):
    def work(values, options, report):
        with concerning("recording"):
            path, info = recording(values["recording"], limits)
            wave, rate, _ = splicing.read(path)
        report(0.1, "aligning the text")
        with concerning("old"):
            mono = audio.resample(audio.read(path, frames=info.frames)[0], rate, model.spec.sample_rate)
            line = tts.aligned(mono, model.spec, plain(values["old"]), None)
        report(0.3, "speaking the new words")
        with concerning("new"):
            edit = model.edit(wave, rate, old=line, new=plain(values["new"]), speed=float(values["speed"]), **options)
        file, notes = _write_spliced(path, edit.wave, "edited")
        start, end = edit.span
        replaced = end - (len(edit.wave) - len(wave)) / rate  # where the old words end
        notes = [f"New from {start:.2f} to {end:.2f} s.", *notes, *_unknown_notes(edit.unknown)]
        before, after = Track("Before", path, [(start, replaced)]), Track("Edited", file, [edit.span])
        return Result([before], [after], notes)

    inputs = {
        "recording": fields.sound("Recording", limits, required=True),
        "old": fields.text("Text of the recording", required=True, info="word by word"),
        "new": fields.text("Text of the result", required=True, info="the same text with some words changed"),
        "speed": fields.speed(),
    }

    def example():
        new = examples.TEXT.replace("librarian", "teacher")
        return {"recording": _example_file("voice"), "old": examples.TEXT, "new": new, "speed": 1.0}

    sentence = f"Change words in a recording; the sound outside of the changed words stays the same. {CONSENT}"
    return Tab(model, model.filling(), sentence, inputs, 1, work, example)


def _convert_tab(model, limits):
    def work(values, options, report):
        with concerning("recording"):
            path, _ = recording(values["recording"], limits)
        report(0.05, "aligning the text of the voice")
        with concerning("voice"):
            source, _ = recording(values["voice"], limits)
            voice = tts.prompt(source, None, plain(values["transcript"]), model=model)
        report(0.3, "converting")
        prompt = (voice.wave, model.spec.sample_rate, voice.line)
        with concerning("text"):
            speech = model.convert(path, said=plain(values["text"]), prompt=prompt, **options)
        report(0.9, "writing")
        file = _new_wav(f"{path.stem}-converted")
        audio.write(file, speech.wave, speech.rate)
        return Result([Track("Before", path)], [Track("Converted", file)], [])

    inputs = {
        "recording": fields.sound("Recording", limits, required=True),
        "text": fields.text("Text of the recording", required=True, info="word by word"),
        "voice": fields.sound("Voice, about 3 s", limits, required=True),
        "transcript": fields.text("Text of that voice", required=True, info="word by word"),
    }

    def example():
        files = {"recording": _example_slow(), "voice": _example_file("voice")}
        return {name: files.get(name, examples.TEXT) for name in inputs}

    sentence = f"Say the words of a recording in another voice, with the same timing. {CONSENT}"
    return Tab(model, model.filling(), sentence, inputs, 1, work, example)


def _unknown_notes(words):
    return [f"Not in the lexicon, spelled by rule: {', '.join(words)}."] if words else []


def _write_spliced(path, wave, name):
    file = _new_wav(f"{path.stem}-{name}")
    warning = splicing.write(file, wave, path)
    return file, [warning] if warning else []


def _new_wav(stem):
    """Return a new path for a WAV file in its own folder, which keeps `stem` as its name."""
    return Path(tempfile.mkdtemp(dir=FOLDER)) / f"{stem}.wav"


# Examples


def _example_file(name):
    source = examples.path(name)
    return str(shutil.copy(source, _new_wav(name).with_name(source.name)))


def _example_mixture():
    """Write two voices that speak at once: the example, and the example slowed down, lower in pitch and later."""
    voice, rate = audio.read(examples.path("voice"))
    slow = np.pad(_slowed(voice, rate), (round(0.6 * rate), 0))
    file = _new_wav("two-voices")
    audio.write(file, slow + np.pad(voice, (0, len(slow) - len(voice))), rate)
    return str(file)


def _example_slow():
    """Write the example slowed down, which makes another voice of it."""
    voice, rate = audio.read(examples.path("voice"))
    file = _new_wav("low-voice")
    audio.write(file, _slowed(voice, rate), rate)
    return str(file)


def _slowed(voice, rate):
    return audio.resample(voice, rate, rate * 4 // 3)  # 3/4 of the pitch


def _example_gaps():
    """Write the example with lost packets."""
    wave, rate = audio.read(examples.path("voice"))
    for start, end in GAPS:
        wave[round(start * rate) : round(end * rate)] = 0
    file = _new_wav("lost-packets")
    audio.write(file, wave, rate)
    return str(file)
