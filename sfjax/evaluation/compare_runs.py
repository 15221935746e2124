"""Compare the runs of a folder: configs, progress, scores and curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfjax import overwrite
from sfjax.data.manifest import replacing
from sfjax.errors import UserError

APART = {"run", "debug", "mesh"}  # sections that change no result


class Run(NamedTuple):
    """A run: its name, its config's fields by their paths, its curves (steps and values by name) and its scores."""

    name: str
    config: dict[str, Any]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    scores: dict[str, float]


def runs(folders: list[Path]) -> list[Run]:
    """Read the runs in these folders and below them.

    Scores are the means in the reports (.json) that `sfjax evaluate -o` wrote into a run's folder. Raises `UserError`
    if there is no run.
    """
    candidates = sorted({path.parent for folder in folders for path in folder.rglob("config.json")})
    read = [_read_run(folder) for folder in candidates if (folder / "metrics.jsonl").exists()]
    if not read:
        raise UserError(
            f"{', '.join(map(str, folders))}: expected folders of runs, found none; give workdirs of `sfjax train`"
        )
    return read


def _read_run(folder):
    path = folder / "config.json"
    try:
        config = dict(_flat_fields(json.loads(path.read_text(encoding="utf-8"))))
        if not float(config["data.seconds"]) > 0 or not {"process", "task.name"} <= config.keys():
            raise ValueError("wrong values")
        path = folder / "metrics.jsonl"
        # a run in progress may have written half a line
        curves = _curves([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]])
        scores = {}
        for path in sorted(folder.glob("*.json")):
            if path.name != "config.json":
                scores |= _means(path)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: expected a file of a run, but it is damaged ({error!r}); leave its run out") from None
    return Run(str(folder), config, curves, scores)


def _curves(lines):
    """Return the steps and values of each loss in the lines of a run's metrics."""
    names = [name for line in lines for name in line if name == "loss" or name.startswith("valid_")]
    curves = {}
    for name in dict.fromkeys(names):
        points = np.array([(int(line["step"]), float(line[name])) for line in lines if name in line], np.float64)
        curves[name] = points[:, 0], points[:, 1]
    return curves


def _means(path):
    """Return the mean scores of a report, if the file is one."""
    report = json.loads(path.read_text(encoding="utf-8"))
    means = report.get("mean") if isinstance(report, dict) else None
    return {f"{path.stem} {name}": float(value) for name, value in (means or {}).items()}


def _flat_fields(section, path=""):
    for key, value in section.items():
        name = f"{path}.{key}" if path else key
        yield from _flat_fields(value, name) if isinstance(value, dict) else [(name, value)]


def rows(runs: list[Run]) -> list[dict[str, Any]]:
    """Return a row for each run: fields that differ, last step, last validation losses, and scores."""
    fields = dict.fromkeys(field for run in runs for field in run.config if field.split(".")[0] not in APART)
    differing = [field for field in fields if len({json.dumps(run.config.get(field)) for run in runs}) > 1]
    compared = []
    for run in runs:
        last = {name: float(values[-1]) for name, (_, values) in run.curves.items() if name != "loss"}
        step = int(max(steps[-1] for steps, _ in run.curves.values())) if run.curves else 0
        settings = {field: run.config.get(field) for field in differing}
        compared.append({"run": run.name, **settings, "step": step, **last, **run.scores})
    return compared


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned columns under their keys.

    Numbers are right-aligned with four digits; a dash stands for a missing value.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    is_text = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        )
        for line in lines
    )


def _cell(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(runs: list[Run], path: Path, *, smooth: int) -> None:
    """Write the rows as .csv or .json, or the curves as .png. Raises `UserError` for any other suffix."""
    if path.suffix == ".png":
        return draw(runs, path, smooth=smooth)
    compared = rows(runs)
    if path.suffix == ".json":
        text = json.dumps(compared, indent=1) + "\n"
    elif path.suffix == ".csv":
        buffer = io.StringIO()
        columns = list(dict.fromkeys(name for row in compared for name in row))
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(compared)
        text = buffer.getvalue()
    else:
        raise UserError(f"{path}: expected a name that ends in .csv, .json or .png, got {path.suffix or 'no suffix'}")
    with replacing(path) as part:
        part.write_text(text)


def draw(runs: list[Run], path: Path, *, smooth: int) -> None:
    """Plot training losses (means of `smooth` steps) and validation losses by hours of audio, as PNG.

    Dotted lines are validation losses of raw parameters, solid lines of averaged ones. Losses of different processes
    or tasks do not compare, so each combination has its own panels.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(map(_process_and_task, runs)))
    figure = Figure(figsize=(12, 5 * len(kinds)), dpi=110, layout="constrained")
    panels = dict(zip(kinds, figure.subplots(len(kinds), 2, squeeze=False), strict=True))
    for number, run in enumerate(runs):
        hours_per_step, colour = run.config["data.seconds"] / 3600, f"C{number % 10}"
        training, validation = panels[_process_and_task(run)]
        for name, (steps, values) in run.curves.items():
            if name == "loss":
                width = max(min(smooth, len(values)), 1)
                steps, values = _running_mean(steps, width), _running_mean(values, width)
                training.plot(steps * hours_per_step, values, color=colour, linewidth=1, label=run.name)
            else:
                style, label = "-" if "ema" in name else ":", f"{run.name} {name}"
                validation.plot(steps * hours_per_step, values, style, color=colour, marker=".", label=label)
    for kind, axes in panels.items():
        for axis, loss in zip(axes, (f"training loss, mean of {smooth} steps", "validation loss"), strict=True):
            axis.set(xlabel="hours of audio", ylabel=loss, title=kind if len(kinds) > 1 else "")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    with replacing(path) as part:
        figure.savefig(part, format="png", metadata=overwrite.PICTURE)


def _process_and_task(run):
    return f"{run.config['process']}, {run.config['task.name']}"


def _running_mean(x, width):
    return np.convolve(x, np.full(width, 1 / width), mode="valid")
