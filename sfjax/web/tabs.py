"""The tabs of the web page: their inputs, and the work of the model behind each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from sfjax import audio, tasks
from sfjax.errors import UserError
from sfjax.inference import Model, splicing, tts
from sfjax.inference.batch import FileJob
from sfjax.text import durations
from sfjax.web import FOLDER

RATE = 96_000  # samples per second of the largest format accepted: stereo at 48 kHz
LETTERS = 2000  # longest text


class Limits(NamedTuple):
    """The largest upload: in seconds, and in megabytes of 2²⁰ bytes."""

    seconds: float
    megabytes: float


def recording(path: str | None, limits: Limits) -> tuple[Path, audio.Info]:
    """Return the path of an upload and its header, without decoding it.

    Raises UserError if the upload is missing, is no sound file or is too large.
    """
    if path is None:
        raise UserError("expected a recording, got none; upload or record one")
    info = audio.probe(path)
    if info.frames > limits.seconds * info.rate:
        raise UserError(
            f"{path}: expected {limits.seconds:g} s at most, got {info.frames / info.rate:.1f} s; send a part of it"
        )
    if info.frames * info.channels > limits.seconds * RATE:
        raise UserError(
            f"{path}: {info.channels} channels at {info.rate} Hz are more than {limits.seconds:g} s of stereo at 48000 "
            "Hz; send fewer or resample it"
        )
    return Path(path), info


class Made(NamedTuple):
    """Results of a tab: WAV files for its players, files to draw by their titles, and a note for the user."""

    files: list[Path]
    drawn: dict[str, Path]
    note: str = ""


class Tab(NamedTuple):
    """A tab: its model, its input components `asked`, the titles of its players, and the function `work`.

    `work(inputs, options, progress)` takes the values of the inputs, and the sampling options with the seed. It reports
    with `progress(share, text)`.
    """

    model: Model
    asked: list[Component]
    players: list[str]
    work: Callable[[Sequence[Any], dict[str, Any], Callable[[float, str], Any]], Made]


def tabs(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> dict[str, Tab]:
    """Return the tabs that the models can offer, by name; the first model that can do a task does it.

    Long jobs end early once `leaving()` is true.
    """
    offered: dict[str, Tab] = {}
    for model in models:
        if tasks.choose(model.task, "enhance") is not None:
            offered.setdefault("enhance", _file_tab(model, model.enhancing(), ["enhanced"], limits, leaving))
        separation = tasks.choose(model.task, "separate")
        if separation is not None:
            players = [f"speaker {number}" for number in range(1, separation.speakers + 1)]
            offered.setdefault("separate", _file_tab(model, separation, players, limits, leaving))
        if any(tasks.choose(model.task, kind) is not None for kind in ("speak", "pretrain")):
            offered.setdefault("infill", _infill_tab(model, limits))
        if model.phones and model.duration_model is not None:
            offered.setdefault("speak", _speak_tab(model, limits))
            offered.setdefault("edit", _edit_tab(model, limits))
    return {name: offered[name] for name in ("enhance", "separate", "infill", "speak", "edit") if name in offered}


def _file_tab(model, task, players, limits, leaving):
    def work(inputs, options, report):
        path, info = recording(inputs[0], limits)
        files = [_new_wav(f"{path.stem}-{name.replace(' ', '')}") for name in players]
        job = FileJob(path, files, model.spec.sample_rate, made_by=model.name)
        job.info = info._replace(format="WAV", subtype="PCM_16")  # whatever format was uploaded
        done = 0.0

        def progress(seconds):
            nonlocal done
            if leaving():
                raise UserError("the server was stopped; start it again and repeat the job")
            done = min(done + seconds, job.seconds)  # chunks overlap
            report(0.95 * done / job.seconds, f"{done:.0f} of {job.seconds:.0f} s")

        report(0.0, "starting")
        try:
            model.run([job], task, progress=progress, **options)
        finally:
            job.abandon()
        if job.failure:
            raise UserError(job.failure)
        note = f"The recording has {info.channels} channels; their average was used." if info.channels > 1 else ""
        return Made(files, {"before": path} | dict(zip(players, files, strict=True)), note)

    return Tab(model, [_sound_box("Recording")], players, work)


def _infill_tab(model, limits):
    def work(inputs, options, report):
        path, _ = recording(inputs[0], limits)
        wave, rate, _ = splicing.read(path)
        text = _check_text(inputs[1])
        if text:
            gaps = splicing.read_gaps(text, rate, len(wave))
        else:
            gaps = splicing.gaps(wave, shortest=max(1, round(0.005 * rate)))
            if not gaps:
                raise UserError("expected samples that are exactly 0 for 5 ms, found none; enter the gaps")
        report(0.1, f"filling {len(gaps)} gaps")
        return _write_spliced(path, model.infill(wave, rate, gaps=gaps, **options), "whole")

    gaps_box = _text_box("Gaps in seconds", "1.20-1.45, 3.0-3.5 (empty: wherever samples are exactly 0)")
    return Tab(model, [_sound_box("Recording"), gaps_box], ["whole"], work)


def _speak_tab(model, limits):
    def work(inputs, options, report):
        text, path, transcript, speed = inputs
        if (path is None) != (not _check_text(transcript)):
            raise UserError("a voice needs a recording and its text; give both, or neither for any voice")
        prompt, panels = None, {}
        if path is not None:
            source, info = recording(path, limits)
            report(0.05, "aligning the text of the voice")
            voice = tts.prompt(*audio.read(source, frames=info.frames), _check_text(transcript), model=model)
            prompt, panels = (voice.wave, model.spec.sample_rate, voice.line), {"the voice": source}
        report(0.3, "speaking")
        speech = model.speak(_check_text(text), prompt=prompt, speed=float(speed), **options)
        report(0.9, "writing")
        file = _new_wav("spoken")
        audio.write(file, speech.wave, speech.rate)
        return Made([file], panels | {"spoken": file}, _unknown_note(speech.unknown))

    inputs = [
        _text_box("Text", 'Text to speak; <break time="500ms"/> is a pause', lines=3),
        _sound_box("Voice to speak in, about 3 s (empty: any voice)"),
        _text_box("Text of that recording"),
        _speed_slider(),
    ]
    return Tab(model, inputs, ["spoken"], work)


def _edit_tab(model, limits):
    def work(inputs, options, report):
        path, _ = recording(inputs[0], limits)
        wave, rate, _ = splicing.read(path)
        old, new = _check_text(inputs[1]), _check_text(inputs[2])
        report(0.1, "aligning the text, then speaking the new words")
        edit = model.edit(wave, rate, old=old, new=new, speed=float(inputs[3]), **options)
        result = _write_spliced(path, edit.wave, "edited")
        span = f"New from {edit.span[0]:.2f} to {edit.span[1]:.2f} s."
        return result._replace(note=" ".join([span, result.note, _unknown_note(edit.unknown)]))

    texts = [_text_box("Text of the recording"), _text_box("Text of the result")]
    return Tab(model, [_sound_box("Recording"), *texts, _speed_slider()], ["edited"], work)


def _sound_box(label):
    return gr.Audio(label=label, type="filepath", buttons=[], render=False)


def _text_box(label, example="", lines=1):
    return gr.Textbox(label=label, placeholder=example, lines=lines, max_length=LETTERS, render=False)


def _speed_slider():
    return gr.Slider(durations.SLOWEST, durations.FASTEST, value=1.0, step=0.05, label="Speed", render=False)


def _check_text(text):
    """Return a text without spaces around it, "" for None; raises UserError if it is too long."""
    text = (text or "").strip()
    if len(text) > LETTERS:
        raise UserError(f"expected a text of at most {LETTERS} letters, got {len(text)}; split it into parts")
    return text


def _unknown_note(words):
    return f"Not in the lexicon, spelled by rule: {', '.join(words)}." if words else ""


def _write_spliced(path, wave, name):
    file = _new_wav(f"{path.stem}-{name}")
    note = splicing.write(file, wave, path)
    return Made([file], {"before": path, name: file}, note or "")


def _new_wav(stem):
    """Return a new path for a WAV file in its own folder, which keeps `stem` as its name."""
    return Path(tempfile.mkdtemp(dir=FOLDER)) / f"{stem}.wav"
