"""The input fields of the web page, and the checks of what a user puts into them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from sfjax import audio
from sfjax.errors import UserError
from sfjax.text import durations

RATE = 96_000  # samples per second of the largest format accepted: stereo at 48 kHz
LETTERS = 2000  # longest text


class Limits(NamedTuple):
    """The largest upload: in seconds, and in megabytes of 2²⁰ bytes."""

    seconds: float
    megabytes: float


class Field(NamedTuple):
    """An input of a tab: its component, and a `check` of its value that raises UserError."""

    component: Component
    check: Callable[[Any], Any]


class FieldError(UserError):
    """A UserError about one input; `field` is the name of the input."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


@contextlib.contextmanager
def concerning(field: str) -> Iterator[None]:
    """Turn each UserError of a block of code into a FieldError about `field`."""
    try:
        yield
    except UserError as error:
        raise FieldError(field, str(error)) from None


def sound(label: str, limits: Limits, *, required: bool) -> Field:
    """Return a field to upload or record sound, whose value is a path or None."""

    def check(path):
        if required or path is not None:
            recording(path, limits)

    title = f"{label} (required, up to {_duration(limits.seconds)})" if required else f"{label} (optional)"
    return Field(gr.Audio(label=title, type="filepath", buttons=[], render=False), check)


def text(label: str, *, required: bool, example: str = "", info: str | None = None, lines: int = 1) -> Field:
    """Return a field for a text."""

    def check(value):
        if not plain(value) and required:
            raise UserError("expected a text, got none; write one, or try the example")

    title = f"{label} ({'required' if required else 'optional'})"
    box = gr.Textbox(label=title, placeholder=example, info=info, lines=lines, max_length=LETTERS, render=False)
    return Field(box, check)


def speed() -> Field:
    """Return a field for the speed of speech, 1 for the model's own."""
    slider = gr.Slider(
        durations.SLOWEST,
        durations.FASTEST,
        value=1.0,
        step=0.05,
        label="Speed",
        info="1 is the model's own speed, 2 is twice as fast",
        render=False,
    )
    return Field(slider, lambda value: None)


def recording(path: str | None, limits: Limits) -> tuple[Path, audio.Info]:
    """Return the path of an upload and its header, without decoding it.

    Raises UserError if the upload is missing, is no sound file or is too large.
    """
    if path is None:
        raise UserError("expected a recording, got none; upload or record one, or try the example")
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


def plain(value: str | None) -> str:
    """Return a text without spaces around it, "" for None. Raises UserError if it is too long."""
    value = (value or "").strip()
    if len(value) > LETTERS:
        raise UserError(f"expected a text of at most {LETTERS} letters, got {len(value)}; split it into parts")
    return value


def _duration(seconds):
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
