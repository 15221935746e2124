"""Reject requests that do not come from this machine."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from sfjax.web import FOLDER

AGE = 3600  # seconds after which a file is deleted
ROOM = 20  # limit for all files together, in units of the largest upload
API = "/gradio_api"
SLACK = 2**16  # bytes of an upload in addition to its file
PATHS = re.compile(
    r"/(config|theme\.css|favicon\.ico|(assets|static)/.*)?"
    rf"|{API}/(info|upload|upload_progress|cancel|reset|queue/(join|data)|heartbeat/.*|file=.*)"
)
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'self'"


class Guard:
    """Middleware that accepts only the requests of the page itself, of limited size and about files in `FOLDER`.

    Some other routes of gradio fetch from other servers or skip the queue. Response headers forbid the browser to
    contact other servers. A request is refused if another site or host name led the browser here.

    `most` is the largest upload in bytes, `names` the accepted host names (None: all).
    """

    def __init__(self, app: Callable, *, most: int, names: set[str] | None):
        self.app, self.most, self.names = app, most, names

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if refusal := self._refusal(scope):
            code, reason = refusal
            return await PlainTextResponse(reason, code)(scope, receive, send)
        if scope["method"] == "POST" and scope["path"] != f"{API}/upload":
            body = await _body(receive)
            try:
                outside = [path for path in _paths(json.loads(body)) if not _inside(path)]
            except (ValueError, RecursionError):
                return await PlainTextResponse("expected JSON", 400)(scope, receive, send)
            if outside:
                return await PlainTextResponse("expected files that were uploaded", 403)(scope, receive, send)
            receive = _replay(body, receive)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["x-content-type-options"], headers["referrer-policy"] = "nosniff", "no-referrer"
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope) -> tuple[int, str] | None:
        """Return the status code and the reason to refuse a request, by its header only; None to accept it."""
        path, headers = scope["path"], Headers(scope=scope)
        is_upload = path == f"{API}/upload"
        if self.names and urllib.parse.urlsplit(f"//{headers.get('host', '')}").hostname not in self.names:
            return 403, f"expected one of {', '.join(sorted(self.names))} as host"
        if not PATHS.fullmatch(path) or scope["method"] not in ("GET", "HEAD", "POST"):
            return 404, "no such page"
        if path.startswith(f"{API}/file=") and not _inside(path.removeprefix(f"{API}/file=")):
            return 403, "no such file"
        if scope["method"] != "POST":
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            return 403, "this request comes from another site"
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:
            return 411, "expected the header Content-Length"
        if int(length) > (self.most if is_upload else 2**20) + SLACK:
            return (
                413,
                f"expected at most {self.most / 2**20:g} MiB; send less, or start the server with a larger --megabytes",
            )
        if is_upload and _used_bytes() + int(length) > ROOM * self.most:
            return 503, "the folder for uploads is full; try again later"
        return None


async def _body(receive: Callable) -> bytes:
    """Read the whole body of a request; its length was checked before."""
    body, unfinished = b"", True
    while unfinished:
        message = await receive()
        body, unfinished = body + message.get("body", b""), message.get("more_body", False)
    return body


def _replay(body: bytes, receive: Callable) -> Callable:
    """Return a `receive` that first repeats a body that was already read, then continues."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay():
        return messages.pop() if messages else await receive()

    return replay


def _paths(value: Any) -> Iterator[str]:
    """Yield every value of a key "path" in JSON data."""
    if isinstance(value, dict):
        if value.get("path") is not None:
            yield str(value["path"])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)


def _inside(path: str) -> bool:
    try:
        return os.path.realpath(path).startswith(f"{FOLDER}{os.sep}")
    except ValueError:  # no valid file name, such as one with a null byte
        return False


def _used_bytes() -> int:
    """Delete old files, which gradio does not do for aborted uploads; return the bytes of the others."""
    total = 0
    for path in FOLDER.rglob("*"):
        try:
            status = path.stat()
            if path.is_file() and status.st_mtime < time.time() - AGE:
                path.unlink()
            elif path.is_file():
                total += status.st_size
        except FileNotFoundError:
            continue
    return total
