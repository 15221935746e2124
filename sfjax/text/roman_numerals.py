"""Read Roman numerals: rulers as ordinals (Henry the Eighth), things as numbers (Part 4)."""

from __future__ import annotations

import re

from sfjax.text.number_words import cardinal

NUMERAL = r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
RULERS = (
    "Henry Charles James George Edward Richard Elizabeth Louis William Napoleon Philip Paul Pius Benedict Catherine "
    "Peter Nicholas Alexander Frederick Wilhelm Leo Francis Gregory Mary Xerxes Darius Ramses Ferdinand Leopold "
    "Albert Innocent Clement Urban John Robert David Malcolm Otto Rudolf Maximilian Franz Joseph Carl Gustav "
    "Christian Harald Haakon Olav Ivan Constantine Justinian Theodosius Sixtus Julius Umberto Victor Emmanuel Juan "
    "Carlos Alfonso Felipe Isabella Baldwin Albert Rainier Mehmed Murad Selim Suleiman Ptolemy Cleopatra Thutmose "
    "Amenhotep Tutankhamun Margrethe Beatrix"
).split()
NUMBERED = (
    "War Chapter Part Act Scene Volume Vol Book Type Phase Bowl Title Section Article Level Stage Class Group "
    "Appendix Figure Fig Table Mark Apollo Grade Tier Category Division Wave Round Season Episode Vatican Canto "
    "Schedule Annex Page Pope Lesson Unit Module Zone Corps Olympiad Gemini Saturn Titan"
).split()


def spell_roman_numerals(text: str) -> str:
    """Return the text with the numerals of rulers as ordinals (Henry the Eighth) and of things as numbers (Part 4)."""
    end = r"(?![\w'-]|\.\w)"
    text = re.sub(r"\bWW(II?)\b", r"World War \1", text)
    names = "|".join(NUMBERED)
    several = rf"(?i:\b(?:{names})s?\.?|\bpp?\.)\s((?=[IVXLC]{{2}}){NUMERAL}|[ivx]{{2,}}){end}"
    single = (
        rf"\b(?:{names}|{names.upper()})\.?\s(?:([VX]){end}|(I)(?=\s*$|\s*[-,.;:)&]|\s(?:of|and|to|is|was|in|[A-Z])))"
    )
    text = re.sub(r"\b((?i:World War)) I\b", r"\1 1", text)
    for pattern in (several, single):
        text = re.sub(pattern, _numbered, text)
    crowns = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Prince|Sultan|Kaiser|Pharaoh"
    crowned = rf"\b((?:{crowns})\s(?:[A-Z]\w+\s)+)({NUMERAL}){end}"
    ruler = rf"\b((?:{'|'.join(RULERS)})\s(?:[A-Z][a-z]+\s){{0,2}})([IVX]{{2,}}|(?<!Malcolm )[VX]){end}"
    first = rf"\b((?:{'|'.join(RULERS)})\s)(I)(?=\s*$|'s\b|\s*[,.;)]|\sof\b)"
    for pattern in (crowned, ruler, first):
        text = re.sub(pattern, _regnal, text)
    sequel = r"(?<=[a-z] )(?<!\. )(II|III|VI|VII|VIII|IX|XI|XII|XIII|XIV|XV|XVI)" + end
    return re.sub(rf"(\b[A-Z]\w+ ){sequel}", lambda match: match[1] + str(_roman(match[2])), text)


def _numbered(match: re.Match) -> str:
    """Return `Part 4` for `Part IV`, if the numeral is valid."""
    numeral = next(filter(None, match.groups()))
    return match[0][: -len(numeral)] + str(_roman(numeral)) if re.fullmatch(NUMERAL, numeral.upper()) else match[0]


def _regnal(match: re.Match) -> str:
    if not re.fullmatch(NUMERAL, match[2]):
        return match[0]
    return f"{match[1]}the {cardinal(_roman(match[2]), to='ordinal')}"


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[letter] for letter in numeral.upper()]
    return sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))
