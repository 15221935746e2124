"""Scores of many recordings against their references: pairs in, a report out.

The C code of PESQ can end the process it runs in, and holds the interpreter's lock while it runs. So each item is
scored in a worker process that holds nothing else: if it dies, that item is reported and the others go on. Workers are
spawned, because a process with JAX's threads must not fork. They import this module, so it does not import JAX.
"""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import math
import multiprocessing
import multiprocessing.connection
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import metrics
from sfjax.errors import UserError

RATE = 16_000  # Hz, where every score is defined
RESAMPLES = 1000  # bootstrap draws behind an interval

Scorer = Callable[[np.ndarray, np.ndarray, int], dict[str, float]]  # reference, estimate, Hz; importable by its name


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a set of items.

    `rows` holds a name and the scores of every scored item, `failed` a name and a reason for every other one.
    """

    rows: list[dict[str, str | float]]
    failed: list[dict[str, str]]

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

    def to_json(self) -> dict:
        """Everything as plain values: n, failed, mean, interval and rows."""
        return {
            "n": len(self.rows),
            "failed": self.failed,
            "mean": self.mean,
            "interval": {name: list(ends) for name, ends in self.interval.items()},
            "rows": self.rows,
        }

    def table(self) -> str:
        """The means with half the width of their intervals, how many items they cover, and why the others failed."""
        mean = self.mean
        cells = [(name, f"{mean[name]:.3f} ± {(high - low) / 2:.3f}") for name, (low, high) in self.interval.items()]
        lines = ["  ".join(cell[row].rjust(max(map(len, cell))) for cell in cells) for row in (0, 1) if cells]
        lines.append(f"{len(self.rows)} scored, {len(self.failed)} failed")
        lines += [f"failed: {item['name']}: {item['reason']}" for item in self.failed]
        return "\n".join(lines)

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
        return [name for name in self.rows[0] if name != "name"] if self.rows else []

    @property
    def _values(self) -> Float[np.ndarray, "items metrics"]:
        return np.array([[row[name] for name in self._metrics] for row in self.rows], np.float64)

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["name", *self._metrics, "reason"], lineterminator="\n")
        writer.writeheader()
        writer.writerows([*self.rows, *self.failed])
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
    references, estimates = _recordings(reference), _recordings(estimate)
    if not references.keys() & estimates.keys():
        raise UserError(
            f"no pair: none of the {len(estimates)} recordings in {estimate} is named like one of the "
            f"{len(references)} in {reference}; only the suffix may differ"
        )
    return [
        (name, path, estimates.get(name, estimate / path.relative_to(reference)))
        for name, path in sorted(references.items())
    ]


def _recordings(folder: Path) -> dict[str, Path]:
    from sfjax import audio  # imports JAX, which the workers do without

    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in audio.SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {path} have the same name; keep one of them")
        found[name] = path
    return found


def score_files(
    pairs: Iterable[tuple[str, Path, Path]], *, workers: int, progress: bool, scorer: Scorer = metrics.score
) -> Report:
    """The report on pairs of files (name, reference, estimate), read at 16000 Hz by `workers` processes.

    A pair that cannot be read or scored is listed with its reason. `progress` counts the items on standard error.
    Raises `UserError` if no worker can start. `scorer` is called in the workers, which import it by its name.
    """
    return _report(pairs, functools.partial(_score_pair, scorer), workers=workers, progress=progress)


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
    return _report(jobs, scorer, workers=workers, progress=progress)


def evaluate(
    manifest: Path,
    model: Any,
    *,
    system: str,
    split: str | None,
    seed: int,
    workers: int,
    progress: bool,
    **options: Any,
) -> Report:
    """The report on a manifest of clean and noisy recordings, the noisy ones treated by `system`.

    `model` enhances them with a `sfjax.infer.Model`, `noisy` leaves them, `bound` joins the clean Mel to the noisy
    phase: what a perfect model would reach. `options` are those of sampling. A recording that cannot be read is listed
    with its reason. Raises `UserError` for a manifest without noisy recordings.
    """
    from sfjax.data.manifest import read

    rows = read(manifest, split=split)
    if "noisy" not in rows.columns:
        raise UserError(f"{manifest}: expected a column 'noisy', found none; make it with `sfjax prepare pairs`")
    treat = {"noisy": lambda clean, noisy: noisy, "bound": _bound(model)}.get(
        system, lambda clean, noisy: model.enhance(noisy, RATE, seed=seed, **options)
    )

    unread: list[dict[str, str]] = []

    def items() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        from sfjax import audio

        for i in range(len(rows)):
            row = rows.row(i)
            name, crop = Path(row["noisy"]).stem, dict(start=row["start"], frames=row["frames"], rate=RATE)
            try:
                clean, noisy = (audio.read(row[column], **crop)[0] for column in ("path", "noisy"))
            except UserError as error:
                unread.append({"name": name, "reason": str(error)})
                continue
            yield name, clean, np.asarray(treat(clean, noisy))

    report = score_arrays(items(), rate=RATE, workers=workers, progress=progress)
    return dataclasses.replace(report, failed=unread + report.failed)


def _bound(model: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def bound(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        import jax.numpy as jnp

        from sfjax import audio
        from sfjax.configs import default

        spec = model.spec if model is not None else audio.MelSpec(**default.get_config("tiny").mel)
        spectrum = audio.stft(jnp.asarray(noisy)[None], spec)
        wave = audio.borrow_phase(audio.log_mel(jnp.asarray(clean)[None], spec), spectrum, spec)
        return np.asarray(wave)[0, : len(clean)]

    return bound


def _score_pair(scorer: Scorer, reference: Path, estimate: Path) -> dict[str, float]:
    from sfjax import audio

    if not estimate.exists():
        raise metrics.Unscorable(f"no estimate: expected {estimate} or the same name with another suffix")
    return scorer(audio.read(reference, rate=RATE)[0], audio.read(estimate, rate=RATE)[0], RATE)


def _report(jobs: Iterable[tuple], work: Callable[..., dict[str, float]], *, workers: int, progress: bool) -> Report:
    if workers < 1:
        raise UserError(f"scoring wants at least 1 worker, got {workers}")
    names: list[str] = []

    def arguments() -> Iterator[tuple]:
        for name, *rest in jobs:
            names.append(name)
            yield tuple(rest)

    outcomes: dict[int, dict[str, float] | str] = {}
    with contextlib.closing(_outcomes(arguments(), work, workers)) as arriving:
        for number, outcome in arriving:
            outcomes[number] = outcome
            if progress:
                print(f"\r{len(outcomes)} scored", end="", file=sys.stderr, flush=True)
    if progress and outcomes:
        print(file=sys.stderr)
    ordered = [(names[number], outcome) for number, outcome in sorted(outcomes.items(), key=lambda item: item[0])]
    return Report(
        rows=[{"name": name, **outcome} for name, outcome in ordered if isinstance(outcome, dict)],
        failed=[{"name": name, "reason": outcome} for name, outcome in ordered if isinstance(outcome, str)],
    )


class _Worker:
    """A process with at most one job, so that its death is the death of that job and of no other."""

    def __init__(self, work: Callable[..., dict[str, float]], number: int, job: tuple):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not end the pipe
        self.number, self.job, self.started = number, job, False

    def send(self) -> None:
        with contextlib.suppress(OSError):  # a process that died is noticed when its answer is read
            self.pipe.send(self.job)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _outcomes(
    jobs: Iterable[tuple], work: Callable[..., dict[str, float]], workers: int
) -> Iterator[tuple[int, dict[str, float] | str]]:
    """The number of each job with its scores, or with the reason why it has none, as they arrive."""
    waiting = enumerate(jobs)
    busy: dict[Any, _Worker] = {}  # by pipe
    try:
        while True:
            while len(busy) < workers and (following := next(waiting, None)):
                worker = _Worker(work, *following)
                busy[worker.pipe] = worker
            if not busy:
                return
            for pipe in multiprocessing.connection.wait(list(busy)):
                worker = busy[pipe]
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    yield worker.number, _epitaph(worker)
                    busy.pop(pipe).stop()
                    continue
                if worker.started:
                    yield worker.number, outcome
                    if (following := next(waiting, None)) is None:
                        busy.pop(pipe).stop()
                        continue
                    worker.number, worker.job = following
                worker.started = True
                worker.send()
    finally:
        for worker in busy.values():
            worker.stop()


def _epitaph(worker: _Worker) -> str:
    worker.process.join()
    code = worker.process.exitcode or 0
    if not worker.started:
        raise UserError(
            f"the scoring processes cannot start (exit code {code}); a script must call this under "
            'if __name__ == "__main__"'
        )
    return f"the scorer crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _serve(pipe: multiprocessing.connection.Connection, work: Callable[..., dict[str, float]]) -> None:
    """The life of a worker: says that it has started, then answers each job, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the workers
    with contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            pipe.send(_attempt(work, pipe.recv()))


def _attempt(work: Callable[..., dict[str, float]], job: tuple) -> dict[str, float] | str:
    try:
        scores = work(*job)
    except (metrics.Unscorable, UserError) as error:
        return " ".join(str(error).split())
    except Exception as error:  # one odd recording must not cost the scores of all the others
        return " ".join(f"{type(error).__name__}: {error}".split())
    odd = [f"{name} is {value}" for name, value in scores.items() if not math.isfinite(value)]
    return ", ".join(odd) or {name: float(value) for name, value in scores.items()}
