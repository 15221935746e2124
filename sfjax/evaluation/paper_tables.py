"""Print the tables of the paper (arXiv 2310.16338) with the scores of your runs beside its figures.

A line of a table is a row of `configs/paper.py`, a system without a model, or prior work, for which the paper has only
figures. Your scores are the means of the reports RUNS/ROW/TEST.json, which `sfjax evaluate`, `sfjax wer` and
`sfjax similarity` write. Opinion scores come from RUNS/mos.json, which `sfjax mos score -o` writes for a listening test
whose systems have the names of rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sfjax.errors import UserError

PRIOR = ""  # the row of prior work
MOS = "mos"  # the test and the score of opinions
Figure = float | tuple[float, float] | None  # with half of its 95 % interval where the paper prints it


class Column(NamedTuple):
    """A column of a table: the test whose report is read, and a score in it."""

    test: str
    score: str


class Line(NamedTuple):
    """A line of a table: its label in the paper, its row (or the row of each test), and the paper's figures if any.

    `source` says for prior work where the paper has its figures from.
    """

    label: str
    row: str | Mapping[str, str]
    figures: Sequence[Figure]
    source: str = ""


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
        if figure is not None and line.row != PRIOR and column.test != MOS
    ]


def sources(number: int) -> list[str]:
    """Return a line for each prior work in a table: its label, and where the paper has its figures from."""
    return [f"{line.label}: {line.source}" for line in TABLES[number].lines if line.row == PRIOR]


def _cells(line: Line, columns: Sequence[Column], runs: Path) -> dict[str, str]:
    cells = {"": f"{line.label}, prior work" if line.row == PRIOR else line.label}
    for column, figure in zip(columns, line.figures, strict=True):
        row = line.row if isinstance(line.row, str) else line.row.get(column.test, "")
        score = None if line.row == PRIOR else _score(column, row, runs)
        texts = [_text(value, digits=3 if column.score == "sim" else 2) for value in (score, figure)]
        cells[column.test if column.score in ("sim", MOS) else f"{column.test} {column.score}"] = " | ".join(texts)
    return cells


def _score(column: Column, row: str, runs: Path) -> Figure:
    if column.test == MOS:
        path = runs / f"{MOS}.json"
        mean, interval = read_field(path, "mean").get(row), read_field(path, "interval").get(row)
        return mean if interval is None or mean is None else (mean, interval[1] - mean)
    mean = read_field(runs / row / f"{column.test}.json", "mean")
    return 100 * mean["errors"] / mean["words"] if column.score == "wer" and mean else mean.get(column.score)


def _text(value: Figure, *, digits: int) -> str:
    if value is None:
        return "–"
    return " ± ".join(f"{number:.{digits}f}" for number in (value if isinstance(value, tuple) else (value,)))


def read_field(path: Path, field: str) -> dict[str, Any]:
    """Read field `mean` or `interval` of a report; empty if it does not exist.

    Raises `UserError` if the file is no report.
    """
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))[field])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected a report as JSON ({error}); write it again with -o") from None


_ENHANCEMENT_SCORES = ("pesq_wb", "pesq_nb", "estoi", "csig", "cbak", "covl")
_SEPARATION_TESTS = ("2mix", "2mix_noise", "3mix", "3mix_noise")
_CROSS, _MOS_COLUMN = 3, Column(MOS, MOS)  # the first columns of the next list; the last of Tables 3 and 11
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
_CLEAN = Line("Clean signal", "clean", 2 * (4.50, 4.55, 1.00, 5.00, 5.00, 5.00))
_SCRATCH_DNS = Line(  # not in Table 7
    "SpeechFlow w/o pre-train, DNS2020",
    "enhance_dns_scratch",
    (2.53, None, 0.84, 3.89, None, 3.20, 2.56, None, 0.89, 3.91, None, 3.22),
)
# Our text of the paper's Table 7 has three values of PESQ-nb (3.66, 3.42, 3.63) for four systems of prior work on
# VoiceBank-DEMAND. Only the first surely belongs to its system, so the others are missing here.
_SGMSE = Line(
    "SGMSE+",
    PRIOR,
    (2.93, 3.66, 0.87, 4.13, 3.39, 3.53, 2.48, 3.12, 0.90, 3.67, 2.95, 3.02),
    "Richter et al. 2023; composite measures and PESQ-nb of WSJ0-CHiME3 measured by the paper with the released model",
)
_CONV_TASNET = Line(
    "Conv-TasNet",
    PRIOR,
    (2.63, None, 0.85, None, None, None, 2.40, None, 0.88, None, None, None),
    "Luo & Mesgarani 2019, reproduced by Richter et al. 2023",
)
_METRICGAN = Line(
    "MetricGAN+",
    PRIOR,
    (3.13, None, 0.83, 4.10, 2.90, 3.61, 2.13, 2.67, 0.76, 3.02, 1.88, 2.52),
    "Fu et al. 2021; composite measures and PESQ-nb of WSJ0-CHiME3 measured by the paper with the released model",
)
_DEMUCS = Line(
    "DEMUCS", PRIOR, (3.07, None, None, 4.31, 3.40, 3.63, None, None, None, None, None, None), "Défossez et al. 2020"
)
_DEMUCS_DNS = Line(
    "DEMUCS, DNS2020",
    PRIOR,
    (2.55, 3.40, 0.85, 3.24, 3.26, 2.88, 2.49, 3.20, 0.92, 3.93, 3.24, 3.20),
    "Défossez et al. 2020, measured by the paper with the released model",
)
_TABLE_7_LINES = (
    *(_NOISY, _SGMSE, _CONV_TASNET, _METRICGAN, _DEMUCS, _SPEECHFLOW, _SCRATCH),
    *(_DEMUCS_DNS, _SPEECHFLOW_DNS, _BOUND, _CLEAN),
)
_TABLE_1_LINES = (
    *(_NOISY, _CONV_TASNET, _METRICGAN, _SGMSE, _SPEECHFLOW, _SCRATCH),
    *(_DEMUCS_DNS, _SPEECHFLOW_DNS, _SCRATCH_DNS, _BOUND, _CLEAN),
)
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


_TRUTH = Line("Ground truth", "truth", (None, None, None, 2.2, 0.754, None))
_YOURTTS = Line("YourTTS, 475 h", PRIOR, (7.7, 0.337, None, None, None, None), "Casanova et al. 2021")
_VALL_E = Line("VALL-E, 60k h", PRIOR, (5.9, None, 0.580, 3.8, 0.452, 0.508), "Wang et al. 2023")
_VOICEBOX = Line("Voicebox, 60k h", PRIOR, (1.9, 0.662, 0.681, 2.0, 0.593, 0.616), "Le et al. 2023")


def _speak_lines(**labels: str) -> list[Line]:
    return [Line(label, row, _SPEAK_FIGURES[row]) for row, label in labels.items()]


def _rated(line: Line, opinion: Figure = None, columns: int | None = None) -> Line:
    """Return a line of speech from text with an opinion score behind its first `columns` figures."""
    return line._replace(figures=(*line.figures[:columns], opinion))


TABLES = {
    1: Table(
        "Enhancement, VoiceBank-DEMAND and WSJ0-CHiME3",
        [_ENHANCEMENT_COLUMNS[number] for number in _TABLE_1_COLUMNS],
        [line._replace(figures=[line.figures[number] for number in _TABLE_1_COLUMNS]) for line in _TABLE_1_LINES],
    ),
    2: Table(
        "Separation, LibriMix 16k min",
        [Column(test, score) for test in _SEPARATION_TESTS for score in ("si_sdri", "estoii")],
        [
            Line(
                "Conv-TasNet",
                PRIOR,
                (15.24, 0.22, 12.55, 0.22, 12.30, 0.26, 10.28, 0.21),
                "Luo & Mesgarani 2019, reproduced by Cosentino et al. 2020",
            ),
            Line(
                "SepFormer",
                PRIOR,
                (14.94, 0.31, 11.71, 0.28, *[None] * 4),
                "Subakan et al. 2021 and 2023, trained by the paper at 16 kHz with SpeechBrain (Ravanelli et al. 2021)",
            ),
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
    3: Table(
        "Speech from text, LibriSpeech test-clean",
        [*_SPEECH_COLUMNS, _MOS_COLUMN],
        [
            _rated(_TRUTH, 3.80),
            _rated(_YOURTTS, 2.92),
            _rated(_VALL_E),
            _rated(_VOICEBOX, 3.54),
            *map(
                _rated,
                _speak_lines(
                    speak_scratch="1 GPU, w/o pre-train",
                    speak="1 GPU, full",
                    speak_lora="1 GPU, LoRA",
                    speak_32_scratch="32 GPUs, w/o pre-train",
                    speak_32="32 GPUs, full",
                ),
            ),
            *(_rated(line, 3.43) for line in _speak_lines(speak_32_lora="32 GPUs, LoRA")),
        ],
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
            Line(
                "Best expert",
                PRIOR,
                (1.9, 0.662, 2.49, 3.32, 12.55, 0.28),
                "the best prior work for each score in Tables 1 to 3, as printed (the best COVL in Table 1 is 3.20)",
            ),
            Line("Single-task", _SINGLE_TASK_ROWS, (2.2, 0.678, 2.87, 3.54, 12.41, 0.37)),
            Line("Multi-task", "several", (2.3, 0.651, 2.87, 3.56, 9.73, 0.30)),
        ],
    ),
    6: Table(
        "Editing, the centre half, LibriSpeech test-clean",
        [Column("edited", "wer"), Column("edited_sim_o", "sim")],
        [
            Line("A3T, 44 h", PRIOR, (11.5, 0.148), "Bai et al. 2022"),
            Line("Voicebox, 60k h", PRIOR, (2.0, 0.613), "Le et al. 2023"),
            Line("SpeechFlow LoRA, 960 h", "speak_32_lora", (2.2, 0.647)),
        ],
    ),
    7: Table("Enhancement, all scores", _ENHANCEMENT_COLUMNS, _TABLE_7_LINES),
    8: Table(
        "Speech from text by number of GPUs",
        _SPEECH_COLUMNS,
        _speak_lines(
            speak_lora="LoRA, 1",
            speak_2_lora="LoRA, 2",
            speak_4_lora="LoRA, 4",
            speak_8_lora="LoRA, 8",
            speak_16_lora="LoRA, 16",
            speak_32_lora="LoRA, 32",
            speak_scratch="Scratch, 1",
            speak_32_scratch="Scratch, 32",
        ),
    ),
    9: Table(
        "Speech from text by hours of labelled data",
        _SPEECH_COLUMNS,
        [
            *(_TRUTH, _YOURTTS, _VALL_E, _VOICEBOX),
            *_speak_lines(
                speak_scratch="w/o pre-train, 960",
                speak_100_scratch="w/o pre-train, 100",
                speak_10_scratch="w/o pre-train, 10",
                speak="SpeechFlow, 960",
                speak_100="SpeechFlow, 100",
                speak_10="SpeechFlow, 10",
            ),
        ],
    ),
    10: Table(
        "Speech from text by masks of pre-training (300k updates)",
        _SPEECH_COLUMNS,
        _speak_lines(
            speak_default="70 to 100 %, spans of 10",
            speak_80_100="80 to 100 %",
            speak_60_100="60 to 100 %",
            speak_60_90="60 to 90 %",
            speak_70_90="70 to 90 %",
            speak_shortest_5="spans of 5",
            speak_shortest_15="spans of 15",
        ),
    ),
    11: Table(
        "Opinions on speech from text, cross-sentence prompts",
        [*_SPEECH_COLUMNS[:_CROSS], _MOS_COLUMN],
        [
            _rated(_TRUTH, (3.80, 0.09), _CROSS),
            _rated(_YOURTTS, (2.92, 0.10), _CROSS),
            _rated(_VOICEBOX, (3.54, 0.08), _CROSS),
            *(_rated(line, (3.43, 0.09), _CROSS) for line in _speak_lines(speak_32_lora="SpeechFlow, 960 h")),
        ],
    ),
}
