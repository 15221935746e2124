"""Write abbreviations as words, and keep their dot only where it also ends a sentence.

abbr2words knows most abbreviations; the tables here add what it lacks and what depends on the next word.
"""

from __future__ import annotations

import re

from sfjax.errors import UserError
from sfjax.text.number_words import SENTENCE_START, text_after


def _table(pairs: str) -> dict[str, str]:
    """Return a table from `short long, short long`."""
    return dict(pair.split(" ", 1) for pair in pairs.split(", "))


BEFORE_NAMES = _table(  # before a name
    "Gov Governor, Govs Governors, Sen Senator, Sens Senators, Rep Representative, Reps Representatives, "
    "Pres President, Supt Superintendent, Adm Admiral, Cmdr Commander, Cdr Commander, Pvt Private, Det Detective, "
    "Insp Inspector, Amb Ambassador, Atty Attorney, Fr Father, Br Brother, Msgr Monsignor, Brig Brigadier, Ft Fort, "
    "Pt Point, Mt Mount, St Saint, Drs Doctors, Messrs Messieurs, Sgt Sergeant, Lt Lieutenant, Capt Captain, "
    "Prof Professor, Maj Major, Cpl Corporal, Hon Honorable, Rev Reverend, Gen General, Col Colonel, Sec Secretary, "
    "Treas Treasurer, Profs Professors, Cllr Councillor, Ald Alderman, Dir Director, Cpt Captain, Ens Ensign, "
    "Mme Madame, Mlle Mademoiselle"
)
BEFORE_NUMBERS = _table(  # before a number
    "p page, pp pages, pg page, pgs pages, fig figure, figs figures, ch chapter, chap chapter, chs chapters, "
    "vol volume, vols volumes, no number, nos numbers, sec section, sect section, secs sections, art article, "
    "arts articles, eq equation, eqs equations, pt part, pts parts, par paragraph, para paragraph, paras paragraphs, "
    "ext extension, tel telephone, apt apartment, ste suite, rm room, app appendix, ex example, exs examples, "
    "l line, ll lines, fn footnote, hwy highway, bk book, rte route, tab table, ver version, approx approximately, "
    "ca circa, est established, max maximum, min minimum, avg average, temp temperature, vers version, ed edition"
)
ANYWHERE = _table(  # anywhere
    "univ university, assn association, hwy highway, bros brothers, mfg manufacturing, intl international, "
    "natl national, esp especially, avg average, orig originally, feat featuring, dist district, terr terrace, "
    "ed edited, trans translated, min minimum, max maximum, inst institute, lib library, rd road, sgts sergeants, "
    "tel telephone, est established, pop population, anon anonymous, abbr abbreviation, cont continued, vs versus, "
    "tsps teaspoons, tbsps tablespoons, pkg package, doz dozen"
)
STATES = _table(  # behind a city or a party
    "Ala Alabama, Ariz Arizona, Ark Arkansas, Calif California, Colo Colorado, Conn Connecticut, Del Delaware, "
    "Fla Florida, Ga Georgia, Ill Illinois, Ind Indiana, Kan Kansas, Ky Kentucky, La Louisiana, Md Maryland, "
    "Mass Massachusetts, Mich Michigan, Minn Minnesota, Miss Mississippi, Mo Missouri, Mont Montana, Neb Nebraska, "
    "Nev Nevada, Okla Oklahoma, Ore Oregon, Pa Pennsylvania, Tenn Tennessee, Tex Texas, Va Virginia, Vt Vermont, "
    "Wash Washington, Wis Wisconsin, Wyo Wyoming"
)
STREETS = _table(  # behind a name
    "St street, Ave avenue, Rd road, Blvd boulevard, Dr drive, Ln lane, Pl place, Ct court, Sq square, Hwy highway, "
    "Pkwy parkway, Cir circle, Ter terrace"
)
AMBIGUOUS = frozenset("ed trans min max est pop inst lib rd dist cont terr tel".split())  # also words or names
PLAIN_WORDS = frozenset("The On In At And But To From With For Near".split())  # no names of streets
DIRECTIONS = {"N": "North", "S": "South", "E": "East", "W": "West"}
ENDINGS = {"w/o": "without", "w/": "with", "b/c": "because", "c/o": "care of"}


def spell_titles(text: str) -> str:
    """Return the text with titles before names, states behind names, and streets behind names as words."""
    title = "|".join(name for name in BEFORE_NAMES if name != "St")  # abbr2words tells saints from streets
    name = r"(?=\s+(?:[A-Z]|de\b|von\b|van\b))(?!\s+(?:The|This|He|She|They|It|We|But|And)\b)"
    text = re.sub(rf"\b({title})\.{name}", _title, text)
    text = re.sub(r"\b([DRI])-(?=[A-Z][a-z]*\.)", r"\1 ", text)
    state = "|".join(STATES)
    text = re.sub(rf"(?:(?<=[a-z], )|(?<=\b[DRI] ))({state})\.|\b({state})\.(?=\s[a-z])", _state, text)
    undotted = r"\b(?:([A-Z]\w*)\s)?(St|Mt|Ft|Lt|Sgt|Capt|Maj|Cpl|Cllr|Col)(?=\s[A-Z][a-z])"
    text = re.sub(undotted, _undotted_title, text)
    text = re.sub(r"\b([NSEW])\.(?=\s\d+(?:st|nd|rd|th)\b)", lambda match: DIRECTIONS[match[1]], text)
    street = rf"(\b(?:\d+|[A-Z])\w*(?:\s[A-Z][\w']+)*\s)({'|'.join(STREETS)})\."
    end = rf"(?=\s*$|\s*[,;:)]|\s+[a-z\d(]|\s+(?:[A-Z][a-z]+\s+(?:is|was|has)\b)|{SENTENCE_START.pattern})"
    return re.sub(street + end, _street, text)


def _title(match: re.Match) -> str:
    return BEFORE_NAMES[match[1]]


def _undotted_title(match: re.Match) -> str:
    """Return a British title without a dot as a word; behind a name, as in Main St Bridge, it is a street."""
    name, title = match.groups()
    if name and title == "St" and name not in PLAIN_WORDS:
        return match[0]
    return f"{name} {BEFORE_NAMES[title]}" if name else BEFORE_NAMES[title]


def _state(match: re.Match) -> str:
    return STATES[match[1] or match[2]] + _end(match)


def _street(match: re.Match) -> str:
    if match[1].strip() in PLAIN_WORDS:
        return match[0]
    return match[1] + STREETS[match[2]] + _end(match)


def _end(match: re.Match) -> str:
    """Return the dot of an abbreviation if it also ends the sentence."""
    return "." if SENTENCE_START.match(text_after(match)) else ""


def spell_references(text: str) -> str:
    """Return the text with abbreviations before numbers and short forms with a slash as words."""
    short = "|".join(sorted(BEFORE_NUMBERS, key=len, reverse=True))
    pattern = rf"(?<![\w.])(?<!\d )({short})\.\s?(?=\d|[IVX]{{2,}}\b|[VX]\b)"
    text = re.sub(pattern, lambda match: BEFORE_NUMBERS[match[1].lower()] + " ", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=& )Co\.|\bCo\.(?=\s(?:Ltd|Inc|LLC))", lambda match: "Company" + _end(match), text)
    text = re.sub(r"(?<=(?:st|nd|rd|th) )ed\.(?=\W|$)", "edition", text)
    for written, spoken in ENDINGS.items():
        text = re.sub(rf"(?<!\S){written}(?=\s|\w)", f"{spoken} ", text)
    text = re.sub(r"\b(no)(s?)\.(?=\sof\b)", r"number\2", text)
    lower = rf"(?<!\d[\s-])(?<!\d)\b({'|'.join(ANYWHERE)})\.(?=\s*[,;:)\da-z]|\s+[A-Z]|\s*$)"
    return re.sub(lower, _anywhere, text, flags=re.IGNORECASE)


def _anywhere(match: re.Match) -> str:
    bare = match[1].lower()
    words = {
        "ed",
        "trans",
        "min",
        "max",
        "est",
        "pop",
        "inst",
        "lib",
        "rd",
        "dist",
        "cont",
        "terr",
        "tel",
    }  # also words or names
    if bare in words and not re.match(r"\s*[,:]|\s+[a-z]", text_after(match)):
        return match[0]
    return ANYWHERE[bare] + _end(match)


DAYS = frozenset("sat sun mon wed mar jun".split())
TITLES = frozenset("col gen hon rev".split())
# Abbreviations that are also words: the dot behind them may end a sentence
WORDS = DAYS | TITLES | frozenset("ca ch co est fig fl gal in max mi min no pl pt ref sec ste vol".split())
NO_END = frozenset("mr mrs ms mx dr prof st mt lt gen col maj capt sgt cpl hon rev".split())  # a name follows


def spell_abbreviations(text: str) -> str:
    """Return the text with the abbreviations that abbr2words knows as words, without units."""
    try:
        from abbr2words import abbr2words_with_replacements
    except ImportError:
        raise UserError("abbreviations need abbr2words: pip install 'sfjax[text]'") from None
    parts, end = [], 0
    for replacement in abbr2words_with_replacements(text, lang="en").replacements:
        if replacement.kind == "unit":
            continue
        after = text[replacement.end :]
        expanded = _abbreviation(replacement.matched_text, replacement.text, after)
        if expanded != replacement.matched_text and replacement.matched_text.endswith("."):
            bare = replacement.matched_text.rstrip(".").lower()
            expanded += "." if bare not in NO_END and not expanded.endswith(".") and SENTENCE_START.match(after) else ""
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
