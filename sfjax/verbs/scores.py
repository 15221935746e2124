"""`sfjax score` and `sfjax evaluate`: how good recordings are, anybody's or a model's."""

from __future__ import annotations

import sys
from pathlib import Path

from sfjax.errors import UserError, complain
from sfjax.verbs.verb import Verb, load_model, model_flags, report_flags, sampling, sampling_flags, wave_flag


def _add_score(one):
    one.add_argument("--reference", required=True, nargs="+", type=Path, help="file or folder; one for each speaker")
    one.add_argument("--estimate", required=True, nargs="+", type=Path, help="the same; same names, any suffix")
    one.add_argument("--mixture", type=Path, help="file or folder: score a separation, in its best order")
    report_flags(one)


def _run_score(arguments):
    from sfjax import evaluate

    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    how = dict(workers=arguments.workers, progress=sys.stderr.isatty())
    if arguments.mixture is not None:
        items = evaluate.mixture_files(arguments.reference, arguments.estimate, arguments.mixture)
        return _report(evaluate.score_mixtures(items, **how), arguments)
    if len(arguments.reference) > 1 or len(arguments.estimate) > 1:
        raise UserError("several references are the speakers of a mixture; give it as --mixture")
    pairs = evaluate.pair_files(arguments.reference[0], arguments.estimate[0])
    return _report(evaluate.score_files(pairs, **how), arguments)


def _add_evaluate(one):
    one.add_argument("--manifest", type=Path, help="made by `sfjax prepare pairs`")
    one.add_argument("--table", type=int, metavar="N", help="print table N of the paper and what --runs reached of it")
    one.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs of configs/paper.py")
    one.add_argument("--split", help="rows of this split only")
    one.add_argument(
        "--by", metavar="COLUMN", nargs="+", default=(), help="also the scores of each value of these columns"
    )
    one.add_argument(
        "--system", choices=("model", "noisy", "bound"), default="model",
        help="noisy: the recordings as they are; bound: the clean Mel and the recording made a wave",
    )  # fmt: skip
    model_flags(one)
    sampling_flags(one)
    wave_flag(one)
    report_flags(one)


def _run_evaluate(arguments):
    from sfjax import evaluate

    if arguments.table is not None:
        return _table(arguments)
    if arguments.manifest is None:
        raise UserError("expected --manifest FILE.parquet to evaluate on; or --table N")
    if arguments.system == "model" and arguments.model is None:
        raise UserError("expected --model RUN to evaluate; or --system noisy or --system bound")
    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    model = load_model(arguments) if arguments.model is not None else None
    phase = None
    if arguments.phase is not None:
        from sfjax import companions

        phase = companions.load_phase(arguments.phase)
    report = evaluate.evaluate(
        arguments.manifest, model, system=arguments.system, split=arguments.split, seed=arguments.seed,
        workers=arguments.workers, progress=sys.stderr.isatty(), by=arguments.by, phase=phase, wave=arguments.wave,
        **sampling(arguments),
    )  # fmt: skip
    return _report(report, arguments)


def _table(arguments):
    from sfjax import gather, paper

    lines = paper.compared(arguments.table, arguments.runs)
    print(f"Table {arguments.table}: {paper.TABLES[arguments.table].title}; reached | the paper's\n")
    print(gather.table(lines))


def _add_wer(one):
    one.add_argument("folder", type=Path, help="recordings")
    one.add_argument("--text", required=True, type=Path, help="manifest, or JSON lines with path and text")
    one.add_argument("--transcriber", default="pocketsphinx", help="or hubert:FOLDER, or 'command:whisper-cli {}'")
    report_flags(one)


def _run_wer(arguments):
    from sfjax import evaluate, spoken
    from sfjax.metrics import wer

    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    how = dict(transcriber=arguments.transcriber, workers=arguments.workers, progress=sys.stderr.isatty())
    found = spoken.words(arguments.folder, spoken.texts(arguments.text), **how)
    if found.rows:
        rate, low, high = spoken.word_error_rate(found)
        name = wer.transcriber(arguments.transcriber).name
        print(f"WER {100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f}) by {name}")
    return _report(found, arguments)


def _add_similarity(one):
    one.add_argument("--reference", required=True, type=Path, help="file or folder of the voices that are wanted")
    one.add_argument("--estimate", required=True, type=Path, help="the same of those that came; same names, any suffix")
    one.add_argument("--encoder", default="resemblyzer", help="or wavlm:FOLDER, as the paper")
    report_flags(one)


def _run_similarity(arguments):
    from sfjax import evaluate, spoken
    from sfjax.metrics import speaker

    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    pairs = evaluate.pair_files(arguments.reference, arguments.estimate)
    how = dict(encoder=arguments.encoder, workers=arguments.workers, progress=sys.stderr.isatty())
    found = spoken.voices(pairs, **how)
    print(f"similarity by {speaker.encoder(arguments.encoder).name}")
    return _report(found, arguments)


def _report(report, arguments):
    print(report.table())
    if arguments.output is not None:
        report.write(arguments.output)
    if arguments.against is not None:
        print(f"\nless {arguments.against}, recording by recording\n{report.less(arguments.against).table()}")
    if not report.failed:
        return 0
    total = len(report.failed) + len(report.rows)
    return complain(f"{len(report.failed)} of {total} could not be scored, as said above")


SCORE = Verb(
    "score", "Score anybody's recordings against references.", "sfjax score --reference clean --estimate enhanced",
    _add_score, _run_score,
)  # fmt: skip
EVALUATE = Verb(
    "evaluate", "Enhance or separate a manifest's recordings and score them.",
    "sfjax evaluate --model runs/enhance --manifest pairs.parquet -o scores.json", _add_evaluate, _run_evaluate,
)  # fmt: skip
WER = Verb(
    "wer", "How many words of recordings a recogniser gets wrong.",
    "sfjax wer spoken --text texts.jsonl --transcriber pocketsphinx", _add_wer, _run_wer,
)  # fmt: skip
SIMILARITY = Verb(
    "similarity", "How alike the voices of recordings are.", "sfjax similarity --reference prompts --estimate spoken",
    _add_similarity, _run_similarity,
)  # fmt: skip
