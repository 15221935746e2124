"""What solvers, numbers of steps and strengths of guidance are worth to one run.

    python tests/benchmarks/enhance_valid.py --data DIR -o OUT
    python tests/benchmarks/solvers.py --model RUN --pairs OUT --solvers midpoint euler --steps 4 16 \
        --guidance 0 0.5 1 -o solvers.json

Mean scores over some recordings of OUT/valid.parquet for every combination, and for the noisy recordings and the clean
Mel with the noisy phase. Evaluations are those of the network per recording, guidance counted as two.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import enhance_valid
import report

from sfjax import evaluate, flow, infer
from sfjax.data import manifest

SCORES = ("pesq_wb", "estoi", "si_sdr")


def row(found: evaluate.Report, **facts: Any) -> dict[str, Any]:
    """One line of the table; `±` is half the 95 % interval of PESQ."""
    if not found.rows:
        sys.exit(f"nothing was scored: {found.failed}")
    low, high = found.interval["pesq_wb"]
    scores = {name: found.mean[name] for name in SCORES}
    return {**facts, **scores, "± pesq": (high - low) / 2, "scored": len(found.rows), "failed": len(found.failed)}


def evaluations(solver: str, steps: int, guidance: float) -> int | None:
    """Evaluations of the network; None for a solver that chooses its steps."""
    return flow.STAGES[solver] * steps * (2 if guidance else 1) if solver in flow.STAGES else None


def main(argv: list[str] | None = None) -> None:
    """Scores every combination, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    report.enhancer_flags(parser)
    parser.add_argument("--solvers", nargs="+", default=["midpoint"])
    parser.add_argument("--steps", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--guidance", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--sway", type=float, help="default: the run's")
    parser.add_argument("--seed", type=int, default=0, help="of the noise that sampling starts from")
    parser.add_argument("--quick", action="store_true", help="two items, one step, the first of every other choice")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(argv)
    if given.quick:
        given.items, given.steps, given.solvers, given.guidance = 2, [1], given.solvers[:1], given.guidance[:1]
    model = infer.load(given.model, ema=given.ema, step=given.step)
    common = dict(split=None, seed=given.seed, workers=given.workers, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.parquet")
        manifest.write(few, enhance_valid.chosen(given.pairs / "valid.parquet", given.items))
        rows = []
        for system in ("noisy", "bound"):
            found = evaluate.evaluate(few, model, system=system, **common)
            rows.append(row(found, solver=system, steps=None, guidance=None, evaluations=None))
        for solver, steps, guidance in itertools.product(given.solvers, given.steps, given.guidance):
            choice = dict(solver=solver, steps=steps, guidance=guidance)
            found = evaluate.evaluate(few, model, system="model", **common, **choice, sway=given.sway)
            rows.append(row(found, **choice, evaluations=evaluations(solver, steps, guidance)))
            print(f"{solver}, {steps} steps, guidance {guidance:g}: PESQ {rows[-1]['pesq_wb']:.3f}", flush=True)
    print(f"{model.name}, {given.items} recordings")
    print(report.table(rows))
    report.write(given.output, {"machine": report.machine(), "model": model.name, "sway": given.sway, "rows": rows})


if __name__ == "__main__":
    main()
