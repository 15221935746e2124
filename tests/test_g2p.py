"""The text front end: numbers, abbreviations, pauses, lexicons, and words that the lexicon lacks."""

import random

import pytest

from sfjax.errors import UserError
from sfjax.text import espeak, g2p


@pytest.fixture(scope="module")
def lexicon():
    return g2p.default_lexicon()


@pytest.fixture(scope="module")
def pronouncer(lexicon):
    return g2p.Pronouncer(lexicon, espeak.ARPABET)


@pytest.fixture(scope="module")
def say(pronouncer):
    """A function from a text to its words, with a bar between sentences."""
    return lambda text: " | ".join(" ".join(word.text for word in sentence.words) for sentence in pronouncer(text))


def test_a_text_becomes_words_with_the_phones_of_the_lexicon(pronouncer):
    (sentence,) = pronouncer("Hey, what's UP?")
    assert sentence.words == (
        g2p.Spoken("hey", ("HH", "EY"), True),
        g2p.Spoken("what's", ("W", "AH", "T", "S"), True),
        g2p.Spoken("up", ("AH", "P"), True),
    )
    assert sentence.pauses == (None,) * 4


@pytest.mark.parametrize(
    "text, words",
    [
        ("1,234.5", "one thousand two hundred and thirty four point five"),
        ("the 3rd, 21st and 1,000th", "the third twenty first and one thousandth"),
        ("in 1999. 2005", "in nineteen ninety nine | two thousand and five"),
        ("1066 men, 1000 men", "one thousand and sixty six men one thousand men"),
        ("the 1990s and '80s", "the nineteen nineties and eighties"),
        (
            "$5, $1, £5.50, €1.01, $0.99.",
            "five dollars one dollar five pounds and fifty pence one euro and one cent ninety nine cents",
        ),
        ("$2.5 million", "two point five million dollars"),
        ("50% of -5 + .5", "fifty percent of minus five plus zero point five"),
        ("10:30, 9:05 pm, 7:00, 10:00 a.m.", "ten thirty nine oh five p.m. seven o'clock ten a.m."),
        ("16:90", "sixteen ninety"),
        ("007 and 1.2.3", "zero zero seven and one point two point three"),
        (
            "1234567890123456789",
            "one two three four five six seven eight nine zero one two three four five six seven eight nine",
        ),
        ("10–20, 10-20", "ten to twenty ten to twenty"),
        ("B2B, mp3, F-16, A4", "b2b mp3 f sixteen a4"),
        (
            "5 kg, 1 kg, 20°C, 6 ft 3 in, 1 in 5, 60 km/h",
            "five kilograms one kilogram twenty degrees celsius six feet "
            "three inches one in five sixty kilometers per hour",
        ),
        ("1½ #5 a@b & c", "one and a half number five a at b and c"),
    ],
)
def test_numbers_and_signs_are_written_out(say, text, words):
    assert say(text) == words


@pytest.mark.parametrize(
    "text, words",
    [
        ("Dr. Smith met Mrs. Lee. On St. James St. now.", "doctor smith met missus lee | on saint james street now"),
        ("Cats, e.g. mine, i.e. two, etc. Mr. J. Smith", "cats for example mine that is two et cetera mister j smith"),
        ("We sat. In the sun. To the max. I may. Then", "we sat | in the sun | to the max | i may | then"),
        (
            "On Sat., May 5; Max. Then no. 5. No. I; Gen. Lee",
            "on saturday may fifth | max | then number five | no | i | general lee",
        ),
        ("The US told us. The CEO, Ms. A, a PhD, saw a PDF", "the u.s. told us | the ceo ms a a phd saw a pdf"),
        ("At 5 p.m. in the U.K.", "at five p.m. in the u.k."),
        ("THE LAST OF US SAT.", "the last of us sat"),
    ],
)
def test_abbreviations_are_written_out_and_words_that_look_like_them_are_not(say, text, words):
    assert say(text) == words


@pytest.mark.parametrize(
    "text, words",
    [
        ("A. Bell left; then? No!\nNew line... end", "a bell left | then | no | new line | end"),
        ("He said “No.” (Why?) Done", "he said no | why | done"),
        ("well-known zebra-like twenty-one", "well-known zebra like twenty-one"),
        ("‘quoted’ 'tis dogs' rock 'n' roll O’Brien", "quoted 'tis dogs' rock 'n roll o'brien"),
        ("and/or, so—on… co\u00adoperate 😀 a_b", "and or so on | cooperate a b"),
        ("example.com", "example dot com"),
        ("cafe\u0301 ﬁne ｆｕｌｌ", "café fine full"),
        ("a < b", "a b"),
    ],
)
def test_punctuation_separates_words_and_sentences_and_is_not_said(say, text, words):
    assert say(text) == words


def test_breaks_become_pauses_where_they_stand(pronouncer):
    text = (
        """<break time="1s"/><break time=".25s" />One<break time=500ms>two <break time='0s'>"""
        + 'three. <break time="2s"/>Four <BREAK TIME="10 s"/>.'
    )
    first, second = pronouncer(text)
    assert [word.text for word in first.words] == ["one", "two", "three"]
    assert first.pauses == (1.25, 0.5, 0.0, 2.0)
    assert [word.text for word in second.words] == ["four"]
    assert second.pauses == (None, 10.0)


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "got no word in ''; write"),
        (" … ?! ' -- 😀", "got no word"),
        ('<break time="1s"/>', "got no word"),
        ("Привет, world", "Latin letters, got 'Привет'"),
        ("two 犬", "got '犬'"),
        ("٣ apples", "got '٣'"),
        ("a <break/> b", "no other tag, got '<break/>'"),
        ('a <break time="-1s"/> b', "no other tag, got '<break time=\"-1s\"/>'"),
        ('a <break time="1"/> b', "no other tag"),
        ('a <break time="nan s"/> b', "no other tag"),
        ('a <break time="1s b', "no other tag"),
        ("a <break time='1s\"/> b", "no other tag"),
        ('a < break strength="x"> b', "no other tag"),
        ("<speak>a</speak>", "no other tag, got '<speak>'"),
        ('a <break time="10.1s"/> b', 'at most 10 s, got <break time="10.1s"/>'),
        ('a <break time="10001ms"/> b', "at most 10 s"),
    ],
)
def test_a_text_that_cannot_be_spoken_is_refused_in_one_line(pronouncer, text, line):
    with pytest.raises(UserError, match=line) as refused:
        pronouncer(text)
    assert "\n" not in str(refused.value)


def test_words_that_the_lexicon_lacks_are_guessed_and_named_once(pronouncer):
    found = pronouncer("Zylographic speechflow, the Zylographic speechflow's. B2B mp3")
    assert g2p.unknown(found) == ["zylographic", "speechflow", "speechflow's", "b2b", "mp3"]
    assert found[0].words[0] == g2p.Spoken("zylographic", tuple("Z AY L AH G R AE F IH K".split()), False)
    assert found[1].words[0].phones == ("B", "IY", "T", "UW", "B", "IY")
    assert found[0].words[2].known


def test_phones_that_the_model_does_not_know_are_named(lexicon):
    small = g2p.Pronouncer({"aa": ("AA", "x7")}, frozenset({"AA", "B", "IY"}))
    assert small("b")[0].words == (g2p.Spoken("b", ("B", "IY"), False),)
    with pytest.raises(UserError, match="the model knows, got x7 in 'aa'; .*lexicon"):
        small("b aa")
    with pytest.raises(UserError, match="got EY, K in 'cab'|got AE, K in 'cab'"):
        small("cab b")


def test_a_lexicon_of_mfa_and_one_of_cmu_say_the_same(tmp_path):
    mfa, cmu = tmp_path / "mfa.dict", tmp_path / "cmu.txt"
    mfa.write_text("Read\t0.99\t0.2\t1.0\t1e-3\tR IY1 D\nread\t0.4\tR EH1 D\nthe\tDH AH0\nçava tʃʰ d̪ aj\n", "utf-8")
    cmu.write_text(
        ";;; comment\nREAD  R IY1 D\nREAD(2)  R EH1 D\nU.S.(2)  Y\nTHE  DH AH0 # article\n\nçava tʃʰ d̪ aj\n", "utf-8"
    )
    expected = {"read": ("R", "IY", "D"), "the": ("DH", "AH"), "çava": ("tʃʰ", "d̪", "aj")}
    assert g2p.read_lexicon(mfa) == g2p.read_lexicon(cmu) == expected


@pytest.mark.parametrize(
    "content, line",
    [
        (None, "got none .No such file"),
        (b"", "got a file without words"),
        (b"\n;;; nothing\n", "got a file without words"),
        (b"the DH AH\nalone\n", "line 2: expected a word and its phones, got 'alone'"),
        (b"the\t0.5\t0.5\n", "line 1: expected a word"),
        (b"\tDH AH\n", "line 1: expected a word"),
        (b"This is prose, not a lexicon.\n", "line 1: expected a word"),
        (b'{"the": ["DH"]}\n', "line 1: expected a word"),
        (b"the DH AH\nsome incomprehensible prose\n", "line 2: expected a word"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "UTF-8"),
        ("\n".join(f"w{i} p{i}" for i in range(600)).encode(), "501 different phones up to line 501"),
    ],
)
def test_what_is_no_lexicon_is_refused_with_its_line(tmp_path, content, line):
    path = tmp_path / "a.dict"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=line):
        g2p.read_lexicon(path)


def test_a_lexicon_of_a_manifest_has_the_most_frequent_pronunciations():
    def row(words, phones):
        return {"words": words.split(), "phones": phones.split(), "path": "a.flac"}

    rows = [
        row("the Cat", "SIL DH_B IY_E SIL K_B AE_I T_E SIL"),
        row("the", "SIL DH_B AH_E SIL"),
        row("the a", "SIL DH_B AH_E SIL AH_S SIL"),
        {"words": None, "phones": None},
        {},
    ]
    expected = {"the": ("DH", "AH"), "cat": ("K", "AE", "T"), "a": ("AH",)}
    assert g2p.lexicon_of(rows) == expected
    with pytest.raises(UserError, match="a.flac: .* 2 words, got phones of 1; prepare"):
        g2p.lexicon_of([row("the cat", "SIL DH_B AH_E SIL")])


def test_espeak_says_english_sounds_alone_and_mostly_those_of_the_dictionary(lexicon):
    """An edit distance of some 10 % of the phones, as measured over all of the dictionary."""
    import jiwer

    words = random.Random(0).sample(sorted(lexicon), 400)
    guessed = espeak.pronounce(words)
    assert {phone for phones in guessed for phone in phones} == espeak.ARPABET
    assert jiwer.wer([" ".join(lexicon[word]) for word in words], [" ".join(phones) for phones in guessed]) < 0.14
    assert espeak.pronounce([]) == [] and espeak.pronounce(["'"]) == [()]
    spelled = {
        "nutshell": "N AH T SH EH L",
        "button": "B AH T AH N",
        "water": "W AO T ER",
        "hurry": "HH ER IY",
        "fire": "F AY ER",
        "judging": "JH AH JH IH NG",
        "speechflow": "S P IY CH F L OW",
        "vision": "V IH ZH AH N",
    }
    assert [" ".join(sounds) for sounds in espeak.pronounce(list(spelled))] == list(spelled.values())


def test_a_word_sounds_the_same_whatever_was_said_before_it():
    words = "read the a lead étude x USA to for b2b garçon jalapeño aix-en-provence zylographic 1st it's".split()
    together = espeak.pronounce(words + words[::-1])
    assert together == together[::-1]
    assert together[3:5] == [espeak.pronounce([word])[0] for word in words[3:5]]
