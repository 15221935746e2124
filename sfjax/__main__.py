"""The command line: what each verb does with its flags. Nothing else reads them."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import sys
from pathlib import Path

import absl.logging

from sfjax import flags
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
        arguments, rest = flags.parser(VERBS).parse_known_args(argv)
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


def prepare(arguments, _):
    from sfjax import audio
    from sfjax.configs import default
    from sfjax.data import prepare

    measured = dict(mel=audio.MelSpec(**default.get_config("tiny").mel), seed=arguments.seed)
    if arguments.kind_of_source == "merge":
        return _prepared(prepare.merge(arguments.parts, arguments.dest, **measured))
    if arguments.kind_of_source == "mixtures":
        from sfjax.data import mixtures

        ranges = default.get_config("tiny").mixture
        rows = mixtures.draw(
            arguments.source, arguments.noise, split=arguments.split, speakers=arguments.speakers,
            count=arguments.count, seed=arguments.seed, loudness=ranges.loudness, noise_loudness=ranges.noise_loudness,
        )  # fmt: skip
        return _prepared(prepare.mixtures(rows, arguments.dest, **measured))
    if arguments.kind_of_source == "librimix":
        from sfjax.data import mixtures

        rows = mixtures.librimix(
            arguments.source, speech=arguments.speech, noise=arguments.noise, split=arguments.split
        )
        return _prepared(prepare.mixtures(rows, arguments.dest, **measured))
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
    speakers = f", {summary.speakers} speakers" if summary.speakers else ""
    print(f"{summary.dest}: {summary.files} recordings, {summary.hours:.2f} h{speakers}{rejected}")


def train(arguments, rest):
    from sfjax import sharding, train

    sharding.join()
    config = flags.config(arguments.config, rest)
    train.run(config, arguments.workdir)


def plan(arguments, rest):
    config = flags.config(arguments.config, rest)
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
    batch = train.batch_shapes(config, made, mesh)
    examples, samples = (
        len(batch["lengths"]),
        max(round(wave.shape[1] / made.task.columns[name]) for name, wave in batch["waves"].items()),
    )
    seconds = samples / made.spec.sample_rate
    print(f"a step of {examples} × {seconds:g} s on {arguments.topology}, compiling", flush=True)
    like, step = train.on_mesh(made, mesh)
    flops = plan.flops(
        like.params, like.frozen, width=made.network.width, layers=made.network.layers, batch=examples,
        frames=made.spec.frames(samples),
    )  # fmt: skip
    report = plan.plan(
        step.lower(like, batch), like, batch, mesh=mesh, chip=chip, memory=arguments.memory,
        flops=flops, audio=examples * seconds, updates=config.optim.updates, utilisation=arguments.utilisation,
    )  # fmt: skip
    print(report.text())
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    return 2 if report.failure else 0


def enhance(arguments, _):
    targets = lambda file: [arguments.output / file.name]
    return _treat(arguments, "enhancing", lambda model: model.enhancing(), targets)


def separate(arguments, _):
    targets = lambda file: [arguments.output / f"s{i}" / file.name for i in range(1, arguments.speakers + 1)]
    return _treat(arguments, "separating", lambda model: model.separating(arguments.speakers), targets)


def _treat(arguments, doing, task_of, targets) -> int:
    from tqdm import tqdm

    files = _targets(arguments.files, targets)
    model = _model(arguments)
    task = task_of(model)
    print(f"{doing} with {model.name}", file=sys.stderr)
    with tqdm(unit="s", unit_scale=True, desc=doing, disable=None) as bar:
        options = dict(seed=arguments.seed, progress=bar.update, **_sampling(arguments))
        failed = model.treat_files(task, files, **options)
    for reason in failed.values():
        _say(reason)
    print(f"{len(files) - len(failed)} of {len(files)} files written to {arguments.output}", file=sys.stderr)
    return 2 if failed else 0


def _targets(files: list[Path], targets) -> list[tuple[Path, list[Path]]]:
    taken: dict[Path, Path] = {}
    for file in files:
        for target in targets(file):
            if target in taken:
                raise UserError(f"{taken[target]} and {file} would both be written to {target}; take two calls")
            if os.path.exists(file) and os.path.exists(target) and target.samefile(file):
                raise UserError(f"{file} would be overwritten by its own result; choose another folder")
            taken[target] = file
    return [(file, targets(file)) for file in files]


def _model(arguments):
    from sfjax import infer

    return infer.load(
        arguments.model, ema=arguments.ema, step=arguments.step, adapter=arguments.adapter, phase=arguments.phase
    )


def _sampling(arguments) -> dict:
    return {name: getattr(arguments, name) for name in ("solver", "steps", "guidance", "sway")}


def score(arguments, _):
    from sfjax import evaluate

    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    how = dict(workers=arguments.workers, progress=_is_terminal())
    if arguments.mixture is not None:
        items = evaluate.mixture_files(arguments.reference, arguments.estimate, arguments.mixture)
        return _report(evaluate.score_mixtures(items, **how), arguments.output)
    if len(arguments.reference) > 1 or len(arguments.estimate) > 1:
        raise UserError("several references are the speakers of a mixture; give it as --mixture")
    pairs = evaluate.pair_files(arguments.reference[0], arguments.estimate[0])
    return _report(evaluate.score_files(pairs, **how), arguments.output)


def evaluate(arguments, _):
    from sfjax import evaluate

    if arguments.system == "model" and arguments.model is None:
        raise UserError("expected --model RUN to evaluate; or --system noisy or --system bound")
    if arguments.output is not None:
        evaluate.check_output(arguments.output)
    model = _model(arguments) if arguments.model is not None else None
    phase = None
    if arguments.phase is not None:
        from sfjax import infer

        phase = infer.load_phase(arguments.phase)
    report = evaluate.evaluate(
        arguments.manifest, model, system=arguments.system, split=arguments.split, seed=arguments.seed,
        workers=arguments.workers, progress=_is_terminal(), phase=phase, **_sampling(arguments),
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


def predict(arguments, _):
    from sfjax import predict

    made, kept = predict.run(
        arguments.manifest, _model(arguments), arguments.output, split=arguments.split, seed=arguments.seed,
        **_sampling(arguments),
    )  # fmt: skip
    print(f"{arguments.output}: {made} predicted, {kept} there already")


def export(arguments, _):
    from sfjax import release

    path = release.export(
        arguments.workdir, arguments.output, ema=arguments.ema, step=arguments.step, dtype=arguments.dtype
    )
    print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")


def report(arguments, _):
    from sfjax import gather

    found = gather.runs(arguments.runs)
    print(gather.table(gather.rows(found)))
    for path in arguments.output:
        gather.write(found, path, smooth=arguments.smooth)


def quickstart(arguments, _):
    from sfjax import quickstart

    if (arguments.speech is None) != (arguments.noise is None):
        raise UserError("--speech and --noise go together; give both folders, or neither for generated voices")
    quickstart.run(main, arguments.output, speech=arguments.speech, noise=arguments.noise, workers=arguments.workers)


VERBS = {
    run.__name__: run
    for run in (prepare, train, plan, enhance, separate, score, evaluate, predict, export, report, quickstart)
}


if __name__ == "__main__":
    command()
