"""Score recordings against their references: pairs of files, arrays, mixtures, or the rows of a manifest.

The processes that score import this module, so it does not import JAX.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import audio_io, metrics
from sfjax.errors import UserError
from sfjax.evaluation.report import Report
from sfjax.evaluation.workers import outcomes

RATE = 16_000  # Hz; every score is defined at this sample rate
GROUPS = 50  # the most conditions that a table can show readably

Scorer = Callable[..., dict[str, float]]  # reference, estimate, Hz; importable by its name


def pair_files(reference: Path, estimate: Path) -> list[tuple[str, Path, Path]]:
    """Pair two files, or the files of two folders that have the same path but for the suffix.

    Returns name, reference and estimate of each pair. Every reference is listed: without an estimate, it is paired with
    the path where one was expected, and its scoring fails with a reason. Estimates without a reference are left out.
    Raises `UserError` if nothing can be paired.
    """
    for path in (reference, estimate):
        if not path.exists():
            raise UserError(f"{path} does not exist; give two files or two folders")
    if reference.is_file() and estimate.is_file():
        return [(reference.stem, reference, estimate)]
    if reference.is_file() or estimate.is_file():
        raise UserError(f"{reference} and {estimate} are a file and a folder; give two files or two folders")
    references, estimates = audio_io.recordings(reference), audio_io.recordings(estimate)
    if not references.keys() & estimates.keys():
        raise UserError(
            f"no pair: none of the {len(estimates)} recordings in {estimate} is named like one of the "
            f"{len(references)} in {reference}; only the suffix may differ"
        )
    return [
        (name, path, estimates.get(name, estimate / path.relative_to(reference)))
        for name, path in sorted(references.items())
    ]


def mixture_files(
    references: list[Path], estimates: list[Path], mixture: Path
) -> list[tuple[str, list[Path], list[Path], Path]]:
    """List the name, references, estimates and mixture of files, or of folders that hold the same paths.

    `references` and `estimates` have one file or folder for each speaker. Raises `UserError` as `pair_files` does, and
    if there are not as many estimates as references.
    """
    if len(references) != len(estimates):
        raise UserError(f"got {len(references)} references and {len(estimates)} estimates; give one for each speaker")
    mixtures = {name: path for name, _, path in pair_files(references[0], mixture)}
    references_by_name = [{name: path for name, path, _ in pair_files(each, mixture)} for each in references]
    estimates_by_name = [{name: path for name, _, path in pair_files(references[0], each)} for each in estimates]
    return [
        (
            name,
            _paths_of(name, references_by_name, references),
            _paths_of(name, estimates_by_name, estimates),
            path,
        )
        for name, path in mixtures.items()
    ]


def _paths_of(name: str, by_name: list[dict[str, Path]], folders: list[Path]) -> list[Path]:
    return [paths.get(name, folder / name) for paths, folder in zip(by_name, folders, strict=True)]


def score_files(
    pairs: Iterable[tuple[str, Path, Path]], *, workers: int, progress: bool, scorer: Scorer = metrics.score
) -> Report:
    """Score pairs of files (name, reference, estimate), read at 16000 Hz by `workers` processes.

    A pair that cannot be read or scored is listed with its reason. `progress` counts the items on standard error.
    `scorer` is called in the workers, which import it by its name. Raises `UserError` if no worker can start.
    """
    return score_all(pairs, functools.partial(_score_pair, scorer), workers=workers, progress=progress)


def _score_pair(scorer: Scorer, reference: Path, estimate: Path) -> dict[str, float]:
    from sfjax import audio

    if not estimate.exists():
        raise metrics.Unscorable(f"no estimate: expected {estimate} or the same name with another suffix")
    return scorer(audio.read(reference, rate=RATE)[0], audio.read(estimate, rate=RATE)[0], RATE)


def score_opinions(estimate: Path, *, workers: int, progress: bool) -> Report:
    """Score a file, or the recordings of a folder, by DNSMOS, which needs no reference (`sfjax.metrics.dnsmos`).

    Raises `UserError` if there is no recording, or if no worker can start.
    """
    if not estimate.exists():
        raise UserError(f"{estimate} does not exist; give a file or a folder")
    files = {estimate.stem: estimate} if estimate.is_file() else audio_io.recordings(estimate)
    if not files:
        raise UserError(f"{estimate}: expected a folder with sound files, found none; check the path")
    return score_all(sorted(files.items()), _opinions, workers=workers, progress=progress)


def _opinions(path: Path) -> dict[str, float]:
    from sfjax import audio
    from sfjax.metrics.dnsmos import dnsmos

    return dnsmos(audio.read(path, rate=RATE)[0], RATE)


def score_arrays(
    items: Iterable[tuple[str, Float[np.ndarray, "*_"], Float[np.ndarray, "*_"]]],
    *,
    rate: int,
    workers: int,
    progress: bool,
    scorer: Scorer = metrics.score,
) -> Report:
    """Score waveforms at `rate` Hz (name, reference, estimate); all else is as in `score_files`.

    Items are taken one by one as workers become free, so a generator is never held in memory as a whole.
    """
    jobs = ((name, reference, estimate, rate) for name, reference, estimate in items)
    return score_all(jobs, scorer, workers=workers, progress=progress)


def score_mixtures(
    items: Iterable[tuple[str, list[Path], list[Path], Path]], *, workers: int, progress: bool
) -> Report:
    """Score separated files (name, references, estimates, mixture); all else is as in `score_files`."""
    return score_all(items, _score_mixture, workers=workers, progress=progress)


def _score_mixture(references: list[Path], estimates: list[Path], mixture: Path) -> dict[str, float]:
    from sfjax import audio

    def read(path):
        if not path.exists():
            raise metrics.Unscorable(f"expected {path} or the same name with another suffix, found neither")
        return audio.read(path, rate=RATE)[0]

    waveforms = [read(path) for path in (*references, *estimates, mixture)]
    if len({len(waveform) for waveform in waveforms}) > 1:
        lengths = ", ".join(str(len(waveform)) for waveform in waveforms)
        raise metrics.Unscorable(f"expected recordings of one length, got {lengths} samples")
    count = len(references)
    return metrics.improvement(np.stack(waveforms[:count]), np.stack(waveforms[count:-1]), waveforms[-1], RATE)


def score_all(jobs: Iterable[tuple], work: Callable[..., dict[str, Any]], *, workers: int, progress: bool) -> Report:
    """Score jobs (name, *arguments) by `work(*arguments)` in `workers` processes, which import `work` by its name.

    Instead of a name, a job may have a dict of all fields that its row holds beside the scores.
    """
    if workers < 1:
        raise UserError(f"scoring needs at least 1 worker, got {workers}; set --workers=1")
    labels: list[dict[str, Any]] = []

    def arguments() -> Iterator[tuple]:
        for label, *rest in jobs:
            labels.append({"name": label} if isinstance(label, str) else label)
            yield tuple(rest)

    scored: dict[int, dict[str, Any] | str] = {}
    with contextlib.closing(outcomes(arguments(), work, workers)) as arriving:
        for number, outcome in arriving:
            scored[number] = outcome
            if progress:
                print(f"\r{len(scored)} scored", end="", file=sys.stderr, flush=True)
    if progress and scored:
        print(file=sys.stderr)
    ordered = [(labels[number], outcome) for number, outcome in sorted(scored.items(), key=lambda item: item[0])]
    return Report(
        rows=[{**label, **outcome} for label, outcome in ordered if isinstance(outcome, dict)],
        failed=[{**label, "reason": outcome} for label, outcome in ordered if isinstance(outcome, str)],
    )


def evaluate(
    manifest: Path,
    model: Any,
    *,
    system: str,
    split: str | None,
    seed: int,
    workers: int,
    progress: bool,
    by: Sequence[str] = (),
    phase: Any = None,
    reconstruct: str | None = None,
    scorer: Scorer = metrics.score,
    **options: Any,
) -> Report:
    """Score a system on a manifest of clean and noisy recordings, or of mixtures.

    System `model` enhances or separates them with a `sfjax.inference.Model`, or extracts the first speaker of mixtures
    that have an enrolment if the model was trained for it; `noisy` leaves them unchanged; `clean` gives the clean
    recordings themselves, the best score of each metric; `bound` makes waveforms from the clean log-Mel spectrogram and
    the recording, by `reconstruct` of `sfjax.audio.RECONSTRUCTIONS` or by a `sfjax.inference.auxiliary.Phase`: what a
    perfect model would reach.
    `scorer` scores pairs of clean and noisy recordings, and `options` are sampling options. The columns `by` are the
    conditions of the report; its groups are the combinations of their values that occur. A recording that cannot be
    read is listed with its reason.

    Raises `UserError` for an unknown system, for a manifest without either kind of recording or without these columns,
    and for more than `GROUPS` groups.
    """
    from sfjax.data.manifest import read

    rows = read(manifest, split=split)
    conditions = _conditions(rows, by, manifest)
    unreadable: list[dict[str, Any]] = []
    systems = {
        "model": _model_system(model, seed, options),
        "noisy": _unprocessed,
        "clean": _clean,
        "bound": _upper_bound(model, phase, reconstruct),
    }
    if system not in systems:
        raise UserError(f"unknown system {system!r}; choose from {', '.join(systems)}")
    process = systems[system]
    if scorer is not metrics.score and "noisy" not in rows.columns:
        raise UserError(f"{manifest}: DNSMOS needs a column 'noisy', found none; leave out --dnsmos for mixtures")
    if "enrolment" in rows.columns and (model is None or "extract" in _kinds(model)):
        jobs = (
            (label, sources, process(sources[:1], mixture, row)[0], mixture, RATE)
            for label, row, sources, mixture in _read_mixtures(rows, conditions, unreadable)
        )
        report = score_all(jobs, metrics.extraction, workers=workers, progress=progress)
    elif "sources" in rows.columns:
        jobs = (
            (label, sources, process(sources, mixture, row), mixture, RATE)
            for label, row, sources, mixture in _read_mixtures(rows, conditions, unreadable)
        )
        report = score_all(jobs, metrics.improvement, workers=workers, progress=progress)
    elif "noisy" in rows.columns:
        jobs = (
            (label, clean, process(clean[None], noisy, row)[0], RATE)
            for label, row, clean, noisy in _read_pairs(rows, conditions, unreadable)
        )
        report = score_all(jobs, scorer, workers=workers, progress=progress)
    else:
        raise UserError(
            f"{manifest}: expected a column 'noisy' or 'sources', found neither; make it with `sfjax prepare pairs` "
            "or `sfjax prepare mixtures`"
        )
    return dataclasses.replace(report, failed=unreadable + report.failed)


def _conditions(rows: Any, by: Sequence[str], manifest: Path) -> list[dict[str, Any]]:
    """Return field `condition` of each row, or no field if there are no columns `by`."""
    for name in by:
        if name not in rows.columns:
            raise UserError(f"{manifest}: no column {name!r}, it has {', '.join(rows.columns)}; name one of these")
    if not by:
        return [{}] * len(rows)
    columns = [map(_json_value, rows.table.column(name).to_pylist()) for name in by]
    combinations = list(zip(*columns, strict=True))
    if len(set(combinations)) > GROUPS:
        raise UserError(
            f"{manifest}: {', '.join(by)} has {len(set(combinations))} combinations of values, expected at most "
            f"{GROUPS}; choose columns with fewer values for --by"
        )
    return [{"condition": dict(zip(by, values, strict=True))} for values in combinations]


def _json_value(value: Any) -> str | int | float | None:
    if value is None or value != value:  # some tables write null as NaN, which JSON lacks
        return None
    return value if isinstance(value, str | int | float) else str(value)


def _read_pairs(
    rows: Any, conditions: list[dict[str, Any]], unreadable: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], np.ndarray, np.ndarray]]:
    """Yield label, row, clean and noisy waveform; rows that cannot be read are added to `unreadable`."""
    from sfjax import audio

    for number, row in enumerate(map(rows.row, range(len(rows)))):
        label = {"name": Path(row.get("name") or row["noisy"]).stem, **conditions[number]}
        crop = dict(start=row["start"], frames=row["frames"], rate=RATE)
        try:
            clean, noisy = (audio.read(row[column], **crop)[0] for column in ("path", "noisy"))
        except UserError as error:
            unreadable.append({**label, "reason": str(error)})
            continue
        yield label, row, clean, noisy


def _read_mixtures(
    rows: Any, conditions: list[dict[str, Any]], unreadable: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], np.ndarray, np.ndarray]]:
    """Yield label, row, sources and mixture; rows that cannot be read are added to `unreadable`."""
    from sfjax.data.examples import Listed

    for number, row in enumerate(map(rows.row, range(len(rows)))):
        name = row.get("name") or f"{number:05d}_" + "_".join(Path(path).stem for path in row["sources"])
        label = {"name": name, **conditions[number]}
        try:
            samples = -(-row["frames"] * RATE // row["rate"])
            waveforms = Listed(len(row["sources"]))(rows, row, samples, RATE, np.random.default_rng(0))
        except UserError as error:
            unreadable.append({**label, "reason": str(error)})
            continue
        mixture = waveforms.pop("mixture")
        yield label, row, np.stack(list(waveforms.values())), mixture


System = Callable[[np.ndarray, np.ndarray, dict[str, Any]], np.ndarray]  # clean sources, recording, row → sources


def _kinds(model: Any) -> set[str]:
    return {part.kind for part in model.task.parts.values()}


def _model_system(model: Any, seed: int, options: dict[str, Any]) -> System:
    def treat(clean: np.ndarray, recording: np.ndarray, row: dict[str, Any]) -> np.ndarray:
        if len(clean) > 1:
            return model.separate(recording, RATE, speakers=len(clean), seed=seed, **options)
        if "sources" in row:
            from sfjax.data.examples import enrolment_of

            voice = enrolment_of(row, RATE)
            return model.extract(recording, RATE, voice=voice, voice_rate=RATE, seed=seed, **options)[None]
        return model.enhance(recording, RATE, seed=seed, **options)[None]

    return treat


def _unprocessed(clean: np.ndarray, recording: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    return np.stack([recording] * len(clean))


def _clean(clean: np.ndarray, recording: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    return clean


def _upper_bound(model: Any, phase: Any, reconstruct: str | None) -> System:
    def bound(clean: np.ndarray, recording: np.ndarray, row: dict[str, Any]) -> np.ndarray:
        from sfjax import audio, inference
        from sfjax.configs import default  # pyright: ignore[reportMissingImports] (setup.cfg maps it to configs/)

        config = default.get_config("tiny")
        spec = audio.MelSpec(**config.mel) if model is None else model.spec
        method = config.infer.reconstruct if model is None else model.reconstruct
        return inference.bound(clean, recording, spec, audio.reconstruction(reconstruct or method), phase)

    return bound
