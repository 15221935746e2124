"""Listening tests: a web page that asks for mean opinion scores, and the analysis of its answers (A.4.6).

The page is static and blinded: it works from a disk or any web server, and nothing in it tells a rater which system
made a recording. Listeners have numbers, and each number hears its own items, so that every clip gets equally many
ratings. `score` decides which raters count, by the three rules of the paper: a headset, an onboarding test, and
agreement with the majority.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import html
import importlib.resources
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from sfjax import audio_io
from sfjax.errors import UserError

AGREEMENT = 0.2  # a rater's correlation with the majority must be larger (A.4.6)
CONFIDENCE = 0.95  # of the intervals
SECONDS = (2.0, 8.0)  # of a clip (Table 12)
RATINGS = 10  # of a clip (A.4.6)
QUESTIONS = 2  # questions of the onboarding test (A.4.6)
LEVEL = 1.0  # noise level of the worse recording of an onboarding question, relative to the speech
RATER = re.compile(r"[a-z0-9_-]{1,40}")


# Make a page


class Page(NamedTuple):
    """A listening page: its folder and hash, and the skipped names with reasons.

    `clips` is the number of clips for a rater, `listeners` the number of raters who rate every clip equally often.
    """

    folder: Path
    hash: str
    clips: int
    listeners: int
    left_out: dict[str, str]


def make(
    systems: Mapping[str, Path],
    dest: Path,
    *,
    items: int | None,
    each: int | None,
    seed: int,
    title: str,
    ratings: int = RATINGS,
    between: tuple[float, float] = SECONDS,
) -> Page:
    """Write a page on which raters hear and score the recordings that have the same name in each system's folder.

    `dest` gets `index.html` and `audio/` for the raters, and `key.json`, which maps clips to systems and is not for
    raters. `items` names are drawn by `seed` (all if None) from those whose recordings all last `between` these two
    numbers of seconds. Each rater hears `each` of these names (all if None) from all systems, in an order of their own.
    Raters 1 to `Page.listeners` together give every clip `ratings` ratings, or one more where the numbers do not
    divide. Rater `Page.listeners` + 1 hears what rater 1 heard, to replace a rater who does not count. Clips are 16-bit
    and mono, at their own sample rate. The onboarding test compares recordings of the first system with the same
    recordings plus noise. Raises `UserError` if the folders have no name in common, or fewer than `items` of that
    length, if a recording cannot be read, or if `dest` contains anything but this same page.
    """
    recordings, left_out = _of_length(*_common(systems), between)
    items, each, seed = _counts(items, each, seed, len(recordings))
    if ratings < 1:
        raise UserError(f"ratings must be 1 or more for each clip, got {ratings}; 10 is usual")
    if dest.exists() and not dest.is_dir():
        raise UserError(f"{dest}: expected a folder to write the page to, found a file; choose another path")
    rng = np.random.default_rng(seed)
    order = [list(recordings)[i] for i in rng.permutation(len(recordings))]
    tests = [order[-1 - k % len(order)] for k in range(QUESTIONS)]  # if there are enough, names that nobody rates
    rated = [(system, name) for name in sorted(order[:items]) for system in systems]
    practice = [(side, k) for k in range(QUESTIONS) for side in ("better", "worse")]
    sources = rated + practice
    clips = dict(zip(sources, (f"{i + 1:03d}" for i in rng.permutation(len(sources))), strict=True))
    parts = _parts(sorted(order[:items]), each, ratings, rng)
    key = {
        "title": title,
        "seed": seed,
        "each": each,
        "between": list(between),
        "parts": parts,
        "systems": list(systems),
        "clips": {clips[system, name]: {"system": system, "item": name} for system, name in rated},
        "onboarding": [{side: clips[side, k] for side in ("better", "worse")} for k in range(QUESTIONS)],
    }
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=dest.parent, prefix=f".{dest.name}.") as folder:
            part = Path(folder)
            first = next(iter(systems))
            seconds = [
                _convert(recordings[name][system], part / f"audio/{clips[system, name]}.wav") for system, name in rated
            ]
            for test, name in zip(key["onboarding"], tests, strict=True):
                _write_question(recordings[name][first], part / "audio", test["better"], test["worse"], rng)
            key = {"page": _write_page(part, key, float(np.mean(seconds)))} | key
            _move(part, dest, key)
    except OSError as error:
        raise UserError(
            f"{dest}: could not be written ({error.strerror}); free space or choose another folder"
        ) from None
    return Page(dest, key["page"], each * len(systems), len(parts), left_out)


def _common(systems: Mapping[str, Path]) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Return the files of the names that every system has, by name and system, and which systems lack other names."""
    if not systems or not all(name.strip() for name in systems):
        raise UserError(f"expected systems with names, as in ours=folder, got {list(systems)}; name every folder")
    files = {system: audio_io.recordings(folder) for system, folder in systems.items()}
    names = sorted(set().union(*files.values()))
    lacking = {name: [system for system in systems if name not in files[system]] for name in names}
    common = {name: {system: files[system][name] for system in systems} for name in names if not lacking[name]}
    if not common:
        counts = ", ".join(f"{len(paths)} in {systems[system]}" for system, paths in files.items())
        raise UserError(
            f"expected recordings of the same name for all systems, got none: {counts}; only the suffix may differ"
        )
    return common, {name: f"none of {', '.join(without)}" for name, without in lacking.items() if without}


def _of_length(
    recordings: dict[str, dict[str, Path]], left_out: dict[str, str], between: tuple[float, float]
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Leave out the names whose recordings are shorter or longer than `between`, in seconds."""
    from sfjax import audio

    shortest, longest = between
    if not 0 < shortest <= longest:
        raise UserError(
            f"expected lengths above 0 s, the smaller first, got {shortest:g} and {longest:g}; take 2 and 8"
        )
    wrong = {}
    for name, paths in recordings.items():
        for system, path in paths.items():
            info = audio.probe(path)
            if not shortest <= info.frames / info.rate <= longest:
                wrong[name] = f"{info.frames / info.rate:.2f} s by {system}, expected {shortest:g} to {longest:g} s"
    fitting = {name: paths for name, paths in recordings.items() if name not in wrong}
    if not fitting:
        name, reason = next(iter(wrong.items()))
        raise UserError(f"expected recordings of {shortest:g} to {longest:g} s, got none: {name}: {reason}, …")
    return fitting, left_out | wrong


def _parts(items: Sequence[str], each: int, ratings: int, rng: np.random.Generator) -> list[list[str]]:
    """Return the items of rater 1, 2 and so on; each item has `ratings` raters, or one more."""
    counts = np.zeros(len(items), np.int64)
    parts = []
    while counts.min() < ratings:
        order = rng.permutation(len(items))
        part = order[np.argsort(counts[order], kind="stable")[:each]]  # the items with the fewest raters so far
        counts[part] += 1
        parts.append([items[number] for number in sorted(part)])
    return parts


def _counts(items: int | None, each: int | None, seed: int, available: int) -> tuple[int, int, int]:
    """Check the number of items and of items for each rater, and replace None by all."""
    if items is not None and not 1 <= items <= available:
        raise UserError(f"items must be 1 to {available}, the recordings that all systems have, got {items}")
    items = items or available
    if each is not None and not 1 <= each <= items:
        raise UserError(f"each must be 1 to {items}, the items of the page, got {each}")
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, got {seed}")
    return items, each or items, seed


def _convert(source: Path, dest: Path) -> float:
    """Write a recording as a clip, and return its seconds."""
    from sfjax import audio

    wav, rate = audio.read(source)
    audio.write(dest, wav, rate)
    return len(wav) / rate


def _write_question(source: Path, folder: Path, better: str, worse: str, rng: np.random.Generator) -> None:
    """Write two clips of the same loudness: the recording, and a noisy one that every careful listener finds worse."""
    from sfjax import audio

    wav, rate = audio.read(source)
    level = float(np.sqrt(np.mean(np.square(wav))))
    if not level:
        raise UserError(f"{source}: is silent, so the onboarding test cannot use it; remove or repair the recording")
    noisy = wav + LEVEL * level * rng.standard_normal(len(wav), np.float32)
    audio.write(folder / f"{better}.wav", wav, rate)
    audio.write(folder / f"{worse}.wav", noisy / math.hypot(1.0, LEVEL), rate)


def _write_page(folder: Path, key: dict[str, Any], seconds: float) -> str:
    """Write `index.html`, which has only the numbers of the clips, and return a hash of its data and clips."""
    items = collections.defaultdict(list)
    for clip, origin in key["clips"].items():
        items[origin["item"]].append(clip)
    # Sorted by the blinded numbers, so that the order does not reveal the systems.
    position = {item: number for number, item in enumerate(sorted(items, key=lambda item: sorted(items[item])))}
    data: dict[str, Any] = {
        "items": [sorted(items[item]) for item in position],
        "parts": [sorted(position[item] for item in part) for part in key["parts"]],
        "between": [f"{seconds:g}" for seconds in key["between"]],
        "onboarding": [sorted(test.values()) for test in key["onboarding"]],
        "each": key["each"],
        "minutes": math.ceil(key["each"] * len(key["systems"]) * (1.5 * seconds + 8) / 60),
    }
    digest = hashlib.sha256(json.dumps(data).encode())
    for path in sorted((folder / "audio").iterdir()):
        digest.update(path.read_bytes())
    data["page"] = digest.hexdigest()[:16]
    text = importlib.resources.files("sfjax.metrics").joinpath("mos.html").read_text(encoding="utf-8")
    text = text.replace("@DATA@", json.dumps(data)).replace("@TITLE@", html.escape(key["title"]))
    (folder / "index.html").write_text(text, encoding="utf-8")
    return data["page"]


def _move(part: Path, dest: Path, key: dict[str, Any]) -> None:
    """Move a page to `dest`, the key first, so that you can rerun an interrupted command."""
    if dest.exists() and any(dest.iterdir()):
        if not (dest / "key.json").is_file() or _read_key(dest)["page"] != key["page"]:
            raise UserError(f"{dest}: contains something other than this page; choose an empty or a new folder")
    (dest / "audio").mkdir(parents=True, exist_ok=True)
    (part / "key.json").write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in (part / "key.json", *sorted((part / "audio").iterdir()), part / "index.html"):
        os.replace(path, dest / path.relative_to(part))


# Score the answers


@dataclasses.dataclass(frozen=True)
class Scores:
    """The opinion scores of a listening test.

    `rows` has the rater, system, item and score of every rating that counts. `failed` has the name of every rater who
    does not count, with a reason.
    """

    systems: list[str]
    rows: list[dict[str, str | int]]
    failed: list[dict[str, str]]

    @property
    def mean(self) -> dict[str, float]:
        """Compute the mean opinion score of each system, over all ratings."""
        return {system: float(self._ratings(system).mean()) for system in self.systems}

    @property
    def interval(self) -> dict[str, tuple[float, float]]:
        """Compute the 95 % interval of each mean as CrowdMOS does; a system with one rater or one item has none.

        See `half_interval`.
        """
        halves = {system: half_interval(self._matrix(system)) for system in self.systems}
        return {
            system: (mean - half, mean + half)
            for system, mean in self.mean.items()
            if (half := halves[system]) is not None
        }

    def to_json(self) -> dict:
        """Return everything as JSON values: n (raters), failed, mean, interval, ratings (their number) and rows."""
        return {
            "n": self._raters,
            "failed": self.failed,
            "mean": self.mean,
            "interval": {system: list(ends) for system, ends in self.interval.items()},
            "ratings": {system: len(self._ratings(system)) for system in self.systems},
            "rows": self.rows,
        }

    def table(self) -> str:
        """Return a text: a line for each system with ± half its interval, the rater counts, who failed and why."""
        cells = [("system", "MOS", "ratings")]
        for system, mean in self.mean.items():
            half = f"{self.interval[system][1] - mean:.2f}" if system in self.interval else "–"
            cells.append((system, f"{mean:.2f} ± {half}", str(len(self._ratings(system)))))
        widths = [max(len(row[column]) for row in cells) for column in range(3)]
        lines = [f"{a.ljust(widths[0])}  {b.rjust(widths[1])}  {c.rjust(widths[2])}" for a, b, c in cells]
        lines.append(f"{self._raters} raters counted, {len(self.failed)} left out")
        lines += [f"left out: {rater['name']}: {rater['reason']}" for rater in self.failed]
        return "\n".join(lines)

    @property
    def _raters(self) -> int:
        return len({row["rater"] for row in self.rows})

    def _matrix(self, system: str) -> Float[np.ndarray, "raters items"]:
        """Return the ratings of a system by rater and item, NaN where a rater did not hear the item."""
        rows = [row for row in self.rows if row["system"] == system]
        raters, items = (list(dict.fromkeys(row[name] for row in rows)) for name in ("rater", "item"))
        matrix = np.full((len(raters), len(items)), np.nan)
        for row in rows:
            matrix[raters.index(row["rater"]), items.index(row["item"])] = row["score"]
        return matrix

    def _ratings(self, system: str) -> Float[np.ndarray, " ratings"]:
        return np.array([row["score"] for row in self.rows if row["system"] == system], np.float64)


def half_interval(ratings: Float[np.ndarray, "raters items"]) -> float | None:
    """Compute half of the 95 % interval of a mean opinion score, by CrowdMOS; None for one rater or one item.

    A missing rating is NaN. A rating is a mean plus an effect of its rater, an effect of its item and a rest, all
    random. Their variances follow from three others: between the items of a rater (item + rest), between the raters of
    an item (rater + rest), and between all ratings (all three). The variance of the mean weighs each by how unevenly
    the ratings are spread, and Student's distribution has as many degrees of freedom as there are raters or items,
    whichever are fewer, minus 1. Source: Ribeiro et al., "CrowdMOS", ICASSP 2011.
    """
    present = ~np.isnan(ratings)
    total, freedom = int(present.sum()), min(ratings.shape) - 1
    if freedom < 1:
        return None
    per_rater, per_item = present.sum(axis=1), present.sum(axis=0)
    everything = float(np.nanvar(ratings, ddof=1))
    item_rest = _mean_variance(ratings, per_rater)
    rater_rest = _mean_variance(ratings.T, per_item)
    # if no item has two ratings, effects of items and the rest average alike; so do raters and the rest
    item = 0.0 if rater_rest is None else everything - rater_rest
    rater = 0.0 if item_rest is None else everything - item_rest
    rest = everything - item - rater
    variance = (
        max(item, 0.0) * float((per_item**2).sum()) / total**2
        + max(rater, 0.0) * float((per_rater**2).sum()) / total**2
        + max(rest, 0.0) / total
    )
    return float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * math.sqrt(variance)


def _mean_variance(rows: Float[np.ndarray, "rows columns"], counts: Int[np.ndarray, " rows"]) -> float | None:
    """Return the mean variance of the rows with at least two numbers, or None if there are none."""
    enough = rows[counts > 1]
    return float(np.nanvar(enough, axis=1, ddof=1).mean()) if len(enough) else None


class _Answers(NamedTuple):
    """The answers of one rater with a number: the clips chosen in the onboarding test, and the score of each clip."""

    rater: str
    headset: bool
    onboarding: list[str]
    scores: dict[str, int]


def score(page: Path, answers: Sequence[Path]) -> Scores:
    """Compute the mean opinion scores of a page's systems from the answer files of its raters.

    `page` is the folder of the page or its `key.json`. A rater counts who wore a headset, chose the better recording in
    every onboarding question, and whose scores correlate with the majority's by more than 0.2 (A.4.6). The majority's
    score of a clip is the most frequent score among the raters who passed the first two rules, the rater included; if
    several are most frequent, it is their mean. Raises `UserError` if answers are broken, incomplete or for another
    page, if two files are from the same rater, and if no rater counts.
    """
    key = _read_key(page)
    if not answers:
        raise UserError("expected files of answers, got none; give the files answers-….json that raters sent back")
    by_rater: dict[str, tuple[Path, _Answers]] = {}
    for path in answers:
        answer = _read_answers(path, key)
        if answer.rater in by_rater:
            first = by_rater[answer.rater][0]
            raise UserError(f"{first} and {path} are both from rater {answer.rater!r}; give only one of them")
        by_rater[answer.rater] = (path, answer)
    failed, qualified = [], []
    for _, answer in by_rater.values():
        if reason := _disqualification(answer, key):
            failed.append({"name": answer.rater, "reason": reason})
        else:
            qualified.append(answer)
    majority = _majority(qualified)
    counted = []
    for answer in qualified:
        if reason := _disagreement(answer, majority):
            failed.append({"name": answer.rater, "reason": reason})
        else:
            counted.append(answer)
    if not counted:
        reasons = "; ".join(f"{rater['name']}: {rater['reason']}" for rater in failed)
        raise UserError(f"expected a rater who counts, got none of {len(by_rater)} ({reasons}); ask more raters")
    rows = [
        {"rater": answer.rater, **key["clips"][clip], "score": value}
        for answer in counted
        for clip, value in sorted(answer.scores.items())
    ]
    return Scores(key["systems"], rows, failed)


def _read_key(page: Path) -> dict[str, Any]:
    path = page / "key.json" if page.is_dir() else page
    key = _read_object(path, "the key of a listening page")
    match key:
        case {
            "page": str(),
            "each": int(),
            "systems": list(systems),
            "clips": dict(clips),
            "onboarding": list(tests),
            "parts": list(parts),
        }:
            known = all(isinstance(name, str) for name in systems) and all(_is_pair(test) for test in tests)
            known = known and bool(parts) and all(_is_part(part) for part in parts)
            if known and all(_is_origin(origin, systems) for origin in clips.values()):
                return key
    raise UserError(f"{path}: expected the key of a listening page, found other JSON; give the folder of a page")


def _is_origin(origin: Any, systems: list[str]) -> bool:
    """Return whether an entry of a key says where a clip comes from."""
    return isinstance(origin, dict) and isinstance(origin.get("item"), str) and origin.get("system") in systems


def _is_part(part: Any) -> bool:
    """Return whether an entry of a key lists the items of a rater."""
    return isinstance(part, list) and all(isinstance(item, str) for item in part)


def _is_pair(test: Any) -> bool:
    """Return whether an entry of a key names the better and the worse clip of an onboarding test."""
    names = test.values() if isinstance(test, dict) and test.keys() == {"better", "worse"} else [None]
    return all(isinstance(name, str) for name in names)


def _read_object(path: Path, description: str) -> dict[str, Any]:
    """Read a JSON object; `description` says in error messages what the file should be."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: expected {description}, could not read it ({error.strerror}); check the path"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {description}, found no JSON ({error}); ask for the file again") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"{path}: expected {description}, found a JSON {kind}; ask for the file again")
    return content


def _read_answers(path: Path, key: Mapping[str, Any]) -> _Answers:
    """Read and check the answers of a rater."""
    content = _read_object(path, "the answers of a rater")
    if content.get("page") != key["page"]:
        raise UserError(
            f"{path}: expected answers to page {key['page']!r}, got answers to page {content.get('page')!r}; "
            "do not mix pages"
        )
    rater, number, headset, choices = (content.get(name) for name in ("rater", "number", "headset", "onboarding"))
    if not (isinstance(rater, str) and RATER.fullmatch(rater)):
        raise UserError(f"{path}: rater must be up to 40 of a-z, 0-9, - and _, got {rater!r}; correct the name")
    if type(number) is not int or number < 1:
        raise UserError(f"{path}: number must be a whole number from 1, got {number!r}; ask for the file again")
    if type(headset) is not bool:
        raise UserError(f"{path}: headset must be true or false, got {headset!r}; ask for the file again")
    pairs = [set(test.values()) for test in key["onboarding"]]
    if not (isinstance(choices, list) and len(choices) == len(pairs) and all(map(_is_choice, choices, pairs))):
        raise UserError(
            f"{path}: onboarding must be one clip of each of {len(pairs)} pairs, got {choices!r}; "
            "ask for the file again"
        )
    scores: dict[str, int] = {}
    ratings = content.get("answers")
    for rating in ratings if isinstance(ratings, list) else []:
        clip, value = (rating.get("clip"), rating.get("score")) if isinstance(rating, dict) else (None, None)
        if not isinstance(clip, str) or clip not in key["clips"] or clip in scores:
            raise UserError(f"{path}: expected each clip of the page once, got {rating!r}; ask for the file again")
        if type(value) is not int or not 1 <= value <= 5:
            raise UserError(f"{path}: the score of clip {clip} must be 1 to 5, got {value!r}; ask for the file again")
        scores[clip] = value
    clips_of_item = collections.Counter(key["clips"][clip]["item"] for clip in scores)
    if len(clips_of_item) != key["each"] or set(clips_of_item.values()) != {len(key["systems"])}:
        expected = key["each"] * len(key["systems"])
        raise UserError(
            f"{path}: expected {expected} clips, all systems of each item, got {len(scores)}; finish the page"
        )
    if clips_of_item.keys() != set(key["parts"][(number - 1) % len(key["parts"])]):
        raise UserError(f"{path}: expected the clips of rater number {number}, got others; ask for the file again")
    return _Answers(rater, headset, choices, scores)


def _is_choice(clip: Any, pair: set[str]) -> bool:
    return isinstance(clip, str) and clip in pair


def _disqualification(answers: _Answers, key: Mapping[str, Any]) -> str | None:
    """Return why a rater fails the first two rules, or None."""
    if not answers.headset:
        return "wore no headset"
    wrong = sum(chosen != test["better"] for chosen, test in zip(answers.onboarding, key["onboarding"], strict=True))
    return f"chose the worse recording in {wrong} of {len(key['onboarding'])} onboarding questions" if wrong else None


def _majority(answers: Sequence[_Answers]) -> dict[str, float]:
    """Return the most frequent score of each clip; if several are most frequent, their mean."""
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for answer in answers:
        for clip, value in answer.scores.items():
            counts[clip][value] += 1
    return {
        clip: float(np.mean([value for value, times in scores.items() if times == max(scores.values())]))
        for clip, scores in counts.items()
    }


def _disagreement(answers: _Answers, majority: Mapping[str, float]) -> str | None:
    """Return why a rater does not agree with the majority, or None."""
    own, others = np.array([[value, majority[clip]] for clip, value in answers.scores.items()], np.float64).T
    if np.ptp(own) == 0:
        return f"scored all {len(own)} clips {own[0]:.0f}"
    if np.ptp(others) == 0:
        return f"gave different scores, but the majority scored all clips {others[0]:g}"
    correlation = float(np.corrcoef(own, others)[0, 1])
    return None if correlation > AGREEMENT else f"correlates with the majority by {correlation:.2f} ≤ {AGREEMENT}"
