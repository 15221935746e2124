"""The command line's flags and a config's overrides."""

from __future__ import annotations

import argparse
import functools
import os
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfjax.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser(verbs: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """The parser of all verbs; what it parses has the function that `verbs` names in its field `verb`."""
    made = _Parser(
        prog="sfjax", description="SpeechFlow in JAX: pre-train on speech, fine-tune, enhance recordings, score them."
    )
    parsers = made.add_subparsers(required=True, metavar="VERB")

    def verb(name, text, example):
        one = parsers.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        one.set_defaults(verb=verbs[name])
        return one

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _prepare_flags(
        verb("prepare", "Check audio and write a manifest of it.", "sfjax prepare folder recordings speech.parquet"),
        cores,
    )

    one = verb(
        "train", "Train by a config, or go on where a run stopped.",
        "sfjax train --config=configs/pretrain.py:small --workdir=runs/pretrain --config.data.train=speech.parquet",
    )  # fmt: skip
    one.add_argument("--config", required=True, metavar="FILE.py[:SIZE]", help="then --config.SECTION.FIELD=VALUE")
    one.add_argument("--workdir", required=True, type=Path, help="folder of the run")

    one = verb(
        "plan", "Compile the training step for machines that are not here: memory, FLOPs, traffic, time at best.",
        "sfjax plan --config=configs/pretrain.py:large --topology v5e:16x16",
    )  # fmt: skip
    one.add_argument("--config", required=True, metavar="FILE.py[:SIZE]", help="then --config.SECTION.FIELD=VALUE")
    one.add_argument("--topology", required=True, help="v5e:16x16, v5p:4x4x4 or v6e:8x8; cpu:32 for any 32 devices")
    one.add_argument("--memory", type=float, help="GiB of a device, for cpu:N")
    one.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="the figures, in bytes and seconds")
    one.add_argument("--utilisation", type=float, default=0.4, help="share of the peak rate to plan with")

    one = verb("enhance", "Clean recordings.", "sfjax enhance noisy.wav -o clean --model runs/enhance")
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the results, named as the inputs")
    _model_flags(one, required=True)

    one = verb(
        "separate", "Every speaker of a mixture.", "sfjax separate mix.wav --speakers 2 -o apart --model runs/separate"
    )
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the results, s1/FILE, s2/FILE …")
    one.add_argument("--speakers", type=int, default=2, help="as many as the model learned to separate")
    _model_flags(one, required=True)

    one = verb(
        "score", "Score anybody's recordings against references.", "sfjax score --reference clean --estimate enhanced"
    )
    one.add_argument("--reference", required=True, nargs="+", type=Path, help="file or folder; one for each speaker")
    one.add_argument("--estimate", required=True, nargs="+", type=Path, help="the same; same names, any suffix")
    one.add_argument("--mixture", type=Path, help="file or folder: score a separation, in its best order")
    _report_flags(one, cores)

    one = verb(
        "evaluate", "Enhance or separate a manifest's recordings and score them.",
        "sfjax evaluate --model runs/enhance --manifest pairs.parquet -o scores.json",
    )  # fmt: skip
    one.add_argument("--manifest", required=True, type=Path, help="made by `sfjax prepare pairs`")
    one.add_argument("--split", help="rows of this split only")
    one.add_argument(
        "--system", choices=("model", "noisy", "bound"), default="model",
        help="noisy: the recordings as they are; bound: the clean Mel with the noisy phase",
    )  # fmt: skip
    _model_flags(one, required=False)
    _report_flags(one, cores)

    one = verb(
        "predict", "Write the Mels that a model makes of a manifest's recordings, or go on with it.",
        "sfjax predict --model runs/separate --manifest mixtures.parquet -o predicted",
    )  # fmt: skip
    one.add_argument("--manifest", required=True, type=Path, help="made by `sfjax prepare mixtures` or pairs")
    one.add_argument("--split", help="rows of this split only")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for the Mels and a manifest of them")
    _model_flags(one, required=True)

    one = verb(
        "export", "Write what a run trained into a folder to give away.", "sfjax export --workdir runs/lora -o lora"
    )
    one.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    one.add_argument("-o", "--output", required=True, type=Path, help="folder for config.json and model.safetensors")
    one.add_argument("--dtype", default="float32", help="or float16, half as large")
    one.add_argument("--step", type=int, help="checkpoint; default: the newest")
    one.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True, help="averaged parameters")

    one = verb(
        "report", "Put runs side by side: what differs, how far, how good.", "sfjax report runs -o runs.csv runs.png"
    )
    one.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="of runs, or of folders of them")
    one.add_argument("-o", "--output", nargs="+", type=Path, default=[], help="tables as .csv or .json, curves as .png")
    one.add_argument("--smooth", type=int, default=200, help="steps that a training loss in a picture is the mean of")

    one = verb("quickstart", "The whole way in five minutes on two cores.", "sfjax quickstart -o quickstart")
    one.add_argument("-o", "--output", type=Path, default=Path("quickstart"), help="folder for all that it makes")
    one.add_argument("--speech", type=Path, help="folder of clean speech; without it voices are generated")
    one.add_argument("--noise", type=Path, help="folder of noise")
    one.add_argument("--workers", type=int, default=cores, help="processes")
    return made


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
    drawn = kinds.add_parser("mixtures", help="a fixed list of mixtures, drawn from a manifest of speech")
    drawn.add_argument("source", type=Path, metavar="speech.parquet")
    drawn.add_argument("--noise", type=Path, metavar="noise.parquet", help="add noise of it")
    drawn.add_argument("--count", type=int, required=True, help="mixtures")
    drawn.add_argument("--speakers", type=int, default=2, help="in each")
    libri = kinds.add_parser("librimix", help="mixtures by a metadata CSV of LibriMix")
    libri.add_argument("source", type=Path, metavar="metadata.csv")
    libri.add_argument("--speech", type=Path, default=Path(), help="where its source paths start")
    libri.add_argument("--noise", type=Path, default=Path(), help="where its noise paths start")
    for made in (drawn, libri):
        made.add_argument("--split", help="of a list that is drawn: rows to draw from; of a CSV: split of every row")
        made.add_argument("dest", type=Path, metavar="DEST.parquet")
        made.add_argument("--seed", type=int, default=0)
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
    made.add_argument("--phase", type=Path, help="workdir or exported folder of a phase net for it")
    made.add_argument("--adapter", type=Path, help="workdir or exported folder of adapters for it")
    made.add_argument("--step", type=int, help="checkpoint; default: the newest")
    made.add_argument("--ema", action=argparse.BooleanOptionalAction, default=True, help="averaged parameters")
    made.add_argument("--solver", help="euler, midpoint, heun, rk4, dopri5; of diffusion: ddim; default: the run's")
    made.add_argument("--steps", type=int, help="of the solver")
    made.add_argument("--guidance", type=float, help="strength; 0: none, at half the cost")
    made.add_argument("--sway", type=float, help="-1: more steps early; 0: even")
    made.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")


def _report_flags(made, cores):
    made.add_argument("-o", "--output", type=Path, help="scores as .json or .csv")
    made.add_argument("--workers", type=int, default=cores, help="processes that score")


def config(spec: str, overrides: list[str]) -> Any:
    """A config from `FILE.py[:size]` and overrides `--config.section.field=value`; `UserError` on any that is wrong."""
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
        found = runpy.run_path(file)["get_config"](*[size] if colon else [])
    except Exception as error:  # a config is a program of the user's
        raise UserError(f"config {spec}: {error} ({type(error).__name__}); mend it or take another") from None
    before, values, words = found.to_dict(), flags.FlagValues(), ["sfjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", found, flag_values=values, sys_argv=words)
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
        kind = str if isinstance(old, tuple) and isinstance(old[0], str) else int | float
        if isinstance(old, tuple) and not all(isinstance(item, kind) for item in value):
            raise UserError(f"config {spec}: {name} wants values as in {old}, got {value}")
    return found
