"""Scores of many recordings against their references: pairs or mixtures in, a report out.

The processes that score import this module, so it does not import JAX.
"""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import container, metrics
from sfjax.errors import UserError
from sfjax.pool import outcomes

RATE = 16_000  # Hz, where every score is defined
RESAMPLES = 1000  # bootstrap draws behind an interval
GROUPS = 50  # more conditions than these nobody reads

TOLD = ("name", "condition")  # what a row holds beside its scores
Scorer = Callable[..., dict[str, float]]  # reference, estimate, Hz; importable by its name


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a set of items.

    `rows` holds a name and the scores of every scored item, `failed` a name and a reason for every other one. Where
    conditions are told apart, each item of both has them as `condition`, values by names; None is one not known.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the scored items; empty if there are none."""
        return dict(zip(self._metrics, self._values.mean(axis=0).tolist(), strict=True)) if self.rows else {}

    @functools.cached_property
    def interval(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each mean, by a seeded bootstrap over the scored items; empty if there are none."""
        if not self.rows:
            return {}
        count = len(self.rows)
        # Only how often an item is drawn matters to a mean.
        draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        low, high = np.percentile(draws @ self._values / count, [2.5, 97.5], axis=0).tolist()
        return {name: (a, b) for name, a, b in zip(self._metrics, low, high, strict=True)}

    @property
    def groups(self) -> list[tuple[dict[str, Any], "Report"]]:
        """The conditions that occur, numbers ascending and None last, and the report on each; empty if none are told
        apart."""
        items = [item for item in (*self.rows, *self.failed) if "condition" in item]
        found = {tuple(item["condition"].items()): item["condition"] for item in items}
        order = lambda condition: [(value is None, "" if value is None else value) for value in condition.values()]
        of = lambda items, condition: [item for item in items if item.get("condition") == condition]
        return [(one, Report(of(self.rows, one), of(self.failed, one))) for one in sorted(found.values(), key=order)]

    def less(self, path: Path) -> "Report":
        """How much higher each score is than that of the same item in a report that was written as JSON.

        Items are the same if their names are, and the conditions that both reports tell apart. `UserError` if the file
        is no report, has no item in common with this one, or either has two items that are the same.
        """
        key = lambda row: (row["name"], *(row["condition"][name] for name in shared))
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            shared = [name for name in self._columns if all(name in row.get("condition", {}) for row in rows)]
            before = {key(row): row for row in rows}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: expected a report as JSON, found none ({error}); write one with -o") from None
        if len(before) < len(rows) or len({key(row) for row in self.rows}) < len(self.rows):
            raise UserError(f"{path}: recordings of one name, here or there; tell them apart by --by COLUMN, in both")
        both = [(row, before[key(row)]) for row in self.rows if key(row) in before]
        names = [name for name in self._metrics if all(name in old for _, old in both)]
        if not both or not names:
            raise UserError(f"{path}: has no scored item in common with this report; score the same recordings")
        values = [{name: float(row[name]) - float(old[name]) for name in names} for row, old in both]
        told = [{name: row[name] for name in TOLD if name in row} for row, _ in both]
        return Report([{**head, **value} for head, value in zip(told, values, strict=True)], [])

    def to_json(self) -> dict:
        """Everything as plain values: n, failed, mean and interval, the same of each of the conditions, and rows."""
        groups = [{"condition": condition, **group._summary} for condition, group in self.groups]
        return {**self._summary, **({"conditions": groups} if groups else {}), "rows": self.rows}

    @property
    def _summary(self) -> dict[str, Any]:
        ends = {name: list(ends) for name, ends in self.interval.items()}
        return {"n": len(self.rows), "failed": self.failed, "mean": self.mean, "interval": ends}

    def table(self) -> str:
        """The means with half the width of their intervals, how many items they cover, and why the others failed.

        Behind it a line for each condition, if they are told apart.
        """
        cells = list(self._cells.items())
        lines = ["  ".join(cell[row].rjust(max(map(len, cell))) for cell in cells) for row in (0, 1) if cells]
        lines.append(f"{len(self.rows)} scored, {len(self.failed)} failed")
        lines += [f"failed: {item['name']}: {item['reason']}" for item in self.failed]
        if groups := self.groups:
            from sfjax import gather

            count = lambda group: {"scored": len(group.rows), "failed": len(group.failed)}
            lines += ["", gather.table([{**condition, **count(one), **one._cells} for condition, one in groups])]
        return "\n".join(lines)

    @property
    def _cells(self) -> dict[str, str]:
        mean = self.mean
        return {name: f"{mean[name]:.3f} ± {(high - low) / 2:.3f}" for name, (low, high) in self.interval.items()}

    def write(self, path: Path) -> None:
        """Writes the report as JSON, or its items as CSV, as the suffix says; the file appears whole or not at all.

        Raises `UserError` for any other suffix, or if the disk refuses.
        """
        from sfjax.data.manifest import replacing

        check_output(path)
        text = self._csv() if path.suffix == ".csv" else json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8", newline="")

    @property
    def _metrics(self) -> list[str]:
        return [name for name in self.rows[0] if name not in TOLD] if self.rows else []

    @property
    def _columns(self) -> list[str]:
        return list(next((item.get("condition", {}) for item in (*self.rows, *self.failed)), {}))

    @property
    def _values(self) -> Float[np.ndarray, "items metrics"]:
        return np.array([[row[name] for name in self._metrics] for row in self.rows], np.float64)

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")  # not by keys: a condition may be called like a score
        writer.writerow(["name", *self._columns, *self._metrics, "reason"])
        for item in (*self.rows, *self.failed):
            further = [item.get(name) for name in (*self._metrics, "reason")]
            writer.writerow([item["name"], *item.get("condition", {}).values(), *further])
        return text.getvalue()


def check_output(path: Path) -> None:
    """`UserError` if a report cannot be written under this name."""
    if path.suffix not in (".json", ".csv"):
        raise UserError(f"{path}: a report is written as .json or .csv, not {path.suffix or 'without a suffix'}")


def pair_files(reference: Path, estimate: Path) -> list[tuple[str, Path, Path]]:
    """Name, reference and estimate of two files, or of all files of two folders with the same path but for the suffix.

    Every reference is listed: without an estimate, it is paired with the path where one was expected, and scoring it
    fails by name. Estimates without a reference are left out. Raises `UserError` if nothing can be paired.
    """
    for path in (reference, estimate):
        if not path.exists():
            raise UserError(f"{path} does not exist; give two files or two folders")
    if reference.is_file() and estimate.is_file():
        return [(reference.stem, reference, estimate)]
    if reference.is_file() or estimate.is_file():
        raise UserError(f"{reference} and {estimate} are a file and a folder; give two files or two folders")
    references, estimates = container.recordings(reference), container.recordings(estimate)
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
    """Name, references, estimates and mixture of files, or of folders with one file of the same path for each source.

    Errors are those of `pair_files`; `UserError` too if there are not as many estimates as references.
    """
    if len(references) != len(estimates):
        raise UserError(f"got {len(references)} references and {len(estimates)} estimates; give one for each speaker")
    mixed = {name: path for name, _, path in pair_files(references[0], mixture)}
    by_name = [{name: path for name, path, _ in pair_files(one, mixture)} for one in references]
    found = [{name: path for name, _, path in pair_files(references[0], one)} for one in estimates]
    take = lambda name, tables, folders: [
        table.get(name, folder / name) for table, folder in zip(tables, folders, strict=True)
    ]
    return [(name, take(name, by_name, references), take(name, found, estimates), path) for name, path in mixed.items()]


def score_files(
    pairs: Iterable[tuple[str, Path, Path]], *, workers: int, progress: bool, scorer: Scorer = metrics.score
) -> Report:
    """The report on pairs of files (name, reference, estimate), read at 16000 Hz by `workers` processes.

    A pair that cannot be read or scored is listed with its reason. `progress` counts the items on standard error.
    Raises `UserError` if no worker can start. `scorer` is called in the workers, which import it by its name.
    """
    return report(pairs, functools.partial(_score_pair, scorer), workers=workers, progress=progress)


def score_arrays(
    items: Iterable[tuple[str, Float[np.ndarray, "..."], Float[np.ndarray, "..."]]],
    *,
    rate: int,
    workers: int,
    progress: bool,
    scorer: Scorer = metrics.score,
) -> Report:
    """The report on waveforms at `rate` Hz (name, reference, estimate); all else is as in `score_files`.

    Items are taken one by one as workers become free, so a generator is never held in memory as a whole.
    """
    jobs = ((name, reference, estimate, rate) for name, reference, estimate in items)
    return report(jobs, scorer, workers=workers, progress=progress)


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
    wave: str | None = None,
    **options: Any,
) -> Report:
    """The report on a manifest of clean and noisy recordings, or of mixtures, as `system` treats them.

    `model` enhances or separates them with a `sfjax.infer.Model`, `noisy` leaves them as they are, `bound` makes
    waves of the clean Mel and the recording by `wave` of `sfjax.audio.WAVES`, or by a `sfjax.companions.Phase`: what a
    perfect model would reach.
    `options` are those of sampling. A recording that cannot be read is listed with its reason. The columns `by` are the
    conditions of the report, whose groups are the combinations of their values that occur. Raises `UserError` for a
    manifest without either kind of recording or without these columns, and for more than `GROUPS` groups.
    """
    from sfjax.data.manifest import read

    rows = read(manifest, split=split)
    heads = _conditions(rows, by, manifest)
    unread: list[dict[str, Any]] = []
    if "sources" in rows.columns:
        treat = {"noisy": _as_it_is, "bound": _bound(model, phase, wave)}.get(
            system,
            lambda clean, mixture: model.separate(mixture, RATE, speakers=len(clean), seed=seed, **options),
        )
        jobs = ((head, clean, treat(clean, mix), mix, RATE) for head, clean, mix in _mixtures(rows, heads, unread))
        found = report(jobs, metrics.improvement, workers=workers, progress=progress)
    elif "noisy" in rows.columns:
        treat = {"noisy": _as_it_is, "bound": _bound(model, phase, wave)}.get(
            system, lambda clean, noisy: model.enhance(noisy, RATE, seed=seed, **options)[None]
        )
        jobs = ((head, clean, treat(clean[None], noisy)[0], RATE) for head, clean, noisy in _pairs(rows, heads, unread))
        found = report(jobs, metrics.score, workers=workers, progress=progress)
    else:
        raise UserError(
            f"{manifest}: expected a column 'noisy' or 'sources', found neither; make it with `sfjax prepare pairs` "
            "or `sfjax prepare mixtures`"
        )
    return dataclasses.replace(found, failed=unread + found.failed)


def _conditions(rows: Any, by: Sequence[str], manifest: Path) -> list[dict[str, Any]]:
    """What a report is to hold of each row beside its name: its condition, if there are columns to tell them by."""
    for name in by:
        if name not in rows.columns:
            raise UserError(f"{manifest}: no column {name!r}, it has {', '.join(rows.columns)}; name one of these")
    if not by:
        return [{}] * len(rows)
    columns = [map(_plain, rows.table.column(name).to_pylist()) for name in by]
    values = list(zip(*columns, strict=True))
    if len(set(values)) > GROUPS:
        raise UserError(
            f"{manifest}: by {', '.join(by)} there are {len(set(values))} groups, at most {GROUPS} are scored apart; "
            "name columns with fewer values"
        )
    return [{"condition": dict(zip(by, one, strict=True))} for one in values]


def _plain(value: Any) -> str | int | float | None:
    if value is None or value != value:  # NaN, which JSON does not know, is how some tables say null
        return None
    return value if isinstance(value, str | int | float) else str(value)


def _pairs(rows: Any, heads: list, unread: list) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    from sfjax import audio

    for number, row in enumerate(map(rows.row, range(len(rows)))):
        head = {"name": Path(row.get("name") or row["noisy"]).stem, **heads[number]}
        crop = dict(start=row["start"], frames=row["frames"], rate=RATE)
        try:
            clean, noisy = (audio.read(row[column], **crop)[0] for column in ("path", "noisy"))
        except UserError as error:
            unread.append({**head, "reason": str(error)})
            continue
        yield head, clean, noisy


def _mixtures(rows: Any, heads: list, unread: list) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    from sfjax.data.examples import Listed

    for number, row in enumerate(map(rows.row, range(len(rows)))):
        name = row.get("name") or f"{number:05d}_" + "_".join(Path(path).stem for path in row["sources"])
        head = {"name": name, **heads[number]}
        try:
            samples = -(-row["frames"] * RATE // row["rate"])
            waves = Listed(len(row["sources"]))(rows, row, samples, RATE, np.random.default_rng(0))
        except UserError as error:
            unread.append({**head, "reason": str(error)})
            continue
        mixture = waves.pop("mixture")
        yield head, np.stack(list(waves.values())), mixture


def _as_it_is(clean: np.ndarray, recording: np.ndarray) -> np.ndarray:
    return np.stack([recording] * len(clean))


def _bound(model: Any, phase: Any, wave: str | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def bound(clean: np.ndarray, recording: np.ndarray) -> np.ndarray:
        from sfjax import audio, infer
        from sfjax.configs import default

        config = default.get_config("tiny")
        spec = audio.MelSpec(**config.mel) if model is None else model.spec
        way = audio.known(wave or (config.infer.wave if model is None else model.wave))
        return infer.bound(clean, recording, spec, way, phase)

    return bound


def score_mixtures(
    items: Iterable[tuple[str, list[Path], list[Path], Path]], *, workers: int, progress: bool
) -> Report:
    """The report on separated files (name, references, estimates, mixture); all else is as in `score_files`."""
    return report(items, _score_mixture, workers=workers, progress=progress)


def _score_mixture(references: list[Path], estimates: list[Path], mixture: Path) -> dict[str, float]:
    from sfjax import audio

    def read(path):
        if not path.exists():
            raise metrics.Unscorable(f"expected {path} or the same name with another suffix, found neither")
        return audio.read(path, rate=RATE)[0]

    waves = [read(path) for path in (*references, *estimates, mixture)]
    if len({len(wave) for wave in waves}) > 1:
        raise metrics.Unscorable(f"the recordings have {', '.join(str(len(wave)) for wave in waves)} samples")
    count = len(references)
    return metrics.improvement(np.stack(waves[:count]), np.stack(waves[count:-1]), waves[-1], RATE)


def _score_pair(scorer: Scorer, reference: Path, estimate: Path) -> dict[str, float]:
    from sfjax import audio

    if not estimate.exists():
        raise metrics.Unscorable(f"no estimate: expected {estimate} or the same name with another suffix")
    return scorer(audio.read(reference, rate=RATE)[0], audio.read(estimate, rate=RATE)[0], RATE)


def report(jobs: Iterable[tuple], work: Callable[..., dict[str, float]], *, workers: int, progress: bool) -> Report:
    """What `work`, importable by its name, says of each job (name, *arguments), by `workers` processes.

    In place of a name there may be all that a row of the report is to hold beside its scores.
    """
    if workers < 1:
        raise UserError(f"scoring wants at least 1 worker, got {workers}")
    heads: list[dict[str, Any]] = []

    def arguments() -> Iterator[tuple]:
        for head, *rest in jobs:
            heads.append({"name": head} if isinstance(head, str) else head)
            yield tuple(rest)

    found: dict[int, dict[str, float] | str] = {}
    with contextlib.closing(outcomes(arguments(), work, workers)) as arriving:
        for number, outcome in arriving:
            found[number] = outcome
            if progress:
                print(f"\r{len(found)} scored", end="", file=sys.stderr, flush=True)
    if progress and found:
        print(file=sys.stderr)
    ordered = [(heads[number], outcome) for number, outcome in sorted(found.items(), key=lambda item: item[0])]
    return Report(
        rows=[{**head, **outcome} for head, outcome in ordered if isinstance(outcome, dict)],
        failed=[{**head, "reason": outcome} for head, outcome in ordered if isinstance(outcome, str)],
    )
