"""The runs of a folder side by side: how they differ, how far they came, what they scored, and their curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
    """The runs that are these folders or lie below them; `UserError` if there are none.

    Scores are the means in the reports (.json) that `sfjax evaluate -o` wrote into a run's folder.
    """
    places = sorted({path.parent for folder in folders for path in folder.rglob("config.json")})
    found = [_run(place) for place in places if (place / "metrics.jsonl").exists()]
    if not found:
        raise UserError(
            f"{', '.join(map(str, folders))}: expected folders of runs, found none; give those of `sfjax train`"
        )
    return found


def _run(folder):
    try:
        config = dict(_fields(json.loads((folder / "config.json").read_text())))
        # a run that is going may have written half a line
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().split("\n")[:-1]]
    except ValueError as error:
        raise UserError(f"{folder}: not a run's folder any more ({error}); leave it out") from None
    names = [name for line in lines for name in line if name == "loss" or name.startswith("valid_")]
    curves = {}
    for name in dict.fromkeys(names):
        points = np.array([(line["step"], line[name]) for line in lines if name in line], np.float64)
        curves[name] = points[:, 0], points[:, 1]
    scores = {}
    for path in sorted(folder.glob("*.json")):
        means = json.loads(path.read_text()).get("mean") if path.name != "config.json" else None
        scores |= {f"{path.stem} {name}": value for name, value in (means or {}).items()}
    return Run(str(folder), config, curves, scores)


def _fields(tree, path=""):
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        yield from _fields(value, name) if isinstance(value, dict) else [(name, value)]


def rows(found: list[Run]) -> list[dict[str, Any]]:
    """One row for each run: the fields by which they differ, the last step, the last validation losses, the scores."""
    keys = dict.fromkeys(key for run in found for key in run.config if key.split(".")[0] not in APART)
    differ = [key for key in keys if len({json.dumps(run.config.get(key)) for run in found}) > 1]
    made = []
    for run in found:
        last = {name: float(values[-1]) for name, (_, values) in run.curves.items() if name != "loss"}
        step = int(max(steps[-1] for steps, _ in run.curves.values())) if run.curves else 0
        made.append(
            {"run": run.name, **{key: run.config.get(key) for key in differ}, "step": step, **last, **run.scores}
        )
    return made


def table(made: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned columns under their keys: numbers with four digits to the right, a dash for what is not there."""
    names = list(dict.fromkeys(name for row in made for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in made)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    texts = [any(isinstance(row.get(name), str) for row in made) for name in names]
    return "\n".join(
        "  ".join(cell.ljust(w) if text else cell.rjust(w) for cell, w, text in zip(line, widths, texts, strict=True))
        for line in cells
    )


def _cell(value):
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def write(found: list[Run], path: Path, *, smooth: int) -> None:
    """Writes the rows as .csv or .json, or the curves as .png."""
    if path.suffix == ".png":
        return draw(found, path, smooth=smooth)
    made = rows(found)
    if path.suffix == ".json":
        text = json.dumps(made, indent=1) + "\n"
    elif path.suffix == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(name for row in made for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)
        text = out.getvalue()
    else:
        raise UserError(f"{path}: runs are written as .csv, .json or .png, not {path.suffix or 'without a suffix'}")
    with replacing(path) as part:
        part.write_text(text)


def draw(found: list[Run], path: Path, *, smooth: int) -> None:
    """Draws training losses, means of `smooth` steps, and validation losses (dotted: raw ones) by hours of audio.

    Losses of another process or task do not compare: they have panels of their own.
    """
    from matplotlib.figure import Figure

    kind = lambda run: f"{run.config['process']}, {run.config['task.name']}"
    kinds = list(dict.fromkeys(kind(run) for run in found))
    figure = Figure(figsize=(12, 5 * len(kinds)), dpi=110, layout="constrained")
    panels = dict(zip(kinds, figure.subplots(len(kinds), 2, squeeze=False), strict=True))
    for number, run in enumerate(found):
        hours, colour = run.config["data.seconds"] / 3600, f"C{number % 10}"
        training, validation = panels[kind(run)]
        for name, (steps, values) in run.curves.items():
            if name == "loss":
                width = max(min(smooth, len(values)), 1)
                mean = lambda x, width=width: np.convolve(x, np.full(width, 1 / width), mode="valid")
                training.plot(mean(steps) * hours, mean(values), color=colour, linewidth=1, label=run.name)
            else:
                style = "-" if "ema" in name else ":"
                validation.plot(steps * hours, values, style, color=colour, marker=".", label=f"{run.name} {name}")
    for name, pair in panels.items():
        for axis, loss in zip(pair, (f"training loss, mean of {smooth} steps", "validation loss"), strict=True):
            axis.set(xlabel="hours of audio", ylabel=loss, title=name if len(kinds) > 1 else "")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    with replacing(path) as part:
        figure.savefig(part, format="png")
