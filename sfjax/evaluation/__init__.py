"""Evaluation: score recordings, manifests and models, compare runs, and print the paper's tables."""

from sfjax.evaluation.report import RESAMPLES, Report, check_output
from sfjax.evaluation.scoring import (
    Scorer,
    evaluate,
    mixture_files,
    pair_files,
    score_all,
    score_arrays,
    score_files,
    score_mixtures,
    score_opinions,
)

__all__ = [
    "RESAMPLES",
    "Report",
    "Scorer",
    "check_output",
    "evaluate",
    "mixture_files",
    "pair_files",
    "score_all",
    "score_arrays",
    "score_files",
    "score_mixtures",
    "score_opinions",
]
