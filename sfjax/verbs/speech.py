"""`sfjax speak`, `recite`, `edit` and `infill`: speech that was never recorded, alone or inside a recording."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sfjax.errors import UserError, complain
from sfjax.verbs.verb import Verb, introduce, load_model, model_flags, sampling, sampling_flags
from sfjax.weights import SPEAKER, TIMING


def _voice_flags(one, *, words):
    one.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.wav", help="where the result goes")
    _models_flags(one, words=words)
    if words:
        one.add_argument("--lexicon", type=Path, metavar="FILE.dict", help="of MFA or CMU; default: CMU's for English")
        one.add_argument("--speed", type=float, default=1.0, help="0.25 to 4")
        one.add_argument("--textgrid", type=Path, metavar="OUT.TextGrid", help="write words and phones of the result")
    sampling_flags(one)


def _models_flags(one, *, words):
    model_flags(one, required=not words, default=SPEAKER if words else None)
    one.add_argument("--vocoder", metavar="MODEL", help="named likewise, or a published HiFi-GAN; default: Griffin-Lim")
    if words:
        one.add_argument(
            "--timing", metavar="MODEL", help=f"a model of durations, named likewise; default for {SPEAKER}: {TIMING}"
        )


def _add_speak(one):
    one.add_argument("text", help='with <break time="500ms"/> for a pause; - reads standard input')
    one.add_argument("--prompt", type=Path, metavar="FILE", help="some 3 s of the voice to speak in")
    said = one.add_mutually_exclusive_group()
    said.add_argument("--prompt-text", metavar="TEXT", help="what is said in it")
    said.add_argument("--prompt-textgrid", type=Path, metavar="FILE", help="the same, aligned")
    one.add_argument(
        "--durations", type=Path, metavar="FILE.json", help="how long each phone lasts, instead of --timing"
    )
    one.add_argument("--write-durations", type=Path, metavar="FILE.json", help="write them, to change and read again")
    _voice_flags(one, words=True)


def _run_speak(arguments):
    from sfjax import audio, container
    from sfjax.text import alignment, timing

    given = (arguments.prompt_text, arguments.prompt_textgrid)
    if (arguments.prompt is None) != (given == (None, None)):
        raise UserError("--prompt goes with --prompt-text or --prompt-textgrid; give both, or neither for any voice")
    if arguments.timing is not None and arguments.durations is not None:
        raise UserError("--timing and --durations both say how long phones last; give one")
    if arguments.durations is None and _timing(arguments) is None:
        raise UserError("expected --timing RUN, a model of durations, or --durations FILE.json; give one")
    container.named(arguments.output)
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
    prompt = None
    if arguments.prompt is not None:
        wave, rate = audio.read(arguments.prompt)
        said = _said(arguments.prompt_text, arguments.prompt_textgrid, wave, rate)
        prompt = (wave, rate, said)
    model, hop = _model(arguments), 0.01
    lines = None if arguments.durations is None else timing.read(arguments.durations, hop_seconds=hop)
    made = model.speak(
        text, prompt=prompt, lexicon=_lexicon(arguments), lines=lines, speed=arguments.speed, seed=arguments.seed,
        **sampling(arguments),
    )  # fmt: skip
    _say_unknown(made.unknown)
    audio.write(arguments.output, made.wave, made.rate)
    if arguments.write_durations is not None:
        timing.write(arguments.write_durations, made.lines, hop_seconds=hop)
    if arguments.textgrid is not None:
        alignment.write_textgrid(arguments.textgrid, made.line)
    seconds, spent = len(made.wave) / made.rate, sum(made.spent.values())
    print(f"{arguments.output}: {seconds:.2f} s, made in {spent:.1f} s", file=sys.stderr)


def _add_recite(one):
    one.add_argument("list", type=Path, metavar="LIST.parquet", help="made by `sfjax prepare protocol`")
    one.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="said, made, prompt, resynthesised"
    )
    _models_flags(one, words=True)
    sampling_flags(one)
    one.add_argument("--force", action="store_true", help="say also what is there")


def _run_recite(arguments):
    from tqdm import tqdm

    from sfjax import recital
    from sfjax.data import manifest

    found = manifest.read(arguments.list, split=None)
    model = _model(arguments)
    with tqdm(total=len(found), unit="row", desc="recite", disable=None) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        made = recital.recite(
            model, found, arguments.output, seed=arguments.seed, force=arguments.force, progress=progress,
            **sampling(arguments),
        )  # fmt: skip
    print(f"{arguments.output}: {made.said} said, {made.there} there already; they are scored by", file=sys.stderr)
    print("\n".join(_scoring(arguments, found.table.column("protocol")[0].as_py())))
    for reject in made.failed:
        print(f"  {reject.path}: {reject.reason}", file=sys.stderr)
    return complain(f"{len(made.failed)} of {len(found)} could not be said, as said above") if made.failed else 0


def _scoring(arguments, test):
    """The commands that score what was said, into reports beside it that `sfjax evaluate --table` finds."""
    place = lambda *parts: shlex.quote(str(arguments.output.joinpath(*parts)))
    report = lambda kind: shlex.quote(str(arguments.output.with_name(f"{test}{kind}.json")))
    yield f"sfjax wer {place('said')} --text {shlex.quote(str(arguments.list))} -o {report('')}"
    for kind, reference in (("_sim_o", "prompt"), ("_sim_r", "resynthesised")):
        yield f"sfjax similarity --reference {place(reference)} --estimate {place('made')} -o {report(kind)}"


def _add_edit(one):
    one.add_argument("file", type=Path, metavar="FILE")
    said = one.add_mutually_exclusive_group(required=True)
    said.add_argument("--from", dest="old", metavar="TEXT", help="what is said in it")
    said.add_argument("--textgrid-in", type=Path, metavar="FILE", help="the same, aligned")
    one.add_argument("--to", dest="new", required=True, metavar="TEXT", help="what is to be said in it")
    _voice_flags(one, words=True)


def _run_edit(arguments):
    from sfjax import splice
    from sfjax.text import alignment

    _elsewhere(arguments)
    if _timing(arguments) is None:
        raise UserError("expected --timing RUN, a model of durations, which says how long the new words last")
    wave, rate, _ = splice.read(arguments.file)
    model = _model(arguments)
    old = _said(arguments.old, arguments.textgrid_in, wave, rate)
    made = model.edit(
        wave, rate, old=old, new=arguments.new, lexicon=_lexicon(arguments), speed=arguments.speed,
        seed=arguments.seed, **sampling(arguments),
    )  # fmt: skip
    _say_unknown(made.unknown)
    _write(arguments, made.wave)
    if arguments.textgrid is not None:
        alignment.write_textgrid(arguments.textgrid, made.line)
    start, end = made.span
    print(f"{arguments.output}: new from {start:.2f} to {end:.2f} s", file=sys.stderr)


def _add_infill(one):
    one.add_argument("file", type=Path, metavar="FILE")
    one.add_argument("--gaps", metavar="A-B[,C-D…]", help="in seconds; default: where the samples are exactly 0")
    one.add_argument("--shortest", type=float, default=0.005, help="seconds of zeros that are a gap")
    _voice_flags(one, words=False)


def _run_infill(arguments):
    from sfjax import splice

    _elsewhere(arguments)
    wave, rate, _ = splice.read(arguments.file)
    if arguments.gaps is not None:
        gaps = splice.read_gaps(arguments.gaps, rate, len(wave))
    else:
        gaps = splice.gaps(wave, shortest=max(1, round(arguments.shortest * rate)))
        if not gaps:
            raise UserError(f"{arguments.file}: no {arguments.shortest:g} s of it are exactly 0; name gaps by --gaps")
    made = _model(arguments).infill(wave, rate, gaps=gaps, seed=arguments.seed, **sampling(arguments))
    _write(arguments, made)
    seconds = sum(end - start for start, end in gaps) / rate
    print(f"{arguments.output}: {len(gaps)} gaps filled, {seconds:.2f} s in all", file=sys.stderr)


def _model(arguments):
    import dataclasses

    from sfjax import companions

    model = load_model(arguments)
    if arguments.vocoder is not None:
        model = dataclasses.replace(model, vocoder=companions.load_vocoder(arguments.vocoder, model.spec))
    if "timing" in arguments and (named := _timing(arguments)) is not None:
        model = dataclasses.replace(model, timing=companions.load_timing(named))
    introduce(f"{arguments.verb} by {arguments.vocoder or 'Griffin-Lim'} with", model, arguments.model)
    return model


def _timing(arguments):
    """The model of durations that flags name, or the one that belongs to the model of this package."""
    return TIMING if arguments.timing is None and arguments.model == SPEAKER else arguments.timing


def _said(text, textgrid, wave, rate):
    """What is said in a recording: a text, or the line of its TextGrid."""
    from sfjax.text import alignment, phones

    return text if textgrid is None else phones.line(alignment.read_textgrid(textgrid), -(-len(wave) * 100 // rate))


def _lexicon(arguments):
    from sfjax.text import pronounce

    return None if arguments.lexicon is None else pronounce.read_lexicon(arguments.lexicon)


def _say_unknown(words):
    if words:
        print(f"not in the lexicon, spelled by rule: {', '.join(words)}", file=sys.stderr)


def _elsewhere(arguments):
    from sfjax import container

    container.named(arguments.output)
    if arguments.output.exists() and arguments.file.exists() and arguments.output.samefile(arguments.file):
        raise UserError(f"{arguments.file} would be overwritten by its own result; choose another name")


def _write(arguments, wave):
    from sfjax import splice

    lossy = splice.write(arguments.output, wave, arguments.file)
    if lossy:
        print(lossy, file=sys.stderr)


SPEAK = Verb(
    "speak", "Say a text in the voice of a recording.",
    'sfjax speak "Hello there." --prompt p.wav --prompt-text "What is said in it." -o out.wav',
    _add_speak, _run_speak,
)  # fmt: skip
RECITE = Verb(
    "recite", "Say a whole list of `sfjax prepare protocol`, to be scored.",
    "sfjax recite cross.parquet -o runs/speak/recited --model runs/speak --timing runs/durations",
    _add_recite, _run_recite,
)  # fmt: skip
EDIT = Verb(
    "edit", "Change words in a recording, and nothing else.",
    'sfjax edit in.wav --from "old words" --to "new words" -o out.wav',
    _add_edit, _run_edit,
)  # fmt: skip
INFILL = Verb(
    "infill", "Fill dropouts of a recording; no text is wanted.",
    "sfjax infill lossy.wav -o whole.wav --model runs/pretrain", _add_infill, _run_infill,
)  # fmt: skip
