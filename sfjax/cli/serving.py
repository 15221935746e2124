"""`sfjax serve`: open a local web page for everything that models can do."""

from __future__ import annotations

import sys

from sfjax.cli.verb import MODEL, Verb
from sfjax.errors import UserError
from sfjax.weights import DURATION_MODEL, ENHANCER, EXTRACTOR, INFILLER, SEPARATOR, SPEAKER

MODELS = [ENHANCER, SEPARATOR, EXTRACTOR, INFILLER, SPEAKER]  # one for each tab


def _add_serve(parser):
    parser.add_argument(
        "--model",
        nargs="+",
        default=MODELS,
        help=f"{MODEL}; the first model that can do a task does it; default: {' '.join(MODELS)}",
    )
    parser.add_argument("--phase", metavar="MODEL", help="phase net to use with the models, named in the same way")
    parser.add_argument("--adapter", metavar="MODEL", help="LoRA adapters, for a single model, named in the same way")
    parser.add_argument(
        "--vocoder",
        metavar="MODEL",
        help="vocoder, named in the same way, or a published HiFi-GAN; default: Griffin-Lim",
    )
    parser.add_argument(
        "--duration-model", metavar="MODEL", help=f"duration model; default for {SPEAKER}: {DURATION_MODEL}"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: only this machine")
    parser.add_argument("--port", type=int, default=7860, help="port; 0: any free port; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest upload in seconds; default: 600")
    parser.add_argument("--megabytes", type=float, default=100.0, help="largest upload in MiB; default: 100")


def _run_serve(arguments):
    if not (0 < arguments.seconds < float("inf") and 0 < arguments.megabytes < float("inf")):
        raise UserError(
            "--seconds and --megabytes must be positive and finite, "
            f"got {arguments.seconds:g} and {arguments.megabytes:g}; the defaults are 600 and 100"
        )
    if arguments.adapter is not None and len(arguments.model) > 1:
        raise UserError(
            "--adapter fits only the model that it was trained on; give a single --model, "
            f"got {len(arguments.model)} of them"
        )
    from sfjax import inference
    from sfjax.web import app
    from sfjax.web.fields import Limits

    auxiliary = {name: getattr(arguments, name) for name in ("adapter", "phase", "vocoder", "duration_model")}
    with app.listen(arguments.host, arguments.port) as bound:
        models = [inference.load(folder, **auxiliary) for folder in arguments.model]
        if any(model.phones and model.duration_model is None for model in models):
            print("no --duration-model: the tabs Speak and Edit are missing", file=sys.stderr)
        if not app.is_local(bound):
            print(
                f"warning: anyone who can reach {arguments.host} can use this page; it has no password", file=sys.stderr
            )
        print(
            f"{app.address(bound)} serves {', '.join(model.name for model in models)}; press Ctrl-C to stop", flush=True
        )
        app.serve(models, bound, Limits(arguments.seconds, arguments.megabytes))


SERVE = Verb(
    "serve",
    "Open a local web page to try models.",
    "sfjax serve --port 0",
    _add_serve,
    _run_serve,
)
