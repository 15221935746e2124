"""The tables of the paper (arXiv 2310.16338), and what was reached of them.

A line of a table is a row of `configs/paper.py`, or a system without a model. What was reached stands in reports, which
`sfjax evaluate`, `sfjax wer` and `sfjax similarity` write: RUNS/ROW/TEST.json, of which the means are taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sfjax.errors import UserError


class Column(NamedTuple):
    """A column of a table: the test whose report it is from, and the score in it."""

    test: str
    score: str


class Line(NamedTuple):
    """A line of a table: what the paper calls it, the row (or that of each test), and the paper's figures if any."""

    label: str
    row: str | Mapping[str, str]
    figures: Sequence[float | None]


class Table(NamedTuple):
    """A table: what it is of, its columns, and its lines in the paper's order."""

    title: str
    columns: Sequence[Column]
    lines: Sequence[Line]


def compared(number: int, runs: Path) -> list[dict[str, str]]:
    """The lines of a table, for each column what was reached below `runs` and, behind it, what the paper has.

    A dash stands for a report that is not there, or has no such score. `UserError` for a table that is none of
    `TABLES`, or a file that is no report.
    """
    if number not in TABLES:
        raise UserError(f"table {number}: expected one of {', '.join(map(str, TABLES))}, which are of models")
    return [_compared(line, TABLES[number].columns, runs) for line in TABLES[number].lines]


def reports() -> list[str]:
    """What each table is made of, as NUMBER:ROW/TEST.json for launch/paper.mk."""
    return [
        f"{number}:{line.row if isinstance(line.row, str) else line.row[column.test]}/{column.test}.json"
        for number, table in TABLES.items()
        for line in table.lines
        for column, figure in zip(table.columns, line.figures, strict=True)
        if figure is not None
    ]


def _compared(line: Line, columns: Sequence[Column], runs: Path) -> dict[str, str]:
    cells = {"": line.label}
    for column, figure in zip(columns, line.figures, strict=True):
        row = line.row if isinstance(line.row, str) else line.row.get(column.test, "")
        mean = _mean(runs / row / f"{column.test}.json")
        value = 100 * mean["errors"] / mean["words"] if column.score == "wer" and mean else mean.get(column.score)
        shown = ["–" if one is None else f"{one:.{3 if column.score == 'sim' else 2}f}" for one in (value, figure)]
        cells[column.test if column.score == "sim" else f"{column.test} {column.score}"] = " | ".join(shown)
    return cells


def _mean(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["mean"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected a report as JSON ({error}); write it again with -o") from None


_SCORES = ("pesq_wb", "pesq_nb", "estoi", "csig", "cbak", "covl")
_MIXED = ("2mix", "2mix_noise", "3mix", "3mix_noise")
_SPOKEN = [
    Column(f"{protocol}{kind and f'_{kind}'}", "sim" if kind else "wer")
    for protocol in ("cross", "continued")
    for kind in ("", "sim_o", "sim_r")
]


def _separate(before: str = "", behind: str = "") -> dict[str, str]:
    """The row of each test of separation."""
    return {test: f"{before}separate_{test.replace('mix', '')}{behind}" for test in _MIXED}


_NOISY = Line("Mixture", "noisy", (1.97, 2.88, 0.79, 3.35, 2.44, 2.63, 1.69, 2.29, 0.78, 3.24, 2.26, 2.42))
_FULL = Line("SpeechFlow", "enhance", (3.13, 3.74, 0.87, 4.43, 3.41, 3.80, 2.70, 3.36, 0.90, 4.05, 2.97, 3.36))
_SCRATCH = Line(
    "SpeechFlow w/o pre-train", "enhance_scratch",
    (2.92, 3.57, 0.85, 4.22, 3.26, 3.57, 2.38, 3.02, 0.86, 3.72, 2.75, 3.03),
)  # fmt: skip
_DNS = Line(
    "SpeechFlow, DNS2020", "enhance_dns", (2.71, 3.65, 0.86, 4.07, 2.93, 3.39, 2.87, 3.45, 0.91, 4.24, 3.14, 3.54)
)
_BOUND = Line("Upper bound", "bound", (3.77, 4.09, 0.95, 4.97, 4.00, 4.54, 3.68, 3.93, 0.96, 4.97, 3.81, 4.46))
_ENHANCED = (_NOISY, _FULL, _SCRATCH, _DNS, _BOUND)
_EVERY = [Column(test, score) for test in ("voicebank", "wsj0chime3") for score in _SCORES]
_FEW = [number for number, (_, score) in enumerate(_EVERY) if score in ("pesq_wb", "estoi", "csig", "covl")]

_SPEAK = {  # cross-sentence and continuation
    "speak_scratch": (2.3, 0.526, 0.573, 2.2, 0.467, 0.513),
    "speak": (2.2, 0.678, 0.694, 2.2, 0.613, 0.630),
    "speak_lora": (2.6, 0.696, 0.711, 2.4, 0.623, 0.640),
    "speak_32_scratch": (2.0, 0.569, 0.598, 2.1, 0.530, 0.557),
    "speak_32": (2.2, 0.697, 0.703, 2.2, 0.622, 0.629),
    "speak_32_lora": (2.1, 0.700, 0.715, 2.1, 0.630, 0.644),
    "speak_2_lora": (2.5, 0.695, 0.710, 2.3, 0.623, 0.640),
    "speak_4_lora": (2.4, 0.698, 0.713, 2.2, 0.623, 0.639),
    "speak_8_lora": (2.3, 0.697, 0.712, 2.2, 0.623, 0.639),
    "speak_16_lora": (2.2, 0.697, 0.712, 2.2, 0.625, 0.641),
    "speak_100_scratch": (2.3, 0.412, 0.463, 2.2, 0.370, 0.417),
    "speak_10_scratch": (2.4, 0.360, 0.410, 2.3, 0.330, 0.374),
    "speak_100": (2.8, 0.613, 0.632, 2.5, 0.555, 0.573),
    "speak_10": (4.1, 0.578, 0.600, 3.1, 0.520, 0.541),
    "speak_default": (2.2, 0.655, 0.669, 2.1, 0.596, 0.610),
    "speak_80_100": (2.2, 0.627, 0.644, 2.1, 0.580, 0.597),
    "speak_60_100": (2.3, 0.581, 0.592, 2.1, 0.562, 0.574),
    "speak_60_90": (2.2, 0.599, 0.612, 2.1, 0.567, 0.577),
    "speak_70_90": (2.1, 0.614, 0.623, 2.1, 0.589, 0.596),
    "speak_shortest_5": (2.0, 0.661, 0.677, 2.1, 0.600, 0.616),
    "speak_shortest_15": (2.2, 0.609, 0.629, 2.2, 0.585, 0.605),
}
_SINGLE = dict.fromkeys(("cross", "cross_sim_o"), "speak") | {
    "wsj0chime3": "enhance_dns",
    "2mix_noise": "phase_separate_2_noise",
}


def _speak(title: str, **labels: str) -> Table:
    return Table(title, _SPOKEN, [Line(label, row, _SPEAK[row]) for row, label in labels.items()])


TABLES = {
    1: Table(
        "Enhancement, VoiceBank-DEMAND and WSJ0-CHiME3", [_EVERY[number] for number in _FEW],
        [line._replace(figures=[line.figures[number] for number in _FEW]) for line in _ENHANCED],
    ),
    2: Table(
        "Separation, LibriMix 16k min", [Column(test, score) for test in _MIXED for score in ("si_sdri", "estoii")],
        [
            Line("Upper bound", "bound", (12.43, 0.35, 11.99, 0.46, 12.91, 0.44, 12.62, 0.48)),
            Line("SpeechFlow", _separate(), (11.74, 0.35, 10.46, 0.33, 11.08, 0.35, 8.22, 0.23)),
            Line(
                "SpeechFlow w/o pre-train", _separate(behind="_scratch"),
                (11.24, 0.29, 10.00, 0.31, 8.65, 0.24, 7.39, 0.19),
            ),
            Line("SpeechFlow, phase net", _separate("phase_"), (15.85, 0.37, 12.41, 0.37, *[None] * 4)),
        ],
    ),
    3: _speak(
        "Speech from text, LibriSpeech test-clean", speak_scratch="1 GPU, w/o pre-train", speak="1 GPU, full",
        speak_lora="1 GPU, LoRA", speak_32_scratch="32 GPUs, w/o pre-train", speak_32="32 GPUs, full",
        speak_32_lora="32 GPUs, LoRA",
    ),
    4: Table(
        "Several tasks in one model",
        [*_SPOKEN[:2], Column("wsj0chime3", "pesq_wb"), Column("wsj0chime3", "covl"),
         Column("2mix_noise", "si_sdri"), Column("2mix_noise", "estoii")],
        [Line("Single-task", _SINGLE, (2.2, 0.678, 2.87, 3.54, 12.41, 0.37)),
         Line("Multi-task", "several", (2.3, 0.651, 2.87, 3.56, 9.73, 0.30))],
    ),
    6: Table(
        "Editing, the centre half, LibriSpeech test-clean", [Column("edited", "wer"), Column("edited_sim_o", "sim")],
        [Line("SpeechFlow LoRA", "speak_32_lora", (2.2, 0.647))],
    ),
    7: Table("Enhancement, all scores", _EVERY, _ENHANCED),
    8: _speak(
        "Speech from text by number of GPUs", speak_lora="LoRA, 1", speak_2_lora="LoRA, 2", speak_4_lora="LoRA, 4",
        speak_8_lora="LoRA, 8", speak_16_lora="LoRA, 16", speak_32_lora="LoRA, 32", speak_scratch="Scratch, 1",
        speak_32_scratch="Scratch, 32",
    ),
    9: _speak(
        "Speech from text by hours of labelled data", speak_scratch="w/o pre-train, 960",
        speak_100_scratch="w/o pre-train, 100", speak_10_scratch="w/o pre-train, 10", speak="SpeechFlow, 960",
        speak_100="SpeechFlow, 100", speak_10="SpeechFlow, 10",
    ),
    10: _speak(
        "Speech from text by masks of pre-training (300k updates)", speak_default="70 to 100 %, spans of 10",
        speak_80_100="80 to 100 %", speak_60_100="60 to 100 %", speak_60_90="60 to 90 %", speak_70_90="70 to 90 %",
        speak_shortest_5="spans of 5", speak_shortest_15="spans of 15",
    ),
}  # fmt: skip
