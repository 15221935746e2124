"""Write signs between numbers as words: ranges, minus, comparisons, times, dimensions."""

from __future__ import annotations

import re

from sfjax.text.money import CURRENCY, SIGN
from sfjax.text.number_words import NUMBER, START, rewrite


def spell_ranges(text: str) -> str:
    """Return the text with ` to ` between two quantities that both have a unit, and `-` between two numbers."""
    text = re.sub(r"(?<=m)(\.?)\s?[-–]\s?(?=noon\b|midnight\b)|(?<=noon)()\s?[-–]\s?(?=\d)", r"\1\2 to ", text)
    text = re.sub(r"(?<![\w/.,])(\d+)-(?=\d\d?/\d\d?(?![\w/]))", r"\1 ", text)
    text = re.sub(rf"(?<=[\d\w%°¢€£])–(?={SIGN}?\d)", "-", text)
    text = re.sub(rf"({SIGN}?{NUMBER})\s?[-–]\s?(?={SIGN}?{NUMBER}\s?=)", r"\1 minus ", text)
    text = re.sub(r"(?<=\d\")\s?[-–]\s?(?=\d)", " to ", text)  # 5'6"-5'10"
    text = re.sub(rf"{START}({NUMBER})\s[-–]\s(?=({NUMBER})(?!\w*[-–]))", _spaced_range, text)
    text = re.sub(rf"({SIGN}[\d.,]+)(m|k|K|M|B|b|bn|tn)-([\d.,]+\2)(?!\w)", r"\1-\3", text)
    text = re.sub(
        rf"((?<!\w){SIGN}?\d(?:[\w.,%]*[\w%])?(?: million| billion)?)\s?[-–]\s?(?={SIGN}\s?\d)", r"\1 to ", text
    )
    quantity = r"(?<![\w-])\d[\d.,/]*(?:\s?[%¢€£]|\s?°\s?[CF]?|[A-Za-zµ]{1,4})"
    return re.sub(rf"({quantity})\s?[-–]\s?(?=\d)", r"\1 to ", text)


def _spaced_range(match: re.Match) -> str:
    """Return `5-` for `5 - 10`, and a minus for `10 - 5`; `in 2019 - 20 people` has a dash."""
    first, last = (float(number.replace(",", "")) for number in match.groups())
    if 1100 <= first < 2100 and last < 100:
        return match[0]
    return f"{match[1]}-" if first < last else f"{match[1]} minus "


def spell_signs(text: str) -> str:
    """Return the text with signs beside numbers as words; a hyphen is a minus only before a number."""
    text = re.sub(rf"({SIGN})\s?-(?=\.?\d)", r"-\1", text)
    text = re.sub(r"(?<=\d)\*\*(?=-?\d)", "^", text)
    text = re.sub(r"(\d)'(?=\s?[x×]\s?\d)|(?<=[x×])(\s?\d+)'(?!\w)", lambda m: f"{m[1] or m[2]} ft", text)
    text = re.sub(rf"(?<![^\s(\[\"'“=<>~])[-](?={CURRENCY}?\.?\d)", " minus ", text)
    text = re.sub(r"\s*±\s*", " plus or minus ", text)
    text = re.sub(r"(?<=\w)\s?≈\s?", " is about ", text)
    text = re.sub(r"(?i)(?:\b(?:about|around|roughly)\s)?[~≈]\s?(?=[$£€]?\.?\d)", " about ", text)
    text = (
        re.sub(r"√\s?(?=\d)", " the square root of ", text)
        .replace("÷", " divided by ")
        .replace("≠", " is not equal to ")
    )
    number = rf"\s?(?=minus |[-.]?{SIGN}?\.?\d)"
    for sign, word in {">": "greater than", "<": "less than", "≥": "at least", "≤": "at most"}.items():
        text = re.sub(rf"(?<=\w)\s?{sign}{number}", f" is {word} ", text)
        text = re.sub(rf"{sign}{number}", f" {word} ", text)
    text = re.sub(r"(?<=\d)\s?[×*]\s?(?=10\^)|(?<=\d)\s?\*\s?(?=\d)", " times ", text)
    multiply = r"(?<=\d)\s?[×x]\s?(?=\d+(?:\.\d+)?(?:\s?[×x]\s?\d+)*\s?=)"
    text = re.sub(multiply, " times ", text)
    unit = r"(?:\s?(?:mm|cm|m|km|ft|in|\"|'))?"
    text = re.sub(rf"((?<!0)\d{unit}|0(?=\s|[×])|\d0{unit})\s?[x×✕]\s?(?=\d)", r"\1 by ", text)
    return rewrite(text, rf"({START}{NUMBER})(?:\s?[x×]|X)(?!\w)", lambda match: f"{match[1]} times")


def spell_exponents(text: str) -> str:
    """Return the text with `3e8 m/s` as `3 × 10^8 m/s`."""
    return re.sub(rf"{START}(\d+(?:\.\d+)?)[eE]\+?(-?\d+)(?!\w)", r"\1 × 10^\2", text)
