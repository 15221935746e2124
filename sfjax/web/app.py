"""Serve the web page: its address, its server, its theme."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

import fastapi
import gradio as gr
import uvicorn
from gradio.themes import Default
from gradio.themes.utils.fonts import Font

from sfjax.errors import UserError
from sfjax.inference import Model
from sfjax.preemption import Interrupt
from sfjax.web.fields import Limits
from sfjax.web.page import blocks
from sfjax.web.security import Guard

COLOURS = {  # of hints and labels: darker than gradio's, whose contrast is too low to read
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
}


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
    here = Path(__file__).parent
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
        theme=Default(primary_hue="teal", font=[font], font_mono=[mono]).set(**COLOURS),
        css_paths=here / "page.css",
        head=f"<script>{(here / 'player.js').read_text()}</script>",
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
