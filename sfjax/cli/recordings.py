"""`sfjax enhance`, `sfjax separate` and `sfjax extract`: process sound files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sfjax.cli import live
from sfjax.cli.verb import (
    CLOSED,
    Verb,
    check_outputs,
    force_flag,
    introduce,
    load_model,
    model_flags,
    reconstruct_flag,
    sampling,
    sampling_flags,
)
from sfjax.errors import UserError, complain
from sfjax.weights import ENHANCER, EXTRACTOR, SEPARATOR

STREAM = "-"  # standard input, whose result goes to standard output
SUFFIXES = {"WAVEX": "wav", "RF64": "wav", "OPUS": "opus"}  # of formats and encodings whose name is not their suffix


def _add_enhance(parser):
    _add_flags(parser, "named like the inputs; default: enhanced; for - standard output", files="*", default=ENHANCER)
    parser.add_argument(
        "--live",
        action="store_true",
        help="clean the sound of the microphone while it arrives, with a causal model (configs/live.py); with -, raw "
        "16-bit mono samples from standard input to standard output",
    )
    parser.add_argument("--rate", type=int, metavar="HZ", help="sample rate with --live; default: the model's")
    parser.add_argument(
        "--to-rate",
        type=int,
        metavar="HZ",
        help="give mono recordings of a lower rate, such as telephone calls, this rate: a vocoder generates what lies "
        "above their band; 16000 for the models of this package; default: the rate of each recording",
    )


def _run_enhance(arguments):
    if arguments.live:
        return live.run(arguments)
    if not arguments.files or arguments.rate is not None:
        reason = "--rate needs --live" if arguments.files else "expected recordings or --live"
        raise UserError(f"{reason}; see `sfjax enhance --help`")
    return _run(arguments, "enhanced", lambda model: model.enhancing(), lambda name: [_result_name(name)])


def _add_separate(parser):
    _add_flags(parser, "s1/FILE, s2/FILE …; default: separated", default=SEPARATOR)
    parser.add_argument("--speakers", type=int, default=2, help="number that the model was trained for; default: 2")


def _run_separate(arguments):
    if STREAM in arguments.files and arguments.output is None:
        raise UserError("cannot write several speakers to standard output; use -o FOLDER")

    def results(name):
        return [Path(f"s{speaker}") / _result_name(name) for speaker in range(1, arguments.speakers + 1)]

    return _run(arguments, "separated", lambda model: model.separating(arguments.speakers), results)


def _add_extract(parser):
    _add_flags(parser, "named like the inputs; default: extracted; for - standard output", default=EXTRACTOR)
    parser.add_argument(
        "--voice", required=True, type=Path, metavar="FILE", help="recording of the speaker to extract, 1 to 5 s"
    )


def _run_extract(arguments):
    return _run(arguments, "extracted", lambda model: model.extracting(), lambda name: [_result_name(name)])


def _add_flags(parser, results, files="+", **model):
    parser.add_argument(
        "files",
        nargs=files,
        metavar="FILE|FOLDER",
        help="recordings; a folder means all recordings in it, at any depth, except hidden ones; - is standard input",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help=f"folder for the results, {results}")
    force_flag(
        parser,
        "process finished files again, and replace files that sfjax did not write; without it, a result is skipped if "
        "it is complete and its comment names the same recording, model, options and seed (in WAV, FLAC, Ogg, Opus and "
        "MP3)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw spectrograms of the first file, before and after"
    )
    parser.add_argument("--json", action="store_true", help="report each file as JSON on standard output")
    model_flags(parser, **model)
    sampling_flags(parser)
    reconstruct_flag(parser)


def _result_name(name):
    """Return the name of a recording's result: a WAV if the format of the recording cannot be written."""
    from sfjax import audio_io

    return (
        name
        if name.suffix.lower() not in audio_io.SUFFIXES or name.suffix.lower() in audio_io.CONTAINERS
        else name.with_suffix(".wav")
    )


def _run(arguments, default_folder, task_of, results):
    """Process all files with the task `task_of(model)`; return the exit code.

    `results(name)` are the paths of a recording's results below the output folder.
    """
    streaming = STREAM in arguments.files and arguments.output is None
    _check(arguments, streaming)
    with contextlib.ExitStack() as stack:
        stdin_file = None
        if STREAM in arguments.files:
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sfjax-")))
            stdin_file = _save_stdin(temporary)
            default_folder = temporary / default_folder if streaming else default_folder
        out = arguments.output or Path(default_folder)
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: expected a folder for the results, found a file; choose another with -o")
        inputs, passed_over = _find_inputs(arguments.files, out, stdin_file)
        files, refused = _assign_targets(inputs, out, results, voice=getattr(arguments, "voice", None))
        report = _process(arguments, task_of, files, refused)
        _print_counts(report, "standard output" if streaming else out, passed_over, stdin_file)
        return _write_reports(arguments, report, passed_over, stdin_file, streaming)


def _check(arguments, streaming):
    if arguments.output == Path(STREAM):
        raise UserError("-o must be a folder, got -; the result goes to standard output if - is the only input")
    if streaming and arguments.files != [STREAM]:
        raise UserError("the result of - goes to standard output; give - alone, or a folder for all results with -o")
    if streaming and arguments.json:
        raise UserError("--json and the result of - cannot share standard output; give a folder for the result with -o")
    if streaming and (sys.stdout is None or sys.stdout.isatty()):
        raise UserError("sound does not go to a terminal; redirect standard output with > FILE, or give -o")
    if arguments.json and sys.stdout is None:
        raise UserError("--json needs standard output, but it is closed; redirect it with > FILE")
    if STREAM in arguments.files and (sys.stdin is None or sys.stdin.isatty()):
        raise UserError("expected a recording on standard input, found a terminal or nothing; give one with < FILE")
    if arguments.plot is not None and arguments.plot.suffix.lower() != ".png":
        raise UserError(f"--plot must end in .png, got {arguments.plot}")
    check_outputs(arguments, arguments.plot)


def _save_stdin(folder):
    """Write standard input to a file whose suffix fits its content; return the path."""
    from sfjax import audio

    path = folder / "stdin"
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    try:
        info = audio.probe(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), "standard input")) from None
    suffix = SUFFIXES.get(info.subtype) or SUFFIXES.get(info.format) or info.format.lower()
    return path.rename(path.with_suffix(f".{suffix}"))


# Inputs and their results


def _find_inputs(words, out, stdin_file):
    """Return the inputs as (path, name below `out`, reason to refuse it), and the number of other files in folders."""
    from sfjax import audio_io

    inputs, passed_over = [], 0
    for word in words:
        path = stdin_file if word == STREAM else Path(word)
        if word == STREAM or not os.path.isdir(word):
            inputs.append((path, Path(path.name), ""))
            continue
        if out.exists() and path.samefile(out):
            inputs.append((path, None, f"{path} is where the results go; choose another folder for them with -o"))
            continue
        count_before = len(inputs)
        for file, reason in audio_io.walk(path, excluded=out):
            if reason is None:
                passed_over += 1
            else:
                inputs.append((file, file.relative_to(path), f"{file}: {reason}" if reason else ""))
        if len(inputs) == count_before:
            inputs.append((path, None, f"{path}: expected a folder with sound files, found none; check the path"))
    return inputs, passed_over


def _assign_targets(inputs, out, results, *, voice):
    """Return the recordings with the files to write for them, and the inputs that are refused.

    `voice` is the recording that --voice names, or None; it is neither a mixture nor overwritten.
    """
    from sfjax import audio_io
    from sfjax.inference.batch import FileResult

    sources = {identity: path for path, _, reason in inputs if not reason for identity in audio_io.identity(path)}
    files, refused, taken = [], [], {}
    voices = set() if voice is None else audio_io.identity(voice)
    sources |= dict.fromkeys(voices, voice)
    for path, name, reason in inputs:
        if not reason and audio_io.identity(path) & voices:
            reason = f"{path} is both a mixture and the voice; leave it out, or give another recording with --voice"
        targets = [] if reason else [out / result for result in results(name)]
        if clashes := [target for target in targets if target in taken]:
            reason = f"{taken[clashes[0]]} and {path} would both be written to {clashes[0]}; use two commands"
        elif lost := [sources[each] for target in targets for each in audio_io.identity(target) if each in sources]:
            writer = "its own result" if lost[0] == path else f"the result of {path}"
            reason = f"{lost[0]} would be overwritten by {writer}; choose another folder"
        if reason:
            refused.append(FileResult(path, targets, None, "failed", reason))
        else:
            files.append((path, targets))
            taken |= dict.fromkeys(targets, path)
    return files, refused


# Work and reports


def _process(arguments, task_of, files, refused):
    """Run the model over all files; return the report that `--json` prints, with `FileResult` objects as files."""
    from tqdm import tqdm

    from sfjax.inference import bandwidth
    from sfjax.inference.batch import process_files

    model = load_model(arguments)
    task, voice = task_of(model), _voice(arguments, model)
    if (to_rate := getattr(arguments, "to_rate", None)) is not None:
        bandwidth.check_rate(to_rate, model.spec)
        model = model.with_vocoder()
    introduce(f"{arguments.verb} with", model, arguments.model)
    began = time.perf_counter()
    with tqdm(unit="s", unit_scale=True, desc=arguments.verb, disable=None) as bar:

        def progress(seconds, total):
            bar.total = total
            bar.update(seconds)

        treated = process_files(
            model,
            task,
            files,
            seed=arguments.seed,
            force=arguments.force,
            voice=voice,
            to_rate=to_rate,
            progress=progress,
            **sampling(arguments),
        )
    work_seconds = time.perf_counter() - began
    treated = [*refused, *treated]
    audio_seconds = sum(file.info.frames / file.info.rate for file in treated if file.status == "written")
    return {
        "verb": arguments.verb,
        "model": model.name,
        "phase": None if arguments.phase is None else str(arguments.phase),
        "options": model.sampling(sampling(arguments), task) | {"seed": arguments.seed},
        "files": treated,
        "audio_seconds": audio_seconds,
        "work_seconds": work_seconds,
        "real_time_factor": work_seconds / audio_seconds if audio_seconds else None,
    }


def _voice(arguments, model):
    """Return the enrolment that --voice names; empty for commands without this flag."""
    from sfjax.inference.chunking import NO_VOICE
    from sfjax.inference.enrolment import enrolment

    if (path := getattr(arguments, "voice", None)) is None:
        return NO_VOICE
    try:
        return enrolment(path, None, model.spec)
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _print_counts(report, out, passed_over, stdin_file):
    """Print a line for each failed file and one with the numbers of files on standard error."""
    count = {status: 0 for status in ("written", "there already", "failed")}
    for file in report["files"]:
        count[file.status] += 1
        if file.reason:
            complain(_name_stdin(file.reason, stdin_file))
        if file.note:
            print(_name_stdin(file.note, stdin_file), file=sys.stderr)
    parts = [f"{count['written']} of {len(report['files'])} files written to {out}"]
    parts += [f"{count[status]} {status}" for status in ("there already", "failed") if count[status]]
    parts += [f"{passed_over} other files passed over"] if passed_over else []
    print(", ".join(parts), file=sys.stderr)


def _write_reports(arguments, report, passed_over, stdin_file, streaming):
    """Write the result of - and the JSON report to standard output, and the plot to its file; return the exit code."""
    files, code = report["files"], 0
    done = [file for file in files if file.status != "failed"]
    if streaming and done:
        with open(done[0].targets[0], "rb") as file:
            code = _write_stdout(lambda out: shutil.copyfileobj(file, out))
    if arguments.json:
        entries = [_json_entry(file, stdin_file) for file in files]
        text = json.dumps(report | {"files": entries, "passed_over": passed_over}, indent=1)
        code = _write_stdout(lambda out: out.write(f"{text}\n".encode()))
    if arguments.plot is not None and done:
        from sfjax import spectrogram_plot
        from sfjax.data.manifest import replacing

        first = done[0]
        before = {"standard input" if first.source == stdin_file else str(first.source): first.source}
        after = {"standard output" if streaming else str(target): target for target in first.targets}
        with replacing(arguments.plot) as part:
            spectrogram_plot.recordings(before | after, part)
    return code if len(done) == len(files) else 2


def _write_stdout(write):
    """Call `write` with standard output; return the exit code."""
    try:
        write(sys.stdout.buffer)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes what is still buffered when it ends, and would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return CLOSED
        raise UserError(f"standard output: could not be written ({error.strerror}); free space") from None
    return 0


def _json_entry(file, stdin_file):
    known = file.info is not None
    return {
        "source": STREAM if file.source == stdin_file else str(file.source),
        "targets": list(map(str, file.targets)),
        "seconds": file.info.frames / file.info.rate if known else None,
        "rate": file.info.rate if known else None,
        "channels": file.info.channels if known else None,
        "status": file.status,
        "reason": _name_stdin(file.reason, stdin_file) or None,
    }


def _name_stdin(reason, stdin_file):
    """Return a reason with "standard input" in place of the temporary file."""
    return reason if stdin_file is None else reason.replace(str(stdin_file), "standard input")


ENHANCE = Verb("enhance", "Clean recordings.", "sfjax enhance noisy.wav -o clean", _add_enhance, _run_enhance)
SEPARATE = Verb(
    "separate",
    "Write each speaker of a mixture into a file.",
    "sfjax separate mix.wav -o apart",
    _add_separate,
    _run_separate,
)
EXTRACT = Verb(
    "extract",
    "Extract one speaker of a mixture, by a recording of the voice.",
    "sfjax extract talk.wav --voice me.wav -o alone",
    _add_extract,
    _run_extract,
)
