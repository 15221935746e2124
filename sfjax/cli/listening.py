"""`sfjax mos`: make a listening test, and compute mean opinion scores from its answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sfjax.cli.verb import Group, Verb, check_outputs, force_flag, natural
from sfjax.errors import UserError


def _add_make(parser):
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="NAME=FOLDER",
        help="a system and the folder of its recordings; the reference first",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder for the page")
    parser.add_argument("--items", type=int, help="number of recordings of each system to rate; default: all")
    parser.add_argument("--each", type=int, help="number of recordings that one rater hears; default: all")
    parser.add_argument("--ratings", type=int, default=10, help="ratings of each recording; default: %(default)s")
    parser.add_argument(
        "--between",
        nargs=2,
        type=float,
        default=(2.0, 8.0),
        metavar=("SECONDS", "SECONDS"),
        help="shortest and longest recording to rate; default: 2 8",
    )
    parser.add_argument("--title", default="Listening test", help="title of the page")
    parser.add_argument("--seed", type=natural, default=0)


def _run_make(arguments):
    from sfjax.metrics import mos

    systems = {}
    for word in arguments.systems:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UserError(f"{word}: expected NAME=FOLDER, as in ours=spoken")
        if name in systems:
            raise UserError(f"{name} is the name of two systems; name each once")
        systems[name] = Path(folder)
    page = mos.make(
        systems,
        arguments.output,
        items=arguments.items,
        each=arguments.each,
        seed=arguments.seed,
        title=arguments.title,
        ratings=arguments.ratings,
        between=tuple(arguments.between),
    )
    for name, reason in page.left_out.items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    print(
        f"{page.folder / 'index.html'}: {page.clips} clips per rater; raters numbered 1 to {page.listeners}, as in "
        f"index.html?number=1, rate every clip equally often; do not give {page.folder / 'key.json'} to raters"
    )


def _add_score(parser):
    parser.add_argument("page", type=Path, help="folder of the page, with its key.json")
    parser.add_argument("answers", nargs="+", type=Path, metavar="ANSWERS.json", help="answers, one file per rater")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="file for the scores")
    force_flag(parser)


def _run_score(arguments):
    from sfjax import overwrite
    from sfjax.data.manifest import replacing
    from sfjax.metrics import mos

    check_outputs(arguments, arguments.output)
    scores = mos.score(arguments.page, arguments.answers)
    print(scores.table())
    if arguments.output is not None:
        with replacing(arguments.output) as part:
            part.write_text(
                json.dumps(overwrite.FIELD | scores.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )


MOS = Group(
    "mos",
    "Make a listening test, or score its answers.",
    "sfjax mos make reference=clean ours=spoken -o page",
    "ACTION",
    (
        Verb(
            "make",
            "make a web page that plays recordings of several systems, blinded, and asks for ratings",
            "sfjax mos make reference=clean ours=spoken -o page --items 50 --each 5",
            _add_make,
            _run_make,
        ),
        Verb(
            "score",
            "compute mean opinion scores and their intervals, from the raters who pass the paper's filters",
            "sfjax mos score page answers-*.json",
            _add_score,
            _run_score,
        ),
    ),
)
