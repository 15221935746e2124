"""The tabs of the page: what each asks for, and how a model answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from sfjax import audio, splice, tasks, voice
from sfjax.errors import UserError
from sfjax.files import FileJob
from sfjax.infer import Model
from sfjax.page import FOLDER
from sfjax.text import timing

RATE = 96_000  # samples in a second of the densest recording that is taken: stereo at 48 kHz
LETTERS = 2000  # of a text


class Limits(NamedTuple):
    """The largest upload: seconds, and megabytes of 2²⁰ bytes."""

    seconds: float
    megabytes: float


def recording(path: str | None, limits: Limits) -> tuple[Path, audio.Info]:
    """An upload and what its header says; `UserError` if it is missing, no sound or too large, before it is decoded."""
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
    """What a tab made: WAV files for its players, those to draw by their titles, and a line to be read."""

    files: list[Path]
    drawn: dict[str, Path]
    note: str = ""


class Tab(NamedTuple):
    """A tab: the model behind it, what it asks for, the titles of its players, and `work`.

    `work(given, how, bar)` has what was asked for, the options and the seed, and reports shares done to `bar`.
    """

    model: Model
    asked: list[Component]
    players: list[str]
    work: Callable[[Sequence[Any], dict[str, Any], Callable[[float, str], Any]], Made]


def tabs(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> dict[str, Tab]:
    """The tabs that models offer, each by the first that can do it; long jobs end early once `leaving()`."""
    made: dict[str, Tab] = {}
    for model in models:
        if tasks.choose(model.task, tasks.Enhance) is not None:
            made.setdefault("enhance", _treatment(model, model.enhancing(), ["enhanced"], limits, leaving))
        if (found := tasks.choose(model.task, tasks.Separate)) is not None:
            apart = [f"speaker {i}" for i in range(1, found.speakers + 1)]
            made.setdefault("separate", _treatment(model, found, apart, limits, leaving))
        if any(tasks.choose(model.task, kind) is not None for kind in (tasks.Speak, tasks.Pretrain)):
            made.setdefault("infill", _infill(model, limits))
        if model.phones and model.timing is not None:
            made.setdefault("speak", _speak(model, limits))
            made.setdefault("edit", _edit(model, limits))
    return {name: made[name] for name in ("enhance", "separate", "infill", "speak", "edit") if name in made}


def _treatment(model, task, players, limits, leaving):
    def work(given, how, bar):
        path, info = recording(given[0], limits)
        files = [_named(f"{path.stem}-{name.replace(' ', '')}") for name in players]
        job = FileJob(path, files, model.spec.sample_rate, made_by=model.name)
        job.info = info._replace(format="WAV", subtype="PCM_16")  # whatever container was sent
        done = 0.0

        def progress(seconds):
            nonlocal done
            if leaving():
                raise UserError("the server is being stopped; start it again")
            done = min(done + seconds, job.seconds)  # chunks overlap
            bar(0.95 * done / job.seconds, f"{done:.0f} of {job.seconds:.0f} s")

        bar(0.0, "starting")
        try:
            model.run([job], task, progress=progress, **how)
        finally:
            job.abandon()
        if job.failure:
            raise UserError(job.failure)
        note = f"{info.channels} channels: their average was used." if info.channels > 1 else ""
        return Made(files, {"before": path} | dict(zip(players, files, strict=True)), note)

    return Tab(model, [_sound("Recording")], players, work)


def _infill(model, limits):
    def work(given, how, bar):
        path, _ = recording(given[0], limits)
        wave, rate, _ = splice.read(path)
        if _text(given[1]):
            gaps = splice.read_gaps(_text(given[1]), rate, len(wave))
        else:
            gaps = splice.gaps(wave, shortest=max(1, round(0.005 * rate)))
            if not gaps:
                raise UserError("no 5 ms of it are exactly 0; write which gaps to fill")
        bar(0.1, f"filling {len(gaps)} gaps")
        return _spliced(path, model.infill(wave, rate, gaps=gaps, **how), "whole")

    gaps = _words("Gaps in seconds", "1.20-1.45, 3.0-3.5 (empty: wherever samples are exactly 0)")
    return Tab(model, [_sound("Recording"), gaps], ["whole"], work)


def _speak(model, limits):
    def work(given, how, bar):
        text, path, said, speed = given
        if (path is None) != (not _text(said)):
            raise UserError("a voice wants a recording and the text said in it; give both, or neither for any voice")
        prompt, drawn = None, {}
        if path is not None:
            source, info = recording(path, limits)
            bar(0.05, "finding the words of the voice")
            heard = voice.prompt(*audio.read(source, frames=info.frames), _text(said), model=model)
            prompt, drawn = (heard.wave, model.spec.sample_rate, heard.line), {"the voice": source}
        bar(0.3, "speaking")
        made = model.speak(_text(text), prompt=prompt, speed=float(speed), **how)
        bar(0.9, "writing")
        audio.write(file := _named("spoken"), made.wave, made.rate)
        return Made([file], drawn | {"spoken": file}, _unknown(made.unknown))

    asked = [
        _words("Text", 'What is to be said; <break time="500ms"/> is a pause', lines=3),
        _sound("Voice to speak in, some 3 s (empty: any voice)"),
        _words("What is said in that recording"),
        _speed(),
    ]
    return Tab(model, asked, ["spoken"], work)


def _edit(model, limits):
    def work(given, how, bar):
        path, _ = recording(given[0], limits)
        wave, rate, _ = splice.read(path)
        bar(0.1, "finding the words, then saying the new ones")
        made = model.edit(wave, rate, old=_text(given[1]), new=_text(given[2]), speed=float(given[3]), **how)
        done = _spliced(path, made.wave, "edited")
        return done._replace(note=" ".join([f"New from {made.span[0]:.2f} to {made.span[1]:.2f} s.", done.note,
                                            _unknown(made.unknown)]))  # fmt: skip

    texts = [_words("What is said in it"), _words("What is to be said in it")]
    return Tab(model, [_sound("Recording"), *texts, _speed()], ["edited"], work)


def _sound(label):
    return gr.Audio(label=label, type="filepath", buttons=[], render=False)


def _words(label, example="", lines=1):
    return gr.Textbox(label=label, placeholder=example, lines=lines, max_length=LETTERS, render=False)


def _speed():
    return gr.Slider(timing.SLOWEST, timing.FASTEST, value=1.0, step=0.05, label="Speed", render=False)


def _text(given):
    given = (given or "").strip()
    if len(given) > LETTERS:
        raise UserError(f"expected a text of at most {LETTERS} letters, got {len(given)}; say it in parts")
    return given


def _unknown(words):
    return f"Not in the lexicon, spelled by rule: {', '.join(words)}." if words else ""


def _spliced(path, wave, name):
    note = splice.write(file := _named(f"{path.stem}-{name}"), wave, path)
    return Made([file], {"before": path, name: file}, note or "")


def _named(stem):
    return Path(tempfile.mkdtemp(dir=FOLDER)) / f"{stem}.wav"
