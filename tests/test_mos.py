"""Listening tests: the page does not reveal the systems, and the scores follow the rules of the paper."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import soundfile

from sfjax import audio, overwrite
from sfjax.errors import UserError
from sfjax.metrics import mos

OPTIONS = dict(items=None, each=None, seed=3, title="Which speech sounds good?", between=(0.05, 8.0))


@pytest.fixture(scope="module")
def systems(tmp_path_factory, voice):
    """Folders of two systems with four recordings in common, one system of another rate and format."""
    root = tmp_path_factory.mktemp("systems")
    folders = {"clean_reference": root / "clean", "flowing": root / "ours"}
    for place, (folder, suffix, rate) in enumerate(
        zip(folders.values(), ("wav", "flac"), (16_000, 8_000), strict=True)
    ):
        for i in range(4):
            path = folder / f"speaker/utterance{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(0.3, 10 * place + i), rate)
    soundfile.write(folders["flowing"] / "lonely.wav", voice(0.3, 5), 16_000)
    return folders


@pytest.fixture(scope="module")
def page(systems, tmp_path_factory):
    return mos.make(systems, tmp_path_factory.mktemp("pages") / "page", **OPTIONS)


def shown(folder: Path) -> dict:
    """What the page knows."""
    text = (folder / "index.html").read_text()
    (data,) = re.findall(r'<script type="application/json" id="page">(.*?)</script>', text)
    return json.loads(data)


def key_of(folder: Path) -> dict:
    return json.loads((folder / "key.json").read_text())


def reply(folder: Path, rater: str, scores: dict, /, **changes) -> Path:
    """The file of a rater who scores (system, number of an item) by a table."""
    key = key_of(folder)
    items = sorted({what["item"] for what in key["clips"].values()})
    clips = {(what["system"], items.index(what["item"])): clip for clip, what in key["clips"].items()}
    content = {
        "rater": rater,
        "number": 1,
        "page": key["page"],
        "headset": True,
        "onboarding": [test["better"] for test in key["onboarding"]],
        "answers": [
            {"clip": clips[which], "score": value, "seconds": 1.5, "order": i + 1}
            for i, (which, value) in enumerate(scores.items())
        ],
    } | changes
    path = folder.parent / f"answers-{rater}-{len(list(folder.parent.iterdir()))}.json"
    path.write_text(json.dumps(content))
    return path


def table(*scores: int) -> dict:
    """Scores of items 0 to 3 of the first system, then of the second."""
    return {(system, i): scores[4 * k + i] for k, system in enumerate(("clean_reference", "flowing")) for i in range(4)}


GOOD = table(5, 4, 5, 4, 2, 1, 2, 3)


# The page


def test_each_clip_is_the_recording_that_the_key_says(page, systems):
    clips = key_of(page.folder)["clips"]
    wanted = {(system, f"speaker/utterance{i}") for system in systems for i in range(4)}
    assert {(what["system"], what["item"]) for what in clips.values()} == wanted
    for clip, what in clips.items():
        source = next(systems[what["system"]].glob(what["item"] + ".*"))
        heard = page.folder / f"audio/{clip}.wav"
        assert soundfile.info(heard).subtype == "PCM_16"
        (wav, rate), (original, own) = soundfile.read(heard), soundfile.read(source)
        assert rate == own
        np.testing.assert_allclose(wav, original, atol=1 / 2**14)


def test_page_key_and_folder_list_the_same_clips(page):
    key, data = key_of(page.folder), shown(page.folder)
    files = {path.stem for path in (page.folder / "audio").iterdir()}
    rated = {clip for item in data["items"] for clip in item}
    asked = {clip for pair in data["onboarding"] for clip in pair}
    assert rated == set(key["clips"]) and rated | asked == files and not rated & asked
    assert data["page"] == key["page"] == page.hash
    assert all(len({key["clips"][clip]["item"] for clip in item}) == 1 for item in data["items"])
    assert page.clips == len(rated) == 8


def test_the_page_says_nothing_of_systems_or_files(page, systems):
    text = (page.folder / "index.html").read_text()
    for word in [*systems, *map(str, systems.values()), "utterance", "speaker/", ".flac", 'better"', "worse"]:
        assert word not in text, word
    for path in (page.folder / "audio").iterdir():
        assert re.fullmatch(r"\d{3}\.wav", path.name)
        assert audio.comment(path) == overwrite.MARK  # no more than that


def test_neither_place_nor_number_tells_the_system_or_the_better_recording(systems, tmp_path):
    first, better = [], []
    for seed in range(24):
        made = mos.make(systems, tmp_path / str(seed), **OPTIONS | dict(items=1, seed=seed))
        key, data = key_of(made.folder), shown(made.folder)
        first.append(key["clips"][data["items"][0][0]]["system"])
        better.append(key["onboarding"][0]["better"] == data["onboarding"][0][0])
    assert 4 < sum(system == "flowing" for system in first) < 20 and 4 < sum(better) < 20


def test_the_page_asks_nothing_of_any_server(page):
    text = (page.folder / "index.html").read_text()
    assert not re.search(
        r"(?i)https?:|//\w+\.|fetch\(|XMLHttpRequest|import\(|@import|\burl\(|<script[^>]+src|<link[^>]+href=\"(?!data:)",
        text,
    )


def test_a_title_is_text_and_not_markup(systems, tmp_path):
    made = mos.make(systems, tmp_path / "page", **OPTIONS | dict(title="<b>Speech</b> & @DATA@ </script>"))
    text = (made.folder / "index.html").read_text()
    assert "<title>&lt;b&gt;Speech&lt;/b&gt; &amp; @DATA@ &lt;/script&gt;</title>" in text
    assert shown(made.folder)["page"] == made.hash


def test_names_that_a_system_lacks_are_left_out_and_said(page):
    assert page.left_out == {"lonely": "none of clean_reference"}


def test_the_seed_draws_the_items(systems, tmp_path):
    make = lambda name, seed: mos.make(systems, tmp_path / name, **OPTIONS | dict(items=2, each=1, seed=seed))
    one, same, other = make("one", 0), make("same", 0), make("other", 1)
    assert key_of(one.folder) == key_of(same.folder) and one.hash != other.hash
    assert one.clips == 2 and len(shown(one.folder)["items"]) == 2 and shown(one.folder)["each"] == 1


def test_the_onboarding_test_sets_a_recording_of_the_first_system_against_noise(page, systems):
    originals = [soundfile.read(path)[0] for path in sorted(systems["clean_reference"].rglob("*.wav"))]
    for test in key_of(page.folder)["onboarding"]:
        better, worse = (soundfile.read(page.folder / f"audio/{test[side]}.wav")[0] for side in ("better", "worse"))
        assert min(np.abs(better - original).max() for original in originals) < 1 / 2**14
        share = better @ worse / (better @ better)
        noise = worse - share * better
        assert abs(10 * math.log10((share * better) @ (share * better) / (noise @ noise))) < 1  # dB
        assert abs(10 * math.log10((worse @ worse) / (better @ better))) < 0.5  # the volume is set by either


def test_the_same_page_can_be_written_again_over_a_broken_one(systems, tmp_path, content):
    made = mos.make(systems, tmp_path / "page", **OPTIONS)
    whole = content(made.folder)
    (made.folder / "index.html").unlink()
    (made.folder / "audio/001.wav").write_bytes(b"")
    mos.make(systems, made.folder, **OPTIONS)
    assert content(made.folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(systems={}), "systems with names, .* got \\[\\]"),
        (dict(systems={" ": "clean"}), "systems with names"),
        (dict(systems={"a": "nowhere"}), "nowhere: expected a folder"),
        (dict(systems={"a": "clean", "b": "empty"}), "for all systems, got none: 2 in .*, 0 in "),
        (dict(systems={"a": "double"}), "have the same name"),
        (dict(systems={"a": "broken"}), "x.wav: not readable as sound"),
        (dict(systems={"a": "silent"}), "x.wav: is silent"),
        (dict(items=3), "items must be 1 to 2, .* got 3"),
        (dict(items=0), "items must be 1 to 2, .* got 0"),
        (dict(each=3), "each must be 1 to 2, .* got 3"),
        (dict(each=0), "each must be 1 to 2, .* got 0"),
        (dict(seed=-1), "seed must be 0 or more, got -1"),
        (dict(ratings=0), "ratings must be 1 or more for each clip, got 0"),
        (dict(between=(2.0, 8.0)), "expected recordings of 2 to 8 s, got none: x: 0.10 s by a"),
        (dict(between=(8.0, 2.0)), "the smaller first, got 8 and 2"),
        (dict(dest="other"), "other: contains something other than this page"),
        (dict(dest="full"), "full: contains something other than this page"),
        (dict(dest="file"), "file: expected a folder to write the page to"),
        (dict(dest="file/page"), "page: could not be written"),
    ],
)
def test_a_page_that_cannot_be_is_refused(tmp_path, changes, expected, content):
    sound = 0.1 * np.sin(np.arange(800))
    for name in ("clean/x.wav", "clean/y.wav", "double/x.wav", "double/x.flac", "silent/x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, sound * ("silent" not in name), 8000)
    for name in ("empty", "broken", "full"):
        (tmp_path / name).mkdir()
    for name in ("broken/x.wav", "full/thesis.txt", "file"):
        (tmp_path / name).write_text("no sound")
    mos.make({"a": tmp_path / "clean"}, tmp_path / "other", **OPTIONS | dict(seed=9))
    before = content(tmp_path)
    folders = {name: tmp_path / folder for name, folder in changes.get("systems", {"a": "clean"}).items()}
    options = {name: value for name, value in changes.items() if name not in ("systems", "dest")}
    with pytest.raises(UserError, match=expected) as refusal:
        mos.make(folders, tmp_path / changes.get("dest", "page"), **OPTIONS | options)
    assert "\n" not in str(refusal.value)
    assert content(tmp_path) == before


# The scores


def test_means_and_intervals_are_those_worked_out_by_hand(page):
    files = [reply(page.folder, "ann", GOOD), reply(page.folder, "bob", table(5, 5, 4, 4, 2, 2, 1, 3))]
    found = mos.score(page.folder, files)
    assert found.mean == {"clean_reference": 36 / 8, "flowing": 16 / 8}
    # Variances of all eight ratings (5 4 5 4, 5 5 4 4 and 2 1 2 3, 2 2 1 3), of a rater's, and of an item's, on average
    variances = {"clean_reference": (2 / 7, 1 / 3, 1 / 4), "flowing": (4 / 7, 2 / 3, 1 / 4)}
    halves = {}
    for system, (everything, of_raters, of_items) in variances.items():
        item, rest = everything - of_items, of_raters + of_items - everything
        assert everything < of_raters  # so there is no effect of raters
        # 2 ratings of each of 4 items; the 97.5 % quantile for one degree of freedom, one less than the raters
        halves[system] = 12.7062 * math.sqrt(item * 4 * 2**2 / 8**2 + rest / 8)
        mean = found.mean[system]
        np.testing.assert_allclose(found.interval[system], (mean - halves[system], mean + halves[system]), rtol=1e-5)
    assert found.failed == []
    said = found.to_json()
    assert json.loads(json.dumps(said)) == said and said["n"] == 2 and said["ratings"] == dict.fromkeys(said["mean"], 8)
    assert {"rater": "ann", "system": "flowing", "item": "speaker/utterance1", "score": 1} in said["rows"]
    assert found.table().splitlines() == [
        "system                   MOS  ratings",
        f"clean_reference  4.50 ± {halves['clean_reference']:.2f}        8",
        f"flowing          2.00 ± {halves['flowing']:.2f}        8",
        "2 raters counted, 0 left out",
    ]


def test_who_wears_no_headset_fails_the_test_or_disagrees_is_left_out(page):
    tests = key_of(page.folder)["onboarding"]
    crowd = [reply(page.folder, rater, GOOD) for rater in ("a", "b", "c")]
    out = {
        "loud": (reply(page.folder, "loud", GOOD, headset=False), "wore no headset"),
        "deaf": (
            reply(page.folder, "deaf", GOOD, onboarding=[tests[0]["worse"], tests[1]["better"]]),
            "chose the worse recording in 1 of 2 onboarding questions",
        ),
        "flat": (reply(page.folder, "flat", table(*[3] * 8)), "scored all 8 clips 3"),
        "upside": (
            reply(page.folder, "upside", table(1, 2, 1, 2, 4, 5, 4, 3)),
            "correlates with the majority by -1.00 ≤ 0.2",
        ),
    }
    found = mos.score(page.folder / "key.json", [*(path for path, _ in out.values()), *crowd])
    assert {rater["name"]: rater["reason"] for rater in found.failed} == {name: why for name, (_, why) in out.items()}
    assert found.mean == mos.score(page.folder, crowd).mean
    assert "3 raters counted, 4 left out\nleft out: loud: wore no headset" in found.table()


@pytest.mark.parametrize(
    "own, counted",
    [
        # Sums of products and of squares of deviations; those of the majority, ±2 eight times, are 32.
        (table(4, 2, 3, 3, 2, 4, 1, 3), True),  # 4 / sqrt(7.5 · 32) = .258
        (table(5, 2, 3, 3, 2, 5, 1, 3), False),  # 4 / sqrt(14 · 32) = .189
    ],
)
def test_a_correlation_has_to_be_above_a_fifth(page, own, counted):
    crowd = [reply(page.folder, rater, table(5, 5, 5, 5, 1, 1, 1, 1)) for rater in ("d", "e", "f")]
    found = mos.score(page.folder, [*crowd, reply(page.folder, "own", own)])
    assert [rater["name"] for rater in found.failed] == ([] if counted else ["own"])


def test_the_majority_of_a_tie_is_the_mean_of_what_is_most_frequent():
    given = [mos._Answers(str(i), True, [], {"001": value}) for i, value in enumerate((5, 5, 2, 2, 1))]
    assert mos._majority(given) == {"001": 3.5}


def test_raters_who_do_not_qualify_have_no_part_in_the_majority(page):
    upside = table(1, 2, 1, 2, 4, 5, 4, 3)
    louder = [reply(page.folder, f"l{i}", upside, headset=False) for i in range(5)]
    found = mos.score(page.folder, [*louder, reply(page.folder, "ann", GOOD)])
    assert {row["rater"] for row in found.rows} == {"ann"} and len(found.failed) == 5


def test_raters_may_hear_different_items(systems, tmp_path):
    made = mos.make(systems, tmp_path / "page", **OPTIONS | dict(each=2))
    names = [f"speaker/utterance{i}" for i in range(4)]
    one, two = ([names.index(name) for name in part] for part in key_of(made.folder)["parts"][:2])
    assert sorted(one + two) == [0, 1, 2, 3]
    scores = [
        {("clean_reference", i): 5, ("flowing", i): 2, ("clean_reference", k): 4, ("flowing", k): 1}
        for i, k in (one, two)
    ]
    files = [reply(made.folder, name, scores[k], number=k + 1) for k, name in enumerate(("ann", "bob"))]
    found = mos.score(made.folder, files)
    assert found.mean == {"clean_reference": 4.5, "flowing": 1.5} and not found.failed
    replacement = reply(made.folder, "cid", scores[0], number=made.listeners + 1)
    assert mos.score(made.folder, [replacement, *files]).to_json()["n"] == 3
    with pytest.raises(UserError, match="expected the clips of rater number 1, got others"):
        mos.score(made.folder, [reply(made.folder, "dan", scores[1], number=1)])


@pytest.mark.parametrize("items, each, ratings", [(50, 5, 10), (7, 3, 4), (4, 4, 10), (5, 1, 3)])
def test_every_item_gets_its_ratings_from_raters_who_hear_it_once(items, each, ratings):
    names = [f"{number:02}" for number in range(items)]
    parts = mos._parts(names, each, ratings, np.random.default_rng(0))
    assert len(parts) == math.ceil(items * ratings / each)
    assert all(len(set(part)) == each for part in parts)
    counts = [sum(name in part for part in parts) for name in names]
    assert min(counts) == ratings and max(counts) - ratings <= (items * ratings % each > 0)
    neighbours = {tuple(part) for part in parts}
    assert len(neighbours) > 1 or each == items  # raters share no fixed group


def test_pages_have_parts_of_their_items(systems, tmp_path):
    made = mos.make(systems, tmp_path / "page", **OPTIONS | dict(each=3, ratings=6))
    key, data = key_of(made.folder), shown(made.folder)
    assert made.listeners == len(key["parts"]) == len(data["parts"]) == 8
    for part, names in zip(data["parts"], key["parts"], strict=True):
        assert {key["clips"][clip]["item"] for item in part for clip in data["items"][item]} == set(names)


def test_recordings_of_another_length_are_left_out(systems, tmp_path, voice):
    folders = {name: tmp_path / name for name in systems}
    for name, folder in folders.items():
        folder.mkdir()
        for recording, seconds in {"short": 1.9, "fits": 2.0, "long": 8.1, "shorter_by_one": 3.0}.items():
            seconds = 1.0 if (name, recording) == ("flowing", "shorter_by_one") else seconds
            soundfile.write(folder / f"{recording}.wav", voice(seconds, 0), 16_000)
    usual = {name: value for name, value in OPTIONS.items() if name != "between"}
    made = mos.make(folders, tmp_path / "page", **usual)
    assert {clip["item"] for clip in key_of(made.folder)["clips"].values()} == {"fits"}
    assert made.left_out.keys() == {"short", "long", "shorter_by_one"}
    assert made.left_out["shorter_by_one"] == "1.00 s by flowing, expected 2 to 8 s"
    assert 'each of <span id="seconds">' in (made.folder / "index.html").read_text()
    assert shown(made.folder)["between"] == ["2", "8"]


@pytest.mark.parametrize("each", [50, 5])
def test_the_interval_holds_the_mean_of_all_raters_and_items_as_often_as_it_says(each):
    """Ratings are simulated: a mean of 3, effects of rater, item and rest. A rater hears all items, or a tenth."""
    rng, studies, covered, variances, means = np.random.default_rng(0), 600, 0, [], []
    names = [str(number) for number in range(50)]
    for _ in range(studies):
        parts = mos._parts(names, each, 10, rng)
        item, ratings = rng.normal(0.0, 0.4, 50), np.full((len(parts), 50), np.nan)
        for rater, part in enumerate(parts):
            heard = [int(name) for name in part]
            ratings[rater, heard] = 3.0 + rng.normal(0.0, 0.6) + item[heard] + rng.normal(0.0, 0.8, each)
        half, mean = mos.half_interval(ratings), float(np.nanmean(ratings))
        covered += abs(mean - 3.0) < half
        freedom = min(ratings.shape) - 1
        variances.append((half / scipy.stats.t.ppf(0.975, freedom)) ** 2)
        means.append(mean)
    exact = 0.4**2 / 50 + 0.6**2 / len(parts) + 0.8**2 / np.isfinite(ratings).sum()
    assert np.var(means) == pytest.approx(exact, rel=0.2)  # the simulation is right
    # the formula takes the variance of all ratings for the sum of the three, which is too low by a share of 1 / raters
    low = 0.6**2 / len(parts) ** 2 + 0.4**2 / 50**2
    assert np.mean(variances) == pytest.approx(exact - low, rel=0.05)
    assert covered / studies == pytest.approx(0.95, abs=0.03)


def test_ratings_without_repetition_have_the_interval_of_independent_ones():
    scores = np.array([1.0, 2.0, 4.0, 5.0, 3.0])
    half = scipy.stats.t.ppf(0.975, 4) * scores.std(ddof=1) / math.sqrt(5)
    assert mos.half_interval(np.where(np.eye(5, dtype=bool), scores, np.nan)) == pytest.approx(half)
    assert mos.half_interval(scores[None]) is None and mos.half_interval(scores[:, None]) is None


def test_a_single_rating_has_no_interval(systems, tmp_path):
    made = mos.make(systems, tmp_path / "page", **OPTIONS | dict(items=1))
    found = mos.score(made.folder, [reply(made.folder, "ann", {("clean_reference", 0): 5, ("flowing", 0): 2})])
    assert found.mean == {"clean_reference": 5.0, "flowing": 2.0} and found.interval == {}
    assert json.dumps(found.to_json(), allow_nan=False)
    assert "5.00 ± –" in found.table()


BAD_SCORE = "must be 1 to 5, got "


@pytest.mark.parametrize(
    "scores, changes, expected",
    [
        (GOOD, dict(page="0123456789abcdef"), "expected answers to page .*, got answers to page '0123456789abcdef'"),
        (GOOD | {("flowing", 0): 6}, {}, BAD_SCORE + "6"),
        (GOOD | {("flowing", 0): 0}, {}, BAD_SCORE + "0"),
        (GOOD | {("flowing", 0): 2.5}, {}, BAD_SCORE + "2.5"),
        (GOOD | {("flowing", 0): True}, {}, BAD_SCORE + "True"),
        (GOOD | {("flowing", 0): None}, {}, BAD_SCORE + "None"),
        ({("flowing", 0): 3}, {}, "expected 8 clips, .* got 1; finish the page"),
        (GOOD, dict(answers=[]), "got 0; finish the page"),
        (GOOD, dict(answers=None), "got 0; finish the page"),
        (GOOD, dict(answers=[3]), "each clip of the page once, got 3"),
        (GOOD, dict(answers=[{"clip": "999", "score": 3}]), "each clip of the page once"),
        (GOOD, dict(rater="../ann"), "rater must be .* got '../ann'"),
        (GOOD, dict(rater=None), "rater must be .* got None"),
        (GOOD, dict(number=0), "number must be a whole number from 1, got 0"),
        (GOOD, dict(number="7"), "number must be a whole number from 1, got '7'"),
        (GOOD, dict(headset="yes"), "headset must be true or false, got 'yes'"),
        (GOOD, dict(onboarding=["001"]), "onboarding must be one clip of each of 2 pairs"),
        (GOOD, dict(onboarding=[[], {}]), "onboarding must be one clip of each of 2 pairs"),
        (GOOD, dict(headset=False), "got none of 1 .*ann: wore no headset"),
        (table(*[4] * 8), {}, "got none of 1 .*ann: scored all 8 clips 4"),
    ],
)
def test_answers_that_do_not_fit_are_refused(page, scores, changes, expected):
    with pytest.raises(UserError, match=expected) as refusal:
        mos.score(page.folder, [reply(page.folder, "ann", scores, **changes)])
    assert "\n" not in str(refusal.value)


def test_a_clip_counts_once(page):
    path = reply(page.folder, "ann", GOOD)
    content = json.loads(path.read_text())
    content["answers"][1] = content["answers"][0]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="each clip of the page once"):
        mos.score(page.folder, [path])


def test_a_rater_counts_once(page):
    with pytest.raises(UserError, match="are both from rater 'ann'"):
        mos.score(page.folder, [reply(page.folder, "ann", GOOD), reply(page.folder, "ann", GOOD)])


@pytest.mark.parametrize(
    "text, expected",
    [(None, "could not read it"), ("{", "found no JSON"), ("[1]", "found a JSON list"), ("\xff", "found no JSON")],
)
def test_files_that_are_not_answers_or_keys_are_refused(page, tmp_path, text, expected):
    path = tmp_path / "answers-ann.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    for refused in (lambda: mos.score(page.folder, [path]), lambda: mos.score(path, [reply(page.folder, "ann", GOOD)])):
        with pytest.raises(UserError, match=expected):
            refused()


@pytest.mark.parametrize(
    "field, value",
    [("clips", []), ("clips", {"1": {}}), ("clips", {"1": 5}), ("systems", [5]), ("each", "2"), ("onboarding", [5])],
)
def test_a_damaged_key_is_refused(page, tmp_path, field, value):
    key = json.loads((page.folder / "key.json").read_text()) | {field: value}
    (tmp_path / "key.json").write_text(json.dumps(key))
    with pytest.raises(UserError, match="key.json: expected the key of a listening page, found other JSON"):
        mos.score(tmp_path, [reply(page.folder, "ann", GOOD)])


def test_no_answers_and_a_folder_without_a_key_are_refused(page, tmp_path):
    with pytest.raises(UserError, match="expected files of answers, got none"):
        mos.score(page.folder, [])
    with pytest.raises(UserError, match="key.json: expected the key of a listening page, could not read it"):
        mos.score(tmp_path, [reply(page.folder, "ann", GOOD)])
    with pytest.raises(UserError, match="found other JSON"):
        mos.score(reply(page.folder, "ann", GOOD), [reply(page.folder, "ann", GOOD)])
