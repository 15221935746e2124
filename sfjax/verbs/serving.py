"""`sfjax serve`: a local web page for everything that models can do."""

from __future__ import annotations

import sys
from pathlib import Path

from sfjax.errors import UserError
from sfjax.verbs.verb import Verb


def _add_serve(one):
    one.add_argument("--model", required=True, nargs="+", type=Path, help="workdirs of runs; the first that can, does")
    one.add_argument("--phase", type=Path, help="workdir or exported folder of a phase net for them")
    one.add_argument("--adapter", type=Path, help="workdir or exported folder of adapters for the one model")
    one.add_argument("--vocoder", type=Path, help="run, exported folder or published HiFi-GAN; default: Griffin-Lim")
    one.add_argument("--timing", type=Path, help="workdir or exported folder of a model of durations, to speak")
    one.add_argument("--host", default="127.0.0.1", help="address to listen at; default: this machine alone")
    one.add_argument("--port", type=int, default=7860, help="0: any that is free")
    one.add_argument("--seconds", type=float, default=600.0, help="of the longest upload")
    one.add_argument("--megabytes", type=float, default=100.0, help="of the largest upload")


def _run_serve(arguments):
    if not (0 < arguments.seconds < float("inf") and 0 < arguments.megabytes < float("inf")):
        raise UserError("--seconds and --megabytes want numbers above 0; the defaults are 600 and 100")
    if arguments.adapter is not None and len(arguments.model) > 1:
        raise UserError("--adapter joins the one model that it was trained on; give a single --model")
    from sfjax import infer
    from sfjax.page import server
    from sfjax.page.tabs import Limits

    helpers = {name: getattr(arguments, name) for name in ("adapter", "phase", "vocoder", "timing")}
    with server.listen(arguments.host, arguments.port) as bound:
        models = [infer.load(folder, **helpers) for folder in arguments.model]
        if arguments.timing is None and any(model.phones for model in models):
            print("without --timing nothing is spoken or edited", file=sys.stderr)
        if not server.is_local(bound):
            print(f"warning: whoever reaches {arguments.host} can use this page; it asks for no password",
                  file=sys.stderr)  # fmt: skip
        print(f"{server.address(bound)} serves {', '.join(model.name for model in models)}; Ctrl-C ends it", flush=True)
        server.serve(models, bound, Limits(arguments.seconds, arguments.megabytes))


SERVE = Verb(
    "serve", "A local web page to try models on.", "sfjax serve --model runs/enhance runs/separate --port 0",
    _add_serve, _run_serve,
)  # fmt: skip
