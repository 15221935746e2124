"""Quality against evaluations: what solvers, times and guidance are worth to one run, or to several side by side.

    python tests/benchmarks/enhance_valid.py --data DIR -o OUT
    python tests/benchmarks/solvers.py --models flow=RUN --pairs OUT -o solvers.json solvers.png \
        --grid solver=euler,midpoint,heun,rk4 evaluations=4,8,16,32,64 --grid solver=midpoint guidance=0,1,2

Each grid is a product of choices: solver, evaluations, guidance, sway and, for a solver that chooses its steps,
tolerance; the run's own where a grid says nothing. Several models share the grids, each takes the solvers that it has.
Means are over some recordings of OUT/valid.parquet; the noisy recordings and the clean Mel with the noisy phase stand
first. Evaluations are counted while the network runs, guidance as one, since its two halves share a batch;
`real_time_factor` is the time to enhance 4 s of noise over 4 s, the median of three.
"""

import argparse
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import enhance_valid
import jax
import numpy as np
import report

from sfjax import evaluation, inference
from sfjax.data import manifest
from sfjax.evaluation import compare_runs
from sfjax.model import Estimator

SCORES = ("pesq_wb", "estoi", "si_sdr")
CHOICES = {"solver": str, "evaluations": int, "guidance": float, "sway": float, "tolerance": float}
RATE, SECONDS = 16_000, 4


class Counted(Estimator):
    """The network; it counts in `calls` how often it runs."""

    calls = 0

    def __call__(self, *arguments, **more):
        jax.debug.callback(self._count)
        return super().__call__(*arguments, **more)

    @staticmethod
    def _count():
        Counted.calls += 1


def row(found: evaluation.Report, **facts: Any) -> dict[str, Any]:
    """One line of the table; `±` is half the 95 % interval of PESQ."""
    if not found.rows:
        sys.exit(f"nothing was scored: {found.failed}")
    low, high = found.interval["pesq_wb"]
    scores = {name: found.mean[name] for name in SCORES}
    return {**facts, **scores, "± pesq": (high - low) / 2, "scored": len(found.rows), "failed": len(found.failed)}


def grid(words: list[str]) -> list[dict[str, Any]]:
    """All combinations of `solver=euler,heun evaluations=4,8`."""
    lists = []
    for word in words:
        name, equals, values = word.partition("=")
        if name not in CHOICES or not equals:
            sys.exit(f"--grid {word}: expected one of {', '.join(CHOICES)}, an equals sign and values with commas")
        lists.append([(name, CHOICES[name](value)) for value in values.split(",")])
    return [dict(choice) for choice in itertools.product(*lists)]


def options(model: inference.Model, choice: dict[str, Any]) -> dict[str, Any] | None:
    """The sampling that a choice means for a model; None if its process has no such solver."""
    made = model.options | choice
    evaluations, stages = made.pop("evaluations", None), model.process.STAGES
    if made["solver"] in stages and evaluations is not None:
        made["steps"] = max(evaluations // stages[made["solver"]], 1)
    return made if made["solver"] in stages or made["solver"] in getattr(model.process, "ADAPTIVE", {}) else None


def cost(model: inference.Model, made: dict[str, Any]) -> tuple[int, float]:
    """Evaluations of the network for a few seconds of noise, and the time over their length."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(SECONDS * RATE).astype(np.float32)
    fields = {name: getattr(model.network, name) for name in model.network.__dataclass_fields__ if name != "parent"}
    counting = dataclasses.replace(model, network=Counted(**fields))
    Counted.calls = 0
    counting.enhance(wave, RATE, **made)
    jax.effects_barrier()
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        model.enhance(wave, RATE, **made)
        spent.append(time.perf_counter() - began)
    return Counted.calls, statistics.median(spent[1:]) / SECONDS


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws PESQ and ESTOI by evaluations, and by guidance where that was varied."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(13, 8), dpi=110, layout="constrained")
    axes = figure.subplots(2, 2, sharey="row", squeeze=False)
    tried = [one for one in rows if one["solver"] is not None]
    for column, by, fixed in ((0, "evaluations", "guidance"), (1, "guidance", "evaluations")):
        name = lambda one, fixed=fixed: (one["model"], one["solver"], one["sway"], one[fixed])
        for key in dict.fromkeys(map(name, tried)):
            line = sorted((one for one in tried if name(one) == key), key=lambda one: one[by])  # noqa: B023
            if len({one[by] for one in line}) > 1:
                label = f"{key[0]}: {key[1]}, sway {key[2]:g}, {fixed} {key[3]:g}"
                for axis, score in zip(axes[:, column], SCORES, strict=False):
                    axis.plot([one[by] for one in line], [one[score] for one in line], marker=".", label=label)
        for axis, score in zip(axes[:, column], SCORES, strict=False):
            noisy = next(one for one in rows if one["model"] == "noisy")
            axis.axhline(noisy[score], color="0.5", linestyle=":", label="noisy")
            axis.set(xlabel=by, ylabel=score)
            axis.grid(alpha=0.3)
        axes[0, column].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    for axis in axes[:, 0]:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(ScalarFormatter())
    figure.savefig(path)


def main(argv: list[str] | None = None) -> None:
    """Scores every combination, prints, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=RUN", help="enhancement runs")
    report.pairs_flags(parser)
    parser.add_argument("--grid", nargs="+", action="append", required=True, metavar="NAME=VALUE[,VALUE…]")
    parser.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")
    parser.add_argument("-o", "--output", nargs="+", type=Path, default=[], metavar="FILE.json|FILE.png")
    given = parser.parse_args(argv)
    models = {name: inference.load(run) for name, _, run in (word.partition("=") for word in given.models)}
    choices = list({tuple(sorted(one.items())): one for words in given.grid for one in grid(words)}.values())
    common = dict(split=None, seed=given.seed, workers=given.workers, progress=False)
    blank = dict.fromkeys(("solver", "sway", "guidance", "tolerance", "evaluations", "real_time_factor"))
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.parquet")
        manifest.write(few, enhance_valid.chosen(given.pairs / "valid.parquet", given.items))
        rows = []
        for system in ("noisy", "bound"):
            found = evaluation.evaluate(few, next(iter(models.values())), system=system, **common)
            rows.append(row(found, model=system, **blank))
        for (name, model), choice in itertools.product(models.items(), choices):
            made = options(model, choice)
            if made is None:
                continue
            evaluations, factor = cost(model, made)
            found = evaluation.evaluate(few, model, system="model", **common, **made)
            facts = {key: made[key] for key in ("solver", "sway", "guidance", "tolerance")}
            rows.append(row(found, model=name, **facts, evaluations=evaluations, real_time_factor=factor))
            print(compare_runs.table(rows[-1:]), flush=True)
    print(f"{', '.join(model.name for model in models.values())}; {given.items} recordings")
    print(compare_runs.table(rows))
    for path in given.output:
        if path.suffix == ".png":
            draw(rows, path)
        else:
            names = {name: model.name for name, model in models.items()}
            report.write(path, {"machine": report.machine(), "models": names, "rows": rows})


if __name__ == "__main__":
    main()
