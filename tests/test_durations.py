"""Durations of phones: speed, pauses, joined lines, and the file that you can edit."""

import json

import numpy as np
import pytest

from sfjax.errors import UserError
from sfjax.text import durations
from sfjax.text.phones import SILENCE, Line, spell

HOP = 0.01
SEEDS = range(20)
HEY = Line(  # the specification's example
    ("SIL", "A_B", "B_E", "SIL", "C_S", "SIL", "D_B", "E_I", "F_E", "SIL"),
    (1, 1, 2, 1, 1, 0, 3, 2, 1, 2),
    ("Hey", "what's", "up"),
)


def random_line(rng, words=None):
    words = [f"wörd{i}" for i in range(rng.integers(1, 9))] if words is None else words
    phones = spell([[str(p) for p in rng.choice(["AH0", "B", "tʃ", "e_x"], rng.integers(1, 5))] for _ in words])
    return Line(phones, tuple(rng.integers(0, 40, len(phones)).tolist()), tuple(words))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hop", [0.01, 0.0125, 256 / 22_050])
def test_written_durations_are_read_back(tmp_path, seed, hop):
    rng = np.random.default_rng(seed)
    lines = [random_line(rng) for _ in range(rng.integers(1, 4))]
    durations.write(tmp_path / "new/a.json", lines, hop_seconds=hop)
    assert durations.read(tmp_path / "new/a.json", hop_seconds=hop) == lines
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_written_file_has_a_row_for_each_word_and_pause(tmp_path):
    durations.write(tmp_path / "a.json", [HEY, HEY], hop_seconds=HOP)
    text = (tmp_path / "a.json").read_text()
    row = '    {"word": "what\'s", "phones": [{"phone": "C", "seconds": 0.01}]},'
    assert text.splitlines().count(row) == 2
    held = json.loads(text)
    assert held["hop"] == HOP and [row["word"] for row in held["sentences"][1]] == [
        None,
        "Hey",
        None,
        "what's",
        None,
        "up",
        None,
    ]


def test_seconds_are_rounded_to_frames(tmp_path):
    durations.write(tmp_path / "a.json", [HEY], hop_seconds=HOP)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"phone": "D", "seconds": 0.03', '"phone": "D", "seconds": 0.1151'))
    (line,) = durations.read(tmp_path / "a.json", hop_seconds=HOP)
    assert line == HEY._replace(lengths=(1, 1, 2, 1, 1, 0, 12, 2, 1, 2))


PAUSE = {"word": None, "phones": [{"phone": "SIL", "seconds": 0}]}
WORD = {"word": "hey", "phones": [{"phone": "HH", "seconds": 0.1}, {"phone": "EY", "seconds": 0.2}]}


def lasting(seconds):
    return {"sentences": [[PAUSE, {"word": "hey", "phones": [{"phone": "HH", "seconds": seconds}]}, PAUSE]]}


@pytest.mark.parametrize(
    "held, expected",
    [
        ([], 'expected {"sentences": [[…], …]}, got []'),
        ({}, "write at least one sentence"),
        ({"sentences": []}, "write at least one sentence"),
        ({"sentences": {"a": 1}}, "write at least one sentence"),
        ({"sentences": [[PAUSE, WORD, PAUSE], 3]}, "sentence 2: expected a list of pauses and words in turn"),
        ({"sentences": [[]]}, "sentence 1: expected a list of pauses and words in turn, a pause at both ends, got 0"),
        ({"sentences": [[PAUSE]]}, "got 1 rows"),
        ({"sentences": [[PAUSE, WORD]]}, "got 2 rows"),
        ({"sentences": [[WORD, PAUSE, WORD]]}, "row 1: expected a pause"),
        ({"sentences": [[PAUSE, WORD, WORD]]}, 'row 3: expected a pause, word null and one phone SIL, got {"word"'),
        ({"sentences": [[PAUSE, PAUSE, PAUSE]]}, "row 2: expected a word between two pauses, got null"),
        ({"sentences": [[PAUSE, WORD | {"word": " "}, PAUSE]]}, "row 2: expected a word"),
        ({"sentences": [[PAUSE, WORD | {"word": 7}, PAUSE]]}, "row 2: expected a word between two pauses, got 7"),
        ({"sentences": [[PAUSE, WORD | {"phones": PAUSE["phones"]}, PAUSE]]}, 'row 2: expected the phones of "hey"'),
        ({"sentences": [[PAUSE, "hey", PAUSE]]}, 'row 2: expected {"word": …, "phones": […]}, got "hey"'),
        ({"sentences": [[PAUSE, {"word": "hey"}, PAUSE]]}, 'row 2: expected {"word"'),
        ({"sentences": [[PAUSE, WORD | {"extra": 1}, PAUSE]]}, 'row 2: expected {"word"'),
        ({"sentences": [[PAUSE, WORD | {"phones": []}, PAUSE]]}, "row 2: expected a list of phones, got []"),
        ({"sentences": [[PAUSE, WORD | {"phones": {"HH": 1}}, PAUSE]]}, "row 2: expected a list of phones"),
        ({"sentences": [[PAUSE, WORD | {"phones": [["HH", 0.1]]}, PAUSE]]}, 'row 2, phone 1: expected {"phone": …'),
        ({"sentences": [[PAUSE, WORD | {"phones": [{"phone": "", "seconds": 1}]}, PAUSE]]}, 'of a phone, got ""'),
        ({"sentences": [[PAUSE, WORD | {"phones": [{"phone": 1, "seconds": 1}]}, PAUSE]]}, "name of a phone, got 1"),
        ({"sentences": [[PAUSE, WORD | {"phones": [{"phone": "H H", "seconds": 1}]}, PAUSE]]}, "without spaces"),
        (lasting(-0.01), "phone 1: expected 0 to 10 seconds, got -0.01"),
        (lasting(10.0), "got 10.0"),
        (lasting(float("nan")), "got NaN"),
        (lasting(float("inf")), "got Infinity"),
        (lasting(10**400), "got 10000"),
        (lasting("0.1"), 'got "0.1"'),
        (lasting(True), "got true"),
        (lasting(None), "got null"),
    ],
)
def test_bad_durations_are_one_line_errors_with_their_place(tmp_path, held, expected):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(held))
    with pytest.raises(UserError) as error:
        durations.read(path, hop_seconds=HOP)
    assert str(error.value).startswith(str(path)) and expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "expected JSON in UTF-8"),
        (b'{"sentences": [[}', "line 1 column 17"),
        (b"\xff\xfe\x00", "expected JSON in UTF-8"),
        (b"[" * 100_000, "expected JSON in UTF-8"),
        (b"[" + b"1" * 5000 + b"]", "expected JSON in UTF-8"),
    ],
)
def test_what_is_no_json_is_a_one_line_error(tmp_path, content, expected):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        durations.read(tmp_path / "a.json", hop_seconds=HOP)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_places_without_a_file_of_durations_are_one_line_errors(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "none.json", tmp_path / "file/a.json"):
        with pytest.raises(UserError, match="expected a file of durations, got none"):
            durations.read(path, hop_seconds=HOP)
    for path in (tmp_path, tmp_path / "file/a.json"):
        with pytest.raises(UserError, match="could not be written"):
            durations.write(path, [HEY], hop_seconds=HOP)
    assert not [*tmp_path.parent.glob(f".{tmp_path.name}.*.part")]


@pytest.mark.parametrize("seed", range(200))
def test_paced_lengths_have_the_rounded_total_and_no_phone_is_lost(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    lengths = (rng.gamma(1.0, rng.choice([0.1, 1.0, 8.0]), count) * (rng.random(count) < 0.9)).astype(np.float32)
    phones = np.where(rng.random(count) < 0.3, SILENCE, "AH_I").tolist()
    speed = float(rng.choice([0.25, 0.8, 1.0, 1.3, 4.0]))
    found = durations.paced(lengths, phones=phones, speed=speed)
    spoken = np.array(phones) != SILENCE
    heard = spoken & (lengths > 0)
    wanted = lengths.astype(np.float64) / speed
    assert found.dtype == np.int32 and (found >= 0).all() and (found[heard] >= 1).all()
    assert (found[lengths == 0] == 0).all()
    assert found.sum() == max(np.floor(wanted.sum() + 0.5), heard.sum())
    if (wanted[heard] >= 1).all():
        assert (np.abs(found - wanted) < 1).all()
    else:  # what the shortest are given the others lack, in proportion
        assert (found <= np.maximum(np.ceil(wanted), 1)).all()
    order = np.argsort(lengths, kind="stable")
    longer = found[order][spoken[order]]
    assert (np.diff(longer) >= -1).all()  # a longer one is never two frames shorter


def test_whole_lengths_at_speed_one_stay_as_they_are():
    lengths = np.array(HEY.lengths, np.float32)
    assert tuple(durations.paced(lengths, phones=HEY.phones, speed=1.0)) == HEY.lengths
    assert durations.paced(np.zeros(0), phones=(), speed=1.0).shape == (0,)


def test_short_phones_take_their_frame_from_the_long_ones():
    lengths = np.array([0.5, 0.1, 0.1, 20.0, 10.0])
    found = durations.paced(lengths, phones=["SIL", "A_B", "B_E", "C_S", "D_S"], speed=1.0)
    assert found.tolist() == [0, 1, 1, 19, 10]  # 31 frames: 2 for the short, 29 in the ratio of .5, 20 and 10


@pytest.mark.parametrize("speed", [0.0, -1.0, 0.249, 4.01, float("nan"), float("inf")])
def test_a_speed_that_nobody_speaks_at_is_refused(speed):
    with pytest.raises(UserError, match="expected a speed from 0.25 to 4, got"):
        durations.paced(np.ones(3), phones=["SIL", "A_S", "SIL"], speed=speed)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_lengths_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="finite and 0 or more"):
        durations.paced(np.array([1.0, wrong]), phones=["SIL", "A_S"], speed=1.0)


def test_given_pauses_replace_silences_and_others_stay():
    made = durations.with_pauses(HEY, [None, 0.5, 0.0, None], hop_seconds=HOP)
    assert made == HEY._replace(lengths=(1, 1, 2, 50, 1, 0, 3, 2, 1, 2))
    assert durations.with_pauses(HEY, [0.0, None, 0.296, 1.0], hop_seconds=HOP).lengths == (
        0,
        1,
        2,
        1,
        1,
        30,
        3,
        2,
        1,
        100,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_pauses_change_no_word(seed):
    rng = np.random.default_rng(seed)
    line = random_line(rng)
    pauses = [None if rng.random() < 0.3 else float(rng.random()) for _ in range(len(line.words) + 1)]
    made = durations.with_pauses(line, pauses, hop_seconds=HOP)
    for token, old, new in zip(line.phones, line.lengths, made.lengths, strict=True):
        if token != SILENCE:
            assert new == old
        elif (pause := pauses.pop(0)) is not None:
            assert abs(new * HOP - pause) <= HOP / 2 + 1e-9
        else:
            assert new == old
    assert not pauses


@pytest.mark.parametrize(
    "pauses, expected",
    [
        ([None] * 3, "expected 4 pauses, before each word and after the last, got 3"),
        ([0.1] * 5, "expected 4 pauses"),
        ([-0.1, None, None, None], "expected a pause of 0 to 10 seconds, got -0.1"),
        ([None, 10.0, None, None], "got 10.0"),
        ([None, None, None, float("nan")], "got nan"),
    ],
)
def test_bad_pauses_are_refused(pauses, expected):
    with pytest.raises(UserError, match=expected):
        durations.with_pauses(HEY, pauses, hop_seconds=HOP)


def test_silences_at_the_ends_are_trimmed_and_those_between_are_not():
    line = HEY._replace(lengths=(50, 1, 2, 40, 1, 0, 3, 2, 1, 3))
    assert durations.trimmed(line, most=10) == line._replace(lengths=(10, 1, 2, 40, 1, 0, 3, 2, 1, 3))
    assert durations.trimmed(line, most=0).lengths == (0, 1, 2, 40, 1, 0, 3, 2, 1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_joined_lines_say_both_in_the_same_time(seed):
    rng = np.random.default_rng(seed)
    first, second = random_line(rng), random_line(rng)
    both = durations.joined(first, second)
    assert sum(both.lengths) == sum(first.lengths) + sum(second.lengths)
    assert both.words == first.words + second.words and len(both.groups()) == len(both.words)
    early = durations.times(first, hop_seconds=HOP)
    late = durations.times(second, hop_seconds=HOP, start=sum(first.lengths) * HOP)
    found = durations.times(both, hop_seconds=HOP)
    assert [word.text for word in found] == [word.text for word in early + late]
    for mine, theirs in zip(found, early + late, strict=True):
        assert (mine.start, mine.end) == pytest.approx((theirs.start, theirs.end), abs=1e-6)
        assert [phone.phone for phone in mine.phones] == [phone.phone for phone in theirs.phones]


def test_times_are_those_of_the_example():
    hey, _, up = durations.times(HEY, hop_seconds=HOP, start=1.0)
    assert hey == ("Hey", 1.01, 1.04, (("A", 1.01, 1.02), ("B", 1.02, 1.04)))
    assert up == ("up", 1.06, 1.12, (("D", 1.06, 1.09), ("E", 1.09, 1.11), ("F", 1.11, 1.12)))


@pytest.mark.parametrize("seed", SEEDS)
def test_phones_fill_their_word(seed):
    line = random_line(np.random.default_rng(seed))
    for word in durations.times(line, hop_seconds=HOP):
        assert (word.start, word.end) == (word.phones[0].start, word.phones[-1].end)
        assert all(a.end == b.start for a, b in zip(word.phones, word.phones[1:], strict=False))
