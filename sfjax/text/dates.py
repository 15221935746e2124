"""Write dates and times as words."""

from __future__ import annotations

import re
from collections.abc import Callable

from sfjax.text.measures import count
from sfjax.text.number_words import cardinal, ordinal, read_number, rewrite, text_after, text_before

MONTHS = "January February March April May June July August September October November December".split()
MONTH = {month[:3].lower(): month for month in MONTHS}
MONTH_NAME = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|" + (
    r"Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
DAY = {day[:3].lower(): day for day in "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()}
DAY_NAME = r"(?:Mon|Tue(?:s)?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b\.?"


def spell_dates(text: str) -> str:
    """Return the text with dates and ranges of days and months as words: May fifth, Monday to Friday."""
    for name, whole in ((DAY_NAME, DAY), (MONTH_NAME, MONTH)):
        text = rewrite(
            text,
            rf"\b({name})\s?[-–]\s?({name})",
            lambda match, whole=whole: f"{whole[match[1][:3].lower()]} to {whole[match[2][:3].lower()]}",
        )
    days = rf"\b({DAY_NAME})(\s(?:to|through|thru|and|or|&)\s)({DAY_NAME})"
    text = re.sub(days, lambda match: DAY[match[1][:3].lower()] + match[2] + DAY[match[3][:3].lower()], text)
    day = rf"\b({DAY_NAME})(?=,?\s(?:\d|{MONTH_NAME}))"
    text = re.sub(day, lambda match: DAY[match[1][:3].lower()], text)
    text = re.sub(r"(?<=\d)\s?(BCE?|CE|AD)\b", lambda match: " " + ".".join(match[1]) + ".", text)
    text = re.sub(r"\bAD (?=\d)", "A.D. ", text)
    text = rewrite(text, r"(?<![\w.,/-])(\d{4})([-/])(\d\d?)\2(\d\d?)(?![\w/-])", _year_first)
    text = rewrite(text, r"(?<![\w.,/-])(\d\d?)([-/.])(\d\d?)\2(\d{4}|\d\d)(?![\w/-]|\.\d)", _year_last)
    number = r"(\d\d?)(?:st|nd|rd|th)?"
    year = r"(?:(?:,\s?|\s)(\d{4})(?![\w-]|[.,]\d))?"
    end = r"(?!\w|[.,:/]\d|\s?[%$€£°-]\s?\d|\s?%)"
    text = re.sub(rf"(?<!\w)({MONTH_NAME})\s{number}(?:\s?[-–]\s?{number})?{end}{year}", _month_first, text)
    day_first = rf"(?<![\w.,:/$£€-])((?i:the\s)?){number}(?:\s?[-–]\s?{number})?\s({MONTH_NAME}){year}(?!\s?\d)"
    return re.sub(day_first, _day_first, text)


def _date(year: str, month: str | int, day: str | int) -> str | None:
    """Return a date in words, or None if there is no such day; months have at most 31 days here."""
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    if len(year) == 2:
        year = f"{'19' if int(year) >= 50 else '20'}{year}"
    return f"{MONTHS[int(month) - 1]} {ordinal(day)} {cardinal(year, to='year')}"


def _year_first(match: re.Match) -> str:
    return _date(match[1], match[3], match[4]) or match[0]


def _year_last(match: re.Match) -> str:
    first, separator, second, year = match.groups()
    if separator in ".-" and len(year) == 2:
        return match[0]
    day_first = separator == "." or int(first) > 12
    return _date(year, *((second, first) if day_first else (first, second))) or match[0]


def _month_first(match: re.Match) -> str:
    name, first, last, year = match.groups()
    counts = re.search(r"\b[Ii]n\s$", text_before(match)) and re.match(r"\s[a-z]", text_after(match))
    if counts or not 1 <= int(first) <= 31 or (last and int(last) > 31):  # "in May 5 people came"
        return match[0]
    days = ordinal(first) + (f" to {ordinal(last)}" if last else "")
    return f"{MONTH[name[:3].lower()]} {days}" + (f" {read_number(year)}" if year else "")


def _day_first(match: re.Match) -> str:
    article, first, last, name, year = match.groups()
    if not 1 <= int(first) <= 31 or (last and int(last) > 31):
        return match[0]
    days = ordinal(first) + (f" to {ordinal(last)}" if last else "")
    return f"{article or 'the '}{days} of {MONTH[name[:3].lower()]}" + (f" {read_number(year)}" if year else "")


HALF = r"\s*([ap])\.?m\b\.?"  # a.m. or p.m.


def spell_times(text: str) -> str:
    """Return the text with times, spans of time and ratios as words; a range gets ` to `."""
    clock = rf"\d\d?(?:[:.]\d\d)?(?:{HALF.replace('(', '(?:')})?"
    text = re.sub(rf"(?i)(?<![\w.:])(\d\d?(?::\d\d)?)\s?[-–]\s?(?={clock}(?<=[.m])(?!\w))", r"\1 to ", text)
    text = re.sub(rf"(?i)(\d{HALF}|\d:\d\d)\s?[-–]\s?(?=\d)", lambda match: f"{match[1]} to ", text)
    text = rewrite(text, rf"(?i)(?<![\w.:,])(\d\d?)\.(\d\d)(?={HALF})", lambda match: f"{match[1]}:{match[2]}")
    text = re.sub(r"\s+(\d\d?:\d\d)\s{2,}", r" \1 ", text)
    text = rewrite(text, r"(?<![\w.:])(\d\d?):(\d\d):(\d\d)(?![\d:])", _with_seconds)
    text = rewrite(text, rf"(?i)(?<![\w.:])(\d\d?):(\d\d)(?![\d:]|\.\d)(?:{HALF})?", _time)
    text = rewrite(text, rf"(?i)(?<=\d){HALF}", lambda match: f"{match[1].lower()}.m.")
    text = re.sub(r"(?<=m\.)\s+(ET|PT|CT|MT)\b", lambda match: f" {match[1][0]}.{match[1][1]}.", text)
    text = rewrite(
        text, r"(?<![\w.:])(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)(?![\w:])", lambda match: f"{match[1]} to {match[2]}"
    )
    text = rewrite(text, r"(?<![\w.])(\d+)\s?h\s?(\d+)(?:\s?m(?:ins?)?)?\b", _spans("hour", "minute"))
    return rewrite(text, r"(?<![\w.])(\d+)\s?m(?:in)?\s?(\d+)\s?s(?:ec)?\b", _spans("minute", "second"))


def _time(match: re.Match) -> str:
    hour, minute, half = int(match[1]), int(match[2]), f" {match[3].lower()}.m." if match[3] else ""
    if match[0] == "00:00":
        return "midnight"
    if hour > 24 or minute > 59:
        return f"{match[1]} {match[2]}{half}"
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}{half}"
    return cardinal(hour) + (half or (" hundred" if hour > 12 else " o'clock"))


def _with_seconds(match: re.Match) -> str:
    hour, minute, second = map(int, match.groups())
    return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)} and {count(str(second), 'second')}"


def _spans(long: str, short: str) -> Callable[[re.Match], str]:
    return lambda match: f"{count(match[1], long)} {count(match[2], short)}"
