"""Draws the loss curves of runs into one picture: training and validation, by step and by hours of audio.

    python tests/benchmarks/curves.py runs/a runs/b -o curves.png

Training losses are averaged over `--smooth` steps; validation is that of the averaged parameters, dotted that of the
raw ones. Hours of audio are steps times the seconds of a batch (data.seconds), its padding counted. Runs may be going.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import report

VALID, VALID_EMA = "valid_loss", "valid_loss_ema"


class Curves(NamedTuple):
    """The record of a run: steps and values by name, and the hours of audio in a step."""

    name: str
    lines: dict[str, tuple[np.ndarray, np.ndarray]]
    hours: float


def read(run: Path) -> Curves:
    """The curves of a run folder; half a line, as a run that is going may have, is left out."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
    lines = {}
    for name in ("loss", VALID, VALID_EMA):
        points = [(entry["step"], entry[name]) for entry in entries if name in entry]
        lines[name] = tuple(np.array(points, np.float64).reshape(-1, 2).T)
    return Curves(str(run), lines, json.loads((run / "config.json").read_text())["data"]["seconds"] / 3600)


def smoothed(steps: np.ndarray, values: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The means over `width` neighbours (fewer, if there are fewer), at their mean steps."""
    width = max(min(width, len(values)), 1)
    mean = lambda x: np.convolve(x, np.full(width, 1 / width), mode="valid") if len(x) else x
    return mean(steps), mean(values)


def draw(runs: list[Curves], path: Path, *, width: int) -> None:
    """Two rows, training and validation, and two columns, steps and hours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=110, layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for number, run in enumerate(runs):
        for column, unit in enumerate((1.0, run.hours)):
            training, validation = axes[:, column]
            colour = f"C{number % 10}"
            steps, values = smoothed(*run.lines["loss"], width)
            training.plot(steps * unit, values, color=colour, linewidth=1, label=run.name)
            for name, style in ((VALID, ":"), (VALID_EMA, "-")):
                steps, values = run.lines[name]
                validation.plot(steps * unit, values, style, color=colour, marker=".", label=f"{run.name} {name}")
    axes[0, 0].set(ylabel=f"training loss, mean of {width} steps")
    axes[1, 0].set(ylabel="validation loss", xlabel="step")
    axes[1, 1].set(xlabel="hours of audio")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    for axis in axes[:, 1]:
        axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def summary(run: Curves, width: int) -> dict[str, Any]:
    """One line of the table."""
    steps, values = run.lines["loss"]
    valid_steps, valid = run.lines[VALID_EMA]
    best = int(np.nanargmin(valid)) if np.isfinite(valid).any() else None
    return {
        "run": run.name,
        "steps": int(steps[-1]) if len(steps) else 0,
        "hours": float(steps[-1] * run.hours) if len(steps) else 0.0,
        "loss": float(values[-width:].mean()) if len(values) else None,
        "best valid_loss_ema": None if best is None else float(valid[best]),
        "at step": None if best is None else int(valid_steps[best]),
    }


def main(argv: list[str] | None = None) -> None:
    """Reads, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="workdir of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--smooth", type=int, default=200, help="steps that a training loss is the mean of")
    given = parser.parse_args(argv)
    runs = [read(run) for run in given.runs]
    print(report.table([summary(run, given.smooth) for run in runs]))
    draw(runs, given.output, width=given.smooth)


if __name__ == "__main__":
    main()
