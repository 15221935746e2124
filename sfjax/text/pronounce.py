"""From English text to the phones of every word: sentences, numbers, abbreviations, pauses, lexicon and letters.

What the lexicon lacks is pronounced by espeak-ng: it knows the letter-to-sound rules of English well, also for names
and for what is spelled, it is small, and comes as a wheel that needs no network. As it keeps state and is under the
GPL, it runs in a process of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sfjax.errors import UserError
from sfjax.text import espeak
from sfjax.text.phones import SILENCE

LONGEST_PAUSE = 10.0  # seconds that a text may ask for at one place
VOWELS = set("aeiouy")
MOST_PHONES = 500  # different ones: no language has as many, a list of sentences soon does


class Spoken(NamedTuple):
    """A word as written, in lower case, its phones without positions, and whether the lexicon had it."""

    text: str
    phones: tuple[str, ...]
    known: bool


class Sentence(NamedTuple):
    """Words, and the seconds of silence asked for before each and after the last, None where nothing is asked for."""

    words: tuple[Spoken, ...]
    pauses: tuple[float | None, ...]


def read_lexicon(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """The first pronunciation of each word in a dictionary of the Montreal Forced Aligner or of CMU.

    One word a line, then perhaps its probabilities, then its phones; words are put in lower case, the stress of ARPAbet
    (AH0) is left out. `UserError` with the number of the line that is none.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: wanted a lexicon, {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: wanted a lexicon in UTF-8, found other bytes; convert it") from None
    found: dict[str, tuple[str, ...]] = {}
    plain: dict[str, str | None] = {}  # each phone without its stress, None for what is none
    for number, line in enumerate(lines, 1):
        word, *rest = (line.split("\t", 1) if "\t" in line else line.split(None, 1)) or [""]
        if not line.strip() or line.startswith((";;;", "#")):
            continue
        phones = rest[0].split(" #")[0].split() if rest else []
        while phones and NUMERAL.fullmatch(phones[0]):
            phones.pop(0)
        for phone in phones:
            if phone not in plain:
                plain[phone] = _phone(phone)
        kept = tuple(symbol for phone in phones if (symbol := plain[phone]))
        if not word.strip() or not kept or len(kept) < len(phones):
            raise UserError(f"{path}: line {number} wants a word and its phones, found {_short(line)}; correct it")
        if len(plain) > MOST_PHONES:
            raise UserError(f"{path}: wanted a lexicon, up to line {number} are {len(plain)} phones; take another file")
        if not word.endswith(")") or not VARIANT.search(word):
            found.setdefault(word.strip().lower(), kept)
    if not found:
        raise UserError(f"{path}: wanted a lexicon, found no word in it; take another file")
    return found


NUMERAL = re.compile(r"\d*\.?\d+(e-?\d+)?")
VARIANT = re.compile(r".\(\d+\)$")


def _phone(written: str) -> str | None:
    if len(written) > 8 or re.search(r"[.,;!?()\"]", written):
        return None
    return re.sub(r"^([A-Z]{1,2})[012]$", r"\1", written)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def lexicon_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The most frequent pronunciation of each word of a manifest's rows, by their `words` and `phones`.

    `phones` are tokens as 'SIL' and 'AH_B', with a silence between any two words. `UserError` for rows where the two
    do not agree.
    """
    heard: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for row in rows:
        tokens, words = ([] if row.get(key) is None else list(row[key]) for key in ("phones", "words"))
        groups = itertools.groupby(tokens, lambda token: token == SILENCE)
        spoken = [tuple(re.sub("_[BIES]$", "", token) for token in group) for silent, group in groups if not silent]
        if len(spoken) != len(words):
            name = row.get("path", "a row")
            raise UserError(f"{name}: {len(words)} words but phones of {len(spoken)}; prepare its alignment again")
        for word, phones in zip(words, spoken, strict=True):
            heard[word.lower()][phones] += 1
    return {word: counts.most_common(1)[0][0] for word, counts in heard.items()}


@functools.cache
def default_lexicon() -> dict[str, tuple[str, ...]]:
    """The CMU dictionary that comes with pocketsphinx: 126,000 words in ARPAbet."""
    try:
        import pocketsphinx
    except ImportError:
        raise UserError("the CMU dictionary comes with pocketsphinx: pip install 'sfjax[text]'") from None
    return read_lexicon(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))


def unknown(sentences: Iterable[Sentence]) -> list[str]:
    """The words that the lexicon did not have, in order, each once."""
    return list(dict.fromkeys(word.text for sentence in sentences for word in sentence.words if not word.known))


@dataclasses.dataclass(frozen=True)
class Pronouncer:
    """Text to sentences of pronounced words; `phones` are those that a model knows, without positions."""

    lexicon: Mapping[str, tuple[str, ...]]
    phones: frozenset[str]

    def __call__(self, text: str) -> list[Sentence]:
        """The sentences of a text, in which `<break time="500ms"/>` asks for a pause.

        A pause between two sentences is the first one's. `UserError` for texts without a word, other scripts, other
        tags, pauses that are none or too long, and phones that the model does not know.
        """
        marked, seconds = _take_breaks(text)
        pauses = iter(seconds)
        written: list[list[str | float]] = [[]]
        for kind, token in _tokens(_plain(marked)):
            if kind == "end":
                if any(isinstance(one, str) for one in written[-1]):
                    written.append([])
            elif kind == "pause":
                written[-1 if written[-1] or len(written) == 1 else -2].append(next(pauses))
            else:
                written[-1] += self._split(token)
        if not any(isinstance(one, str) for one in written[0]):
            raise UserError(f"wanted a text to speak, found no word in {_short(text)}; write what is to be said")
        every = [[one for one in sentence if isinstance(one, str)] for sentence in written]
        spoken = self._speak([word for words in every for word in words])
        found = []
        for sentence, words in zip(written, every, strict=True):
            if words:
                found.append(Sentence(tuple(spoken[word] for word in words), _pauses(sentence)))
        return found

    def _split(self, token: str) -> list[str]:
        """The words of what was written in one: itself if the lexicon has it, else its parts."""
        bare = token.strip("'")
        for whole in (token, token.rstrip("'"), token.lstrip("'"), bare):
            if whole.lower() in self.lexicon:
                return [whole]
        if re.fullmatch(r"(?:\w\.)+(?:'?s)?", bare):  # letters with dots are one word to espeak-ng as well
            letters = bare.replace(".", "")
            return [letters if letters.lower() in self.lexicon and not set(letters.lower()) & VOWELS else bare]
        parts = re.sub(r"\.", " dot ", bare).replace("-", " ").split()
        return [part.strip("'") for part in parts] if len(parts) > 1 else [bare]

    def _speak(self, words: list[str]) -> dict[str, Spoken]:
        lacking = list(dict.fromkeys(word for word in words if word.lower() not in self.lexicon))
        guessed = dict(zip(lacking, espeak.pronounce(lacking), strict=True))
        found = {}
        for word in dict.fromkeys(words):
            phones = guessed[word] if word in guessed else tuple(self.lexicon[word.lower()])
            if not phones:
                raise UserError(f"wanted words that can be pronounced, got {_short(word)}; write it as it is spoken")
            found[word] = Spoken(word.lower(), phones, word not in guessed)
        strange = {word.text: set(word.phones) - self.phones for word in found.values()}
        if named := sorted(set().union(*strange.values())):
            text = next(text for text, phones in strange.items() if phones)
            raise UserError(
                f"wanted phones that the model knows, got {', '.join(named)} in {_short(text)}; "
                "use a lexicon with the model's phones that has the word"
            )
        return found


def _pauses(sentence: list[str | float]) -> tuple[float | None, ...]:
    """What is asked for around the words; several pauses at one place add up."""
    found: list[float | None] = [None]
    for one in sentence:
        if isinstance(one, str):
            found.append(None)
        else:
            found[-1] = (found[-1] or 0.0) + one
    return tuple(found)


PAUSE = "\ue000"  # stands in the text for a pause; of a private area, which no text keeps
BREAK = re.compile(r"""<\s*break\s+time\s*=\s*(["']?)\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)\s*\1\s*/?\s*>""", re.IGNORECASE)


def _take_breaks(text: str) -> tuple[str, list[float]]:
    """The text with `PAUSE` in place of each break, and their seconds."""
    text = re.sub("\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text).replace("\t", " ")
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")
    seconds: list[float] = []

    def take(match: re.Match) -> str:
        seconds.append(float(match[2]) / (1000 if match[3].lower() == "ms" else 1))
        if seconds[-1] > LONGEST_PAUSE:
            raise UserError(f"wanted a pause of at most {LONGEST_PAUSE:g} s, got {match[0]}; take a shorter one")
        return f" {PAUSE} "

    text = BREAK.sub(take, text)
    if wrong := re.search(r"<(?:\s*/?\s*break\b|/?[A-Za-z])[^<>\n]*>?", text, re.IGNORECASE):
        raise UserError(
            f'wanted pauses as <break time="500ms"/> or <break time="0.5s"/> and no other tag, '
            f"got {_short(wrong[0])}; write it so or leave it out"
        )
    return text, seconds


# One rule after the other, on the whole text

ALIKE = str.maketrans(dict.fromkeys("’‘ʼʻ`´′", "'") | {"−": "-"})
SIGNS = {"&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "⁄": "over"}


def _plain(text: str) -> str:
    """The text with numbers, abbreviations and signs written out."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.translate(ALIKE))
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Mn")
    if foreign := "".join(dict.fromkeys(c for c in text if _foreign(c))):
        raise UserError(f"wanted English text in Latin letters, got {_short(foreign)}; write it as it is pronounced")
    if text == text.upper():
        text = text.lower()  # else every word might be an abbreviation
    text = re.sub(r"(?<=\d)\s*([ap])\.?m\b\.?", r" \1.m.", text, flags=re.IGNORECASE)
    text = _abbreviations(text)
    text = re.sub(r"(?<=[a-z])([.!?;])(?=[A-Z][a-z])", r"\1 ", text)
    text = _numbers(re.sub(r"#(?=\d)", " number ", text))
    return re.sub("[" + "".join(SIGNS) + "]", lambda sign: f" {SIGNS[sign[0]]} ", text)


def _foreign(character: str) -> bool:
    if character.isascii() or unicodedata.category(character)[0] not in "LN":
        return False
    return not unicodedata.name(character, "").startswith("LATIN")


# Abbreviations that are words as well, which may end a sentence
DAYS = frozenset("sat sun mon wed mar jun".split())
TITLES = frozenset("col gen hon rev".split())
WORDS = DAYS | TITLES | frozenset("ca ch co est fig fl gal in max mi min no pl pt ref sec ste vol".split())


def _abbreviations(text: str) -> str:
    try:
        from abbr2words import abbr2words_with_replacements
    except ImportError:
        raise UserError("abbreviations need abbr2words: pip install 'sfjax[text]'") from None
    parts, end = [], 0
    for found in abbr2words_with_replacements(text, lang="en").replacements:
        say = _units if found.kind == "unit" else _abbreviation
        said = say(found.matched_text, found.text, text[found.end :])
        parts += [text[end : found.start], said]
        end = found.end
    return "".join(parts) + text[end:]


def _abbreviation(written: str, said: str, after: str) -> str:
    """What to say for an abbreviation before the text `after`; itself where that is no abbreviation."""
    plain = written.rstrip(".").lower()
    letters = re.findall(r"\b[A-Z]\b", said)
    if len(letters) > 1 and not re.search("[a-z]", said):
        return ".".join(letters) + "."
    if plain == "ms" or not re.search("[a-z]", written):  # Ms. is not Miss; nobody says what all of CEO stands for
        return "ms" if plain == "ms" else written
    if plain not in WORDS:
        return said
    if written[0].isupper():
        sure = re.match(r"\s*,|\s+[\da-z]", after) or (plain in TITLES and re.match(r"\s+[A-Z]", after))
    else:
        sure = plain not in DAYS and re.match(r"\s+\d", after)
    return said if sure else written


def _units(written: str, said: str, after: str) -> str:
    """A number and its unit, in the plural unless it is 1; what is written where that is no unit."""
    number, unit = said.split(" ", 1)
    one_in_five = written.endswith(" in") and re.match(r"\s*\w", after)
    if one_in_five or re.fullmatch(r"\d\d(\d\d)?s", written):  # or the 1990s
        return written
    if number == "1":
        return said
    head, per, rest = unit.partition(" per ")
    names = head.split(" ")
    place = 0 if names[0] == "degree" else -1
    one = names[place]
    names[place] = {"foot": "feet", "inch": "inches"}.get(one, one if one[-1] in "sxz" else one + "s")
    return f"{number} {' '.join(names)}{per}{rest}"


NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
LONGEST = 15  # digits; longer numbers are read digit by digit


def _numbers(text: str) -> str:
    def replace(pattern: str, say: Callable[[re.Match], str]) -> None:
        nonlocal text
        text = re.sub(pattern, lambda match: f" {say(match)} ", text)

    replace(r"(?<=\d)\s?–\s?(?=[$£€¥]?\d)", lambda match: "to")
    replace(r"(?<![\w.])\d+(?:\.\d+){2,}(?!\w)", lambda match: match[0].replace(".", " point "))
    replace(r"(?<![\w.:])(\d\d?):(\d\d)(?![\d:])(\s*[apAP]\.[mM]\.)?", _time)
    replace(rf"([$£€¥])\s?({NUMBER})(?!\w)(?:\s(thousand|million|billion|trillion)\b)?", _money)
    replace(r"(?<![\w.])(\d\d|\d{4})'?s\b", lambda match: re.sub("y?$", _plural_end, _number(match[1]), count=1))
    replace(rf"(?<![\w.,])(\d[\d,]{{0,{LONGEST}}})(?:st|nd|rd|th)\b", lambda match: _cardinal(match[1], to="ordinal"))
    replace(r"(?<![\w)])-(?=\.?\d)", lambda match: "minus")
    replace(rf"(?<!\w)({NUMBER})(?!\w)", lambda match: _number(match[1]))
    return text


def _plural_end(match: re.Match) -> str:
    return "ies" if match[0] else "s"


def _time(match: re.Match) -> str:
    hour, minute, half = int(match[1]), int(match[2]), match[3] or ""
    if hour > 24 or minute > 59:
        return f"{match[1]} {match[2]}{half}"
    if minute:
        return f"{_cardinal(hour)} {'oh ' if minute < 10 else ''}{_cardinal(minute)}{half}"
    return _cardinal(hour) + (half or " o'clock")


def _money(match: re.Match) -> str:
    sign, amount, scale = match.groups()
    one, many, small, smalls = MONEY[sign]
    whole, _, part = amount.partition(".")
    if scale or (part and len(part) != 2):
        return f"{_number(amount)} {scale or ''} {many}"
    said = [f"{_cardinal(whole)} {one if whole == '1' else many}"] if int(whole.replace(",", "") or 0) else []
    if int(part or 0):
        said.append(f"{_cardinal(part.lstrip('0'))} {small if int(part) == 1 else smalls}")
    return " and ".join(said) or f"zero {many}"


def _number(written: str) -> str:
    """A year, a number or, if it starts with a zero or is very long, its digits."""
    whole, _, part = written.partition(".")
    if not part and len(whole) == 4 and whole.isdecimal() and 1100 <= int(whole) < 2100:
        return _cardinal(whole, to="year")
    digits = whole.replace(",", "")
    spelled = len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0")
    said = " ".join(map(_cardinal, digits)) if spelled else _cardinal(digits or 0)
    return f"{said} point {' '.join(map(_cardinal, part))}" if part else said


def _cardinal(number: str | int, *, to: str = "cardinal") -> str:
    try:
        from num2words import num2words
    except ImportError:
        raise UserError("numbers need num2words: pip install 'sfjax[text]'") from None
    return num2words(int(str(number).replace(",", "")), to=to).replace(",", "").replace("-", " ")


TOKEN = re.compile(
    r"(?P<initials>(?<!\w)(?:[^\W\d_]\.){2,}(?:'?s\b)?)"
    r"|(?P<initial>(?<!\w)[A-HJ-Z]\.(?=\s+[A-Z]))"  # J. Smith
    r"|(?P<word>'?[^\W_]+(?:[-'.][^\W_]+)*'?)"
    rf"|(?P<pause>{PAUSE})"
    r"|(?P<end>\n|[.!?;](?=[\"'”’)\]}»]*(?:\s|$)))"
)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The words, pauses and ends of sentences of a text, each with its kind."""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield ("word", match[0][:-1]) if kind == "initial" else (kind, match[0])
