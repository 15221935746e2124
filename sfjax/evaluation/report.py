"""Report scores: means with intervals, conditions, differences to an earlier report, tables, JSON and CSV.

The processes that score import this module, so it does not import JAX.
"""

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import overwrite
from sfjax.errors import UserError

RESAMPLES = 1000  # bootstrap draws behind an interval

TEXTS = ("text", "heard")  # fields of a row of spoken words: what was said, and what a recogniser heard
NOT_SCORES = ("name", "condition", *TEXTS)  # the fields of a row beside its scores


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a set of items.

    `rows` holds the name and the scores of every scored item, `failed` the name and the reason for every other one.
    If conditions are distinguished, each item of both also has `condition`, values by column; None is unknown. `facts`
    are facts about all items, for example the recogniser; they are written with the report.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the scored items; empty if there are none."""
        return dict(zip(self._metrics, self._values.mean(axis=0).tolist(), strict=True)) if self.rows else {}

    @functools.cached_property
    def interval(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each mean, by a seeded bootstrap over the scored items; empty if there are none."""
        if not self.rows:
            return {}
        low, high = bootstrap_interval(self._values, lambda sums: sums / len(self.rows)).tolist()
        return {name: (a, b) for name, a, b in zip(self._metrics, low, high, strict=True)}

    @property
    def groups(self) -> list[tuple[dict[str, Any], "Report"]]:
        """Each condition that occurs with its own report, numbers ascending and None last.

        Empty if no conditions are distinguished.
        """
        items = [item for item in (*self.rows, *self.failed) if "condition" in item]
        conditions = {tuple(item["condition"].items()): item["condition"] for item in items}
        return [
            (condition, Report(_under(condition, self.rows), _under(condition, self.failed)))
            for condition in sorted(conditions.values(), key=_sort_key)
        ]

    def less(self, path: Path) -> "Report":
        """Subtract the scores of an earlier report, which was written as JSON, item by item.

        Items are the same if they have the same name and the same values in the condition columns of both reports.
        Raises `UserError` if the file is no report, if the reports have no item in common, or if two items of one
        report are the same.
        """
        try:
            earlier_rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            columns = [name for name in self._columns if all(name in row.get("condition", {}) for row in earlier_rows)]
            earlier = {_identity(row, columns): row for row in earlier_rows}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: expected a report as JSON, found none ({error}); write one with -o") from None
        identities = [_identity(row, columns) for row in self.rows]
        if len(earlier) < len(earlier_rows) or len(set(identities)) < len(self.rows):
            raise UserError(
                f"cannot compare with {path}: one of the two reports contains two recordings with the same name; "
                "run both with --by COLUMN, where COLUMN tells them apart"
            )
        pairs = [
            (row, earlier[identity]) for row, identity in zip(self.rows, identities, strict=True) if identity in earlier
        ]
        names = [name for name in self._metrics if all(name in old for _, old in pairs)]
        if not pairs or not names:
            raise UserError(f"{path}: has no scored item in common with this report; score the same recordings")
        differences = [
            {name: row[name] for name in NOT_SCORES if name in row}
            | {name: float(row[name]) - float(old[name]) for name in names}
            for row, old in pairs
        ]
        return Report(differences, [])

    def to_json(self) -> dict:
        """Return plain values: n, failed, mean and interval; `conditions`, each with the same; and rows."""
        groups = [{"condition": condition, **group._summary} for condition, group in self.groups]
        return {**self._summary, **self.facts, **({"conditions": groups} if groups else {}), "rows": self.rows}

    @property
    def _summary(self) -> dict[str, Any]:
        intervals = {name: list(ends) for name, ends in self.interval.items()}
        return {"n": len(self.rows), "failed": self.failed, "mean": self.mean, "interval": intervals}

    def table(self) -> str:
        """Return a table of means ± half their intervals, the number of items, and the reasons of failures.

        If conditions are distinguished, a line for each of them follows.
        """
        cells = list(self._cells.items())
        lines = ["  ".join(cell[row].rjust(max(map(len, cell))) for cell in cells) for row in (0, 1) if cells]
        lines.append(f"{len(self.rows)} scored, {len(self.failed)} failed")
        lines += [f"failed: {item['name']}: {item['reason']}" for item in self.failed]
        if groups := self.groups:
            from sfjax.evaluation import compare_runs

            table_rows = [
                {**condition, "scored": len(group.rows), "failed": len(group.failed), **group._cells}
                for condition, group in groups
            ]
            lines += ["", compare_runs.table(table_rows)]
        return "\n".join(lines)

    @property
    def _cells(self) -> dict[str, str]:
        mean = self.mean
        if len(self.rows) == 1:  # has no interval
            return {name: f"{value:.3f}" for name, value in mean.items()}
        return {name: f"{mean[name]:.3f} ± {(high - low) / 2:.3f}" for name, (low, high) in self.interval.items()}

    def write(self, path: Path) -> None:
        """Write the report as .json, or its items as .csv; the file appears whole or not at all.

        Raises `UserError` for any other suffix, or if the file cannot be written.
        """
        from sfjax.data.manifest import replacing

        check_output(path)
        text = (
            self._csv()
            if path.suffix == ".csv"
            else json.dumps(overwrite.FIELD | self.to_json(), indent=1, ensure_ascii=False) + "\n"
        )
        with replacing(path) as part:
            # names that are not UTF-8 are escaped
            part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")

    @property
    def _metrics(self) -> list[str]:
        return [name for name in self.rows[0] if name not in NOT_SCORES] if self.rows else []

    @property
    def _columns(self) -> list[str]:
        return list(next((item.get("condition", {}) for item in (*self.rows, *self.failed)), {}))

    @property
    def _values(self) -> Float[np.ndarray, "items metrics"]:
        return np.array([[row[name] for name in self._metrics] for row in self.rows], np.float64)

    def _csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")  # not by keys: a condition may be called like a score
        fields = [*self._metrics, *(name for name in TEXTS if any(name in row for row in self.rows)), "reason"]
        writer.writerow(["name", *self._columns, *fields])
        for item in (*self.rows, *self.failed):
            scores_and_reason = [item.get(name) for name in fields]
            writer.writerow([item["name"], *item.get("condition", {}).values(), *scores_and_reason])
        return buffer.getvalue()


def _under(condition: dict[str, Any], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in items if item.get("condition") == condition]


def _sort_key(condition: dict[str, Any]) -> list[tuple[bool, Any]]:
    return [(value is None, "" if value is None else value) for value in condition.values()]


def _identity(row: dict[str, Any], columns: Sequence[str]) -> tuple:
    return (row["name"], *(row["condition"][name] for name in columns))


def bootstrap_interval(
    values: Float[np.ndarray, "items columns"],
    statistic: Callable[[Float[np.ndarray, "resamples columns"]], Float[np.ndarray, "resamples *results"]],
) -> Float[np.ndarray, "2 *results"]:
    """Return the ends of the 95 % interval of a statistic of column sums, by a seeded bootstrap over the items.

    `statistic` maps the column sums of all resamples, each of as many items as there are, to its values.
    """
    count = len(values)
    # Only how often an item is drawn matters to a sum.
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.percentile(statistic(draws @ values), [2.5, 97.5], axis=0)


def check_output(path: Path) -> None:
    """Check that a report can be written under this name. Raises `UserError` unless it ends in .json or .csv."""
    if path.suffix not in (".json", ".csv"):
        raise UserError(f"{path}: a report is written as .json or .csv, not {path.suffix or 'without a suffix'}")
