"""Write numbers as words: whole numbers, decimals, ordinals, fractions, decades, versions, telephone numbers.

num2words spells the numbers; the rules here decide how a number is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sfjax.errors import UserError

NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:,\d\d)+,\d{3}|\d+)(?:\.\d+)?|\.\d+)"  # also Indian: 1,00,000
AMOUNT = rf"(?:{NUMBER}-{NUMBER}|(?:\d+ )?\d{{1,2}}/\d{{1,2}}(?![\d/])|{NUMBER})"  # a range, a fraction or a number
START = r"(?<![\w.,/^])(?<!\^-)"
LONGEST = 15  # digits; longer numbers are spoken digit by digit
SCALES = {
    **dict.fromkeys(("k", "K"), "thousand"),
    **dict.fromkeys(("m", "M", "mn", "mm", "MM", "mln"), "million"),
    **dict.fromkeys(("b", "B", "bn", "Bn", "BN", "bln"), "billion"),
    **dict.fromkeys(("t", "T", "tn", "trn"), "trillion"),
}
SCALE_WORD = r"hundred|thousand|million|billion|trillion|lakh|crore"
SCALE = rf"(?:\s?(?:{SCALE_WORD}|[mbt]n|bln|mln|trn)|[kKmMbBtT]|mm|MM|Bn|BN)(?!\w)"
# A word that begins a sentence, behind a dot that may belong to an abbreviation
SENTENCE_START = re.compile(
    r"\s*$|\s*\n|\s+[\"'“(]*(?:The|This|That|These|Those|There|Then|They|Their|He|She|It|Its|We|You|I|A|An|And|But|Or|So|In|On|"
    r"At|As|If|When|While|Where|What|Who|Why|How|After|Before|For|From|With|His|Her|My|Our|Your|No|Not|Now|One|Some|Many|"
    r"Most|All|Both|Each|Next|Later|Today|Yesterday|However|Meanwhile|Please|Let|Was|Is|Are|Do|Did|Can|Will|Here)\b"
)


def rewrite(text: str, pattern: str, spoken_form: Callable[[re.Match], str]) -> str:
    """Return the text with every match replaced by its spoken form between spaces."""
    return re.sub(pattern, lambda match: f" {spoken_form(match)} ", text)


def text_before(match: re.Match) -> str:
    """Return up to 80 characters before a match; the limit keeps long texts fast."""
    return match.string[max(0, match.start() - 80) : match.start()]


def text_after(match: re.Match) -> str:
    """Return up to 80 characters after a match."""
    return match.string[match.end() : match.end() + 80]


def cardinal(number: str | int, *, to: str = "cardinal") -> str:
    """Return a whole number in words; `to` is a form of num2words: cardinal, ordinal or year."""
    try:
        from num2words import num2words
    except ImportError:
        raise UserError("numbers need num2words: pip install 'sfjax[text]'") from None
    return num2words(int(str(number).replace(",", "")), to=to).replace(",", "").replace("-", " ")


def ordinal(number: str | int) -> str:
    """Return an ordinal number in words."""
    return cardinal(number, to="ordinal")


def spell_digits(text: str) -> str:
    """Return the digits of a text, one by one."""
    return " ".join(cardinal(digit) for digit in re.findall(r"\d", text))


def spell_telephones(text: str) -> str:
    """Return the text with telephone numbers, emergency numbers and codes digit by digit."""
    text = rewrite(text, r"(?<![\w.])\+\d[\d ().-]{6,}\d(?!\w)", lambda match: f"plus {spell_digits(match[0])}")
    for pattern in (
        r"\(\d{3}\)\s?\d{3}[-. ]\d{4}",
        r"(?:1[-. ])?\d{3}([-. ])\d{3}\1\d{4}",
        r"\d{3}-\d{4}",
        r"0\d{2,4}(?:[ -]\d{3,4}){1,3}",
    ):
        text = rewrite(text, rf"(?<![\w.,$£€-]){pattern}(?![\w-]|[.,]\d)", lambda match: spell_digits(match[0]))
    emergency = r"(?i)\b(call|dial|ring|phone|text|called|dialed|dialled|calling)\s(911|999|112|311|411|988|101|111)\b"
    text = rewrite(text, emergency, lambda match: f"{match[1]} {spell_digits(match[2])}")
    secret = r"\b((?i:zip|pin|postal|area)(?i: code| number)?(?: is)?:?)\s(\d{3,6})\b"
    return rewrite(text, secret, lambda match: f"{match[1]} {spell_digits(match[2])}")


def spell_numbers(text: str) -> str:
    """Return the text with versions, fractions, decades, ordinals and all other numbers as words."""
    version = r"(?<!\w)(?:[vV](?:er\.?)?\s?(?=\d+\.\d)|v(?:er\.?\s?|\.\s?)?(?=\d)|ver\.?\s(?=\d))(\d+(?:\.\d+)*)"
    text = rewrite(text, version, lambda match: f"version {match[1]}")
    text = rewrite(text, r"(?<![\w.])\d+(?:\.\d+){2,}(?!\w)", _dotted)
    text = rewrite(text, r"(?<![\w.,/])(?:(\d+)\s)?(\d{1,3}/\d{1,3})(?![\w/])(\sof\b|\san?\b)?", _fraction_match)
    text = rewrite(text, r"(?<![\w.,-])\d+(?:-\d+){2,}(?![\w-])", lambda match: spell_digits(match[0]))
    text = rewrite(text, r"(?<![\w.])(\d\d?|\d{4})'?s\b", _decade)
    text = rewrite(text, rf"(?<![\w.,])(\d[\d,]{{0,{LONGEST}}})(?i:st|nd|rd|th)\b", lambda match: ordinal(match[1]))
    text = rewrite(text, rf"{START}({NUMBER})-({NUMBER})(?![\w-])", lambda match: read_amount(f"{match[1]}-{match[2]}"))
    text = rewrite(text, r"(?<!\w)'0(\d)(?!\w)", lambda match: f"oh {cardinal(match[1])}")
    return rewrite(text, rf"(?<!\w)({NUMBER})(?!\w)", lambda match: read_number(match[1]))


def _dotted(match: re.Match) -> str:
    parts = match[0].split(".")
    return f" {'dot' if len(parts) == 4 else 'point'} ".join(map(read_number, parts))


def _fraction_match(match: re.Match) -> str:
    whole, fraction, after = match[1], match[2], match[3] or ""
    if fraction in ("24/7", "9/11", "50/50", "20/20"):
        return " ".join(map(read_number, filter(None, [whole, *fraction.split("/")]))) + after
    if fraction == "1/2" and not whole and after.strip() in ("a", "an"):
        return "half" + after
    return (read_mixed(whole, fraction) if whole else read_fraction(fraction)) + after


def read_mixed(whole: str, fraction: str) -> str:
    """Return a whole number with a fraction in words: two and three quarters."""
    part = read_fraction(fraction)
    return f"{read_number(whole)} and {re.sub('^one ', 'a ', part)}"


def read_fraction(written: str) -> str:
    """Return a fraction such as 3/4 in words; larger ones are read with `over`."""
    above, below = map(int, written.split("/"))
    if above >= below or below > 100 or below < 2:
        return f"{cardinal(above)} over {cardinal(below)}"
    if below in (2, 4):
        name = "half" if below == 2 else "quarter"
    else:
        name = ordinal(below).removeprefix("one ")
    return f"{cardinal(above)} {name}{'' if above == 1 else 's'}"


def _decade(match: re.Match) -> str:
    decade = read_number(match[1])
    return decade[:-1] + "ies" if decade.endswith("y") else decade + "s"


def read_amount(written: str) -> str:
    """Return a number, a range of two numbers, or a whole number with a fraction in words."""
    if "/" in written:
        whole, _, fraction = written.rpartition(" ")
        return read_mixed(whole, fraction) if whole else read_fraction(fraction)
    first, _, last = written.partition("-")
    join = " " if first == last or written == "24-7" else " to "
    return f"{read_number(first)}{join}{read_number(last)}" if last else read_number(first)


def read_number(written: str) -> str:
    """Return a number in words: as a year, as a number or, if it starts with 0 or is very long, digit by digit."""
    whole, _, part = written.partition(".")
    if not part and len(whole) == 4 and whole.isdecimal() and 1100 <= int(whole) < 2100:
        return cardinal(whole, to="year")
    digits = whole.replace(",", "")
    spelled = len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0")
    spoken = spell_digits(digits) if spelled else cardinal(digits or 0)
    return f"{spoken} point {spell_digits(part)}" if part else spoken
