"""The command line: verbs and flags. Nothing else reads flags."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import math
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import absl.logging

from sfjax.errors import Preempted, UserError

PREEMPTED = 75  # EX_TEMPFAIL: launch scripts queue the job again

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def command() -> None:
    """The console script: `main`, in a process whose memory comes in huge pages where Linux leaves that to programs.

    A training step on a CPU spends a quarter of its time on page faults otherwise. glibc reads the setting when a
    process starts, so the process starts again, once; a GLIBC_TUNABLES of the user's own is left as it is.
    """
    if "GLIBC_TUNABLES" not in os.environ and PAGES.exists() and "[madvise]" in PAGES.read_text():
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; 0 if all went well, 2 for what the user can put right, 75 on SIGTERM, 130 if interrupted."""
    _quiet()
    try:
        arguments, rest = _parser().parse_known_args(argv)
        if rest and arguments.verb not in (train, plan):
            raise UserError(f"unrecognized arguments: {' '.join(rest)}; see `sfjax {arguments.verb.__name__} --help`")
        return arguments.verb(arguments, rest) or 0
    except UserError as error:
        return _say(str(error))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _say(f"{name}{error.strerror or error}; free space, mend permissions or choose another place")
    except Preempted:
        _say("saved on SIGTERM; the same command goes on")
        return PREEMPTED
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept, the same command goes on or starts again")
        return 130


def _quiet() -> None:
    """Drops what orbax and TensorStore print, with tracebacks, of errors that they raise as well, and grain at exit."""
    for logger in (absl.logging.get_absl_logger(), logging.getLogger("asyncio")):
        logger.addFilter(_is_not_of_orbax)
    sys.unraisablehook = _unraisable
    sys.warnoptions.append("ignore:resource_tracker")  # grain leaves shared memory to that process, which frees it


def _is_not_of_orbax(record) -> bool:
    return not {"orbax", "asyncio"} & {*Path(record.pathname).parts}


def _unraisable(found, before=sys.unraisablehook) -> None:
    if str(found.exc_value) != "Event loop is closed":
        before(found)


def _say(line: str) -> int:
    print(f"sfjax: {' '.join(line.split())}", file=sys.stderr)
    return 2


# The verbs


def prepare(arguments, _):
    from sfjax import audio
    from sfjax.configs import default
    from sfjax.data import prepare

    measured = dict(mel=audio.MelSpec(**default.get_config("tiny").mel), seed=arguments.seed)
    if arguments.kind_of_source == "merge":
        return _prepared(prepare.merge(arguments.parts, arguments.dest, **measured))
    common = dict(min_seconds=arguments.min_seconds, workers=arguments.workers, part=_part(arguments.part), **measured)
    if arguments.kind_of_source == "jsonl":
        where = {}
        for condition in arguments.where:
            key, equals, values = condition.partition("=")
            if not equals:
                raise UserError(f"--where {condition}: expected KEY=VALUE[,VALUE…], as in set=train-clean-100")
            where[key] = set(values.split(","))
        summary = prepare.jsonl(arguments.source, arguments.dest, where=where, **common)
    else:
        common |= dict(
            speaker_from=arguments.speaker_from,
            split=arguments.split,
            valid_share=arguments.valid_share,
            kind=arguments.kind,
        )
        if arguments.kind_of_source == "pairs":
            summary = prepare.pairs(arguments.source, arguments.noisy, arguments.dest, **common)
        else:
            summary = prepare.folder(arguments.source, arguments.dest, **common)
    return _prepared(summary)


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UserError(f"--part {text}: expected I/N, this part's number from 0 and how many there are, as in 3/64")
    return int(number), int(count)


def _prepared(summary) -> None:
    rejected = f", {summary.rejected} rejected ({summary.rejects})" if summary.rejected else ""
    print(f"{summary.dest}: {summary.files} utterances, {summary.hours:.2f} h, {summary.speakers} speakers{rejected}")


def train(arguments, rest):
    from sfjax import sharding, train

    sharding.join()
    config = _config(arguments.config, rest)
    train.run(config, arguments.workdir)


def plan(arguments, rest):
    config = _config(arguments.config, rest)
    if not 0 < arguments.utilisation <= 1:
        raise UserError(f"--utilisation wants a share of the peak rate, 0 to 1, got {arguments.utilisation}")

    from sfjax import plan, sharding, train

    devices, chip = plan.devices(arguments.topology)
    mesh = sharding.mesh(devices, **config.mesh)
    pieces = sharding.parts(mesh) * max(config.accumulate, 1)
    if config.data.multiple % pieces:
        config.data.multiple = math.lcm(config.data.multiple, pieces)
        print(f"batches divide over this mesh with --config.data.multiple={config.data.multiple}")
    made = train.program(config)
    waves, lengths = train.batch_shapes(config, made, mesh)
    examples, samples = waves[made.task.phase].shape
    seconds = samples / made.spec.sample_rate
    print(f"a step of {examples} × {seconds:g} s on {arguments.topology}, compiling", flush=True)
    like, step = train.on_mesh(made, mesh)
    flops = plan.flops(
        like.params, width=made.network.width, layers=made.network.layers, batch=examples,
        frames=made.spec.frames(samples),
    )  # fmt: skip
    report = plan.plan(
        step.lower(like, waves, lengths), like, (waves, lengths), mesh=mesh, chip=chip, memory=arguments.memory,
        flops=flops, audio=examples * seconds, updates=config.optim.updates, utilisation=arguments.utilisation,
    )  # fmt: skip
    print(report.text())
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return 2 if report.failure else 0


def _config(spec: str, overrides: list[str]):
    """A config from `FILE.py[:size]` and overrides `--config.section.field=value`."""
    from absl import flags
    from ml_collections import config_flags

    from sfjax import configs

    file, colon, size = spec.partition(":")
    if not Path(file).is_file():  # away from a checkout: the configs of the installed package
        packaged = Path(configs.__path__[0]) / Path(file).name
        if not packaged.is_file():
            raise UserError(f"{file}: no such config; give one of configs/*.py, as in configs/enhance.py:small")
        file = str(packaged)
    try:
        config = runpy.run_path(file)["get_config"](*[size] if colon else [])
    except Exception as error:  # a config is a program of the user's
        raise UserError(f"config {spec}: {error} ({type(error).__name__}); mend it or take another") from None
    before, values, words = config.to_dict(), flags.FlagValues(), ["sfjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        left = values(words)
    except (AttributeError, KeyError) as error:
        name: Any = error
        while isinstance(name, Exception):  # one wraps the other
            name = name.args[0]
        name = name.replace("\n", "; ")
        raise UserError(f"config {spec} has no field {name}; see configs/default.py for every field") from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(f"config {spec}: {error}; see configs/default.py for every field") from None
    if left[1:]:
        raise UserError(f"unexpected {left[1]!r}; overrides look like --config.optim.peak=1e-4")
    overriding: Any = values["config"]
    for name, value in overriding.override_values.items():  # flags do not check what is in a tuple
        old = functools.reduce(dict.get, name.split("."), before)
        if isinstance(old, tuple) and not all(isinstance(item, int | float) for item in value):
            raise UserError(f"config {spec}: {name} wants numbers as in {old}, got {value}")
    return config


def enhance(arguments, _):
    from tqdm import tqdm

    from sfjax import infer

    pairs = _targets(arguments.files, arguments.output)
    model = infer.load(arguments.model, ema=arguments.ema, step=arguments.step)
    print(f"enhancing with {model.name}", file=sys.stderr)
    with tqdm(unit="s", unit_scale=True, desc="enhanced", disable=None) as bar:
        failed = model.enhance_files(pairs, seed=arguments.seed, progress=bar.update, **_sampling(arguments))
    for reason in failed.values():
        _say(reason)
    print(f"{len(pairs) - len(failed)} of {len(pairs)} files written to {arguments.output}", file=sys.stderr)
    return 2 if failed else 0


def _targets(files: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    pairs = [(file, folder / file.name) for file in files]
    for i, (file, target) in enumerate(pairs):
        twin = next((other for other, there in pairs[:i] if there == target), None)
        if twin:
            raise UserError(f"{twin} and {file} would both be written to {target}; enhance them in two calls")
        if os.path.exists(file) and os.path.exists(target) and target.samefile(file):
            raise UserError(f"{file} would be overwritten by its own result; choose another folder than {folder}")
    return pairs


def _sampling(arguments) -> dict:
    return {name: getattr(arguments, name) for name in ("solver", "steps", "guidance", "sway")}


def score(arguments, _):
    from sfjax import evaluate

    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    pairs = evaluate.pair_files(arguments.reference, arguments.estimate)
    return _report(evaluate.score_files(pairs, workers=arguments.workers, progress=_is_terminal()), arguments.output)


def evaluate(arguments, _):
    from sfjax import evaluate

    if arguments.system == "model" and arguments.model is None:
        raise UserError("expected --model RUN to evaluate; or --system noisy or --system bound")
    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    model = None
    if arguments.model is not None:
        from sfjax import infer

        model = infer.load(arguments.model, ema=arguments.ema, step=arguments.step)
    report = evaluate.evaluate(
        arguments.manifest, model, system=arguments.system, split=arguments.split, seed=arguments.seed,
        workers=arguments.workers, progress=_is_terminal(), **_sampling(arguments),
    )  # fmt: skip
    return _report(report, arguments.output)


def _report(report, output: Path | None) -> int:
    print(report.table())
    if output is not None:
        report.write(output)
    if not report.failed:
        return 0
    return _say(f"{len(report.failed)} of {len(report.failed) + len(report.rows)} could not be scored, as said above")


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def quickstart(arguments, _):
    from sfjax import quickstart

    if (arguments.speech is None) != (arguments.noise is None):
        raise UserError("--speech and --noise go together; give both folders, or neither for generated voices")
    quickstart.run(main, arguments.output, speech=arguments.speech, noise=arguments.noise, workers=arguments.workers)


# The flags


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sfjax", description="SpeechFlow in JAX: pre-train on speech, fine-tune, enhance recordings, score them."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(run, text, example):
        made = verbs.add_parser(
            run.__name__, help=text, description=text, epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.set_defaults(verb=run)
        return made

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _prepare_flags(
        verb(prepare, "Check audio and write a manifest of it.", "sfjax prepare folder recordings speech.parquet"),
        cores,
    )

    made = verb(
        train, "Train by a config, or go on where a run stopped.",
        "sfjax train --config=configs/pretrain.py:small --workdir=runs/pretrain --config.data.train=speech.parquet",
    )  # fmt: skip
    made.add_argument("--config", required=True, metavar="FILE.py[:SIZE]", help="then --config.SECTION.FIELD=VALUE")
    made.add_argument("--workdir", required=True, type=Path, help="folder of the run")

    made = verb(
        plan, "Compile the training step for machines that are not here: memory, FLOPs, traffic, time at best.",
        "sfjax plan --config=configs/pretrain.py:large --topology v5e:16x16",
    )  # fmt: skip
    made.add_argument("--config", required=True, metavar="FILE.py[:SIZE]", help="then --config.SECTION.FIELD=VALUE")
    made.add_argument("--topology", required=True, help="v5e:16x16, v5p:4x4x4 or v6e:8x8; cpu:32 for any 32 devices")
    made.add_argument("--memory", type=float, help="GiB of a device, for cpu:N")
    made.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="the figures, in bytes and seconds")
    made.add_argument("--utilisation", type=float, default=0.4, help="share of the peak rate to plan with")

    made = verb(enhance, "Clean recordings.", "sfjax enhance noisy.wav -o clean --model runs/enhance")
    made.add_argument("files", nargs="+", type=Path, metavar="FILE")
    made.add_argument("-o", "--output", required=True, type=Path, help="folder for the results, named as the inputs")
    _model_flags(made, required=True)

    made = verb(
        score, "Score anybody's recordings against references.", "sfjax score --reference clean --estimate enhanced"
    )
    made.add_argument("--reference", required=True, type=Path, help="file or folder")
    made.add_argument("--estimate", required=True, type=Path, help="file or folder; same names, any suffix")
    _report_flags(made, cores)

    made = verb(
        evaluate, "Enhance a manifest's noisy recordings and score them.",
        "sfjax evaluate --model runs/enhance --manifest pairs.parquet -o scores.json",
    )  # fmt: skip
    made.add_argument("--manifest", required=True, type=Path, help="made by `sfjax prepare pairs`")
    made.add_argument("--split", help="rows of this split only")
    made.add_argument(
        "--system", choices=("model", "noisy", "bound"), default="model",
        help="noisy: the recordings as they are; bound: the clean Mel with the noisy phase",
    )  # fmt: skip
    _model_flags(made, required=False)
    _report_flags(made, cores)

    made = verb(quickstart, "The whole way in five minutes on two cores.", "sfjax quickstart -o quickstart")
    made.add_argument("-o", "--output", type=Path, default=Path("quickstart"), help="folder for all that it makes")
    made.add_argument("--speech", type=Path, help="folder of clean speech; without it voices are generated")
    made.add_argument("--noise", type=Path, help="folder of noise")
    made.add_argument("--workers", type=int, default=cores, help="processes")
    return parser


def _prepare_flags(made, cores):
    kinds = made.add_subparsers(required=True, metavar="SOURCE", dest="kind_of_source")
    folder = kinds.add_parser("folder", help="every sound file below a folder")
    folder.add_argument("source", type=Path)
    pairs = kinds.add_parser("pairs", help="clean files and noisy ones of the same names")
    pairs.add_argument("source", type=Path, metavar="clean")
    pairs.add_argument("noisy", type=Path)
    jsonl = kinds.add_parser("jsonl", help="a list with one JSON object a line: path, speaker, text, split …")
    jsonl.add_argument("source", type=Path)
    merge = kinds.add_parser("merge", help="the manifests of several parts, into one beside them")
    merge.add_argument("parts", type=Path, nargs="+", metavar="PART.parquet")
    merge.add_argument("dest", type=Path, metavar="DEST.parquet")
    merge.add_argument("--seed", type=int, default=0)
    for made in (folder, pairs):
        made.add_argument("--speaker-from", default="parent", help="parent (folder), none, or a regex with one group")
        made.add_argument("--split", help="split of every row")
        made.add_argument("--valid-share", type=float, default=0.0, help="share of speakers held out as split valid")
        made.add_argument("--kind", help="kind of every row, as noise")
    jsonl.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE[,VALUE…]", help="lines to take")
    for made in (folder, pairs, jsonl):
        made.add_argument("dest", type=Path, metavar="DEST.parquet")
        made.add_argument("--min-seconds", type=float, default=0.5, help="shorter files are rejected")
        made.add_argument("--part", default="0/1", metavar="I/N", help="every N-th file from the I-th on; then merge")
        made.add_argument("--seed", type=int, default=0)
        made.add_argument("--workers", type=int, default=cores, help="processes")


def _model_flags(made, *, required):
    made.add_argument("--model", required=required, type=Path, help="workdir of a run")
    made.add_argument("--step", type=int, help="checkpoint; default: the newest")
    made.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True, help="averaged parameters")
    made.add_argument("--solver", help="euler, midpoint, heun, rk4 or dopri5; default: the run's")
    made.add_argument("--steps", type=int, help="of the solver")
    made.add_argument("--guidance", type=float, help="strength; 0: none, at half the cost")
    made.add_argument("--sway", type=float, help="-1: more steps early; 0: even")
    made.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")


def _report_flags(made, cores):
    made.add_argument("-o", "--output", type=Path, help="scores as .json or .csv")
    made.add_argument("--workers", type=int, default=cores, help="processes that score")


if __name__ == "__main__":
    command()
