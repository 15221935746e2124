"""Write measures as words: numbers with units, magnitudes such as 10M, and powers."""

from __future__ import annotations

import re

from sfjax.text.number_words import (
    AMOUNT,
    NUMBER,
    SCALES,
    SENTENCE_START,
    START,
    ordinal,
    read_amount,
    read_fraction,
    read_number,
    rewrite,
    text_after,
    text_before,
)

# Words after a measure that cannot be what it measures: "a 5 km walk", but "a $5 in cash"
FUNCTION_WORDS = frozenset(
    "a about after ago all an and apart are as at away back be been before below but by can could down each every for "
    "from had has have he her his i if in into is it its less long may more my not of off on or our out over per plus "
    "she should since so than that the their then there they this through to today under until up was we were when "
    "which while who will with without would you".split()
)
ATTRIBUTED = frozenset(  # words that a measure describes also without an article: 80 mph winds, two $5 bills
    "sprint race final dash hurdles freestyle relay butterfly bill bills note notes coin coins stamp stamps bulb bulbs "
    "battery batteries can cans bottle bottles bag bags wind winds limit angle angles turn ruler screen waves".split()
)
ARTICLE = re.compile(r"\b(?:an?|another)\s+(?:[\d.,]+ by )*$", re.IGNORECASE)
DETERMINER = re.compile(r"(?:\b(?:the|my|your|his|her|its|our|their)|'s)\s+(?:[\d.,]+ by )*$", re.IGNORECASE)
# Units: metric ones with their prefixes, then the others
PREFIXES = {"n": "nano", "µ": "micro", "m": "milli", "c": "centi", "k": "kilo", "M": "mega", "G": "giga", "T": "tera"}
METRIC = {
    "m": ("meter", "nµmck"),
    "g": ("gram", "nµmk"),
    "s": ("second", "nµm"),
    "L": ("liter", "µmc"),
    "l": ("liter", "µmc"),
    "W": ("watt", "mkMGT"),
    "Wh": ("watt-hour", "kMGT"),
    "Hz": ("hertz", "kMGT"),
    "V": ("volt", "mkM"),
    "A": ("ampere", "mk"),
    "Ah": ("ampere-hour", "m"),
    "Pa": ("pascal", "kMG"),
    "J": ("joule", "kMG"),
    "N": ("newton", "kM"),
    "B": ("byte", "kMGT"),
    "eV": ("electronvolt", "kMGT"),
    "Ω": ("ohm", "mkM"),
    "cal": ("calorie", "k"),
    "bps": ("bit per second", "kMGT"),
    "bit/s": ("bit per second", "kMGT"),
    "b/s": ("bit per second", "kMGT"),
}
UNITS = {prefix + symbol: PREFIXES[prefix] + name for symbol, (name, used) in METRIC.items() for prefix in used} | {
    **{symbol: METRIC[symbol][0] for symbol in "m g s L l W Wh Hz V A Ah Pa J N eV Ω cal bps".split()},
    **{"um": "micrometer", "ug": "microgram", "KB": "kilobyte", "PB": "petabyte", "Kbps": "kilobit per second"},
    **{"hPa": "hectopascal", "bar": "bar", "mbar": "millibar", "mmHg": "millimeter of mercury", "atm": "atmosphere"},
    **{"t": "tonne", "ha": "hectare", "cc": "cubic centimeter", "mol": "mole", "dL": "deciliter", "dl": "deciliter"},
    **{"h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second", "secs": "second"},
    **{"wk": "week", "wks": "week", "mo": "month", "mos": "month", "yr": "year", "yrs": "year", "msec": "millisecond"},
    **{"in": "inch", "ft": "foot", "yd": "yard", "yds": "yard", "mi": "mile", "oz": "ounce", "lb": "pound"},
    **{
        "lbs": "pound",
        "gal": "gallon",
        "qt": "quart",
        "qts": "quart",
        "tsp": "teaspoon",
        "tbsp": "tablespoon",
        "Tbsp": "tablespoon",
    },
    **{"mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour", "mpg": "mile per gallon"},
    **{"rpm": "revolution per minute", "bpm": "beat per minute", "fps": "frame per second", "dpi": "dot per inch"},
    **{"psi": "pound per square inch", "ppm": "part per million", "ppb": "part per billion", "dB": "decibel"},
    **{"hp": "horsepower", "kt": "knot", "kts": "knot", "lm": "lumen", "lx": "lux", "°": "degree", "px": "pixel"},
    **{"°C": "degree celsius", "°F": "degree fahrenheit", "° C": "degree celsius", "° F": "degree fahrenheit"},
    **{
        "C": "degree celsius",
        "F": "degree fahrenheit",
        "K": "kelvin",
        "%": "percent",
        "‰": "per mille",
        "MP": "megapixel",
    },
}
BASE = r"(?:" + "|".join(map(re.escape, sorted(UNITS, key=len, reverse=True))) + ")"
POWER = r"(?:\^?[23](?!\d))?"
UNIT = rf"(?:(?:sq|cu)\.?\s)?{BASE}{POWER}(?:/{BASE}{POWER})?"
# Units that are written with a dot
ABBREVIATED = frozenset("in ft yd yds mi oz lb lbs gal qt tsp tbsp Tbsp hr hrs min mins sec secs yr yrs wk mo".split())
UNCOUNTED = frozenset("percent hertz horsepower lux".split()) | {"per mille"}
IRREGULAR = {"penny": "pence", "foot": "feet", "inch": "inches", "millimeter of mercury": "millimeters of mercury"}
COUNTED = (  # what "10m" and "5k" count in millions and thousands
    r"people|men|women|children|voters|votes|users|viewers|views|readers|listeners|customers|subscribers|followers|fans|"
    r"members|players|workers|jobs|homes|households|copies|downloads|barrels|tons|tonnes|passengers|visitors|tourists|"
    r"residents|citizens|refugees|migrants|patients|cases|deaths|doses|shares|students|pupils|families|americans|britons|"
    r"cars|vehicles|units|dollars|pounds|euros|years|records|accounts|streams|plays|hits|likes|stars|tweets|posts"
)
RUNS = (  # what "10K" is a name for: kilometers or pixels
    "run|race|runs|races|marathon|walk|course|charity|fun|route|loop|swim|ski|screen|tv|television|video|monitor|display"
)
NAMED = re.compile(  # a number with a letter that is a name: Gate 4K, Seat 12B
    r"\b(?:gate|seat|room|apartment|apt|unit|flat|suite|section|row|figure|fig|table|exhibit|form|platform|terminal|bus|"
    r"line|route|class|grade|group|block|building|page|article|chapter|level|zone|size|model|type|track|lane|box|channel|"
    r"flight|highway|question|item|schedule|title|number|no|part|appendix|floor|house)s?\.?\s$",
    re.IGNORECASE,
)


def describes_next_word(match: re.Match) -> bool:
    """Return whether a measure describes the next word: a $5 bill, a 6-ft wall, but $5 a day."""
    if re.match(r"-(?:an?|per)-", text_after(match)):  # $5-a-day
        return True
    word = re.match(r"[ -]([a-z]+)", text_after(match))
    if word and word[1] in ATTRIBUTED:
        return True
    if not word or word[1] in FUNCTION_WORDS - ({"long"} if ARTICLE.search(text_before(match)) else set()):
        return False
    before = text_before(match)
    return bool(ARTICLE.search(before) or DETERMINER.search(before))


def spell_measures(text: str) -> str:
    """Return the text with numbers and their units as words, where the symbol is a unit."""
    height = r"(?<![\w.])(\d+)'\s?(\d+(?:\.\d+)?)(?:\"|'')"
    text = rewrite(text, height, lambda match: f"{read_number(match[1])} foot {read_number(match[2])}")
    text = re.sub(rf"{START}({AMOUNT})\"", _inches, text)
    text = re.sub(rf"{START}(\d+),(\d\d?)(?=\s?{UNIT}(?!\w))", r"\1.\2", text)
    text = re.sub(rf"{START}({AMOUNT})([ -]?)({UNIT})(?![\w^]|\.\w)(\.)?", _unit, text)
    bare = r"(?<![\w/])(km/h|m/s|km/s|ft/s|mi/h|mg/dL|g/L|kg/m\^?3)(?![\w/])"
    text = rewrite(text, bare, lambda match: plural("2", unit_name(match[1].replace("^", ""))))
    text = re.sub(r"(?<=[a-z])/(min|sec|hr|s|h)\b", lambda match: f" per {UNITS[match[1]]}", text)
    text = re.sub(r"(?<=[a-z])/(?=(?:minute|second|hour|day|week|month|year)\b)", " per ", text)
    cups = r"cup|mile|hour|inch|teaspoon|tablespoon|pound|ounce|pint|gallon|quart|liter|litre|second|minute|acre|dozen"
    part = rf"(?<![\w./,])(\d\d?/\d\d?)\s({cups})\b"
    return re.sub(part, lambda match: f" {_part_of(match[1], match[2])} ", text)


def _inches(match: re.Match) -> str:
    if len(re.findall(r'(?<!\d)"', text_before(match))) % 2:  # a closing quotation mark
        return match[0]
    return read_measure(match, match[1], "inch")


def _unit(match: re.Match) -> str:
    amount, gap, unit, dot = match[1], match[2], match[3], match[4] or ""
    before, after = text_before(match), text_after(match)
    if not _is_unit(amount, gap, unit, dot, before, after):
        return match[0]
    hyphenated = gap == "-"
    if len(unit) > 1 and unit[-1] in "23" and not unit.startswith("°"):
        unit = unit.replace("^", "")
    end = dot if dot and (unit.split(" ")[-1] not in ABBREVIATED or SENTENCE_START.match(after)) else ""
    name = unit_name(unit)
    if hyphenated and re.match(r"[ -][a-z]", after):
        return f" {read_amount(amount)} {name}{end} "
    return read_measure(match, amount, name) + end


def _is_unit(amount: str, gap: str, unit: str, dot: str, before: str, after: str) -> bool:
    """Return whether a symbol behind a number is a unit, and not a word, a letter or a magnitude."""
    at_end = bool(re.match(r"\s*(?:$|[.,;:!?)\]\n]|[x×]|by\b)", after)) or bool(dot)
    if (len(unit) == 1 and unit.isalpha() or unit in ("mo", "min", "bar")) and NAMED.search(before):
        return False
    if unit == "in":
        return gap == "" or at_end or gap == "-" or bool(re.search(r"f(?:ee|oo)t\s+$", before))
    if unit in ("C", "F"):
        return len(amount) > 1 and not NAMED.search(before) and not re.match(r"\s?[a-z]+s\b", after)
    if unit == "K":
        return bool(gap) and bool(re.search(r"(?i)temperature|kelvin|cool|cold|heat|warm|absolute", before + after))
    if unit in ("A", "N", "J"):
        return at_end or bool(
            re.match(r"\s(?:current|fuse|circuit|breaker|battery|charger|of (?:force|energy|current))", after)
        )
    if unit in ("m", "t") and re.match(rf"(?i)\s(?:{COUNTED})\b", after):
        return unit == "t"
    if unit == "s" and gap == "" and (re.fullmatch(r"\d\d|\d{4}", amount) or before.endswith("by ")):
        return False  # a decade or a plural
    return True


def unit_name(symbol: str) -> str:
    """Return the name of a unit in the singular, such as `meter per second squared` for m/s2."""
    head, _, per = symbol.partition("/")
    if symbol in UNITS:
        return UNITS[symbol]
    square = re.match(r"(sq|cu)\.?\s", head)
    name = UNITS[re.sub(r"^(?:sq|cu)\.?\s|\^?[23]$", "", head)]
    if square or head[-1] in "23":
        name = ("square " if (square and square[1] == "sq") or head[-1] == "2" else "cubic ") + name
    if not per:
        return name
    below = UNITS[re.sub(r"\^?[23]$", "", per)]
    if per[-1] in "23":
        kind = per[-1] == "2"
        timed = below.endswith(("second", "minute", "hour"))
        below = f"{below} {'squared' if kind else 'cubed'}" if timed else f"{'square' if kind else 'cubic'} {below}"
    return f"{name} per {below}"


def read_measure(match: re.Match, amount: str, name: str) -> str:
    """Return an amount of something in words; `name` is in the singular."""
    if re.fullmatch(r"\d\d?/\d\d?", amount) and name not in UNCOUNTED and not describes_next_word(match):
        return f" {_part_of(amount, name)} "
    return f" {read_amount(amount)} {name if describes_next_word(match) else plural(amount, name)} "


def count(number: str, name: str) -> str:
    """Return a number and a thing in words, in the plural unless the number is 1."""
    return f"{read_number(number)} {plural(number, name)}"


def plural(amount: str, name: str) -> str:
    """Return the name of a thing in the plural, unless the amount is 1."""
    if amount == "1" or name in UNCOUNTED:
        return name
    if name in IRREGULAR:
        return IRREGULAR[name]
    head, per, rest = name.partition(" per ")
    first, _, last = head.rpartition(" ")
    if first == "degree":
        return f"degrees {last}"
    words = IRREGULAR.get(last, last if last in UNCOUNTED else last + "s")
    return f"{first} {words}".strip() + per + rest


def _part_of(fraction: str, name: str) -> str:
    """Return a fraction of one unit: half an hour, three quarters of a cup."""
    article = "an" if re.match(r"[aeio]|hour", name) else "a"
    return f"half {article} {name}" if fraction == "1/2" else f"{read_fraction(fraction)} of {article} {name}"


def spell_magnitudes(text: str) -> str:
    """Return the text with 10M as ten million, where the letter is no name and no unit."""
    return re.sub(rf"{START}({NUMBER}(?:-{NUMBER})?)(\s?)([kKmMbBtT]|[mbt]n|Bn|mln|bln|trn)(?!\w)", _magnitude, text)


def _magnitude(match: re.Match) -> str:
    amount, gap, letter = match.groups()
    before, after = text_before(match), text_after(match)
    counts = re.match(rf"(?i)\s(?:(?:[a-z]+ )?(?:{COUNTED})|[a-z]{{3,}}s)\b", after)
    is_run = re.match(rf"(?i)[\s-](?:{RUNS})\b", after) or amount + letter in ("4K", "8K") and not NAMED.search(before)
    if letter in "kK" and (is_run or (re.search(r"\b[Aa]\s$", before) and not re.match(r"\s[a-z]", after))):
        return f" {read_amount(amount)} k "
    if NAMED.search(before) or (gap and not counts):
        return match[0]
    certain = counts or "." in amount or len(letter) > 1 or letter in "kK"
    if letter in "MB":  # 3M is a company
        certain = certain or (amount != "3" if letter == "M" else len(amount) > 2)
    elif letter in "mbtT":
        certain = re.match(rf"(?i)\s(?:[a-z]+ )?(?:{COUNTED})\b", after)
    return f" {read_amount(amount)} {SCALES[letter]} " if certain else match[0]


def spell_powers(text: str) -> str:
    """Return the text with powers as words: x squared, ten to the sixth."""
    power = r"(?<!\w)(\d[\d.,]*|[A-Za-z]{1,3}|\))\s?\^\s?[({]?(\+?-?\w+)[)}]?"
    text = rewrite(text, rf"{power}(?:\s({UNIT})(?!\w))?", _power)
    return text.replace("^", " to the power of ")


def _power(match: re.Match) -> str:
    base, exponent, unit = match.groups()
    spoken = f"{read_number(base) if base[0].isdigit() else base} {_exponent(exponent)}"
    return f"{spoken} {plural(base, unit_name(unit))}" if unit and base[0].isdigit() else f"{spoken} {unit or ''}"


def _exponent(written: str) -> str:
    number = written.lstrip("+")
    if number in ("2", "3"):
        return "squared" if number == "2" else "cubed"
    if number.startswith("-"):
        return f"to the minus {read_number(number[1:]) if number[1:].isdigit() else number[1:]}"
    return f"to the {ordinal(number) if number.isdigit() else number}"
