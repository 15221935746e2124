"""Listening tests: the page does not reveal the systems, and the scores follow the rules of the paper."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfjax import audio, overwrite
from sfjax.errors import UserError
from sfjax.metrics import mos

OPTIONS = dict(items=None, each=None, seed=3, title="Which speech sounds good?")


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
    # Eight ratings each: squared deviations sum to 8 · 1/4 = 2, and to 4 · 0 + 4 · 1 = 4 of 2 1 2 3 2 2 1 3.
    for system, mean, squares in (("clean_reference", 4.5, 2), ("flowing", 2.0, 4)):
        half = 1.96 * math.sqrt(squares / 7) / math.sqrt(8)
        np.testing.assert_allclose(found.interval[system], (mean - half, mean + half), rtol=1e-12)
    assert found.failed == []
    said = found.to_json()
    assert json.loads(json.dumps(said)) == said and said["n"] == 2 and said["ratings"] == dict.fromkeys(said["mean"], 8)
    assert {"rater": "ann", "system": "flowing", "item": "speaker/utterance1", "score": 1} in said["rows"]
    assert found.table().splitlines() == [
        "system                   MOS  ratings",
        "clean_reference  4.50 ± 0.37        8",
        "flowing          2.00 ± 0.52        8",
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
    low, high = (
        {("clean_reference", i): 5, ("flowing", i): 2, ("clean_reference", i + 1): 4, ("flowing", i + 1): 1}
        for i in (0, 2)
    )
    found = mos.score(made.folder, [reply(made.folder, "ann", low), reply(made.folder, "bob", high)])
    assert found.mean == {"clean_reference": 4.5, "flowing": 1.5} and not found.failed


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
