"""`sfjax prepare`: manifests from folders, pairs, lists, data sets, mixtures and published corpora."""

from __future__ import annotations

import functools
from pathlib import Path

from sfjax.errors import UserError
from sfjax.verbs.verb import Group, Verb, cores

CORPORA = {
    "librispeech": "LibriSpeech: read English",
    "librilight": "Libri-Light: read English without its words, in pieces of at most 16 s",
    "libritts": "LibriTTS: read English, sentence by sentence",
    "vctk": "VCTK 0.92: English sentences in many accents",
    "voicebank": "VoiceBank-DEMAND: noisy read English with the clean recordings",
    "wsj0chime3": "WSJ0-CHiME3: noisy read English with the clean recordings",
    "dns2020": "DNS Challenge of Interspeech 2020: noisy speech with the clean recordings, noise",
    "librimix": "LibriMix: two or three speakers at once, from its folder or a metadata CSV of its generator",
    "wham": "WHAM!: noise of cafes, restaurants, bars and parks",
}
PLACES = {
    "librimix": {
        "speech": "folder of LibriSpeech, if the source is a CSV",
        "noise": "folder of WHAM! if the source is a CSV and its noise is to be added",
    },
}
PROTOCOLS = {
    "cross": "after a prompt of another utterance of the speaker",
    "continued": "after its own beginning",
    "edited": "the words in its centre half anew",
}


def _add_folder(one):
    one.add_argument("source", type=Path)
    _add_rows(one)
    _add_checks(one)


def _run_folder(arguments):
    from sfjax.data import prepare

    return _say(prepare.folder(arguments.source, arguments.dest, **_rows(arguments), **_checks(arguments)))


def _add_pairs(one):
    one.add_argument("source", type=Path, metavar="clean")
    one.add_argument("noisy", type=Path)
    _add_rows(one)
    _add_checks(one)


def _run_pairs(arguments):
    from sfjax.data import prepare

    how = _rows(arguments) | _checks(arguments)
    return _say(prepare.pairs(arguments.source, arguments.noisy, arguments.dest, **how))


def _add_jsonl(one):
    one.add_argument("source", type=Path)
    one.add_argument(
        "--where", nargs="+", default=[], metavar="KEY=VALUE[,VALUE…]",
        help="take only these lines; 'KEY>=NUMBER' takes lines with at least this number",
    )  # fmt: skip
    _add_checks(one)


def _run_jsonl(arguments):
    from sfjax.data import prepare

    how, where, least = _checks(arguments), {}, {}
    for condition in arguments.where:
        key, equals, values = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: expected KEY=VALUE[,VALUE…], as in set=train-clean-100")
        if key.endswith(">"):
            least[key[:-1]] = _limit(condition, values)
        else:
            where[key] = set(values.split(","))
    return _say(prepare.jsonl(arguments.source, arguments.dest, where=where, least=least, **how))


def _limit(condition, text):
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--where {condition}: expected a number behind >=, as in 'dr>=35'") from None


def _add_parquet(one):
    one.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="*.parquet files, or folders of some")
    _add_checks(one)


def _run_parquet(arguments):
    from sfjax.data import prepare

    return _say(prepare.parquet(arguments.sources, arguments.dest, **_checks(arguments)))


def _add_lhotse(one):
    one.add_argument("source", type=Path, metavar="cuts.jsonl[.gz]")
    _add_checks(one)


def _run_lhotse(arguments):
    from sfjax.data import prepare

    return _say(prepare.lhotse(arguments.source, arguments.dest, **_checks(arguments)))


def _add_merge(one):
    one.add_argument("parts", type=Path, nargs="+", metavar="PART.parquet")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--seed", type=int, default=0)


def _run_merge(arguments):
    from sfjax.data import prepare

    return _say(prepare.merge(arguments.parts, arguments.dest, **_measured(arguments)))


def _add_mixtures(one):
    one.add_argument("source", type=Path, metavar="speech.parquet")
    one.add_argument("--noise", type=Path, metavar="noise.parquet", help="add noise of it")
    one.add_argument("--count", type=int, required=True, help="mixtures")
    one.add_argument("--speakers", type=int, default=2, help="in each")
    one.add_argument("--split", help="rows to draw from")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--seed", type=int, default=0)


def _run_mixtures(arguments):
    from sfjax.configs import default
    from sfjax.data import mixtures, prepare

    ranges = default.get_config("tiny").mixture
    rows = mixtures.draw(
        arguments.source, arguments.noise, split=arguments.split, speakers=arguments.speakers, count=arguments.count,
        seed=arguments.seed, loudness=ranges.loudness, noise_loudness=ranges.noise_loudness,
    )  # fmt: skip
    return _say(prepare.generated(rows, arguments.dest, **_measured(arguments)))


def _add_rooms(one):
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--count", type=int, required=True, help="rooms, with one impulse response each")
    one.add_argument("--rt60", type=float, nargs=2, default=(0.15, 1.0), metavar=("LOW", "HIGH"),
                     help="seconds of their decay; default: 0.15 1")  # fmt: skip
    one.add_argument("--valid-share", type=float, default=0.1, help="share of rooms with split valid")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--workers", type=int, default=cores(), help="processes")


def _run_rooms(arguments):
    from sfjax.data import prepare, rooms

    dest, measured = prepare.named(arguments.dest), _measured(arguments)
    rows = rooms.simulate(
        dest.with_suffix(""), count=arguments.count, seed=arguments.seed, rt60=tuple(arguments.rt60),
        valid_share=arguments.valid_share, rate=measured["mel"].sample_rate, workers=arguments.workers,
    )  # fmt: skip
    return _say(prepare.generated(rows, dest, **measured))


def _add_degraded(one):
    one.add_argument("source", type=Path, metavar="speech.parquet")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--noise", type=Path, required=True, metavar="noise.parquet")
    one.add_argument("--rooms", type=Path, required=True, metavar="rooms.parquet", help="impulse responses")
    one.add_argument("--count", type=int, required=True, help="recordings, each with every kind of degradation")
    one.add_argument("--split", help="rows to draw from")
    one.add_argument("--seed", type=int, default=0)


def _run_degraded(arguments):
    from sfjax.configs import restore
    from sfjax.data import degraded, prepare

    config, dest, measured = restore.get_config("tiny"), prepare.named(arguments.dest), _measured(arguments)
    if dest == arguments.source.absolute():
        raise UserError(f"{dest}: the list is its own source; give it another name")
    rows = degraded.draw(
        arguments.source, dest.with_suffix(""), noise=arguments.noise, rooms=arguments.rooms, split=arguments.split,
        count=arguments.count, seed=arguments.seed, seconds=config.data.buckets[-1], rate=config.mel.sample_rate,
        mix=config.mix, degrade=config.degrade,
    )  # fmt: skip
    return _say(prepare.generated(rows, dest, **measured))


def _add_corpus(name, one):
    one.add_argument("source", type=Path, help="its folder")
    for place, text in PLACES.get(name, {}).items():
        one.add_argument(f"--{place}", type=Path, help=text)
    one.add_argument("--sets", nargs="+", default=[], metavar="SET", help="its sets to take, else all that are there")
    _add_checks(one)


def _run_corpus(name, arguments):
    from sfjax.data import prepare

    places = {place: getattr(arguments, place) for place in PLACES.get(name, {})}
    how = _checks(arguments) | {"sets": arguments.sets, "places": places}
    return _say(prepare.corpus(name, arguments.source, arguments.dest, **how))


def _corpus(name):
    return Verb(
        name, CORPORA[name], f"sfjax prepare {name} SRC {name}.parquet",
        functools.partial(_add_corpus, name), functools.partial(_run_corpus, name),
    )  # fmt: skip


def _add_rows(one):
    one.add_argument("--speaker-from", default="parent", help="parent (folder), none, or a regex with one group")
    one.add_argument("--split", help="split of every row")
    one.add_argument("--valid-share", type=float, default=0.0, help="share of speakers held out as split valid")
    one.add_argument("--kind", help="kind of every row, as noise")


def _rows(arguments):
    return {name: getattr(arguments, name) for name in ("speaker_from", "split", "valid_share", "kind")}


def _add_checks(one):
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--min-seconds", type=float, default=0.5, help="shorter files are rejected")
    one.add_argument("--part", default="0/1", metavar="I/N", help="every N-th file from the I-th on; then merge")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--workers", type=int, default=cores(), help="processes")
    one.add_argument(
        "--shards", type=float, nargs="?", const=2.0, metavar="HOURS",
        help="copy the sound, at 16 kHz, into a few big files beside DEST, of so many hours each; default: %(const)g",
    )  # fmt: skip


def _checks(arguments):
    if arguments.shards is not None and not arguments.shards > 0:
        raise UserError(f"--shards {arguments.shards:g}: a shard wants more than 0 hours; 2 is usual")
    checks = {name: getattr(arguments, name) for name in ("min_seconds", "workers", "shards")}
    return checks | {"part": _part(arguments.part)} | _measured(arguments)


def _part(text):
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise UserError(f"--part {text}: expected I/N, this part's number from 0 and how many there are, as in 3/64")
    return int(number), int(count)


def _measured(arguments):
    """How loudness and Mels of what is prepared are measured."""
    from sfjax import audio
    from sfjax.configs import default

    return dict(mel=audio.MelSpec(**default.get_config("tiny").mel), seed=arguments.seed)


def _say(summary):
    rejected = f", {summary.rejected} rejected ({summary.rejects})" if summary.rejected else ""
    speakers = f", {summary.speakers} speakers" if summary.speakers else ""
    print(f"{summary.dest}: {summary.files} recordings, {summary.hours:.2f} h{speakers}{rejected}")
    for line in (*summary.notes, *summary.reasons):
        print(f"  {line}")


def _add_align(one):
    one.add_argument("source", type=Path, metavar="speech.parquet")
    one.add_argument("alignments", type=Path, help="folder of TextGrids, or a list as .jsonl, .jsonl.xz or .jsonl.gz")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--longest", type=float, default=0.5, help="seconds of a phone that is no mistake of the aligner")


def _run_align(arguments):
    from sfjax import audio
    from sfjax.configs import default
    from sfjax.data import align

    spec = audio.MelSpec(**default.get_config("tiny").mel)
    done = align.run(arguments.source, arguments.alignments, arguments.dest, longest=arguments.longest, spec=spec)
    why = ", ".join(f"{count} with {reason}" for reason, count in done.reasons.items())
    rejected = f", {sum(done.reasons.values())} left out ({why}; {done.rejects})" if done.reasons else ""
    repaired = f", {done.repaired} overlaps repaired" if done.repaired else ""
    print(f"{done.dest}: {done.files} recordings with phones, {done.hours:.2f} h{rejected}{repaired}")


def _add_protocol(one):
    one.add_argument("source", type=Path, metavar="phones.parquet")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument(
        "--kind", required=True, choices=tuple(PROTOCOLS), metavar="KIND",
        help="; ".join(f"{kind}: {text}" for kind, text in PROTOCOLS.items()),
    )  # fmt: skip
    one.add_argument("--split", help="rows of this split only")
    one.add_argument("--seconds", type=float, default=3.0, help="of a prompt, to the nearest end of a word")
    one.add_argument("--between", type=float, nargs=2, default=(4.0, 10.0), metavar=("LOW", "HIGH"),
                     help="seconds that an utterance lasts; default: 4 10")  # fmt: skip
    one.add_argument("--seed", type=int, default=0, help="of the choice of prompts")


def _run_protocol(arguments):
    from sfjax.data import manifest, prepare, protocol

    if prepare.named(arguments.dest) == arguments.source.absolute():
        raise UserError(f"{arguments.dest}: the list is its own source; give it another name")
    measured = _measured(arguments)
    rows, rejects = protocol.listed(
        manifest.read(arguments.source, split=arguments.split), arguments.kind, seconds=arguments.seconds,
        between=tuple(arguments.between), seed=arguments.seed,
        hop_seconds=measured["mel"].hop / measured["mel"].sample_rate,
    )  # fmt: skip
    return _say(prepare.protocol(rows, rejects, arguments.dest, **measured))


def _add_subset(one):
    one.add_argument("source", type=Path, metavar="speech.parquet")
    one.add_argument("dest", type=Path, metavar="DEST.parquet")
    one.add_argument("--hours", type=float, required=True, help="to draw, utterance by utterance")
    one.add_argument("--split", default="train", help="rows to draw from; all others stay; default: %(default)s")
    one.add_argument("--seed", type=int, default=0)


def _run_subset(arguments):
    from sfjax.data import prepare, subset

    found = subset.draw(
        arguments.source, arguments.dest, hours=arguments.hours, split=arguments.split, seed=arguments.seed
    )
    done = prepare.subset(found.rows, arguments.dest, **_measured(arguments))
    return _say(done._replace(notes=(f"{found.drawn:.2f} of {found.there:.2f} h of split {arguments.split}",)))


PREPARE = Group(
    "prepare", "Check audio and write a manifest of it.", "sfjax prepare folder recordings speech.parquet", "SOURCE",
    (
        Verb(
            "folder", "every sound file below a folder", "sfjax prepare folder recordings speech.parquet",
            _add_folder, _run_folder,
        ),
        Verb(
            "pairs", "clean files and noisy ones of the same names", "sfjax prepare pairs clean noisy pairs.parquet",
            _add_pairs, _run_pairs,
        ),
        Verb(
            "jsonl", "a list with one JSON object a line: path, speaker, text, split …",
            "sfjax prepare jsonl manifest.jsonl speech.parquet --where set=train-clean-100", _add_jsonl, _run_jsonl,
        ),
        Verb(
            "parquet", "data sets as Hugging Face keeps them: Parquet files with a column of sound",
            "sfjax prepare parquet dataset/data speech.parquet --shards", _add_parquet, _run_parquet,
        ),
        Verb(
            "lhotse", "cuts of lhotse, as JSON lines", "sfjax prepare lhotse cuts.jsonl.gz speech.parquet", _add_lhotse,
            _run_lhotse,
        ),
        Verb(
            "merge", "the manifests of several parts, into one beside them",
            "sfjax prepare merge part0.parquet part1.parquet speech.parquet", _add_merge, _run_merge,
        ),
        Verb(
            "subset", "so many hours of a manifest, drawn at random, with its other splits",
            "sfjax prepare subset speech.parquet hours_10.parquet --hours 10", _add_subset, _run_subset,
        ),
        Verb(
            "align", "a manifest and the alignments of its recordings, into one with phones",
            "sfjax prepare align speech.parquet textgrids phones.parquet", _add_align, _run_align,
        ),
        Verb(
            "protocol", "a fixed list of utterances to say after prompts, or to say in part anew",
            "sfjax prepare protocol phones.parquet cross.parquet --kind cross --split test",
            _add_protocol, _run_protocol,
        ),
        Verb(
            "mixtures", "a fixed list of mixtures, drawn from a manifest of speech",
            "sfjax prepare mixtures speech.parquet mixtures.parquet --count 100", _add_mixtures, _run_mixtures,
        ),
        Verb(
            "rooms", "impulse responses of simulated rooms", "sfjax prepare rooms rooms.parquet --count 500",
            _add_rooms, _run_rooms,
        ),
        Verb(
            "degraded", "a fixed list of degraded recordings, each kind of degradation by itself and all together",
            "sfjax prepare degraded speech.parquet degraded.parquet --noise noise.parquet --rooms rooms.parquet "
            "--count 20 --split valid", _add_degraded, _run_degraded,
        ),
        *map(_corpus, CORPORA),
    ),
)  # fmt: skip
