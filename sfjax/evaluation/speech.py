"""Score generated speech: word error rates and speaker similarity.

The processes that score import this module, so it does not import JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sfjax import audio_io, evaluation
from sfjax.errors import UserError
from sfjax.evaluation.report import Report, bootstrap_interval
from sfjax.evaluation.scoring import RATE
from sfjax.metrics import Unscorable, speaker, wer
from sfjax.text import encoding


def texts(path: Path) -> dict[str, str]:
    """Read the texts of recordings, by their names without suffix.

    `path` is a manifest, or a list of JSON objects with `path` and `text`. Raises `UserError` if it is neither, if it
    has no text, or if two recordings share a name.
    """
    if path.suffix == ".parquet":
        from sfjax.data.manifest import read, recording_name

        rows = read(path, split=None)
        named_texts = [(recording_name(row), row["text"]) for row in map(rows.row, range(len(rows)))]
    else:
        try:
            rows = [json.loads(line) for line in encoding.read_text(path).splitlines() if line.strip()]
            named_texts = [(row["path"], row.get("text")) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or repr(error)
            raise UserError(f"{path}: expected a manifest, or lines with `path` and `text` ({reason})") from None
    by_stem = [(Path(name).stem, text) for name, text in named_texts if text]
    if len(dict(by_stem)) < len(by_stem):
        raise UserError(
            f"{path}: two recordings have the same name without folder and suffix; score their folders separately"
        )
    if not by_stem:
        raise UserError(f"{path}: expected texts, found none; `sfjax prepare` keeps them as column 'text'")
    return dict(by_stem)


def words(folder: Path, said: dict[str, str], *, transcriber: str, workers: int, progress: bool) -> Report:
    """Count errors and words of every recording below a folder whose text is in `said`; see `word_error_rate`.

    Rows also have the text and what was heard; the facts of the report name the recogniser and hold the rate.
    """
    wer.transcriber(transcriber)  # raise its errors here, once, rather than in every worker
    recordings = audio_io.recordings(folder)
    items = [
        (name, said[Path(name).stem], path) for name, path in sorted(recordings.items()) if Path(name).stem in said
    ]
    if not items:
        raise UserError(
            f"{folder}: none of its {len(recordings)} recordings is named like one of the {len(said)} texts"
        )
    work = functools.partial(_count_words, transcriber)
    report = evaluation.score_all(items, work, workers=workers, progress=progress)
    facts: dict[str, Any] = {"recogniser": wer.transcriber(transcriber).name}
    if report.rows:
        rate, low, high = word_error_rate(report)
        facts |= {"word_error_rate": rate, "word_error_rate_interval": [low, high]}
    return dataclasses.replace(report, facts=facts)


def _count_words(transcriber: str, text: str, path: Path) -> dict[str, Any]:
    from sfjax import audio

    heard = wer.transcriber(transcriber)(*audio.read(path, rate=RATE))
    counts = wer.word_errors(text, heard)
    return {"errors": counts.errors, "words": counts.words, "text": text, "heard": heard}


def word_error_rate(report: Report) -> tuple[float, float, float]:
    """Return the word error rate of a report of `words`, all errors by all words, and the ends of its 95 % interval.

    The interval is a bootstrap over recordings. Raises `Unscorable` if there are none.
    """
    counts = [wer.Words(int(row["errors"]), int(row["words"])) for row in report.rows]
    rate = wer.rate(counts)
    low, high = bootstrap_interval(np.array(counts, np.float64), lambda sums: sums[:, 0] / sums[:, 1]).tolist()
    return rate, low, high


def voices(pairs: Iterable[tuple[str, Path, Path]], *, encoder: str, workers: int, progress: bool) -> Report:
    """Score the speaker similarity of pairs of files (name, reference, estimate), as `sim`."""
    speaker.encoder(encoder)  # raise its errors here, once, rather than in every worker
    scorer = functools.partial(_similarity, encoder)
    return evaluation.score_files(pairs, workers=workers, progress=progress, scorer=scorer)


def _similarity(
    encoder: str, reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int
) -> dict[str, float]:
    encode = speaker.encoder(encoder)
    try:
        return {"sim": speaker.similarity(encode(reference, rate), encode(estimate, rate))}
    except UserError as error:
        raise Unscorable(str(error)) from None
