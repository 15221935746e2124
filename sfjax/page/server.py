"""The page and its server: tabs laid out with their knobs, one queue, one address."""

from __future__ import annotations

import html
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

import fastapi
import gradio as gr
import jax
import uvicorn
from gradio.themes import Default
from gradio.themes.utils.fonts import Font

from sfjax import tasks
from sfjax.errors import UserError
from sfjax.infer import Model
from sfjax.interrupt import Interrupt
from sfjax.page import FOLDER
from sfjax.page.drawing import drawn
from sfjax.page.guard import AGE, Guard
from sfjax.page.tabs import Limits, tabs

SWEEP = 600  # seconds between looking for files that are too old
WAITING = 16  # jobs in the queue
PROGRAMS = 32  # settings whose compiled programs are kept
KNOBS = 5  # of every tab, behind what it asks for


def blocks(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> gr.Blocks:
    """The page of models: `tabs`, the knobs of sampling with the model's own settings, and what comes of them."""
    settings: set[tuple] = set()
    with gr.Blocks(title="sfjax", analytics_enabled=False, delete_cache=(SWEEP, AGE)) as page:
        made = tabs(models, limits, leaving)
        loaded = "; ".join(f"`{model.name}` (trained to {tasks.names(model.task)})" for model in models)
        gr.Markdown(f"**Loaded:** {loaded}")
        if "speak" in made:
            gr.Markdown(
                "**A voice belongs to its speaker:** have the consent of whoever is imitated, and say that what you "
                "share is synthetic."
            )
        for name, tab in made.items():
            with gr.Tab(name.capitalize()):
                _lay(name, tab, settings)
    return page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)


def _lay(name, tab, settings):
    """Lays out a tab and binds its button."""
    with gr.Row():
        with gr.Column(min_width=300):
            for component in tab.asked:
                component.render()
            with gr.Accordion("How to sample", open=False):
                knobs = _knobs(tab.model)
            button = gr.Button(name.capitalize(), variant="primary")
        with gr.Column(min_width=300):
            players = [gr.Audio(label=title.capitalize(), interactive=False, buttons=["download"]) for title in
                       tab.players]  # fmt: skip
            note = gr.Markdown()
    seen = gr.Image(show_label=False, interactive=False, buttons=["fullscreen"], format="png")

    def run(progress=gr.Progress(), *values):  # noqa: B008  gradio finds it by its default
        given, (solver, steps, guidance, sway, seed) = values[:-KNOBS], values[-KNOBS:]
        guidance, sway = float(guidance), float(sway)  # a browser's 0 is an integer
        how = dict(solver=solver, steps=steps, guidance=guidance, sway=sway)
        settings.add(tuple(how.values()))
        if len(settings) > PROGRAMS:
            settings.clear()
            jax.clear_caches()
        try:
            found = tab.work(given, how | {"seed": seed or 0}, progress)
            progress(0.95, "drawing")
            return [*map(str, found.files), found.note, drawn(found.drawn, tab.model.spec)]
        except UserError as error:
            line = re.sub(rf"{re.escape(str(FOLDER))}/\w+/", "", " ".join(str(error).split()))
            raise gr.Error(html.escape(line, quote=False), duration=None, print_exception=False) from None

    button.click(
        run, [*tab.asked, *knobs], [*players, note, seen], api_name=name, concurrency_id="the model",
        show_progress_on=players[0],
    )  # fmt: skip


def _knobs(model):
    own = model.options
    solvers = [*model.process.STAGES, *getattr(model.process, "ADAPTIVE", {})]
    return [
        gr.Dropdown(solvers, value=own["solver"], label="Solver"),
        gr.Slider(1, max(64, own["steps"]), value=own["steps"], step=1, precision=0, label="Steps"),
        gr.Slider(0, max(3, own["guidance"]), value=own["guidance"], step=0.05, label="Guidance",
                  info="strength of the condition; 0: none, at half the cost"),
        gr.Slider(-1, 1, value=own["sway"], step=0.05, label="Sway", info="-1: more steps early; 0: even"),
        gr.Number(0, label="Seed", info="of the noise that sampling starts from", precision=0, minimum=0,
                  maximum=2**31 - 1),
    ]  # fmt: skip


# The server


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address, at any free port for 0; `UserError` if it is taken or not this machine's."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen at {host}, port {port} ({why}); choose another, or port 0 for any") from None


def is_local(bound: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def address(bound: socket.socket) -> str:
    """Where a browser on this machine finds the page of a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def server(models: Sequence[Model], bound: socket.socket, limits: Limits) -> uvicorn.Server:
    """A server of the page of models, to be run with `sockets=[bound]`."""
    page = blocks(models, limits, leaving=lambda: made.should_exit)
    most = int(limits.megabytes * 2**20)
    font, mono = (Font(name) for name in ("sans-serif", "monospace"))  # the reader's own, nobody's server's
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, path="/", footer_links=[],
        run_history=False, show_error=False, max_file_size=most, ssr_mode=False, enable_monitoring=False, pwa=False,
        mcp_server=False, allowed_paths=[], theme=Default(font=[font], font_mono=[mono]),
    )  # fmt: skip
    page.has_launched = True  # or gradio would not ask where the files of a request lie
    names = {"127.0.0.1", "localhost", "::1", bound.getsockname()[0]} if is_local(bound) else None
    app.add_middleware(Guard, most=most, names=names)
    made = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, limit_concurrency=256, ws="none")
    )
    return made


def serve(models: Sequence[Model], bound: socket.socket, limits: Limits) -> None:
    """Serves the page of models until Ctrl-C or SIGTERM, and raises what these stand for."""
    with Interrupt() as stop:
        server(models, bound, limits).run(sockets=[bound])
        stop.end()
