"""Texts are read as a newsreader reads them: a table of spoken forms, sentence ends, encodings, odd texts."""

import csv
import random
import time
from pathlib import Path

import pytest

from sfjax.__main__ import main
from sfjax.errors import UserError
from sfjax.text import encoding, espeak, g2p, normalize

with (Path(__file__).parent / "spoken_forms.tsv").open(encoding="utf-8", newline="") as table:
    ROWS = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def say():
    """A function from a text to its words, with a bar between sentences; espeak-ng, which is slow, has no work here."""
    words = (word for row in ROWS for word in row["spoken"].split())
    lexicon = {word: ("AH",) for word in words if "." not in word} | g2p.default_lexicon()
    pronouncer = g2p.Pronouncer(lexicon, espeak.ARPABET)
    return lambda text: " | ".join(" ".join(word.text for word in sentence.words) for sentence in pronouncer(text))


def is_right(row, spoken):
    return spoken in row["spoken"].split(" / ")


def test_at_least_97_percent_of_the_table_is_right(say):
    wrong = [(row, spoken) for row in ROWS if not is_right(row, spoken := say(row["written"]))]
    for row, spoken in wrong:
        print(f"{row['category']}: {row['written']} -> {spoken}, expected {row['spoken']}")
    right = len(ROWS) - len(wrong)
    print(f"{right} of {len(ROWS)} right")
    assert len(ROWS) >= 200 and right >= 0.97 * len(ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row["category"] == "case"], ids=lambda row: row["written"])
def test_a_text_that_people_reported_is_right(say, row):
    assert is_right(row, say(row["written"]))


@pytest.mark.parametrize(
    "text, words",
    [
        ("See p. 5 and pp. 3–4. Then go.", "see page five and pages three to four | then go"),
        ("Gov. Brown met Lt. Gov. Ray.", "governor brown met lieutenant governor ray"),
        ("At 7 a.m. She left. At 8 a.m. Monday", "at seven a.m. | she left | at eight a.m. monday"),
        ("I live at 5 Elm St. The house is old.", "i live at five elm street | the house is old"),
        ("Smith & Co. Ltd. sued. It lost.", "smith and company limited sued | it lost"),
        ("Sen. Lee, R-Ga., and Al Ray (D-N.Y.) met.", "senator lee r georgia and al ray d n.y. met"),
        ("It is 3 in. long. It was 5 ft. They cut it.", "it is three inches long | it was five feet | they cut it"),
        ("The book I read. Part I is long.", "the book i read | part one is long"),
        ("Mr. T. He won. Plan A. Then B.", "mister t | he won | plan a | then b"),
        ("THE 5G NETWORK COST $5M", "the 5g network cost five million dollars"),
    ],
)
def test_a_dot_ends_a_sentence_only_where_one_ends(say, text, words):
    assert say(text) == words


@pytest.mark.parametrize(
    "text, words",
    [
        ("5-3=2 and E = mc^2", "five minus three equals two and e equals mc squared"),
        ("from 5'6\"-5'10\" tall", "from five foot six to five foot ten tall"),
        ("7,5 € or 5¢/lb", "seven point five euros or five cents per pound"),
        ("§§ 3-4, the 2nd ed. of it", "sections three to four the second edition of it"),
        ("Mon to Fri, Sat & Sun", "monday to friday saturday and sunday"),
        (
            "$5-a-day fees, 80 mph winds, $3/lb.",
            "five dollar a day fees eighty mile per hour winds three dollars per pound",
        ),
        ("W. 42nd St. and St Paul", "west forty second street and saint paul"),
        ("$8 - $3 = $5, 8 - 3 kg", "eight dollars minus three dollars equals five dollars eight minus three kilograms"),
        ("At St Ives by Main St Bridge", "at saint ives by main st bridge"),
        ("pp. 3–4, p. xii", "pages three to four page twelve"),
        (
            "3e8 m/s, 6'×9', 1:1.5",
            "three times ten to the eighth meters per second six feet by nine feet one to one point five",
        ),
    ],
)
def test_further_signs_beside_numbers_are_read(say, text, words):
    assert say(text) == words


def test_odd_texts_raise_no_error_but_user_errors():
    symbols = (
        "0 1 5 12 3.5 1,000 - – / : . , % $ € ¢ ° ' \" ^ × x = ~ < # @ am K M m in ft km/h ² ½ II p. St. Jan. Mon CHF"
    )
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(symbols.split()) + rng.choice(["", " "]) for _ in range(rng.randint(1, 9)))
        assert normalize.write_out(text).strip(), text


@pytest.mark.parametrize("text", ["a-", "It cost $5 on May 5. "])
def test_time_grows_linearly_with_the_text(text):
    def seconds(repeats):
        start = time.process_time()
        normalize.write_out(text * repeats)
        return time.process_time() - start

    seconds(1)  # compiles the expressions
    repeats = 2000 // len(text)
    assert seconds(4 * repeats) < 9 * seconds(repeats)  # 16 times if it grew with the square


def test_a_long_text_is_read_like_its_sentences(say):
    sentence = "Dr. Lee paid $1.5bn on May 5, 2020."
    assert say(" ".join([sentence] * 200)) == " | ".join([say(sentence)] * 200)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_text_in_another_encoding_is_refused_in_one_line(tmp_path, capsys, monkeypatch, locale):
    monkeypatch.setenv("LC_ALL", locale)
    path = tmp_path / "text"
    for content, name in ((b"one\ncaf\xe9 time", "line 2: .*0xe9"), ("time".encode("utf-16"), "UTF-16")):
        path.write_bytes(content)
        with path.open(encoding="latin-1") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert main(["speak", "-", "-o", str(tmp_path / "out.wav")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "standard input" in line and "UTF-8" in line
        with pytest.raises(UserError, match=name):
            encoding.read_text(path)
        with pytest.raises(UserError, match="text: .*UTF-8"):
            g2p.read_lexicon(path)


def test_half_a_character_is_refused_in_one_line(say, tmp_path, capsys):
    with pytest.raises(UserError, match=r"UTF-8, .*'\\ud83d', at character 4"):
        say("ok \ud83d time")
    assert main(["speak", "caf\udce9", "-o", str(tmp_path / "out.wav")]) == 2
    assert "'\\udce9', at character 4" in capsys.readouterr().err
    assert say("ok \U0001f600 time") == "ok time"
