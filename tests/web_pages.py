"""Pages that tests serve, and programs that use them."""

import contextlib
import dataclasses
import threading

import httpx
import soundfile
from gradio_client import Client

from sfjax import inference
from sfjax.web import app
from sfjax.web.fields import Limits

RATE = 16_000
LIMITS = Limits(seconds=30.0, megabytes=1.0)
OPTIONS = dict(solver="euler", steps=1, guidance=0.0, sway=0.0)
KNOBS = (*OPTIONS.values(), 0)  # and the seed
BITS = 2**-14  # the error of 16 bits and of their scale of 32767
web = httpx.Client(timeout=200)


class Counted(inference.Model):
    """A model that counts how many jobs use it at the same time."""

    now, most = 0, 0

    def run(self, *jobs, **options):
        Counted.now += 1
        Counted.most = max(Counted.most, Counted.now)
        try:
            super().run(*jobs, **options)
        finally:
            Counted.now -= 1


def enhancer():
    """The packaged enhancer: it loads in less time than a toy one trains."""
    model = inference.load("sfjax://enhance")
    return Counted(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})


@contextlib.contextmanager
def served(*models):
    """The address of a page of models, while it is served."""
    with app.listen("127.0.0.1", 0) as bound:
        server = app.server(models, bound, LIMITS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield app.address(bound)
        finally:
            server.should_exit = True
            thread.join()


def program(url, folder):
    """A program that uses the page at `url`."""
    return Client(url, verbose=False, analytics_enabled=False, download_files=folder)


def joining(path):
    """The request of the page to enhance a file."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return {"data": [file, *KNOBS], "fn_index": 0, "session_hash": "s"}


def no_progress(share, text):
    """Ignore reports of progress."""


def write_noisy(folder, voice):
    """Write a recording of less than a second at 16 kHz, exact in 16 bits; return its path."""
    path = folder / "noisy.wav"
    soundfile.write(path, voice(0.8, 0), RATE)
    return path
