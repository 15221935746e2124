"""Which requests reach the page."""

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

from sfjax.page import FOLDER

AGE = 3600  # seconds that a file is kept
ROOM = 20  # times the largest upload: what all files may take
API, SLACK = "/gradio_api", 2**16  # bytes of an upload around its file
PATHS = re.compile(
    r"/(config|theme\.css|favicon\.ico|(assets|static)/.*)?"
    rf"|{API}/(info|upload|upload_progress|cancel|reset|queue/(join|data)|heartbeat/.*|file=.*)"
)
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'self'"


class Guard:
    """Lets requests through that the page makes, of bounded size and about files of `FOLDER` alone.

    Of gradio's other routes some fetch from elsewhere or skip the queue. A browser is told to ask nobody else for
    anything, and is not heard if it was led here by a page or a name of somebody else's.
    """

    def __init__(self, app: Callable, *, most: int, names: set[str] | None):
        self.app, self.most, self.names = app, most, names

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if refusal := self._refusal(scope):
            code, why = refusal
            return await PlainTextResponse(why, code)(scope, receive, send)
        if scope["method"] == "POST" and scope["path"] != f"{API}/upload":
            body = await _body(receive)
            try:
                outside = [path for path in _paths(json.loads(body)) if not _inside(path)]
            except (ValueError, RecursionError):
                return await PlainTextResponse("expected JSON", 400)(scope, receive, send)
            if outside:
                return await PlainTextResponse("expected files that were uploaded", 403)(scope, receive, send)
            receive = _again(body, receive)

        async def told(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["x-content-type-options"], headers["referrer-policy"] = "nosniff", "no-referrer"
            await send(message)

        await self.app(scope, receive, told)

    def _refusal(self, scope) -> tuple[int, str] | None:
        """Why a request is not let through, by its head alone."""
        path, headers, is_upload = scope["path"], Headers(scope=scope), scope["path"] == f"{API}/upload"
        if self.names and urllib.parse.urlsplit(f"//{headers.get('host', '')}").hostname not in self.names:
            return 403, f"expected one of {', '.join(sorted(self.names))} as host"
        if not PATHS.fullmatch(path) or scope["method"] not in ("GET", "HEAD", "POST"):
            return 404, "no such page"
        if path.startswith(f"{API}/file=") and not _inside(path.removeprefix(f"{API}/file=")):
            return 403, "no such file"
        if scope["method"] != "POST":
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            return 403, "asked for by another page"
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:
            return 411, "expected a length"
        if int(length) > (self.most if is_upload else 2**20) + SLACK:
            return 413, f"expected at most {self.most / 2**20:g} MB; send less or start with more --megabytes"
        if is_upload and _taken() + int(length) > ROOM * self.most:
            return 503, "there is no room for more uploads; try again later"
        return None


async def _body(receive: Callable) -> bytes:
    """The body of a request whose length was stated."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _again(body: bytes, receive: Callable) -> Callable:
    """What receives a body that was read already, and then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again():
        return left.pop() if left else await receive()

    return again


def _paths(value: Any) -> Iterator[str]:
    """All that a request calls the path of a file."""
    if isinstance(value, dict):
        yield from [str(value["path"])] if value.get("path") is not None else []
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _paths(one)


def _inside(path: str) -> bool:
    try:
        return os.path.realpath(path).startswith(f"{FOLDER}{os.sep}")
    except ValueError:  # a name that no file has
        return False


def _taken() -> int:
    """Bytes in the folder, once what is too old is deleted; of uploads that were broken off gradio knows nothing."""
    total = 0
    for path in FOLDER.rglob("*"):
        try:
            state = path.stat()
            if path.is_file() and state.st_mtime < time.time() - AGE:
                path.unlink()
            elif path.is_file():
                total += state.st_size
        except FileNotFoundError:
            continue
    return total
