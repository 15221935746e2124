"""The parts of a command: its parser, and the flags and loading that several commands share."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sfjax
from sfjax.errors import UserError

LARGEST = 2**31 - 1  # integer of a flag
CLOSED = 141  # exit code of a program whose output pipe was closed, as shells report it
MODEL = "run folder, exported folder, sfjax://NAME (a model of this package) or hf://OWNER/NAME[@REVISION] (on a hub)"


class Verb(NamedTuple):
    """A command: its help, `add`, which adds its flags to a parser, and `run`, which executes it.

    `run` takes the parsed arguments; their field `overrides` holds the words that no flag took. It returns the exit
    code; None means 0.
    """

    name: str
    text: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]


class Group(NamedTuple):
    """A command with subcommands `kinds`; help calls them `metavar`."""

    name: str
    text: str
    example: str
    metavar: str
    kinds: tuple[Verb, ...]


class _Help(argparse.Action):
    """Print the help of a command, with the `details` that depend on the flags before `--help`."""

    def __call__(self, parser: Any, namespace, values, option_string=None):
        details = parser.details(namespace)  # may raise UserError, before anything is printed
        parser.print_help()
        print(details, end="\n" if details else "")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        super().__init__(**options, add_help=False)
        self.details: Callable[[argparse.Namespace], str] = lambda arguments: ""
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this help message and exit")
        self.register("type", int, _integer)

    def error(self, message):
        raise UserError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action, value):
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        similar = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"choose from {', '.join(choices)}"
        name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest).lower()
        raise argparse.ArgumentError(None, f"unknown {name} {value!r}; {hint}")


def _integer(text):
    """Parse the integer of a flag; larger ones than 32 bits overflow in JAX or NumPy, far from the flag."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {text[:40]!r}") from None
    if not -LARGEST <= number <= LARGEST:
        raise argparse.ArgumentTypeError(f"expected an integer from -{LARGEST} to {LARGEST}, got {text[:40]}")
    return number


def natural(text: str) -> int:
    """Parse an integer of at least 0, such as a seed."""
    if (number := _integer(text)) < 0:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {number}")
    return number


def parser(verbs: Sequence[Verb | Group]) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    The parsed arguments hold the first word in their field `verb` and the command's function in `run`.
    """
    main_parser = _Parser(
        prog="sfjax",
        description="SpeechFlow in JAX: pre-train on speech, fine-tune, enhance recordings, score them.",
        epilog="examples:\n  sfjax enhance noisy.wav\n  sfjax serve\n  sfjax quickstart\n  sfjax train --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=f"sfjax {sfjax.__version__}")
    main_parser.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in ~/.cache/sfjax or SFJAX_CACHE; default: %(default)s",
    )
    _add_commands(main_parser, verbs, metavar="COMMAND", dest="verb")
    return main_parser


def _add_commands(parent, verbs, *, metavar, dest):
    subparsers = parent.add_subparsers(required=True, metavar=metavar, dest=dest)
    for verb in verbs:
        subparser = subparsers.add_parser(
            verb.name,
            help=verb.text,
            description=verb.text,
            epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if isinstance(verb, Group):
            _add_commands(subparser, verb.kinds, metavar=verb.metavar, dest=argparse.SUPPRESS)
        else:
            verb.add(subparser)
            subparser.set_defaults(run=verb.run)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_flags(parser: argparse.ArgumentParser, *, required: bool = False, default: str | None = None) -> None:
    """Add the flags that `load_model` reads; `default` is the model if `--model` is not given."""
    text = MODEL if default is None else f"{MODEL}; default: {default}"
    parser.add_argument("--model", metavar="MODEL", required=required, default=default, help=text)
    parser.add_argument("--phase", metavar="MODEL", help="phase net to use with the model, named in the same way")
    parser.add_argument("--adapter", metavar="MODEL", help="LoRA adapters of the model, named in the same way")
    parser.add_argument("--step", type=int, help="checkpoint to load; default: the newest")
    parser.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, default=True, help="use the averaged parameters (EMA)"
    )


def load_model(arguments: argparse.Namespace) -> Any:
    """Load the `sfjax.inference.Model` that the flags of `model_flags` name."""
    from sfjax import inference

    return inference.load(
        arguments.model,
        ema=arguments.ema,
        step=arguments.step,
        reconstruct=getattr(arguments, "reconstruct", None),
        adapter=arguments.adapter,
        phase=arguments.phase,
    )


def introduce(action: str, model: Any, address: str) -> None:
    """Print the action and its model on standard error; for a published model, also the first lines of its card."""
    from sfjax.export import release

    print(f"{action} {model.name}", file=sys.stderr)
    for line in release.card_lines(address):
        print(f"  {printable(line)}", file=sys.stderr)


def printable(line: str) -> str:
    """Return a line without control characters: text of others, such as a model card, could steer the terminal."""
    return "".join(filter(str.isprintable, line))


def reconstruct_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that chooses how waveforms are made from log-Mel spectrograms and the recording."""
    parser.add_argument(
        "--reconstruct",
        help="how to make waveforms. phase: magnitudes of the predicted spectrogram, phase of the recording; "
        "mask: spectral gains of at most 1 on the recording; boost: also large gains up; ratio: ratio mask of all "
        "sources; wiener: ratio mask with the rest of the recording as another source; default: as in the config",
    )


def sampling_flags(parser: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """Add the flags that `sampling` reads, and `--seed`."""
    parser.add_argument(
        "--solver", metavar="NAME", help="solver; a wrong name lists the choices; default: as in the config"
    )
    parser.add_argument("--steps", type=int, help="steps of the solver; default: as in the config")
    parser.add_argument("--guidance", type=float, help="strength of guidance; 0: none, at half the cost")
    parser.add_argument("--sway", type=float, help="-1: more steps early; 0: even steps")
    if seed:
        parser.add_argument("--seed", type=natural, default=0, help="seed of the noise that sampling starts from")


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling options as keyword arguments; None means the config's value."""
    return {name: getattr(arguments, name) for name in ("solver", "steps", "guidance", "sway")}


FORCE = "replace files that sfjax did not write, or whose format cannot say so"


def force_flag(parser: argparse.ArgumentParser, text: str = FORCE) -> None:
    """Add the flag that `check_outputs` reads."""
    parser.add_argument("--force", action="store_true", help=text)


def check_outputs(arguments: argparse.Namespace, *paths: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Raise `UserError` if a file that will be written exists and sfjax did not write it, except with --force.

    Also raises it for two outputs of one name, and, with or without --force, if an output is one of the `inputs`.
    """
    from sfjax import audio_io, overwrite

    outputs, sources = [path for path in paths if path is not None], [path for path in inputs if path is not None]
    for number, output in enumerate(outputs):
        if os.path.abspath(output) in map(os.path.abspath, outputs[:number]):
            raise UserError(f"{output} is the name of two results; choose another name for one of them")
        if lost := [source for source in sources if audio_io.identity(source) & audio_io.identity(output)]:
            raise UserError(f"{lost[0]} would be overwritten by its own result; choose another name for the result")
    overwrite.check(outputs, force=arguments.force)


def report_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that scores."""
    parser.add_argument("-o", "--output", type=Path, help="file for the scores, .json or .csv")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE.json",
        help="scores of the same recordings to compare with: also print the mean difference",
    )
    parser.add_argument("--workers", type=int, default=cores(), help="processes that score; default: %(default)s")
    force_flag(parser)
