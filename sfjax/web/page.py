"""Lay out the web page: title, tabs with fields, sampling options and results, and the cards of the models."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import jax

from sfjax.errors import UserError
from sfjax.inference import Model
from sfjax.web import FOLDER
from sfjax.web.cards import card
from sfjax.web.fields import FieldError, Limits
from sfjax.web.player import player
from sfjax.web.security import AGE
from sfjax.web.tabs import Result, Tab, tabs

SWEEP = 600  # seconds between two deletions of old files
WAITING = 16  # largest number of jobs in the queue
PROGRAMS = 32  # largest number of settings whose compiled programs are kept
QUICK: dict[str, Any] = dict(  # events that need no model
    concurrency_id="the page", concurrency_limit=4, api_visibility="private", show_progress="hidden"
)
KNOBS = 5  # sampling options of every tab, after its own inputs
TITLE = """# sfjax
Clean recordings of speech, separate speakers, fill gaps, speak texts, change words and voices, with small generative
models. The models run on the computer that serves this page. Recordings stay there and are deleted after an hour."""
EMPTY = '<p class="sf-empty">The result appears here, to compare with the recording.</p>'


def blocks(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> gr.Blocks:
    """Build the page: `tabs` with sampling options, which start from the config of the model, and results.

    Long jobs end early once `leaving()` is true.
    """
    settings: set[tuple] = set()
    with gr.Blocks(title="sfjax: speech models", analytics_enabled=False, delete_cache=(SWEEP, AGE)) as page:
        gr.Markdown(TITLE)
        for name, tab in tabs(models, limits, leaving).items():
            with gr.Tab(name.capitalize()):
                _add_tab(name, tab, settings)
    return page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)


def _add_tab(name: str, tab: Tab, settings: set[tuple]) -> None:
    """Lay out a tab and connect its buttons; `settings` collects the sampling options that have been used."""
    gr.Markdown(tab.sentence)
    with gr.Row():
        with gr.Column(min_width=300, scale=2):
            slots = {}
            for field, (component, _) in tab.fields.items():
                with gr.Column(elem_classes="sf-field"):
                    component.render()
                    slots[field] = gr.HTML(visible=False)
            with gr.Accordion("Sampling options", open=False):
                knobs = _knobs(tab.model, tab.task)
            with gr.Row(elem_classes="sf-buttons"):
                example = gr.Button("Try the example", min_width=120)
                button = gr.Button(name.capitalize(), variant="primary", min_width=120)
            slots[""] = gr.HTML(visible=False)  # of errors that concern no single field
        with gr.Column(min_width=300, scale=3):
            files = [gr.File(visible=False) for _ in range(tab.outputs)]
            shown = gr.HTML(EMPTY, elem_classes="sf-result")
    _add_card(tab)
    inputs = [field.component for field in tab.fields.values()]

    def run(progress=gr.Progress(), *values):  # noqa: B008  gradio recognises it by its default
        given = dict(zip(tab.fields, values[:-KNOBS], strict=True))
        errors, result = _attempt(tab, given, _options(values[-KNOBS:], settings), progress)
        messages = [_message(errors.get(field)) for field in slots]
        if result is None:
            return [*[None] * tab.outputs, EMPTY, *messages]
        progress(0.95, "drawing")
        return [*map(str, result.files), player(result), *messages]

    outputs = [*files, shown, *slots.values()]
    button.click(run, [*inputs, *knobs], outputs, api_name=name, concurrency_id="the model", show_progress_on=shown)
    example.click(
        lambda: [*tab.example().values(), *[_message(None)] * len(slots)],
        None,
        [*inputs, *slots.values()],
        **QUICK,
    )
    for field, (component, check) in tab.fields.items():
        _check_when_chosen(component, check, slots[field])


def _attempt(tab: Tab, values: dict, options: dict, progress: Callable) -> tuple[dict[str, str], Result | None]:
    """Return the errors of the fields, or the result of the work. The field of an error that concerns none is ""."""
    errors = {}
    for name, field in tab.fields.items():
        try:
            field.check(values[name])
        except UserError as error:
            errors[name] = str(error)
    if errors:
        return errors, None
    try:
        return {}, tab.work(values, options, progress)
    except FieldError as error:
        return {error.field: str(error)}, None
    except UserError as error:
        return {"": str(error)}, None


def _options(knobs, settings):
    """Return the sampling options as keyword arguments; forget compiled programs when many settings were used."""
    solver, steps, guidance, sway, seed = knobs
    # a browser sends an integer for 0
    options = dict(solver=solver, steps=steps, guidance=float(guidance), sway=float(sway))
    settings.add(tuple(options.values()))
    if len(settings) > PROGRAMS:
        settings.clear()
        jax.clear_caches()
    return options | {"seed": seed or 0}


def _check_when_chosen(component, check, slot):
    """Refuse a file when it is chosen, and remove the error of a field when the user changes it."""

    def refuse(path):
        try:
            check(path)
        except UserError as error:
            return None, _message(str(error))
        return gr.skip(), _message(None)

    if isinstance(component, gr.Audio):
        gr.on([component.upload, component.stop_recording], refuse, component, [component, slot], **QUICK)
    elif isinstance(component, gr.Textbox):
        component.input(lambda: _message(None), None, slot, **QUICK)


def _message(error: str | None):
    """Show an error without the folder of the page, or hide it; HTML in it is shown as text."""
    if error is None:
        return gr.HTML("", visible=False)
    line = re.sub(rf"{re.escape(str(FOLDER))}/\w+/", "", " ".join(error.split()))
    return gr.HTML(f'<p class="sf-error" role="alert">{html.escape(line, quote=False)}</p>', visible=True)


def _add_card(tab):
    """Show the model of a tab: what it does, how good it is, its licence and its data."""
    facts = card(tab.model, tab.task)
    rows = {"Model": facts.name, "Does": facts.does, "Score": facts.score, "Licence": facts.licence}
    terms = "".join(f"<dt>{term}</dt><dd>{html.escape(value)}</dd>" for term, value in rows.items())
    gr.HTML(f'<dl class="sf-card">{terms}</dl>')
    if facts.notes:
        with gr.Accordion("Data, limits and attributions of this model", open=False):
            gr.Markdown(facts.notes)


def _knobs(model, task):
    defaults = model.sampling({}, task)
    solvers = [*model.process.STAGES, *getattr(model.process, "ADAPTIVE", {})]
    return [
        gr.Dropdown(solvers, value=defaults["solver"], label="Solver", info="of the flow's differential equation"),
        gr.Slider(
            1,
            max(64, defaults["steps"]),
            value=defaults["steps"],
            step=1,
            precision=0,
            label="Steps",
            info="more: slower",
        ),
        gr.Slider(
            0,
            max(3, defaults["guidance"]),
            value=defaults["guidance"],
            step=0.05,
            label="Guidance",
            info="strength of the condition; 0: none, at half the cost",
        ),
        gr.Slider(-1, 1, value=defaults["sway"], step=0.05, label="Sway", info="-1: more steps early; 0: even steps"),
        gr.Number(
            0, label="Seed", info="of the noise that sampling starts from", precision=0, minimum=0, maximum=2**31 - 1
        ),
    ]
