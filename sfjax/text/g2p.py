"""Convert English text to phones: sentences, numbers, abbreviations, pauses, lexicon, spelling rules.

espeak-ng pronounces the words that the lexicon lacks. It has good letter-to-sound rules for English, also for names and
spelled words. It is small and comes as a wheel that needs no network. It keeps state and is under the GPL, so it runs
in a process of its own.
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

LONGEST_PAUSE = 10.0  # seconds of one <break/>
VOWELS = set("aeiouy")
MOST_PHONES = 500  # different phones of a lexicon; no language has so many, but a list of sentences soon does


class Spoken(NamedTuple):
    """A word in lower case, its phones without positions, and whether it is `known` to the lexicon."""

    text: str
    phones: tuple[str, ...]
    known: bool


class Sentence(NamedTuple):
    """Words, and the pauses in seconds before each word and after the last; None where the text sets no pause."""

    words: tuple[Spoken, ...]
    pauses: tuple[float | None, ...]


def read_lexicon(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """Read the first pronunciation of each word from a dictionary of the Montreal Forced Aligner or of CMU.

    A line has one word, then optionally its probabilities, then its phones. The result has words in lower case and
    phones without the stress of ARPAbet (AH0). Raises `UserError`, which names the line, if a line is anything else.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: expected a lexicon, got none ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a lexicon in UTF-8, got other bytes; convert it") from None
    lexicon: dict[str, tuple[str, ...]] = {}
    unstressed: dict[str, str | None] = {}  # each phone without its stress, None for symbols that are no phone
    for number, line in enumerate(lines, 1):
        word, *rest = (line.split("\t", 1) if "\t" in line else line.split(None, 1)) or [""]
        if not line.strip() or line.startswith((";;;", "#")):
            continue
        phones = rest[0].split(" #")[0].split() if rest else []
        while phones and NUMERAL.fullmatch(phones[0]):
            phones.pop(0)
        for phone in phones:
            if phone not in unstressed:
                unstressed[phone] = _without_stress(phone)
        pronunciation = tuple(symbol for phone in phones if (symbol := unstressed[phone]))
        if not word.strip() or not pronunciation or len(pronunciation) < len(phones):
            raise UserError(f"{path}: line {number}: expected a word and its phones, got {_short(line)}; correct it")
        if len(unstressed) > MOST_PHONES:
            raise UserError(
                f"{path}: expected a lexicon, got {len(unstressed)} different phones up to line {number}; "
                "choose another file"
            )
        if not word.endswith(")") or not VARIANT.search(word):
            lexicon.setdefault(word.strip().lower(), pronunciation)
    if not lexicon:
        raise UserError(f"{path}: expected a lexicon, got a file without words; choose another file")
    return lexicon


NUMERAL = re.compile(r"\d*\.?\d+(e-?\d+)?")  # a probability of a pronunciation
VARIANT = re.compile(r".\(\d+\)$")  # a further pronunciation of a word, such as READ(2)


def _without_stress(symbol: str) -> str | None:
    """Return a phone without its stress, or None if the symbol cannot be a phone."""
    if len(symbol) > 8 or re.search(r"[.,;!?()\"]", symbol):
        return None
    return re.sub(r"^([A-Z]{1,2})[012]$", r"\1", symbol)


def _short(text: str) -> str:
    """Return the text in quotes for an error message, cut to 40 characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def lexicon_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the most frequent pronunciation of each word in the columns `words` and `phones` of manifest rows.

    `phones` are tokens such as 'SIL' and 'AH_B', with a silence between any two words. Raises `UserError` if `words`
    and `phones` of a row do not have the same number of words.
    """
    pronunciations: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for row in rows:
        tokens, words = ([] if row.get(key) is None else list(row[key]) for key in ("phones", "words"))
        groups = itertools.groupby(tokens, lambda token: token == SILENCE)
        spoken = [tuple(re.sub("_[BIES]$", "", token) for token in group) for silent, group in groups if not silent]
        if len(spoken) != len(words):
            name = row.get("path", "a row")
            raise UserError(
                f"{name}: expected phones of {len(words)} words, got phones of {len(spoken)}; "
                "prepare its alignment again"
            )
        for word, phones in zip(words, spoken, strict=True):
            pronunciations[word.lower()][phones] += 1
    return {word: counts.most_common(1)[0][0] for word, counts in pronunciations.items()}


@functools.cache
def default_lexicon() -> dict[str, tuple[str, ...]]:
    """Load the CMU dictionary that comes with pocketsphinx: 126,000 words in ARPAbet."""
    try:
        import pocketsphinx
    except ImportError:
        raise UserError("the CMU dictionary comes with pocketsphinx: pip install 'sfjax[text]'") from None
    return read_lexicon(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))


def unknown(sentences: Iterable[Sentence]) -> list[str]:
    """Return the words that the lexicon lacks, in order, each once."""
    return list(dict.fromkeys(word.text for sentence in sentences for word in sentence.words if not word.known))


@dataclasses.dataclass(frozen=True)
class Pronouncer:
    """Convert text to sentences of pronounced words; `phones` are the model's phones without positions."""

    lexicon: Mapping[str, tuple[str, ...]]
    phones: frozenset[str]

    def __call__(self, text: str) -> list[Sentence]:
        """Return the sentences of a text; `<break time="500ms"/>` makes a pause.

        A pause between two sentences belongs to the first. Raises `UserError` for texts without a word, other scripts,
        other tags, invalid or too long pauses, and phones that the model does not know.
        """
        marked, seconds = _take_breaks(text)
        pauses = iter(seconds)
        written: list[list[str | float]] = [[]]  # the words and pauses of each sentence
        for kind, token in _tokens(_write_out(marked)):
            if kind == "end":
                if _words(written[-1]):
                    written.append([])
            elif kind == "pause":
                at_start = not written[-1] and len(written) > 1
                written[-2 if at_start else -1].append(next(pauses))
            else:
                written[-1] += self._split(token)
        if not _words(written[0]):
            raise UserError(f"expected a text to speak, got no word in {_short(text)}; write at least one word")
        spoken = self._pronounce([word for sentence in written for word in _words(sentence)])
        return [
            Sentence(tuple(spoken[word] for word in words), _pauses(sentence))
            for sentence in written
            if (words := _words(sentence))
        ]

    def _split(self, token: str) -> list[str]:
        """Return the words of a token: the token itself if the lexicon has it, else its parts."""
        bare = token.strip("'")
        for whole in (token, token.rstrip("'"), token.lstrip("'"), bare):
            if whole.lower() in self.lexicon:
                return [whole]
        if re.fullmatch(r"(?:\w\.)+(?:'?s)?", bare):  # letters with dots are one word to espeak-ng as well
            letters = bare.replace(".", "")
            return [letters if letters.lower() in self.lexicon and not set(letters.lower()) & VOWELS else bare]
        parts = re.sub(r"\.", " dot ", bare).replace("-", " ").split()
        return [part.strip("'") for part in parts] if len(parts) > 1 else [bare]

    def _pronounce(self, words: list[str]) -> dict[str, Spoken]:
        """Return each word with its phones, by the word as it is written."""
        missing = list(dict.fromkeys(word for word in words if word.lower() not in self.lexicon))
        guessed = dict(zip(missing, espeak.pronounce(missing), strict=True))
        spoken = {}
        for word in dict.fromkeys(words):
            phones = guessed[word] if word in guessed else tuple(self.lexicon[word.lower()])
            if not phones:
                raise UserError(f"expected a word with a pronunciation, got {_short(word)}; write it as it is spoken")
            spoken[word] = Spoken(word.lower(), phones, word not in guessed)
        unknown_phones = {word.text: set(word.phones) - self.phones for word in spoken.values()}
        if names := sorted(set().union(*unknown_phones.values())):
            text = next(text for text, phones in unknown_phones.items() if phones)
            raise UserError(
                f"expected phones that the model knows, got {', '.join(names)} in {_short(text)}; "
                "use a lexicon that has the word with the model's phones"
            )
        return spoken


def _words(sentence: list[str | float]) -> list[str]:
    """Return the words of a sentence without its pauses."""
    return [item for item in sentence if isinstance(item, str)]


def _pauses(sentence: list[str | float]) -> tuple[float | None, ...]:
    """Return the pauses before each word and after the last; pauses between the same two words add up."""
    pauses: list[float | None] = [None]
    for item in sentence:
        if isinstance(item, str):
            pauses.append(None)
        else:
            pauses[-1] = (pauses[-1] or 0.0) + item
    return tuple(pauses)


PAUSE = "\ue000"  # marks a pause in the text; a private-use character, which is removed from every text first
BREAK = re.compile(r"""<\s*break\s+time\s*=\s*(["']?)\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)\s*\1\s*/?\s*>""", re.IGNORECASE)


def _take_breaks(text: str) -> tuple[str, list[float]]:
    """Return the text with `PAUSE` instead of each break, and the seconds of the breaks."""
    text = re.sub("\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text).replace("\t", " ")
    text = "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")
    seconds: list[float] = []

    def take_break(match: re.Match) -> str:
        seconds.append(float(match[2]) / (1000 if match[3].lower() == "ms" else 1))
        if seconds[-1] > LONGEST_PAUSE:
            raise UserError(f"expected a pause of at most {LONGEST_PAUSE:g} s, got {match[0]}; write a shorter one")
        return f" {PAUSE} "

    text = BREAK.sub(take_break, text)
    if other_tag := re.search(r"<(?:\s*/?\s*break\b|/?[A-Za-z])[^<>\n]*>?", text, re.IGNORECASE):
        raise UserError(
            f'expected pauses such as <break time="500ms"/> or <break time="0.5s"/> and no other tag, '
            f"got {_short(other_tag[0])}; correct or remove it"
        )
    return text, seconds


# Rules that write out the whole text, one after another

ALIKE = str.maketrans(dict.fromkeys("’‘ʼʻ`´′", "'") | {"−": "-"})
SIGNS = {"&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "⁄": "over"}


def _write_out(text: str) -> str:
    """Return the text with numbers, abbreviations and signs as words."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.translate(ALIKE))
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Mn")
    if foreign := "".join(dict.fromkeys(c for c in text if _foreign(c))):
        raise UserError(f"expected English text in Latin letters, got {_short(foreign)}; write it as it is pronounced")
    if text == text.upper():
        text = text.lower()  # otherwise every word could be an abbreviation
    text = re.sub(r"(?<=\d)\s*([ap])\.?m\b\.?", r" \1.m.", text, flags=re.IGNORECASE)
    text = _abbreviations(text)
    text = re.sub(r"(?<=[a-z])([.!?;])(?=[A-Z][a-z])", r"\1 ", text)
    text = _numbers(re.sub(r"#(?=\d)", " number ", text))
    return re.sub("[" + "".join(SIGNS) + "]", lambda sign: f" {SIGNS[sign[0]]} ", text)


def _foreign(character: str) -> bool:
    """Return whether a character is a letter or digit of another script."""
    if character.isascii() or unicodedata.category(character)[0] not in "LN":
        return False
    return not unicodedata.name(character, "").startswith("LATIN")


# Abbreviations that are also words: the dot behind them may end a sentence
DAYS = frozenset("sat sun mon wed mar jun".split())
TITLES = frozenset("col gen hon rev".split())
WORDS = DAYS | TITLES | frozenset("ca ch co est fig fl gal in max mi min no pl pt ref sec ste vol".split())


def _abbreviations(text: str) -> str:
    try:
        from abbr2words import abbr2words_with_replacements
    except ImportError:
        raise UserError("abbreviations need abbr2words: pip install 'sfjax[text]'") from None
    parts, end = [], 0
    for replacement in abbr2words_with_replacements(text, lang="en").replacements:
        expand = _units if replacement.kind == "unit" else _abbreviation
        expanded = expand(replacement.matched_text, replacement.text, text[replacement.end :])
        parts += [text[end : replacement.start], expanded]
        end = replacement.end
    return "".join(parts) + text[end:]


def _abbreviation(written: str, long_form: str, after: str) -> str:
    """Return the spoken form of an abbreviation before the text `after`, or `written` if it is no abbreviation."""
    bare = written.rstrip(".").lower()
    letters = re.findall(r"\b[A-Z]\b", long_form)
    if len(letters) > 1 and not re.search("[a-z]", long_form):
        return ".".join(letters) + "."
    if bare == "ms" or not re.search("[a-z]", written):  # Ms. is not Miss; people say CEO, not the long form
        return "ms" if bare == "ms" else written
    if bare not in WORDS:
        return long_form
    if written[0].isupper():
        certain = re.match(r"\s*,|\s+[\da-z]", after) or (bare in TITLES and re.match(r"\s+[A-Z]", after))
    else:
        certain = bare not in DAYS and re.match(r"\s+\d", after)
    return long_form if certain else written


def _units(written: str, long_form: str, after: str) -> str:
    """Return a number and its unit, in the plural unless the number is 1, or `written` if it is no unit."""
    number, unit = long_form.split(" ", 1)
    preposition = written.endswith(" in") and re.match(r"\s*\w", after)  # 1 in 5
    decade = re.fullmatch(r"\d\d(\d\d)?s", written)  # the 1990s
    if preposition or decade:
        return written
    if number == "1":
        return long_form
    head, per, rest = unit.partition(" per ")
    names = head.split(" ")
    index = 0 if names[0] == "degree" else -1  # degrees Celsius, but square meters
    singular = names[index]
    plural = singular if singular[-1] in "sxz" else singular + "s"
    names[index] = {"foot": "feet", "inch": "inches"}.get(singular, plural)
    return f"{number} {' '.join(names)}{per}{rest}"


NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
LONGEST = 15  # digits; longer numbers are spoken digit by digit


def _numbers(text: str) -> str:
    """Return the text with numbers, amounts of money and times as words; the order of the patterns matters."""
    text = _replace(text, r"(?<=\d)\s?–\s?(?=[$£€¥]?\d)", lambda match: "to")
    text = _replace(text, r"(?<![\w.])\d+(?:\.\d+){2,}(?!\w)", lambda match: match[0].replace(".", " point "))
    text = _replace(text, r"(?<![\w.:])(\d\d?):(\d\d)(?![\d:])(\s*[apAP]\.[mM]\.)?", _time)
    text = _replace(text, rf"([$£€¥])\s?({NUMBER})(?!\w)(?:\s(thousand|million|billion|trillion)\b)?", _money)
    text = _replace(text, r"(?<![\w.])(\d\d|\d{4})'?s\b", _decade)
    text = _replace(text, rf"(?<![\w.,])(\d[\d,]{{0,{LONGEST}}})(?:st|nd|rd|th)\b", _ordinal)
    text = _replace(text, r"(?<![\w)])-(?=\.?\d)", lambda match: "minus")
    return _replace(text, rf"(?<!\w)({NUMBER})(?!\w)", lambda match: _number(match[1]))


def _replace(text: str, pattern: str, spoken_form: Callable[[re.Match], str]) -> str:
    """Return the text with every match replaced by its spoken form between spaces."""
    return re.sub(pattern, lambda match: f" {spoken_form(match)} ", text)


def _decade(match: re.Match) -> str:
    decade = _number(match[1])
    return decade[:-1] + "ies" if decade.endswith("y") else decade + "s"


def _ordinal(match: re.Match) -> str:
    return _cardinal(match[1], to="ordinal")


def _time(match: re.Match) -> str:
    hour, minute, half = int(match[1]), int(match[2]), match[3] or ""  # half: a.m. or p.m.
    if hour > 24 or minute > 59:
        return f"{match[1]} {match[2]}{half}"
    if minute:
        return f"{_cardinal(hour)} {'oh ' if minute < 10 else ''}{_cardinal(minute)}{half}"
    return _cardinal(hour) + (half or " o'clock")


def _money(match: re.Match) -> str:
    sign, amount, scale = match.groups()
    unit, units, cent, cents = MONEY[sign]
    whole, _, part = amount.partition(".")
    if scale or (part and len(part) != 2):
        return f"{_number(amount)} {scale or ''} {units}"
    spoken = []
    if int(whole.replace(",", "") or 0):
        spoken.append(f"{_cardinal(whole)} {unit if whole == '1' else units}")
    if int(part or 0):
        spoken.append(f"{_cardinal(part.lstrip('0'))} {cent if int(part) == 1 else cents}")
    return " and ".join(spoken) or f"zero {units}"


def _number(written: str) -> str:
    """Return a number in words: as a year, as a number or, if it starts with 0 or is very long, digit by digit."""
    whole, _, part = written.partition(".")
    if not part and len(whole) == 4 and whole.isdecimal() and 1100 <= int(whole) < 2100:
        return _cardinal(whole, to="year")
    digits = whole.replace(",", "")
    spelled = len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0")
    spoken = " ".join(map(_cardinal, digits)) if spelled else _cardinal(digits or 0)
    return f"{spoken} point {' '.join(map(_cardinal, part))}" if part else spoken


def _cardinal(number: str | int, *, to: str = "cardinal") -> str:
    """Return a whole number in words; `to` is a form of num2words: cardinal, ordinal or year."""
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
    """Yield the words, pauses and ends of sentences of a text, each as its kind and its text."""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield ("word", match[0][:-1]) if kind == "initial" else (kind, match[0])
