"""Listening tests: a web page that asks for mean opinion scores, and the analysis of its answers (A.4.6).

The page is static and blinded: it works from a disk or any web server, and nothing in it tells a rater which system
made a recording. `score` decides which raters count, by the three rules of the paper: a headset, an onboarding test,
and agreement with the majority.
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
from jaxtyping import Float

from sfjax import audio_io
from sfjax.errors import UserError

AGREEMENT = 0.2  # a rater's correlation with the majority must be larger (A.4.6)
NORMAL = 1.96  # standard errors on either side of a mean, for an interval of 95 %
QUESTIONS = 2  # questions of the onboarding test (A.4.6)
LEVEL = 1.0  # noise level of the worse recording of an onboarding question, relative to the speech
RATER = re.compile(r"[a-z0-9_-]{1,40}")


# Make a page


class Page(NamedTuple):
    """A listening page: its folder and hash, the number of clips for a rater, and the skipped names with reasons."""

    folder: Path
    hash: str
    clips: int
    left_out: dict[str, str]


def make(
    systems: Mapping[str, Path], dest: Path, *, items: int | None, each: int | None, seed: int, title: str
) -> Page:
    """Write a page on which raters hear and score the recordings that have the same name in each system's folder.

    `dest` gets `index.html` and `audio/` for the raters, and `key.json`, which maps clips to systems and is not for
    raters. `items` names are drawn by `seed` (all if None). Each rater hears `each` of these names (all if None) from
    all systems, in an order of their own. Clips are 16-bit and mono, at their own sample rate. The onboarding test
    compares recordings of the first system with the same recordings plus noise. Raises `UserError` if the folders have
    no name in common, or fewer than `items`, if a recording cannot be read, or if `dest` contains anything but this
    same page.
    """
    recordings, left_out = _common(systems)
    items, each, seed = _counts(items, each, seed, len(recordings))
    if dest.exists() and not dest.is_dir():
        raise UserError(f"{dest}: expected a folder to write the page to, found a file; choose another path")
    rng = np.random.default_rng(seed)
    order = [list(recordings)[i] for i in rng.permutation(len(recordings))]
    tests = [order[-1 - k % len(order)] for k in range(QUESTIONS)]  # if there are enough, names that nobody rates
    rated = [(system, name) for name in sorted(order[:items]) for system in systems]
    practice = [(side, k) for k in range(QUESTIONS) for side in ("better", "worse")]
    sources = rated + practice
    clips = dict(zip(sources, (f"{i + 1:03d}" for i in rng.permutation(len(sources))), strict=True))
    key = {
        "title": title,
        "seed": seed,
        "each": each,
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
    return Page(dest, key["page"], each * len(systems), left_out)


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
    data: dict[str, Any] = {
        # Sorted by the blinded numbers, so that the order does not reveal the systems.
        "items": sorted(sorted(clips) for clips in items.values()),
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
        """Compute the 95 % interval of each mean, ±1.96 standard errors; a system with a single rating has none."""
        intervals = {}
        for system, mean in self.mean.items():
            ratings = self._ratings(system)
            if len(ratings) > 1:
                half = NORMAL * float(ratings.std(ddof=1)) / math.sqrt(len(ratings))
                intervals[system] = (mean - half, mean + half)
        return intervals

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

    def _ratings(self, system: str) -> Float[np.ndarray, " ratings"]:
        return np.array([row["score"] for row in self.rows if row["system"] == system], np.float64)


class _Answers(NamedTuple):
    """The answers of one rater: the clips chosen in the onboarding test, and the score of each clip."""

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
        case {"page": str(), "each": int(), "systems": list(systems), "clips": dict(clips), "onboarding": list(tests)}:
            known = all(isinstance(name, str) for name in systems) and all(_is_pair(test) for test in tests)
            if known and all(_is_origin(origin, systems) for origin in clips.values()):
                return key
    raise UserError(f"{path}: expected the key of a listening page, found other JSON; give the folder of a page")


def _is_origin(origin: Any, systems: list[str]) -> bool:
    """Return whether an entry of a key says where a clip comes from."""
    return isinstance(origin, dict) and isinstance(origin.get("item"), str) and origin.get("system") in systems


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
    rater, headset, choices = (content.get(name) for name in ("rater", "headset", "onboarding"))
    if not (isinstance(rater, str) and RATER.fullmatch(rater)):
        raise UserError(f"{path}: rater must be up to 40 of a-z, 0-9, - and _, got {rater!r}; correct the name")
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
