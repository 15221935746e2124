"""`sfjax speak`, `speak-list`, `edit` and `infill`: synthesize speech, alone or inside a recording."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sfjax.cli.verb import Verb, check_outputs, force_flag, introduce, load_model, model_flags, sampling, sampling_flags
from sfjax.errors import UserError, complain
from sfjax.weights import DURATION_MODEL, DURATION_MODELS, SPEAKER


def _add_speak(parser):
    parser.add_argument("text", help='text to speak; <break time="500ms"/> is a pause; - reads standard input')
    parser.add_argument("--prompt", type=Path, metavar="FILE", help="recording of the voice to speak in, about 3 s")
    transcript = parser.add_mutually_exclusive_group()
    transcript.add_argument(
        "--prompt-text", metavar="TEXT", help="words of the prompt; default: as pocketsphinx hears them"
    )
    transcript.add_argument(
        "--prompt-textgrid", type=Path, metavar="FILE", help="words and phones of the prompt, aligned"
    )
    parser.add_argument(
        "--durations", type=Path, metavar="FILE.json", help="lengths of all phones, instead of --duration-model"
    )
    parser.add_argument(
        "--write-durations",
        type=Path,
        metavar="FILE.json",
        help="file for the lengths of all phones, to change them and read them with --durations",
    )
    _voice_flags(parser, words=True)


def _run_speak(arguments):
    from sfjax import audio, audio_io
    from sfjax.text import durations, encoding, textgrid

    has_transcript = arguments.prompt_text is not None or arguments.prompt_textgrid is not None
    if has_transcript and arguments.prompt is None:
        raise UserError("--prompt-text and --prompt-textgrid describe a prompt; give its recording with --prompt, too")
    if arguments.duration_model is not None and arguments.durations is not None:
        raise UserError("--duration-model and --durations both set the lengths of phones; give one of them")
    if arguments.durations is None and _duration_model(arguments) is None:
        raise UserError("expected --duration-model RUN or --durations FILE.json, got neither; give one of them")
    audio_io.check_suffix(arguments.output)
    sources = arguments.prompt, arguments.prompt_textgrid, arguments.durations, arguments.lexicon
    check_outputs(arguments, arguments.output, arguments.write_durations, arguments.textgrid, inputs=sources)
    text = _read_stdin() if arguments.text == "-" else arguments.text
    encoding.check_characters(text)  # before the model loads
    prompt = None
    if arguments.prompt is not None:
        wave, rate = audio.read(arguments.prompt)
        words = _transcript(arguments.prompt_text, arguments.prompt_textgrid, wave, rate)
        prompt = (wave, rate, words if has_transcript else _recognise(arguments.prompt, wave, rate, "--prompt-text"))
    model = _model(arguments)
    hop = model.spec.hop_seconds
    lines = None if arguments.durations is None else durations.read(arguments.durations, hop_seconds=hop)
    speech = model.speak(
        text,
        prompt=prompt,
        lexicon=_lexicon(arguments),
        lines=lines,
        speed=arguments.speed,
        seed=arguments.seed,
        **sampling(arguments),
    )
    _print_unknown(speech.unknown)
    if clipped := audio.write(arguments.output, speech.wave, speech.rate):
        print(f"{arguments.output}: {clipped} samples were clipped", file=sys.stderr)
    if arguments.write_durations is not None:
        durations.write(arguments.write_durations, speech.lines, hop_seconds=hop)
    if arguments.textgrid is not None:
        textgrid.write_textgrid(arguments.textgrid, speech.line)
    seconds, work_seconds = len(speech.wave) / speech.rate, sum(speech.spent.values())
    print(f"{arguments.output}: {seconds:.2f} s of speech, computed in {work_seconds:.1f} s", file=sys.stderr)


def _read_stdin():
    """Return the text of standard input, which is in UTF-8 whatever the locale says."""
    from sfjax.text import encoding

    return encoding.decode(sys.stdin.buffer.read(), "standard input")


def _add_speak_list(parser):
    parser.add_argument("list", type=Path, metavar="LIST.parquet", help="list from `sfjax prepare protocol`")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder for the results, in full, generated, prompt and vocoded",
    )
    parser.add_argument(
        "--system",
        choices=("model", "truth"),
        default="model",
        help="model: speech by --model; truth: the recordings themselves, without vocoded; default: %(default)s",
    )
    _speech_model_flags(parser, default=SPEAKER)
    _duration_flag(parser)
    sampling_flags(parser)
    force_flag(parser, "synthesize finished utterances again, and replace files that sfjax did not write")


def _run_speak_list(arguments):
    from sfjax.data import manifest
    from sfjax.evaluation.scoring import RATE
    from sfjax.inference import tts_batch

    test_list = manifest.read(arguments.list, split=None)
    if arguments.system == "truth":
        result = tts_batch.write_recordings(test_list, arguments.output, rate=RATE, force=arguments.force)
    else:
        result = _synthesize_list(arguments, test_list)
    verb = "written" if arguments.system == "truth" else "synthesized"
    print(
        f"{arguments.output}: {result.synthesized} {verb}, {result.existing} existed; these commands score them:",
        file=sys.stderr,
    )
    print("\n".join(_scoring_commands(arguments, test_list.table.column("protocol")[0].as_py())))
    for reject in result.failed:
        print(f"  {reject.path}: {reject.reason}", file=sys.stderr)
    if not result.failed:
        return 0
    return complain(f"{len(result.failed)} of {len(test_list)} could not be said; the reasons are listed above")


def _synthesize_list(arguments, test_list):
    from tqdm import tqdm

    from sfjax.inference import tts_batch

    model = _model(arguments)
    with tqdm(total=len(test_list), unit="row", desc="speak-list", disable=None) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        return tts_batch.synthesize(
            model,
            test_list,
            arguments.output,
            seed=arguments.seed,
            force=arguments.force,
            progress=progress,
            **sampling(arguments),
        )


def _scoring_commands(arguments, protocol):
    """Yield the commands that score the speech; their reports lie where `sfjax evaluate --table` reads them."""

    def folder(name):
        return shlex.quote(str(arguments.output / name))

    def report(kind):
        return shlex.quote(str(arguments.output.with_name(f"{protocol}{kind}.json")))

    yield f"sfjax wer {folder('full')} --text {shlex.quote(str(arguments.list))} -o {report('')}"
    references = {"_sim_o": "prompt"} | ({} if arguments.system == "truth" else {"_sim_r": "vocoded"})
    for kind, reference in references.items():
        yield f"sfjax similarity --reference {folder(reference)} --estimate {folder('generated')} -o {report(kind)}"


def _add_convert(parser):
    parser.add_argument("file", type=Path, metavar="FILE", help="recording whose words and timing to keep")
    parser.add_argument("--text", metavar="TEXT", help="words of the recording; default: as pocketsphinx hears them")
    parser.add_argument(
        "--voice", required=True, type=Path, metavar="FILE", help="recording of the voice to speak in, about 3 s"
    )
    parser.add_argument(
        "--voice-text", metavar="TEXT", help="words of this recording; default: as pocketsphinx hears them"
    )
    _output_flags(parser)
    _speech_model_flags(parser, default=SPEAKER)
    sampling_flags(parser)


def _run_convert(arguments):
    from sfjax import audio

    _check_output(arguments)
    if arguments.voice.exists() and arguments.file.exists() and arguments.voice.samefile(arguments.file):
        raise UserError(f"{arguments.file} is both the recording and the voice; give another voice with --voice")
    wave, rate = audio.read(arguments.file)
    voice, voice_rate = audio.read(arguments.voice)
    model = _model(arguments)
    text, voice_text = arguments.text, arguments.voice_text
    text = _recognise(arguments.file, wave, rate, "--text") if text is None else text
    voice_text = _recognise(arguments.voice, voice, voice_rate, "--voice-text") if voice_text is None else voice_text
    prompt = (voice, voice_rate, voice_text)
    speech = model.convert(wave, rate, said=text, prompt=prompt, seed=arguments.seed, **sampling(arguments))
    audio.write(arguments.output, speech.wave, speech.rate)
    print(f"{arguments.output}: {len(speech.wave) / speech.rate:.2f} s of converted speech", file=sys.stderr)


def _add_edit(parser):
    parser.add_argument("file", type=Path, metavar="FILE", help="recording to change")
    transcript = parser.add_mutually_exclusive_group(required=True)
    transcript.add_argument("--from", dest="old", metavar="TEXT", help="words of the recording")
    transcript.add_argument(
        "--textgrid-in", type=Path, metavar="FILE", help="words and phones of the recording, aligned"
    )
    parser.add_argument("--to", dest="new", required=True, metavar="TEXT", help="words of the result")
    _voice_flags(parser, words=True)


def _run_edit(arguments):
    from sfjax.inference import splicing
    from sfjax.text import textgrid

    _check_output(arguments)
    if _duration_model(arguments) is None:
        raise UserError("expected --duration-model RUN for the lengths of the new words, got none")
    wave, rate, _ = splicing.read(arguments.file)
    model = _model(arguments)
    old = _transcript(arguments.old, arguments.textgrid_in, wave, rate)
    edit = model.edit(
        wave,
        rate,
        old=old,
        new=arguments.new,
        lexicon=_lexicon(arguments),
        speed=arguments.speed,
        seed=arguments.seed,
        **sampling(arguments),
    )
    _print_unknown(edit.unknown)
    _write(arguments, edit.wave)
    if arguments.textgrid is not None:
        textgrid.write_textgrid(arguments.textgrid, edit.line)
    start, end = edit.span
    print(f"{arguments.output}: new from {start:.2f} to {end:.2f} s", file=sys.stderr)


def _add_infill(parser):
    parser.add_argument("file", type=Path, metavar="FILE", help="recording with gaps")
    parser.add_argument(
        "--gaps", metavar="A-B[,C-D…]", help="gaps in seconds; default: wherever the samples are exactly 0"
    )
    parser.add_argument(
        "--shortest", type=float, default=0.005, help="shortest run of zeros that is a gap, in seconds; default: 0.005"
    )
    _voice_flags(parser, words=False)


def _run_infill(arguments):
    from sfjax.inference import splicing

    _check_output(arguments)
    wave, rate, _ = splicing.read(arguments.file)
    if arguments.gaps is not None:
        gaps = splicing.read_gaps(arguments.gaps, rate, len(wave))
    else:
        gaps = splicing.gaps(wave, shortest=max(1, round(arguments.shortest * rate)))
        if not gaps:
            raise UserError(
                f"{arguments.file}: expected samples that are exactly 0 for {arguments.shortest:g} s, found none; "
                "give the gaps with --gaps"
            )
    filled = _model(arguments).infill(wave, rate, gaps=gaps, seed=arguments.seed, **sampling(arguments))
    _write(arguments, filled)
    seconds = sum(end - start for start, end in gaps) / rate
    print(f"{arguments.output}: {len(gaps)} gaps filled, {seconds:.2f} s in all", file=sys.stderr)


def _output_flags(parser):
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.wav", help="file for the result")
    force_flag(parser)


def _voice_flags(parser, *, words):
    _output_flags(parser)
    _speech_model_flags(parser, default=SPEAKER if words else None)
    if words:
        _duration_flag(parser)
        parser.add_argument(
            "--lexicon",
            type=Path,
            metavar="FILE.dict",
            help="pronunciations in the format of MFA or CMU; default: the English ones of CMU",
        )
        parser.add_argument("--speed", type=float, default=1.0, help="speaking rate, 0.25 to 4; default: 1")
        parser.add_argument(
            "--textgrid", type=Path, metavar="OUT.TextGrid", help="file for the words and phones of the result"
        )
    sampling_flags(parser)


def _speech_model_flags(parser, *, default):
    model_flags(parser, required=default is None, default=default)
    parser.add_argument(
        "--vocoder",
        metavar="MODEL",
        help="vocoder, named in the same way, or a published HiFi-GAN; default: Griffin-Lim",
    )


def _duration_flag(parser):
    parser.add_argument(
        "--duration-model",
        metavar="MODEL",
        help=f"duration model, named in the same way; default for {SPEAKER}: {DURATION_MODEL}",
    )


def _model(arguments):
    import dataclasses

    from sfjax.inference import auxiliary

    model = load_model(arguments)
    if arguments.vocoder is not None:
        model = dataclasses.replace(model, vocoder=auxiliary.load_vocoder(arguments.vocoder, model.spec))
    if getattr(arguments, "duration_model", None) is not None:
        model = dataclasses.replace(model, duration_model=auxiliary.load_duration_model(arguments.duration_model))
    introduce(f"{arguments.verb} by {arguments.vocoder or 'Griffin-Lim'} with", model, arguments.model)
    return model


def _duration_model(arguments):
    """Return the duration model of the flags, or the package's own for the package's own speaking model."""
    return arguments.duration_model or DURATION_MODELS.get(arguments.model)


def _transcript(text, textgrid, wave, rate):
    """Return the text of a recording, or the phones of its TextGrid if there is one."""
    from sfjax.text import phones
    from sfjax.text.textgrid import read_textgrid

    return text if textgrid is None else phones.line(read_textgrid(textgrid), -(-len(wave) * 100 // rate))


def _recognise(path, wave, rate, flag):
    """Return the words that a recogniser hears in a recording, and print them; `flag` takes them instead."""
    from sfjax.metrics import wer

    words = wer.transcriber("pocketsphinx")(wave, rate)
    if not words:
        raise UserError(f"{path}: the recogniser hears no words; give them with {flag}")
    print(f"{path}: heard {words!r}; if this is wrong, give the words with {flag}", file=sys.stderr)
    return words


def _lexicon(arguments):
    from sfjax.text import g2p

    return None if arguments.lexicon is None else g2p.read_lexicon(arguments.lexicon)


def _print_unknown(words):
    if words:
        print(f"not in the lexicon, spelled by rule: {', '.join(words)}", file=sys.stderr)


def _check_output(arguments):
    from sfjax import audio_io

    audio_io.check_suffix(arguments.output)
    sources = [getattr(arguments, name, None) for name in ("file", "voice", "textgrid_in", "lexicon")]
    check_outputs(arguments, arguments.output, getattr(arguments, "textgrid", None), inputs=sources)


def _write(arguments, wave):
    from sfjax.inference import splicing

    warning = splicing.write(arguments.output, wave, arguments.file)
    if warning:
        print(warning, file=sys.stderr)


SPEAK = Verb(
    "speak",
    "Speak a text in the voice of a recording.",
    'sfjax speak "Hello there." --prompt p.wav --prompt-text "The words of the prompt." -o out.wav',
    _add_speak,
    _run_speak,
)
SPEAK_LIST = Verb(
    "speak-list",
    "Speak every utterance of a test list from `sfjax prepare protocol`.",
    "sfjax speak-list cross.parquet -o runs/speak/cross --model runs/speak --duration-model runs/durations",
    _add_speak_list,
    _run_speak_list,
)
CONVERT = Verb(
    "convert",
    "Say the words of a recording in another voice, with the same timing.",
    "sfjax convert source.wav --voice target.wav -o converted.wav",
    _add_convert,
    _run_convert,
)
EDIT = Verb(
    "edit",
    "Change words in a recording; all other samples stay the same.",
    'sfjax edit in.wav --from "old words" --to "new words" -o out.wav',
    _add_edit,
    _run_edit,
)
INFILL = Verb(
    "infill",
    "Fill gaps in a recording, without a text.",
    "sfjax infill lossy.wav -o whole.wav --model runs/pretrain",
    _add_infill,
    _run_infill,
)
