"""Print the tables of the paper (arXiv 2310.16338) with the scores of your runs beside its figures.

A line of a table is a row of `configs/paper.py`, or a system without a model. Your scores are the means of the reports
RUNS/ROW/TEST.json, which `sfjax evaluate`, `sfjax wer` and `sfjax similarity` write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sfjax.errors import UserError


class Column(NamedTuple):
    """A column of a table: the test whose report is read, and a score in it."""

    test: str
    score: str


class Line(NamedTuple):
    """A line of a table: its label in the paper, its row (or the row of each test), and the paper's figures if any."""

    label: str
    row: str | Mapping[str, str]
    figures: Sequence[float | None]


class Table(NamedTuple):
    """A table: its title, its columns, and its lines in the paper's order."""

    title: str
    columns: Sequence[Column]
    lines: Sequence[Line]


def compare(number: int, runs: Path) -> list[dict[str, str]]:
    """Return the lines of a table; each cell has the score below `runs`, then the paper's figure.

    A dash stands for a missing report or score. Raises `UserError` for a table that is not in `TABLES`, or a file that
    is no report.
    """
    if number not in TABLES:
        raise UserError(
            f"unknown table {number}; choose from {', '.join(map(str, TABLES))}, the tables that compare models"
        )
    return [_cells(line, TABLES[number].columns, runs) for line in TABLES[number].lines]


def reports() -> list[str]:
    """Return the reports that each table needs, as NUMBER:ROW/TEST.json for launch/paper.mk."""
    return [
        f"{number}:{line.row if isinstance(line.row, str) else line.row[column.test]}/{column.test}.json"
        for number, table in TABLES.items()
        for line in table.lines
        for column, figure in zip(table.columns, line.figures, strict=True)
        if figure is not None
    ]


def _cells(line: Line, columns: Sequence[Column], runs: Path) -> dict[str, str]:
    cells = {"": line.label}
    for column, figure in zip(columns, line.figures, strict=True):
        row = line.row if isinstance(line.row, str) else line.row.get(column.test, "")
        mean = _read_mean(runs / row / f"{column.test}.json")
        score = 100 * mean["errors"] / mean["words"] if column.score == "wer" and mean else mean.get(column.score)
        digits = 3 if column.score == "sim" else 2
        texts = ["–" if value is None else f"{value:.{digits}f}" for value in (score, figure)]
        cells[column.test if column.score == "sim" else f"{column.test} {column.score}"] = " | ".join(texts)
    return cells


def _read_mean(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["mean"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected a report as JSON ({error}); write it again with -o") from None


_ENHANCEMENT_SCORES = ("pesq_wb", "pesq_nb", "estoi", "csig", "cbak", "covl")
_SEPARATION_TESTS = ("2mix", "2mix_noise", "3mix", "3mix_noise")
_SPEECH_COLUMNS = [
    Column(f"{protocol}{kind and f'_{kind}'}", "sim" if kind else "wer")
    for protocol in ("cross", "continued")
    for kind in ("", "sim_o", "sim_r")
]


def _separate(prefix: str = "", suffix: str = "") -> dict[str, str]:
    """Return the row of each test of separation."""
    return {test: f"{prefix}separate_{test.replace('mix', '')}{suffix}" for test in _SEPARATION_TESTS}


_NOISY = Line("Mixture", "noisy", (1.97, 2.88, 0.79, 3.35, 2.44, 2.63, 1.69, 2.29, 0.78, 3.24, 2.26, 2.42))
_SPEECHFLOW = Line("SpeechFlow", "enhance", (3.13, 3.74, 0.87, 4.43, 3.41, 3.80, 2.70, 3.36, 0.90, 4.05, 2.97, 3.36))
_SCRATCH = Line(
    "SpeechFlow w/o pre-train",
    "enhance_scratch",
    (2.92, 3.57, 0.85, 4.22, 3.26, 3.57, 2.38, 3.02, 0.86, 3.72, 2.75, 3.03),
)
_SPEECHFLOW_DNS = Line(
    "SpeechFlow, DNS2020", "enhance_dns", (2.71, 3.65, 0.86, 4.07, 2.93, 3.39, 2.87, 3.45, 0.91, 4.24, 3.14, 3.54)
)
_BOUND = Line("Upper bound", "bound", (3.77, 4.09, 0.95, 4.97, 4.00, 4.54, 3.68, 3.93, 0.96, 4.97, 3.81, 4.46))
_ENHANCEMENT_LINES = (_NOISY, _SPEECHFLOW, _SCRATCH, _SPEECHFLOW_DNS, _BOUND)
_ENHANCEMENT_COLUMNS = [Column(test, score) for test in ("voicebank", "wsj0chime3") for score in _ENHANCEMENT_SCORES]
_TABLE_1_SCORES = ("pesq_wb", "estoi", "csig", "covl")
_TABLE_1_COLUMNS = [number for number, (_, score) in enumerate(_ENHANCEMENT_COLUMNS) if score in _TABLE_1_SCORES]

_SPEAK_FIGURES = {  # cross-sentence and continuation
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
_SINGLE_TASK_ROWS = dict.fromkeys(("cross", "cross_sim_o"), "speak") | {
    "wsj0chime3": "enhance_dns",
    "2mix_noise": "phase_separate_2_noise",
}


def _speak(title: str, **labels: str) -> Table:
    return Table(title, _SPEECH_COLUMNS, [Line(label, row, _SPEAK_FIGURES[row]) for row, label in labels.items()])


TABLES = {
    1: Table(
        "Enhancement, VoiceBank-DEMAND and WSJ0-CHiME3",
        [_ENHANCEMENT_COLUMNS[number] for number in _TABLE_1_COLUMNS],
        [line._replace(figures=[line.figures[number] for number in _TABLE_1_COLUMNS]) for line in _ENHANCEMENT_LINES],
    ),
    2: Table(
        "Separation, LibriMix 16k min",
        [Column(test, score) for test in _SEPARATION_TESTS for score in ("si_sdri", "estoii")],
        [
            Line("Upper bound", "bound", (12.43, 0.35, 11.99, 0.46, 12.91, 0.44, 12.62, 0.48)),
            Line("SpeechFlow", _separate(), (11.74, 0.35, 10.46, 0.33, 11.08, 0.35, 8.22, 0.23)),
            Line(
                "SpeechFlow w/o pre-train",
                _separate(suffix="_scratch"),
                (11.24, 0.29, 10.00, 0.31, 8.65, 0.24, 7.39, 0.19),
            ),
            Line("SpeechFlow, phase net", _separate("phase_"), (15.85, 0.37, 12.41, 0.37, *[None] * 4)),
        ],
    ),
    3: _speak(
        "Speech from text, LibriSpeech test-clean",
        speak_scratch="1 GPU, w/o pre-train",
        speak="1 GPU, full",
        speak_lora="1 GPU, LoRA",
        speak_32_scratch="32 GPUs, w/o pre-train",
        speak_32="32 GPUs, full",
        speak_32_lora="32 GPUs, LoRA",
    ),
    4: Table(
        "Several tasks in one model",
        [
            *_SPEECH_COLUMNS[:2],
            Column("wsj0chime3", "pesq_wb"),
            Column("wsj0chime3", "covl"),
            Column("2mix_noise", "si_sdri"),
            Column("2mix_noise", "estoii"),
        ],
        [
            Line("Single-task", _SINGLE_TASK_ROWS, (2.2, 0.678, 2.87, 3.54, 12.41, 0.37)),
            Line("Multi-task", "several", (2.3, 0.651, 2.87, 3.56, 9.73, 0.30)),
        ],
    ),
    6: Table(
        "Editing, the centre half, LibriSpeech test-clean",
        [Column("edited", "wer"), Column("edited_sim_o", "sim")],
        [Line("SpeechFlow LoRA", "speak_32_lora", (2.2, 0.647))],
    ),
    7: Table("Enhancement, all scores", _ENHANCEMENT_COLUMNS, _ENHANCEMENT_LINES),
    8: _speak(
        "Speech from text by number of GPUs",
        speak_lora="LoRA, 1",
        speak_2_lora="LoRA, 2",
        speak_4_lora="LoRA, 4",
        speak_8_lora="LoRA, 8",
        speak_16_lora="LoRA, 16",
        speak_32_lora="LoRA, 32",
        speak_scratch="Scratch, 1",
        speak_32_scratch="Scratch, 32",
    ),
    9: _speak(
        "Speech from text by hours of labelled data",
        speak_scratch="w/o pre-train, 960",
        speak_100_scratch="w/o pre-train, 100",
        speak_10_scratch="w/o pre-train, 10",
        speak="SpeechFlow, 960",
        speak_100="SpeechFlow, 100",
        speak_10="SpeechFlow, 10",
    ),
    10: _speak(
        "Speech from text by masks of pre-training (300k updates)",
        speak_default="70 to 100 %, spans of 10",
        speak_80_100="80 to 100 %",
        speak_60_100="60 to 100 %",
        speak_60_90="60 to 90 %",
        speak_70_90="70 to 90 %",
        speak_shortest_5="spans of 5",
        speak_shortest_15="spans of 15",
    ),
}
