"""`sfjax cache-mels`, `export`, `info`, `report` and `quickstart`: commands on runs and models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sfjax.cli.verb import (
    MODEL,
    Verb,
    check_outputs,
    cores,
    force_flag,
    load_model,
    model_flags,
    printable,
    reconstruct_flag,
    sampling,
    sampling_flags,
)
from sfjax.errors import UserError, complain


def _add_cache_mels(parser):
    parser.add_argument(
        "--manifest", required=True, type=Path, help="manifest from `sfjax prepare mixtures` or `pairs`"
    )
    parser.add_argument("--split", help="take only rows of this split")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, help="folder for the log-Mel spectrograms and their manifest"
    )
    force_flag(parser)
    model_flags(parser, required=True)
    sampling_flags(parser)


def _run_cache_mels(arguments):
    from sfjax.inference import cache_mels

    check_outputs(arguments, arguments.output / arguments.manifest.name)
    predicted, already_there = cache_mels.run(
        arguments.manifest,
        load_model(arguments),
        arguments.output,
        split=arguments.split,
        seed=arguments.seed,
        **sampling(arguments),
    )
    print(f"{arguments.output}: {predicted} predicted, {already_there} there already")


def _add_export(parser):
    parser.add_argument("--workdir", required=True, help=MODEL)
    parser.add_argument(
        "-o", "--output", required=True, type=Path, help="folder to write; an exported model in it is replaced"
    )
    force_flag(parser, "replace an exported model whose files were changed since")
    parser.add_argument(
        "--dtype",
        default="float32",
        help="float32, or bfloat16 or float16, which are half as large; default: %(default)s",
    )
    parser.add_argument("--step", type=int, help="checkpoint to export; default: the newest")
    parser.add_argument(
        "--ema", action=argparse.BooleanOptionalAction, default=True, help="use the averaged parameters (EMA)"
    )
    parser.add_argument(
        "--notes",
        type=Path,
        metavar="FILE.md",
        help="notes for the model card: data, licences, attributions, scores; hubs read a first line `licence: X`",
    )
    parser.add_argument(
        "--stablehlo",
        action="store_true",
        help="write programs that JAX runs without sfjax, instead of an exported model",
    )
    sampling_flags(parser, seed=False)
    reconstruct_flag(parser)


def _run_export(arguments):
    from sfjax.export import release

    options = dict(dtype=arguments.dtype, **sampling(arguments))
    if arguments.stablehlo:
        path = _export_programs(arguments, **options)
    else:
        path = release.export(
            arguments.workdir,
            arguments.output,
            ema=arguments.ema,
            step=arguments.step,
            notes=arguments.notes,
            reconstruct=arguments.reconstruct,
            force=arguments.force,
            **options,
        )
    print(f"{path}: {sum(file.stat().st_size for file in path.iterdir()) / 2**20:.2f} MiB")


def _export_programs(arguments, **options):
    from sfjax import inference, stablehlo
    from sfjax.export import release

    if arguments.notes is not None:
        raise UserError(
            "--stablehlo takes notes from a model card; first export a folder with --notes, then give it as --workdir"
        )
    model = inference.load(arguments.workdir, ema=arguments.ema, step=arguments.step, reconstruct=arguments.reconstruct)
    return stablehlo.export(model, arguments.output, licence=release.info(arguments.workdir)["licence"], **options)


def _add_info(parser):
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run_info(arguments):
    from sfjax.export import model_card, release

    info = release.info(arguments.model)
    if arguments.json:
        print(json.dumps(info, indent=2))
    else:
        facts = {"model": info["name"], **model_card.facts(info)}
        if info["exported"]:
            facts["files"] = "changed since the export" if info["wrong"] else "as exported (SHA-256)"
        labels = ["licence", *[""] * len(info["licence"])]
        for label, line in [*facts.items(), *zip(labels, info["licence"], strict=False)]:
            print(f"{label:<12}{printable(line)}")
    return complain(info["wrong"]) if info["wrong"] else 0


def _add_report(parser):
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER", help="run, or folder of runs")
    parser.add_argument(
        "-o", "--output", nargs="+", type=Path, default=[], help="files for tables (.csv, .json) and curves (.png)"
    )
    force_flag(parser)
    parser.add_argument("--smooth", type=int, default=200, help="steps over which pictures average the training loss")


def _run_report(arguments):
    from sfjax.evaluation import compare_runs

    check_outputs(arguments, *arguments.output)
    runs = compare_runs.runs(arguments.runs)
    print(compare_runs.table(compare_runs.rows(runs)))
    for path in arguments.output:
        compare_runs.write(runs, path, smooth=arguments.smooth)


def _add_quickstart(parser):
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("quickstart"), help="folder for all results; default: %(default)s"
    )
    force_flag(parser)
    parser.add_argument("--speech", type=Path, help="folder of clean speech; default: generate voices")
    parser.add_argument("--noise", type=Path, help="folder of noise; default: generate noise")
    parser.add_argument("--workers", type=int, default=cores(), help="processes")


def _run_quickstart(arguments):
    from sfjax import quickstart

    if (arguments.speech is None) != (arguments.noise is None):
        raise UserError("--speech and --noise go together; give both folders, or neither for generated voices")
    folders = {"speech": arguments.speech, "noise": arguments.noise}
    check_outputs(arguments, *quickstart.outputs(arguments.output, arguments.speech))
    quickstart.run(arguments.main, arguments.output, **folders, workers=arguments.workers)


CACHE_MELS = Verb(
    "cache-mels",
    "Save the log-Mel spectrograms that a model predicts for the recordings of a manifest; rerunning resumes.",
    "sfjax cache-mels --model runs/separate --manifest mixtures.parquet -o predicted",
    _add_cache_mels,
    _run_cache_mels,
)
EXPORT = Verb(
    "export",
    "Export the trained model of a run into a folder that you can publish.",
    "sfjax export --workdir runs/lora -o lora",
    _add_export,
    _run_export,
)
INFO = Verb(
    "info",
    "Describe a model and check its files.",
    "sfjax info runs/enhance",
    _add_info,
    _run_info,
)
REPORT = Verb(
    "report",
    "Compare runs: their configs, progress, losses and scores.",
    "sfjax report runs -o runs.csv runs.png",
    _add_report,
    _run_report,
)
QUICKSTART = Verb(
    "quickstart",
    "Prepare data, fine-tune the base model, enhance and score, in two minutes on two cores.",
    "sfjax quickstart -o quickstart",
    _add_quickstart,
    _run_quickstart,
)
