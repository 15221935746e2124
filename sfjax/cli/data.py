"""`sfjax prepare`: make manifests from folders, pairs, lists, data sets, mixtures and published corpora."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sfjax.cli.verb import Group, Verb, check_outputs, cores, force_flag, natural
from sfjax.errors import UserError

if TYPE_CHECKING:
    from sfjax import audio

CORPORA = {
    "librispeech": "LibriSpeech: read English",
    "librilight": "Libri-Light: read English without text, in pieces of at most 16 s",
    "libritts": "LibriTTS: read English, sentence by sentence",
    "vctk": "VCTK 0.92: English sentences in many accents",
    "voicebank": "VoiceBank-DEMAND: noisy read English with the clean recordings",
    "wsj0chime3": "WSJ0-CHiME3: noisy read English with the clean recordings",
    "dns2020": "DNS Challenge of Interspeech 2020: noisy speech with the clean recordings, noise",
    "librimix": "LibriMix: two or three speakers at once, from its folder or from a metadata CSV of its generator",
    "wham": "WHAM!: noise of cafes, restaurants, bars and parks",
}
PLACES = {  # further folders of a corpus: a flag each
    "librimix": {
        "speech": "folder of LibriSpeech, if the source is a CSV",
        "noise": "folder of WHAM!, if the source is a CSV and its noise should be added",
    },
}
PROTOCOLS = {
    "cross": "speak after a prompt, another utterance of the speaker",
    "continued": "speak after the beginning of the same utterance",
    "edited": "speak the words in the middle half again",
}


def _add_folder(parser):
    parser.add_argument("source", type=Path, help="folder of sound files")
    _add_row_options(parser)
    _add_checks(parser)


def _run_folder(arguments):
    from sfjax.data import prepare

    summary = prepare.folder(arguments.source, arguments.dest, **_row_options(arguments), **_checks(arguments))
    return _print_summary(summary)


def _add_pairs(parser):
    parser.add_argument("source", type=Path, metavar="clean", help="folder of clean files")
    parser.add_argument("noisy", type=Path, help="folder of noisy files of the same names")
    _add_row_options(parser)
    _add_checks(parser)


def _run_pairs(arguments):
    from sfjax.data import prepare

    options, checks = _row_options(arguments), _checks(arguments)
    return _print_summary(prepare.pairs(arguments.source, arguments.noisy, arguments.dest, **options, **checks))


def _add_jsonl(parser):
    parser.add_argument("source", type=Path, help="JSON lines file")
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="KEY=VALUE[,VALUE…]",
        help="take only lines with these values; 'KEY>=NUMBER' takes lines with at least this number",
    )
    _add_checks(parser)


def _run_jsonl(arguments):
    from sfjax.data import prepare

    options, where, least = _checks(arguments), {}, {}
    for condition in arguments.where:
        key, equals, values = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: expected KEY=VALUE[,VALUE…], as in set=train-clean-100")
        if key.endswith(">"):
            least[key[:-1]] = _lower_limit(condition, values)
        else:
            where[key] = set(values.split(","))
    return _print_summary(prepare.jsonl(arguments.source, arguments.dest, where=where, least=least, **options))


def _lower_limit(condition, text):
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--where {condition}: expected a number after >=, as in 'dr>=35'") from None


def _add_parquet(parser):
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="SRC", help="*.parquet files, or folders with such files"
    )
    _add_checks(parser)


def _run_parquet(arguments):
    from sfjax.data import prepare

    return _print_summary(prepare.parquet(arguments.sources, arguments.dest, **_checks(arguments)))


def _add_lhotse(parser):
    parser.add_argument("source", type=Path, metavar="cuts.jsonl[.gz]")
    _add_checks(parser)


def _run_lhotse(arguments):
    from sfjax.data import prepare

    return _print_summary(prepare.lhotse(arguments.source, arguments.dest, **_checks(arguments)))


def _add_merge(parser):
    parser.add_argument("parts", type=Path, nargs="+", metavar="PART.parquet")
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--seed", type=natural, default=0)


def _run_merge(arguments):
    from sfjax.data import prepare

    return _print_summary(prepare.merge(arguments.parts, arguments.dest, **_measures(arguments)))


def _add_mixtures(parser):
    parser.add_argument("source", type=Path, metavar="speech.parquet")
    parser.add_argument("--noise", type=Path, metavar="noise.parquet", help="manifest of noise to add")
    parser.add_argument("--count", type=int, required=True, help="number of mixtures")
    parser.add_argument("--speakers", type=int, default=2, help="speakers in each mixture")
    parser.add_argument("--split", help="split to draw from")
    parser.add_argument(
        "--enrolment", action="store_true", help="add another recording of the first speaker, to extract this speaker"
    )
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--seed", type=natural, default=0)


def _run_mixtures(arguments):
    from sfjax.configs import default  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)
    from sfjax.data import mixtures, prepare

    ranges = default.get_config("tiny").mixture
    rows = mixtures.draw(
        arguments.source,
        arguments.noise,
        split=arguments.split,
        speakers=arguments.speakers,
        count=arguments.count,
        seed=arguments.seed,
        loudness=ranges.loudness,
        noise_loudness=ranges.noise_loudness,
        enrolment=arguments.enrolment,
    )
    return _print_summary(prepare.generated(rows, arguments.dest, **_measures(arguments)))


def _add_rooms(parser):
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--count", type=int, required=True, help="number of rooms, each with one impulse response")
    parser.add_argument(
        "--rt60",
        type=float,
        nargs=2,
        default=(0.15, 1.0),
        metavar=("LOW", "HIGH"),
        help="range of the reverberation time RT60 in seconds; default: 0.15 1",
    )
    parser.add_argument("--valid-share", type=float, default=0.1, help="share of rooms in split valid")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--workers", type=int, default=cores(), help="processes")


def _run_rooms(arguments):
    from sfjax.data import prepare, rooms

    dest, measures = prepare.manifest_path(arguments.dest), _measures(arguments)
    rows = rooms.simulate(
        dest.with_suffix(""),
        count=arguments.count,
        seed=arguments.seed,
        rt60=tuple(arguments.rt60),
        valid_share=arguments.valid_share,
        rate=measures["mel"].sample_rate,
        workers=arguments.workers,
    )
    return _print_summary(prepare.generated(rows, dest, **measures))


def _add_degraded(parser):
    parser.add_argument("source", type=Path, metavar="speech.parquet")
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--noise", type=Path, required=True, metavar="noise.parquet")
    parser.add_argument("--rooms", type=Path, required=True, metavar="rooms.parquet", help="impulse responses")
    parser.add_argument(
        "--count", type=int, required=True, help="number of recordings, each with every kind of degradation"
    )
    parser.add_argument("--split", help="split to draw from")
    parser.add_argument("--seed", type=natural, default=0)


def _run_degraded(arguments):
    from sfjax.configs import restore  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)
    from sfjax.data import degraded, prepare

    config, dest = restore.get_config("tiny"), prepare.manifest_path(arguments.dest)
    if dest == arguments.source.absolute():
        raise UserError(f"{dest}: the list is its own source; give it another name")
    chains = degraded.make_chains(
        noise=arguments.noise,
        rooms=arguments.rooms,
        split=arguments.split,
        rate=config.mel.sample_rate,
        mix=config.mix,
        degrade=config.degrade,
    )
    rows = degraded.draw(
        arguments.source,
        dest.with_suffix(""),
        chains=chains,
        split=arguments.split,
        count=arguments.count,
        seed=arguments.seed,
        seconds=config.data.buckets[-1],
    )
    return _print_summary(prepare.generated(rows, dest, **_measures(arguments)))


def _add_corpus(name, parser):
    parser.add_argument("source", type=Path, help="folder of the corpus")
    for flag, text in PLACES.get(name, {}).items():
        parser.add_argument(f"--{flag}", type=Path, help=text)
    parser.add_argument("--sets", nargs="+", default=[], metavar="SET", help="sets to take; default: all")
    _add_checks(parser)


def _run_corpus(name, arguments):
    from sfjax.data import prepare

    places = {flag: getattr(arguments, flag) for flag in PLACES.get(name, {})}
    checks = _checks(arguments)
    return _print_summary(
        prepare.corpus(name, arguments.source, arguments.dest, sets=arguments.sets, places=places, **checks)
    )


def _corpus(name):
    return Verb(
        name,
        CORPORA[name],
        f"sfjax prepare {name} SRC {name}.parquet",
        functools.partial(_add_corpus, name),
        functools.partial(_run_corpus, name),
    )


def _add_row_options(parser):
    parser.add_argument(
        "--speaker-from",
        default="parent",
        help="parent (name of the folder), none, or a regular expression with one group",
    )
    parser.add_argument("--split", help="split of all rows")
    parser.add_argument("--valid-share", type=float, default=0.0, help="share of the speakers held out as split valid")
    parser.add_argument("--kind", help="kind of all rows, such as noise")


class _RowOptions(TypedDict):
    speaker_from: str
    split: str | None
    valid_share: float
    kind: str | None


def _row_options(arguments: argparse.Namespace) -> _RowOptions:
    return {
        "speaker_from": arguments.speaker_from,
        "split": arguments.split,
        "valid_share": arguments.valid_share,
        "kind": arguments.kind,
    }


def _add_checks(parser):
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--min-seconds", type=float, default=0.5, help="reject shorter files; default: %(default)s")
    parser.add_argument(
        "--part",
        default="0/1",
        metavar="I/N",
        help="prepare only every N-th file from the I-th on; merge the parts afterwards",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        default=0,
        help="draws the recordings whose log-Mel mean and std are measured, always at the default settings (16 kHz)",
    )
    parser.add_argument("--workers", type=int, default=cores(), help="processes")
    parser.add_argument(
        "--shards",
        type=float,
        nargs="?",
        const=2.0,
        metavar="HOURS",
        help="copy the sound, at 16 kHz, into a few files next to DEST, of this many hours each; default: %(const)g",
    )


class _Measures(TypedDict):
    mel: audio.MelSpec
    seed: int


class _Checks(_Measures):
    min_seconds: float
    workers: int
    shards: float | None
    part: tuple[int, int]


def _checks(arguments: argparse.Namespace) -> _Checks:
    if arguments.shards is not None and not arguments.shards > 0:
        raise UserError(f"--shards must be above 0 hours, got {arguments.shards:g}; 2 is usual")
    return {
        "min_seconds": arguments.min_seconds,
        "workers": arguments.workers,
        "shards": arguments.shards,
        "part": _part(arguments.part),
        **_measures(arguments),
    }


def _part(text):
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UserError(
            f"--part {text}: expected I/N, the number of this part from 0 and the number of parts, as in 3/64"
        )
    return int(number), int(count)


def _measures(arguments: argparse.Namespace) -> _Measures:
    """Return the options with which loudness and log-Mel spectrograms are measured."""
    from sfjax import audio
    from sfjax.configs import default  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)

    return {"mel": audio.MelSpec(**default.get_config("tiny").mel), "seed": arguments.seed}


def _print_summary(summary):
    rejected = f", {summary.rejected} rejected ({summary.rejects})" if summary.rejected else ""
    speakers = f", {summary.speakers} speakers" if summary.speakers else ""
    print(f"{summary.dest}: {summary.files} recordings, {summary.hours:.2f} h{speakers}{rejected}")
    for line in (*summary.notes, *summary.reasons):
        print(f"  {line}")


def _add_align(parser):
    parser.add_argument("source", type=Path, metavar="speech.parquet")
    parser.add_argument("alignments", type=Path, help="folder of TextGrids, or a list (.jsonl, .jsonl.xz or .jsonl.gz)")
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument(
        "--longest", type=float, default=0.5, help="longest phone in seconds; a longer one is an error of the aligner"
    )


def _run_align(arguments):
    from sfjax import audio
    from sfjax.configs import default  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)
    from sfjax.data import attach_phones

    spec = audio.MelSpec(**default.get_config("tiny").mel)
    summary = attach_phones.run(
        arguments.source, arguments.alignments, arguments.dest, longest=arguments.longest, spec=spec
    )
    reasons = ", ".join(f"{count} with {reason}" for reason, count in summary.reasons.items())
    left_out = f", {sum(summary.reasons.values())} left out ({reasons}; {summary.rejects})" if summary.reasons else ""
    repaired = f", {summary.repaired} overlaps repaired" if summary.repaired else ""
    print(f"{summary.dest}: {summary.files} recordings with phones, {summary.hours:.2f} h{left_out}{repaired}")


def _add_protocol(parser):
    parser.add_argument("source", type=Path, metavar="phones.parquet")
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument(
        "--kind",
        required=True,
        choices=tuple(PROTOCOLS),
        metavar="KIND",
        help="; ".join(f"{kind}: {text}" for kind, text in PROTOCOLS.items()),
    )
    parser.add_argument("--split", help="take only rows of this split")
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        help="length of a prompt, rounded to the nearest end of a word; default: 3",
    )
    parser.add_argument(
        "--between",
        type=float,
        nargs=2,
        default=(4.0, 10.0),
        metavar=("LOW", "HIGH"),
        help="range of the length of an utterance in seconds; default: 4 10",
    )
    parser.add_argument("--seed", type=natural, default=0, help="seed of the choice of prompts")


def _run_protocol(arguments):
    from sfjax.data import manifest, prepare, tts_lists

    if prepare.manifest_path(arguments.dest) == arguments.source.absolute():
        raise UserError(f"{arguments.dest}: the list is its own source; give it another name")
    measures = _measures(arguments)
    rows, rejects = tts_lists.make_list(
        manifest.read(arguments.source, split=arguments.split),
        arguments.kind,
        seconds=arguments.seconds,
        between=tuple(arguments.between),
        seed=arguments.seed,
        hop_seconds=measures["mel"].hop_seconds,
    )
    return _print_summary(prepare.protocol(rows, rejects, arguments.dest, **measures))


def _add_subset(parser):
    parser.add_argument("source", type=Path, metavar="speech.parquet")
    parser.add_argument("dest", type=Path, metavar="DEST.parquet")
    parser.add_argument("--hours", type=float, required=True, help="hours to draw, utterance by utterance")
    parser.add_argument(
        "--split", default="train", help="split to draw from; all other rows stay; default: %(default)s"
    )
    parser.add_argument("--seed", type=natural, default=0)


def _run_subset(arguments):
    from sfjax.data import prepare, subset

    drawn = subset.draw(
        arguments.source, arguments.dest, hours=arguments.hours, split=arguments.split, seed=arguments.seed
    )
    summary = prepare.subset(drawn.rows, arguments.dest, **_measures(arguments))
    note = f"{drawn.drawn:.2f} of {drawn.available:.2f} h of split {arguments.split}"
    return _print_summary(summary._replace(notes=(note,)))


def _checked(verb):
    """Return a kind of preparation that replaces no file of another program without --force."""

    def add(parser):
        verb.add(parser)
        force_flag(parser)

    def run(arguments):
        from sfjax.data import prepare

        sounds = prepare.generated_sounds(arguments.dest) if verb.name in ("rooms", "degraded") else []
        check_outputs(arguments, *prepare.outputs(arguments.dest), *sounds)
        return verb.run(arguments)

    return verb._replace(add=add, run=run)


KINDS = (
    Verb(
        "folder",
        "every sound file below a folder",
        "sfjax prepare folder recordings speech.parquet",
        _add_folder,
        _run_folder,
    ),
    Verb(
        "pairs",
        "clean files and noisy files of the same names",
        "sfjax prepare pairs clean noisy pairs.parquet",
        _add_pairs,
        _run_pairs,
    ),
    Verb(
        "jsonl",
        "a list with one JSON object per line: path, speaker, text, split …",
        "sfjax prepare jsonl manifest.jsonl speech.parquet --where set=train-clean-100",
        _add_jsonl,
        _run_jsonl,
    ),
    Verb(
        "parquet",
        "data sets of Hugging Face: Parquet files with a column of sound",
        "sfjax prepare parquet dataset/data speech.parquet --shards",
        _add_parquet,
        _run_parquet,
    ),
    Verb(
        "lhotse",
        "cuts of lhotse, as JSON lines",
        "sfjax prepare lhotse cuts.jsonl.gz speech.parquet",
        _add_lhotse,
        _run_lhotse,
    ),
    Verb(
        "merge",
        "join the manifests of several parts into one in the same folder",
        "sfjax prepare merge part0.parquet part1.parquet speech.parquet",
        _add_merge,
        _run_merge,
    ),
    Verb(
        "subset",
        "draw some hours of a manifest at random, and keep its other splits",
        "sfjax prepare subset speech.parquet hours_10.parquet --hours 10",
        _add_subset,
        _run_subset,
    ),
    Verb(
        "align",
        "add phones to a manifest, from alignments of its recordings",
        "sfjax prepare align speech.parquet textgrids phones.parquet",
        _add_align,
        _run_align,
    ),
    Verb(
        "protocol",
        "a fixed list of utterances to speak after prompts, or to edit",
        "sfjax prepare protocol phones.parquet cross.parquet --kind cross --split test",
        _add_protocol,
        _run_protocol,
    ),
    Verb(
        "mixtures",
        "a fixed list of mixtures, drawn from a manifest of speech",
        "sfjax prepare mixtures speech.parquet mixtures.parquet --count 100",
        _add_mixtures,
        _run_mixtures,
    ),
    Verb(
        "rooms",
        "impulse responses of simulated rooms",
        "sfjax prepare rooms rooms.parquet --count 500",
        _add_rooms,
        _run_rooms,
    ),
    Verb(
        "degraded",
        "a fixed list of degraded recordings, with each kind of degradation alone and with all together",
        "sfjax prepare degraded speech.parquet degraded.parquet --noise noise.parquet --rooms rooms.parquet "
        "--count 20 --split valid",
        _add_degraded,
        _run_degraded,
    ),
    *map(_corpus, CORPORA),
)
PREPARE = Group(
    "prepare",
    "Check sound files and write a manifest of them.",
    "sfjax prepare folder recordings speech.parquet",
    "SOURCE",
    tuple(map(_checked, KINDS)),
)
