"""Build the web page with its tabs, options and queue, and serve it."""

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

from sfjax.errors import UserError
from sfjax.inference import Model
from sfjax.preemption import Interrupt
from sfjax.web import FOLDER
from sfjax.web.plots import drawn
from sfjax.web.security import AGE, Guard
from sfjax.web.tabs import Limits, tabs

SWEEP = 600  # seconds between two deletions of old files
WAITING = 16  # largest number of jobs in the queue
PROGRAMS = 32  # largest number of settings whose compiled programs are kept
KNOBS = 5  # sampling options of every tab, after its own inputs


def blocks(models: Sequence[Model], limits: Limits, leaving: Callable[[], bool] = lambda: False) -> gr.Blocks:
    """Build the page: `tabs` with sampling options, which start from the config of the model, and results.

    Long jobs end early once `leaving()` is true.
    """
    settings: set[tuple] = set()
    with gr.Blocks(title="sfjax", analytics_enabled=False, delete_cache=(SWEEP, AGE)) as page:
        offered = tabs(models, limits, leaving)
        loaded = "; ".join(f"`{model.name}` (tasks: {model.task.description})" for model in models)
        gr.Markdown(f"**Loaded:** {loaded}")
        if "speak" in offered:
            gr.Markdown(
                "**Ask people for consent** before you imitate their voice. If you share the result, say that it is "
                "synthetic."
            )
        for name, tab in offered.items():
            with gr.Tab(name.capitalize()):
                _add_tab(name, tab, settings)
    return page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)


def _add_tab(name, tab, settings):
    """Lay out a tab and connect its button; `settings` collects the sampling options that have been used."""
    with gr.Row():
        with gr.Column(min_width=300):
            for component in tab.asked:
                component.render()
            with gr.Accordion("Sampling options", open=False):
                knobs = _knobs(tab.model)
            button = gr.Button(name.capitalize(), variant="primary")
        with gr.Column(min_width=300):
            players = [
                gr.Audio(label=title.capitalize(), interactive=False, buttons=["download"]) for title in tab.players
            ]
            note = gr.Markdown()
    picture = gr.Image(show_label=False, interactive=False, buttons=["fullscreen"], format="png")

    def run(progress=gr.Progress(), *values):  # noqa: B008  gradio recognises it by its default
        inputs, (solver, steps, guidance, sway, seed) = values[:-KNOBS], values[-KNOBS:]
        # a browser sends an integer for 0
        options = dict(solver=solver, steps=steps, guidance=float(guidance), sway=float(sway))
        settings.add(tuple(options.values()))
        if len(settings) > PROGRAMS:
            settings.clear()
            jax.clear_caches()
        try:
            result = tab.work(inputs, options | {"seed": seed or 0}, progress)
            progress(0.95, "drawing")
            return [*map(str, result.files), result.note, drawn(result.drawn, tab.model.spec)]
        except UserError as error:
            line = re.sub(rf"{re.escape(str(FOLDER))}/\w+/", "", " ".join(str(error).split()))
            raise gr.Error(html.escape(line, quote=False), duration=None, print_exception=False) from None

    button.click(
        run,
        [*tab.asked, *knobs],
        [*players, note, picture],
        api_name=name,
        concurrency_id="the model",
        show_progress_on=players[0],
    )


def _knobs(model):
    defaults = model.options
    solvers = [*model.process.STAGES, *getattr(model.process, "ADAPTIVE", {})]
    return [
        gr.Dropdown(solvers, value=defaults["solver"], label="Solver"),
        gr.Slider(1, max(64, defaults["steps"]), value=defaults["steps"], step=1, precision=0, label="Steps"),
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


# The server


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens at an address; port 0 means any free port.

    Raises UserError if the port is taken or the address does not belong to this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen at {host}, port {port} ({reason}); choose another address or port; port 0 is any free port"
        ) from None


def is_local(bound: socket.socket) -> bool:
    """Return whether only this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def address(bound: socket.socket) -> str:
    """Return the URL of the page for a browser on this machine."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def server(models: Sequence[Model], bound: socket.socket, limits: Limits) -> uvicorn.Server:
    """Create the server of the page; run it with `sockets=[bound]`."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    web_server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, limit_concurrency=256, ws="none")
    )
    page = blocks(models, limits, leaving=lambda: web_server.should_exit)
    most = int(limits.megabytes * 2**20)
    font, mono = Font("sans-serif"), Font("monospace")  # fonts of the reader's machine, so none are downloaded
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=most,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        allowed_paths=[],
        theme=Default(font=[font], font_mono=[mono]),
    )
    page.has_launched = True  # otherwise gradio does not check where the files of a request lie
    names = {"127.0.0.1", "localhost", "::1", bound.getsockname()[0]} if is_local(bound) else None
    app.add_middleware(Guard, most=most, names=names)
    return web_server


def serve(models: Sequence[Model], bound: socket.socket, limits: Limits) -> None:
    """Serve the page until Ctrl-C or SIGTERM, then raise KeyboardInterrupt or Preempted."""
    with Interrupt() as stop:
        server(models, bound, limits).run(sockets=[bound])
        stop.end()
