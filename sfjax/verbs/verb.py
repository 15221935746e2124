"""What verbs are made of: their parser, and the flags and the loading that several of them share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sfjax.errors import UserError

MODEL = "workdir of a run, exported folder, sfjax://NAME in this package, or hf://OWNER/NAME[@REVISION] on a hub"


class Verb(NamedTuple):
    """A word of the command line: its help, `add`, which gives a parser its flags, and `run`, which obeys them.

    `run` finds in `overrides` what no flag took, and returns the exit code; None is 0.
    """

    name: str
    text: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]


class Group(NamedTuple):
    """A word of the command line that one of the verbs of `kinds` follows; `metavar` is what help calls these."""

    name: str
    text: str
    example: str
    metavar: str
    kinds: tuple[Verb, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser(verbs: Sequence[Verb | Group]) -> argparse.ArgumentParser:
    """The parser of all verbs; what it parses has the first word in its field `verb`, and the `run` of the verb."""
    made = _Parser(
        prog="sfjax", description="SpeechFlow in JAX: pre-train on speech, fine-tune, enhance recordings, score them.",
        epilog="examples:\n  sfjax enhance noisy.wav\n  sfjax serve\n  sfjax quickstart\n  sfjax train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add(made, verbs, metavar="VERB", dest="verb")
    return made


def _add(made, verbs, *, metavar, dest):
    parsers = made.add_subparsers(required=True, metavar=metavar, dest=dest)
    for verb in verbs:
        one = parsers.add_parser(
            verb.name, help=verb.text, description=verb.text, epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if isinstance(verb, Group):
            _add(one, verb.kinds, metavar=verb.metavar, dest=argparse.SUPPRESS)
        else:
            verb.add(one)
            one.set_defaults(run=verb.run)


def cores() -> int:
    """The cores that this process may use: as many processes as are worth starting."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_flags(one: argparse.ArgumentParser, *, required: bool = False, default: str | None = None) -> None:
    """The flags of `load_model`; `default` is what stands in for a model that is not named."""
    text = MODEL if default is None else f"{MODEL}; default: {default}"
    one.add_argument("--model", metavar="MODEL", required=required, default=default, help=text)
    one.add_argument("--phase", metavar="MODEL", help="a phase net for it, named likewise")
    one.add_argument("--adapter", metavar="MODEL", help="adapters for it, named likewise")
    one.add_argument("--step", type=int, help="checkpoint; default: the newest")
    one.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True, help="averaged parameters")


def load_model(arguments: argparse.Namespace) -> Any:
    """The `infer.Model` that the flags of `model_flags` name."""
    from sfjax import infer

    return infer.load(
        arguments.model, ema=arguments.ema, step=arguments.step, wave=getattr(arguments, "wave", None),
        adapter=arguments.adapter, phase=arguments.phase,
    )  # fmt: skip


def introduce(what: str, model: Any, named: str) -> None:
    """Says on standard error by which model something is done and, of one called by name, what its card tells first."""
    from sfjax import release

    print(f"{what} {model.name}", file=sys.stderr)
    for line in release.told(named):
        print(f"  {''.join(filter(str.isprintable, line))}", file=sys.stderr)  # what others wrote may steer a terminal


def wave_flag(one: argparse.ArgumentParser) -> None:
    """How the Mels of sources and the recording become waves."""
    one.add_argument(
        "--wave",
        help="inverse: the Mel's magnitudes with the recording's phase; gains: each band of the recording turned down "
        "to the Mel; equalise: turned up as well; ratio: ratio mask of all sources; wiener: ratio mask with the rest "
        "of the recording as a source of its own; default: the run's",
    )


def sampling_flags(one: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """The flags of `sampling`, and `--seed`."""
    one.add_argument("--solver", help="euler, midpoint, heun, rk4, dopri5; of diffusion: ddim; default: the run's")
    one.add_argument("--steps", type=int, help="of the solver")
    one.add_argument("--guidance", type=float, help="strength; 0: none, at half the cost")
    one.add_argument("--sway", type=float, help="-1: more steps early; 0: even")
    if seed:
        one.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """How to sample, as keyword arguments; None where the run's own way is to be taken."""
    return {name: getattr(arguments, name) for name in ("solver", "steps", "guidance", "sway")}


def report_flags(one: argparse.ArgumentParser) -> None:
    """The flags of a verb that scores."""
    one.add_argument("-o", "--output", type=Path, help="scores as .json or .csv")
    one.add_argument(
        "--against", type=Path, metavar="FILE.json", help="scores of the same recordings: also the mean difference"
    )
    one.add_argument("--workers", type=int, default=cores(), help="processes that score")
