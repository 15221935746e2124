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
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sfjax.errors import UserError
from sfjax.text import encoding, espeak, normalize
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
        lines = encoding.read_text(path).splitlines()
    except OSError as error:
        raise UserError(f"{path}: expected a lexicon, got none ({error.strerror}); check the path") from None
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

        A pause between two sentences belongs to the first. Raises `UserError` for texts without a word, half
        characters, other scripts, other tags, invalid or too long pauses, and phones that the model does not know.
        """
        marked, seconds = _take_breaks(text)
        pauses = iter(seconds)
        written: list[list[str | float]] = [[]]  # the words and pauses of each sentence
        for kind, token in _tokens(normalize.write_out(marked)):
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
    encoding.check_characters(text)
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


TOKEN = re.compile(
    r"(?P<initials>(?<!\w)(?:[^\W\d_]\.){2,}(?:'?s\b)?)"
    r"|(?P<initial>(?<!\w)[A-HJ-Z]\.(?=\s+[A-Z])(?!\s+(?:Then?|He|She|They|We|It|This|But|And|In|On)\b))"  # J. Smith
    r"|(?P<word>'?[^\W_]+(?:[-'.][^\W_]+)*'?)"
    rf"|(?P<pause>{PAUSE})"
    r"|(?P<end>\n|[.!?;](?=[\"'”’)\]}»]*(?:\s|$)))"
)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the words, pauses and ends of sentences of a text, each as its kind and its text."""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield ("word", match[0][:-1]) if kind == "initial" else (kind, match[0])
