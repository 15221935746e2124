"""Make fixed test lists for text to speech and editing.

A model has to speak each utterance in the voice of a prompt, or to generate some of its words again (Voicebox section
5, SpeechFlow section 4.4).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from sfjax.data.manifest import Manifest
from sfjax.data.scan import Reject
from sfjax.errors import UserError
from sfjax.text.phones import Line

KINDS = ("cross", "continued", "edited")
KEPT = (
    "path",
    "start",
    "frames",
    "rate",
    "speaker",
    "text",
    "phones",
    "lengths",
    "words",
    "split",
)  # columns of an utterance


class _LeftOut(Exception):
    """The reason for leaving out an utterance."""


def line(row: dict[str, Any], before: str = "") -> Line:
    """Return phones, lengths and words of a row of a manifest, or of its prompt if `before` is `prompt_`."""
    return Line(*(tuple(row[f"{before}{name}"]) for name in ("phones", "lengths", "words")))


def make_list(
    found: Manifest, kind: str, *, seconds: float, between: tuple[float, float], seed: int, hop_seconds: float
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Return the rows of a test of one of `KINDS`, sorted by path, and the utterances left out, with the reason.

    Utterances must last between the two values of `between`, in seconds. The prompt of 'cross' is from another of these
    utterances by the same speaker, drawn by `seed` and the position of the row. The prompt of 'continued' is the
    utterance's own beginning. Both end with the word whose end is nearest to `seconds`. For 'edited' the column `anew`
    has the words whose middle is in the centre half, and the prompt is the whole utterance. Raises `UserError` for a
    manifest without phones.
    """
    if kind not in KINDS:
        raise UserError(f"unknown protocol {kind!r}; choose from {', '.join(KINDS)}")
    if missing := {"phones", "lengths", "words"} - set(found.columns):
        raise UserError(
            f"a test list needs phones, found no column {min(missing)!r}; make one with `sfjax prepare align`"
        )
    if not 0 < between[0] <= between[1]:
        raise UserError(
            f"expected lengths above 0 s, the smaller first, got {between[0]:g} and {between[1]:g}; 4 and 10 are usual"
        )
    if not seconds > 0:
        raise UserError(f"expected a prompt of more than 0 s, got {seconds:g}; 3 is usual")
    rows, rejects, by_speaker = [], [], defaultdict(list)
    for row in sorted(map(found.row, range(len(found))), key=lambda row: (row["path"], row["start"])):
        if reason := _exclusion(row, between):
            rejects.append(Reject(row["path"], reason))
        else:
            rows.append(row)
            by_speaker[row["speaker"]].append(row)
    list_rows = []
    for position, row in enumerate(rows):
        rng = np.random.default_rng((seed, position))
        try:
            if kind == "cross":
                prompt_row = _other_utterance(row, by_speaker[row["speaker"]], rng)
                test_columns = _prompt_columns(prompt_row, seconds, hop_seconds, left=0)
            elif kind == "continued":
                test_columns = _prompt_columns(row, seconds, hop_seconds, left=1)
            else:
                test_columns = _prompt_columns(row, math.inf, hop_seconds, left=0) | {"anew": _centre_words(line(row))}
        except _LeftOut as error:
            rejects.append(Reject(row["path"], str(error)))
            continue
        text = row["text"] or " ".join(row["words"])
        columns = {name: row[name] for name in (*KEPT, *(["name"] if row.get("name") else []))}
        list_rows.append(columns | {"text": text, "protocol": kind} | test_columns)
    return list_rows, rejects


def _exclusion(row, between):
    """Return why a row cannot be in any list, None if it can."""
    length = row["frames"] / row["rate"]
    if not between[0] <= length <= between[1]:
        return f"lasts {length:.2f} s, expected {between[0]:g} to {between[1]:g} s"
    return None if row["phones"] and row["words"] else "no words with phones"


def _other_utterance(row, speaker_rows, rng):
    """Draw another utterance of the speaker."""
    if row["speaker"] is None:
        raise _LeftOut("no speaker")
    others = [other for other in speaker_rows if (other["path"], other["start"]) != (row["path"], row["start"])]
    if not others:
        raise _LeftOut(f"the only utterance of speaker {row['speaker']!r}")
    return others[rng.integers(len(others))]


def _prompt_columns(row, seconds, hop_seconds, *, left):
    """Return the prompt columns for the beginning of an utterance, or for all of it if `seconds` is infinite.

    At least `left` words must follow the prompt.
    """
    prompt, frames = line(row), row["frames"]
    if left >= len(prompt.words):
        raise _LeftOut("a single word")
    if seconds < math.inf:
        prompt, _ = prompt.cut(prompt.nearest(round(seconds / hop_seconds), left=left))
        # rounded down, because one more sample would start another frame
        frames = min(math.floor(round(sum(prompt.lengths) * hop_seconds * row["rate"], 6)), frames)
    columns = {f"prompt_{name}": value for name, value in prompt._asdict().items()}
    return {"prompt": row["path"], "prompt_start": row["start"], "prompt_frames": frames} | columns


def _centre_words(utterance):
    """Return first and end index of the words whose middle is in the centre half of an utterance, a `Line`."""
    edges = [0, *np.cumsum(utterance.lengths).tolist()]
    total = edges[-1]
    numbers = [
        number
        for number, (first, end) in enumerate(utterance.groups())
        if total <= 2 * (edges[first] + edges[end]) <= 3 * total  # total/4 <= middle <= 3 total/4, times 4
    ]
    if not numbers:
        raise _LeftOut("no word in its centre half")
    return numbers[0], numbers[-1] + 1
