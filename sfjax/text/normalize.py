"""Write out English text as a newsreader reads it: characters, addresses, abbreviations, Roman numerals, quantities.

nemo_text_processing, wetext, voxnorm and kitten-text-processing read fewer texts correctly; README.md has the figures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from sfjax.errors import UserError
from sfjax.text.abbreviations import spell_abbreviations, spell_references, spell_titles
from sfjax.text.dates import spell_dates, spell_times
from sfjax.text.measures import spell_magnitudes, spell_measures, spell_powers
from sfjax.text.money import spell_money
from sfjax.text.number_words import (
    LONGEST,
    SENTENCE_START,
    rewrite,
    spell_digits,
    spell_numbers,
    spell_telephones,
    text_after,
)
from sfjax.text.roman_numerals import spell_roman_numerals
from sfjax.text.signs import spell_exponents, spell_ranges, spell_signs

ALIKE = str.maketrans(
    dict.fromkeys("’‘ʼʻ`´′", "'")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | {"−": "-", "‑": "-", "″": '"', "⁄": "/"}
    | dict.fromkeys("™®©℠", "")
    | {"μ": "µ", "Ω": "Ω"}
)
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿⁱ", "0123456789-+ni")
SIGNS = {
    "&": "and",
    "@": "at",
    "+": "plus",
    "=": "equals",
    "%": "percent",
    "°": "degrees",
    "§": "section",
    "∞": "infinity",
}
QUANTITIES = (  # each rule sees what the rules before it have not written out
    spell_telephones,
    spell_dates,
    spell_times,
    spell_exponents,
    spell_ranges,
    spell_signs,
    spell_money,
    spell_measures,
    spell_magnitudes,
    spell_powers,
    spell_numbers,
)
KEPT = frozenset("µΩ")  # letters of other scripts that are units


PIECE = 1500  # characters that the rules see together; some rules take quadratic time
SENTENCE_END = re.compile(r"[a-z]{4}[.!?][\"'”’)]*\s+(?=[A-Z])|\n")


def write_out(text: str) -> str:
    """Return the text with numbers, abbreviations and signs as words; raises `UserError` for other scripts."""
    text = _plain_characters(text)
    if text == text.upper() and len(re.findall(r"[A-Z]{2,}", text)) > 1:
        text = spell_roman_numerals(text)
        # Otherwise every word could be an abbreviation; letters at digits, as in 5G, stay
        text = re.sub(r"(?<!\d)[^\W\d]+(?!\d)", lambda match: match[0].lower(), text)
    return "".join(map(_write_out_piece, _pieces(text)))


def _pieces(text: str) -> Iterator[str]:
    """Yield the text in pieces of at most `PIECE` characters that end with a sentence or, without one, at a space."""
    while len(text) > PIECE:
        window = text[:PIECE]
        ends = [match.end() for match in SENTENCE_END.finditer(window)]
        end = ends[-1] if ends else window.rfind(" ") + 1 or PIECE
        yield text[:end]
        text = text[end:]
    yield text


def _write_out_piece(text: str) -> str:
    text = _addresses(spell_roman_numerals(text))
    text = spell_references(spell_titles(text))
    text = re.sub(r"#(?=\d)", " number ", text).replace("§§", " sections ")
    text = rewrite(text, rf"(?<![\w.,])\d{{{LONGEST + 1},}}", lambda match: spell_digits(match[0]))
    for rule in QUANTITIES:
        text = rule(text)
    text = spell_abbreviations(text)
    text = re.sub(r"(?<=[a-z])([.!?;])(?=[A-Z][a-z])", r"\1 ", text)
    text = re.sub("[" + "".join(SIGNS) + "]", lambda sign: f" {SIGNS[sign[0]]} ", text)
    return re.sub(r"((?<!\w)(?:[A-Za-z]\.){2,})(?=\s)", _end_after_initials, text)


def _end_after_initials(match: re.Match) -> str:
    """Return initials and, if the next word starts a sentence, the end of this one: `p.m. .`."""
    after = text_after(match)
    return match[0] + (" ." if SENTENCE_START.match(after) and not re.match(r"\s*$", after) else "")


# Characters


def _plain_characters(text: str) -> str:
    """Return the text without unusual forms of letters, digits, spaces and quotation marks."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))|(?<=\d) (?=000(?!\d))", ",", text)
    text = re.sub(r"(?<![\w.,])\d{1,3}(?: \d{3}){2,}(?![\w-]| \d)", lambda match: match[0].replace(" ", ","), text)
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text.translate(ALIKE))
    text = re.sub(r"(?<=[A-Za-z]{4})[⁰¹²³⁴-⁹]+", "", text)  # a footnote
    text = re.sub("[⁰¹²³⁴-⁹⁻⁺ⁿⁱ]+", lambda match: "^" + match[0].translate(SUPERSCRIPTS), text)
    text = re.sub(r"\^(st|nd|rd|th)\b", r"\1", text)
    characters = []
    for character in text:
        characters.append(character if character in KEPT else unicodedata.normalize("NFKC", character))
    text = unicodedata.normalize("NFC", "".join(characters)).translate(ALIKE)
    text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    if foreign := "".join(dict.fromkeys(c for c in text if _foreign(c))):
        raise UserError(f"expected English text in Latin letters, got {foreign[:40]!r}; write it as it is pronounced")
    return text


def _foreign(character: str) -> bool:
    """Return whether a character is a letter or digit of another script."""
    if character.isascii() or character in KEPT or unicodedata.category(character)[0] not in "LN":
        return False
    return not unicodedata.name(character, "").startswith("LATIN")


# Addresses and names with signs

DOMAIN = r"[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"
ADDRESS = rf"(?:https?://|www\.){DOMAIN}(?::\d+)?(?:/[^\s,;\"')\]]*)?|[\w.+-]+@{DOMAIN}|\b{DOMAIN}/[^\s,;\"')\]]*"
ADDRESS_SIGNS = {
    ".": "dot",
    "/": "slash",
    "_": "underscore",
    "-": "dash",
    "@": "at",
    ":": "colon",
    "?": "question mark",
} | {"=": "equals", "+": "plus", "~": "tilde", "#": "hash", "&": "and", "%": "percent"}


def _addresses(text: str) -> str:
    text = re.sub(ADDRESS, _address, text)
    text = re.sub(r"(?<!\w)#(?=[A-Za-z])", " hashtag ", text)
    text = re.sub(r"\b([A-Z])\+\+", r"\1 plus plus", text)
    text = re.sub(r"\b([CFJ])#", r"\1 sharp", text)
    text = re.sub(r"(?<!\S)\.(?=[A-Z]{2,}\b)", "dot ", text)  # .NET
    return re.sub(r"\b([A-Z]{2,3})&(?=[A-Z]\b)", lambda match: ".".join(match[1]) + ". and ", text)  # AT&T


def _address(match: re.Match) -> str:
    """Return a web or mail address in words, without its scheme."""
    address = re.sub(r"^https?://", "", match[0])
    stop = re.search(r"[.!?:/]*$", address)
    end = stop[0].replace("/", "") if stop else ""
    address = address[: stop.start()] if stop else address
    return "".join(f" {ADDRESS_SIGNS[c]} " if c in ADDRESS_SIGNS else c for c in address) + end
