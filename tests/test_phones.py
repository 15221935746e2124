"""Lines of phones: positions, silences between words, lengths that sum to the frames, and phone numbers."""

import numpy as np
import pytest

from sfjax.errors import UserError
from sfjax.text import phones
from sfjax.text.phones import Alignment, Phone, Word

GREETING = ["A B", "C", "D E F"]  # "Hey what's up", as in Voicebox A.2 and its ghost between the last two words


def word(text, *spans):
    return Word(text, tuple(Phone(*span) for span in spans))


HEY = word("hey", ("A", 1, 2), ("B", 2, 4))
WHATS = word("what's", ("C", 5, 6))
UP = word("up", ("D", 6, 9), ("E", 9, 11), ("F", 11, 12))


def aligned(*words, frames=None):
    return Alignment(words, frames, 0)


def drawn(seed):
    """Words of random lengths with pauses and without between them, and the frame at which the last one ends."""
    rng = np.random.default_rng(seed)
    words, at = [], int(rng.integers(0, 3))
    for number in range(rng.integers(1, 8)):
        ends = at + np.cumsum(rng.integers(1, 9, rng.integers(1, 6)))
        spans = zip([at, *ends[:-1]], ends, strict=True)
        words.append(word(f"w{number}", *(("AH" if i % 2 else "T", int(a), int(b)) for i, (a, b) in enumerate(spans))))
        at = int(ends[-1]) + int(rng.integers(0, 2)) * int(rng.integers(0, 20))
    return aligned(*words), words[-1].phones[-1].end


def test_hey_whats_up_is_spelled_with_positions_silences_and_a_ghost():
    line = phones.line(aligned(HEY, WHATS, UP), 14)
    assert " ".join(line.phones) == "SIL A_B B_E SIL C_S SIL D_B E_I F_E SIL"
    assert line.lengths == (1, 1, 2, 1, 1, 0, 3, 2, 1, 2)
    assert line.words == ("hey", "what's", "up")
    assert line.phones == phones.spell([letters.split() for letters in GREETING])
    assert [line.phones[first:end] for first, end in line.groups()] == [
        ("A_B", "B_E"),
        ("C_S",),
        ("D_B", "E_I", "F_E"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_lengths_sum_to_the_frames_of_the_mel_and_every_phone_keeps_its_own(seed):
    alignment, end = drawn(seed)
    for frames in (end, end + 7, end - 1, max(0, end - phones.TOLERANCE)):
        line = phones.line(alignment, frames)
        assert sum(line.lengths) == frames and min(line.lengths) >= 0
        assert len(line.phones) == len(line.lengths)
        shown = phones.by_frame(np.arange(len(line.phones)), line.lengths)
        for (first, _), one in zip(line.groups(), alignment.words, strict=True):
            for token, phone in enumerate(one.phones, first):
                assert line.phones[token].startswith(phone.symbol + "_")
                assert (shown[phone.start : phone.end] == token).all()  # beyond the end there are none


@pytest.mark.parametrize("seed", range(5))
def test_silences_stand_around_every_word_and_nowhere_else(seed):
    line = phones.line(*drawn(seed))
    silent = [i for i, token in enumerate(line.phones) if token == "SIL"]
    assert silent[0] == 0 and silent[-1] == len(line.phones) - 1
    assert [(a + 1, b) for a, b in zip(silent, silent[1:], strict=False)] == line.groups()
    for first, end in line.groups():
        marks = [token.split("_")[1] for token in line.phones[first:end]]
        assert marks == (["S"] if end - first == 1 else ["B", *"I" * (end - first - 2), "E"])


def test_nothing_said_is_one_silence():
    assert phones.spell([]) == ("SIL",)
    assert phones.line(aligned(), 30) == (("SIL",), (30,), ())
    assert phones.line(aligned(), 30).groups() == []


@pytest.mark.parametrize(
    "wrong, frames, said",
    [
        (aligned(HEY, WHATS, UP), 6, r"lasts 0\.12 s, the recording 0\.06 s"),
        (aligned(HEY, frames=40), 34, r"lasts 0\.4 s, the recording 0\.34 s"),
        (aligned(HEY, word("no")), 20, r"word 2: expected phones other than SIL, got \[\]"),
        (aligned(word("no", ("SIL", 0, 3))), 20, "word 1: expected phones"),
        (aligned(WHATS, HEY), 20, r"'hey' at 0\.01 s must start at 0\.06 s or later"),
        (aligned(word("no", ("N", -1, 3))), 20, r"must start at 0\.0 s or later"),
        (aligned(word("no", ("N", 5, 3))), 20, "phone N that ends before it starts"),
        (aligned(word("no", ("N", 1, 3), ("OW", 5, 6))), 20, r"N ends at 0\.03 s, OW starts at 0\.05 s"),
        (aligned(word("no", ("N", 1, 3), ("OW", 2, 6))), 20, r"N ends at 0\.03 s, OW starts at 0\.02 s"),
    ],
)
def test_an_alignment_that_cannot_be_is_refused_in_a_line(wrong, frames, said):
    with pytest.raises(UserError, match=said) as refusal:
        phones.line(wrong, frames)
    assert "\n" not in str(refusal.value)


def test_an_inventory_holds_every_token_once_with_silence_first():
    spelled = [phones.spell([["Z"], ["AH", "B"]]), phones.spell([["Z"]])]
    assert phones.inventory(spelled) == ("SIL", "AH_B", "B_E", "Z_S")
    assert phones.inventory(iter(map(iter, spelled))) == phones.inventory(spelled[::-1])
    assert phones.inventory([]) == ("SIL",)


def test_numbers_start_at_one_and_go_back_to_the_tokens():
    line = phones.line(aligned(HEY, WHATS, UP), 14)
    known = phones.inventory([line.phones])
    found = phones.numbers(line.phones, known)
    assert found.dtype == np.int32 and found.min() == 1
    assert [known[number - 1] for number in found] == list(line.phones)
    frames = phones.by_frame(found, line.lengths)
    assert frames.dtype == np.int32 and len(frames) == 14
    np.testing.assert_array_equal(frames, phones.by_frame(found, np.array(line.lengths)))
    assert [known[number - 1] for number in frames[4:8]] == ["SIL", "C_S", "D_B", "D_B"]  # of the ghost no frame


def test_a_phone_known_elsewhere_in_a_word_stands_in_for_one_that_is_not():
    known = ("SIL", "ZH_B", "ZH_E", "ZH_I", "ZH_S", "ZH", "AH_E", "AH_S")
    name = lambda token: known[phones.numbers([token], known)[0] - 1]
    assert [name(token) for token in known] == list(known)
    for missing in "BES":
        others = tuple(token for token in known if token != f"ZH_{missing}")
        assert others[phones.numbers([f"ZH_{missing}"], others)[0] - 1] == "ZH_I"
    assert name("AH_B") == "AH_E"


@pytest.mark.parametrize(
    "unknown, said", [(["QX_B", "SIL", "A_I"], "QX_B"), (["H_B", "G_I", "H_B"], "G_I, H_B"), (["A"], "A")]
)
def test_unknown_phones_are_named(unknown, said):
    with pytest.raises(UserError, match=f"the 3 that are known, got {said};"):
        phones.numbers(unknown, ("SIL", "A_B", "B_E"))


@pytest.mark.parametrize("words", [[["A"], []], [["SIL"]], [["A", "SIL", "B"]]])
def test_a_word_without_phones_or_with_a_silence_cannot_be_spelled(words):
    with pytest.raises(UserError, match=f"word {len(words)}: expected phones other than SIL"):
        phones.spell(words)
