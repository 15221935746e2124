"""`sfjax score`, `evaluate`, `wer` and `similarity`: score recordings and models."""

from __future__ import annotations

import sys
from pathlib import Path

from sfjax.cli.verb import (
    Verb,
    check_outputs,
    load_model,
    model_flags,
    reconstruct_flag,
    report_flags,
    sampling,
    sampling_flags,
)
from sfjax.errors import UserError, complain


def _add_score(parser):
    parser.add_argument("--reference", nargs="+", type=Path, help="file or folder; for a separation one per speaker")
    parser.add_argument(
        "--estimate",
        required=True,
        nargs="+",
        type=Path,
        help="file or folder, likewise; with the names of the references and any suffix",
    )
    parser.add_argument(
        "--mixture", type=Path, help="file or folder of mixtures: score a separation, in its best order of speakers"
    )
    _dnsmos_flag(parser, "; without --reference, only DNSMOS")
    report_flags(parser)


def _run_score(arguments):
    from sfjax import evaluation

    _check_output(arguments)
    workers, progress = arguments.workers, sys.stderr.isatty()
    scorer = _scorer(arguments)
    if arguments.reference is None:
        if not arguments.dnsmos or arguments.mixture is not None or len(arguments.estimate) > 1:
            raise UserError("expected --reference, got none; --dnsmos scores one file or folder without references")
        report = evaluation.score_opinions(arguments.estimate[0], workers=workers, progress=progress)
        return _finish(report, arguments)
    if arguments.mixture is not None:
        if arguments.dnsmos:
            raise UserError("--dnsmos does not score mixtures; score the folder of each speaker by itself")
        items = evaluation.mixture_files(arguments.reference, arguments.estimate, arguments.mixture)
        return _finish(evaluation.score_mixtures(items, workers=workers, progress=progress), arguments)
    if len(arguments.reference) > 1 or len(arguments.estimate) > 1:
        raise UserError("several references are the speakers of a mixture; give the mixture as --mixture")
    pairs = evaluation.pair_files(arguments.reference[0], arguments.estimate[0])
    return _finish(evaluation.score_files(pairs, workers=workers, progress=progress, scorer=scorer), arguments)


def _dnsmos_flag(parser, note=""):
    parser.add_argument(
        "--dnsmos",
        action="store_true",
        help=f"also predict listeners' opinions on speech, background and the whole by DNSMOS P.835{note}",
    )


def _scorer(arguments):
    """Return the function that scores pairs. Raises `UserError` if its package is missing, before any work."""
    from sfjax import metrics
    from sfjax.metrics import dnsmos

    if not arguments.dnsmos:
        return metrics.score
    dnsmos.network()
    return dnsmos.score


def _add_evaluate(parser):
    parser.add_argument("--manifest", type=Path, help="manifest from `sfjax prepare pairs`, `mixtures` or `degraded`")
    parser.add_argument("--table", type=int, metavar="N", help="print table N of the paper beside the scores of --runs")
    parser.add_argument(
        "--figure",
        type=int,
        metavar="N",
        help="draw figure N of the paper, from the scores of --runs, into -o FILE.png",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder with the runs of configs/paper.py; default: %(default)s"
    )
    parser.add_argument("--split", help="take only rows of this split")
    parser.add_argument(
        "--by", metavar="COLUMN", nargs="+", default=(), help="also print the scores for each value of these columns"
    )
    parser.add_argument(
        "--system",
        choices=("model", "noisy", "clean", "bound"),
        default="model",
        help="model: the output of --model; noisy: the unprocessed recordings; clean: the clean recordings; bound: the "
        "waveform made from the clean log-Mel spectrogram and the recording; default: %(default)s",
    )
    model_flags(parser)
    sampling_flags(parser)
    reconstruct_flag(parser)
    _dnsmos_flag(parser)
    report_flags(parser)


def _run_evaluate(arguments):
    from sfjax import evaluation

    if arguments.table is not None:
        return _print_table(arguments)
    if arguments.figure is not None:
        return _draw_figure(arguments)
    if arguments.manifest is None:
        raise UserError("expected --manifest FILE.parquet or --table N or --figure N, got none")
    if arguments.system == "model" and arguments.model is None:
        raise UserError("expected --model RUN, got none; or choose --system noisy, clean or bound")
    _check_output(arguments)
    model = load_model(arguments) if arguments.model is not None else None
    phase = None
    if arguments.phase is not None:
        from sfjax.inference import auxiliary

        phase = auxiliary.load_phase(arguments.phase)
    report = evaluation.evaluate(
        arguments.manifest,
        model,
        system=arguments.system,
        split=arguments.split,
        seed=arguments.seed,
        workers=arguments.workers,
        progress=sys.stderr.isatty(),
        by=arguments.by,
        phase=phase,
        reconstruct=arguments.reconstruct,
        scorer=_scorer(arguments),
        **sampling(arguments),
    )
    return _finish(report, arguments)


def _print_table(arguments):
    from sfjax.evaluation import compare_runs, paper_tables

    rows = paper_tables.compare(arguments.table, arguments.runs)
    print(f"Table {arguments.table}: {paper_tables.TABLES[arguments.table].title}; your score | the paper's score\n")
    print(compare_runs.table(rows))
    if sources := paper_tables.sources(arguments.table):
        print("\n" + "\n".join(sources))


def _draw_figure(arguments):
    from sfjax.evaluation import paper_figures

    if arguments.output is None:
        raise UserError("expected -o FILE.png for the figure, got none")
    check_outputs(arguments, arguments.output)
    count = paper_figures.draw(arguments.figure, arguments.runs, arguments.output)
    print(f"{arguments.output}: {count} of {len(paper_figures.reports())} scores", file=sys.stderr)


def _add_wer(parser):
    parser.add_argument("folder", type=Path, help="folder of recordings")
    parser.add_argument(
        "--text", required=True, type=Path, help="what is spoken: manifest, or JSON lines with path and text"
    )
    parser.add_argument(
        "--transcriber",
        default="pocketsphinx",
        help="pocketsphinx, hubert:FOLDER, or a command such as 'command:whisper-cli {}'; default: %(default)s",
    )
    report_flags(parser)


def _run_wer(arguments):
    from sfjax.evaluation import speech

    _check_output(arguments)
    report = speech.words(
        arguments.folder,
        speech.texts(arguments.text),
        transcriber=arguments.transcriber,
        workers=arguments.workers,
        progress=sys.stderr.isatty(),
    )
    if report.rows:
        rate, (low, high) = report.facts["word_error_rate"], report.facts["word_error_rate_interval"]
        interval = f" ({100 * low:.1f} to {100 * high:.1f})" if len(report.rows) > 1 else ""
        print(f"WER {100 * rate:.1f} %{interval} by {report.facts['recogniser']}")
    return _finish(report, arguments)


def _add_similarity(parser):
    parser.add_argument("--reference", required=True, type=Path, help="file or folder of the reference voices")
    parser.add_argument(
        "--estimate",
        required=True,
        type=Path,
        help="file or folder to score; the names of the references, with any suffix",
    )
    parser.add_argument(
        "--encoder",
        default="resemblyzer",
        help="resemblyzer, or wavlm:FOLDER (the paper: a larger WavLM with another head); default: %(default)s",
    )
    report_flags(parser)


def _run_similarity(arguments):
    from sfjax import evaluation
    from sfjax.evaluation import speech
    from sfjax.metrics import speaker

    _check_output(arguments)
    pairs = evaluation.pair_files(arguments.reference, arguments.estimate)
    report = speech.voices(pairs, encoder=arguments.encoder, workers=arguments.workers, progress=sys.stderr.isatty())
    print(f"similarity by {speaker.encoder(arguments.encoder).name}")
    return _finish(report, arguments)


def _check_output(arguments):
    from sfjax import evaluation

    if arguments.output is not None:
        evaluation.check_output(arguments.output)
        check_outputs(arguments, arguments.output)


def _finish(report, arguments):
    print(report.table())
    if arguments.output is not None:
        report.write(arguments.output)
    if arguments.against is not None:
        print(f"\ndifference from {arguments.against}, per recording\n{report.less(arguments.against).table()}")
    if not report.failed:
        return 0
    total = len(report.failed) + len(report.rows)
    return complain(f"{len(report.failed)} of {total} could not be scored; the reasons are listed above")


SCORE = Verb(
    "score",
    "Score recordings against references.",
    "sfjax score --reference clean --estimate enhanced",
    _add_score,
    _run_score,
)
EVALUATE = Verb(
    "evaluate",
    "Enhance or separate the recordings of a manifest, and score the results.",
    "sfjax evaluate --model runs/enhance --manifest pairs.parquet -o scores.json",
    _add_evaluate,
    _run_evaluate,
)
WER = Verb(
    "wer",
    "Compute the word error rate of recordings, by a speech recogniser.",
    "sfjax wer spoken --text texts.jsonl --transcriber pocketsphinx",
    _add_wer,
    _run_wer,
)
SIMILARITY = Verb(
    "similarity",
    "Compute the similarity of voices, by a speaker encoder.",
    "sfjax similarity --reference prompts --estimate spoken",
    _add_similarity,
    _run_similarity,
)
