"""`sfjax mos`: a listening test as a page, and its answers as mean opinion scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sfjax.errors import UserError
from sfjax.verbs.verb import Group, Verb


def _add_make(one):
    one.add_argument("systems", nargs="+", metavar="NAME=FOLDER", help="recordings of a system; the reference first")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the page")
    one.add_argument("--items", type=int, help="recordings of each system that are rated; default: all")
    one.add_argument("--each", type=int, help="of these, how many one rater hears; default: all")
    one.add_argument("--title", default="Listening test", help="what raters see above the page")
    one.add_argument("--seed", type=int, default=0)


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
    made = mos.make(
        systems, arguments.output, items=arguments.items, each=arguments.each, seed=arguments.seed,
        title=arguments.title,
    )  # fmt: skip
    for name, reason in made.left_out.items():
        print(f"left out {name}: {reason}", file=sys.stderr)
    print(f"{made.folder / 'index.html'}: {made.clips} clips for a rater; keep {made.folder / 'key.json'} from raters")


def _add_score(one):
    one.add_argument("page", type=Path, help="the folder of the page, with its key.json")
    one.add_argument("answers", nargs="+", type=Path, metavar="ANSWERS.json", help="one of each rater")
    one.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="the same figures")


def _run_score(arguments):
    from sfjax.data.manifest import replacing
    from sfjax.metrics import mos

    found = mos.score(arguments.page, arguments.answers)
    print(found.table())
    if arguments.output is not None:
        with replacing(arguments.output) as part:
            part.write_text(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


MOS = Group(
    "mos", "Listening tests: make a page, score its answers.", "sfjax mos make reference=clean ours=spoken -o page",
    "ACTION",
    (
        Verb(
            "make", "a page that plays recordings of several systems, blinded, and asks for opinions",
            "sfjax mos make reference=clean ours=spoken -o page --items 50 --each 5", _add_make, _run_make,
        ),
        Verb(
            "score", "mean opinion scores and their intervals, of the raters who pass the paper's filters",
            "sfjax mos score page answers-*.json", _add_score, _run_score,
        ),
    ),
)  # fmt: skip
