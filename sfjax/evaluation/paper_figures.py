"""Draw Figure 3 of the paper (arXiv 2310.16338) from the scores of your runs.

It shows how pre-training changes models of several tasks: speaker similarity of speech from text, and PESQ of
enhancement, by the updates and the learning rate of pre-training, and by the share of examples with a condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sfjax import overwrite
from sfjax.data.manifest import replacing
from sfjax.errors import UserError
from sfjax.evaluation.paper_tables import read_field


class Curve(NamedTuple):
    """A curve: its label, the values on the horizontal axis, and the row of `configs/paper.py` at each of them."""

    label: str
    x: Sequence[float]
    rows: Sequence[str]


class Score(NamedTuple):
    """A score: the test whose report is read, its name in the report, and the label of the axis."""

    test: str
    name: str
    label: str


FIGURES = (3,)
SCORES = (
    Score("cross_sim_o", "sim", "SIM-o, speech from text"),
    Score("wsj0chime3", "pesq_wb", "PESQ, WSJ0-CHiME3"),
)
UPDATES = (150, 300, 450, 600, 750)  # thousands
SHARES = (0, 20, 40, 60, 80, 90, 100)  # %
SCRATCH = "several_scratch"  # the dashed line: no pre-training
PANELS = {  # label of the horizontal axis, and curves
    "updates of pre-training, in thousands": [
        Curve(
            f"learning rate {rate}",
            UPDATES,
            [f"several_rate_{rate}" + (f"_{step}k" if step < UPDATES[-1] else "") for step in UPDATES],
        )
        for rate in ("1e-5", "2e-5", "5e-5", "1e-4")
    ],
    "examples with a condition in pre-training, in %": [
        Curve("learning rate 5e-5", SHARES, [f"several_cond_{share}" for share in SHARES])
    ],
}


def reports() -> list[str]:
    """Return the reports that Figure 3 needs, as ROW/TEST.json for launch/paper.mk."""
    rows = [row for curves in PANELS.values() for curve in curves for row in curve.rows]
    return [f"{row}/{score.test}.json" for row in (*rows, SCRATCH) for score in SCORES]


def draw(number: int, runs: Path, path: Path) -> int:
    """Draw a figure of the paper from the reports below `runs` as PNG, and return how many scores it shows.

    A score without a report is left out. Raises `UserError` for a figure that is not in `FIGURES`, for another suffix
    than .png, and if there is no report.
    """
    if number not in FIGURES:
        raise UserError(f"unknown figure {number}; choose from {', '.join(map(str, FIGURES))}")
    if path.suffix != ".png":
        raise UserError(f"{path}: expected a name that ends in .png, got {path.suffix or 'no suffix'}")
    scores = {report: _mean(runs, report) for report in reports()}
    count = sum(value is not None for value in scores.values())
    if not count:
        raise UserError(
            f"{runs}: no report of Figure {number}, for example {reports()[0]}; launch/paper.mk writes them"
        )

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
    for axes, (label, curves) in zip(figure.subplots(len(PANELS), len(SCORES)), PANELS.items(), strict=True):
        for axis, score in zip(axes, SCORES, strict=True):
            for curve in curves:
                points = [
                    (x, value)
                    for x, row in zip(curve.x, curve.rows, strict=True)
                    if (value := scores[f"{row}/{score.test}.json"]) is not None
                ]
                axis.plot(*zip(*points, strict=True) if points else ([], []), marker="o", label=curve.label)
            if (value := scores[f"{SCRATCH}/{score.test}.json"]) is not None:
                axis.axhline(value, linestyle="--", color="grey", label="without pre-training")
            axis.set(xlabel=label, ylabel=score.label)
            axis.grid(alpha=0.3)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=7)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata=overwrite.PICTURE)
    return count


def _mean(runs: Path, report: str) -> float | None:
    names = {score.test: score.name for score in SCORES}
    return read_field(runs / report, "mean").get(names[Path(report).stem])
