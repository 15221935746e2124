"""Pronunciations by espeak-ng, in ARPAbet without stress.

libespeak-ng may keep state between calls and is under the GPL, so this process never loads it. Instead this file also
runs as a script in a process of its own: it reads words from its input and writes their phonemes to its output. The
words of one process do not influence each other (a test checks this), so one process serves all words of a call.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sfjax.errors import UserError

VOICE = "en-us"
ARPABET = frozenset(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)
# The sounds of espeak-ng's American English. espeak-ng separates sounds by _, so that t_ʃ in nutshell is not tʃ.
# The last row holds the sounds of borrowed words. The longest match counts.
SOUNDS = {
    "ɑː": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔː": "AO", "ɔ": "AO", "aʊ": "AW", "aɪ": "AY",
    "ɛ": "EH", "ɜː": "ER", "ɜː_ɹ": "ER", "ɚ": "ER", "ɚ_ɹ": "ER", "eɪ": "EY", "ɪ": "IH", "ᵻ": "IH", "iː": "IY",
    "i": "IY", "oʊ": "OW", "ɔɪ": "OY", "ʊ": "UH", "uː": "UW", "iə": "IY AH", "aɪɚ": "AY ER", "aɪə": "AY AH",
    "b": "B", "tʃ": "CH", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "h": "HH", "dʒ": "JH", "k": "K", "l": "L",
    "m": "M", "n": "N", "n̩": "AH N", "ŋ": "NG", "p": "P", "ɹ": "R", "s": "S", "ʃ": "SH", "t": "T", "ɾ": "T",
    "ʔ": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH",
    "ɑ": "AA", "ɑ̃": "AA N", "o": "OW", "x": "K", "r": "R", "ɬ": "L", "nʲ": "N Y",
}  # fmt: skip
SOUND = re.compile("|".join(sorted(map(re.escape, SOUNDS), key=len, reverse=True)))


def pronounce(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the phones of each word, read alone by espeak-ng in American English.

    Letters that form no word are spelled out. What espeak-ng does not read gets an empty tuple. Raises `UserError` if
    espeak-ng is missing or fails.
    """
    if not words:
        return []
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(f"pronouncing {words[0]!r} needs espeak-ng: pip install 'sfjax[text]'") from None
    request = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "words": list(words),
    }
    # -P keeps this file's folder out of the child's search path; the child imports the same sfjax as this process
    command = [sys.executable, "-P", os.path.abspath(__file__)]
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": search}
    result = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, env=environment)
    if result.returncode:
        messages = result.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {result.returncode}"]
        raise UserError(f"expected espeak-ng to pronounce {words[0]!r}, but it failed ({messages[-1]}); reinstall it")
    return [arpabet(sounds) for sounds in json.loads(result.stdout)]


def arpabet(sounds: str) -> tuple[str, ...]:
    """Return the phones of espeak-ng's IPA, without stress and without sounds that its English lacks."""
    plain = re.sub(r"\([^)]*\)|[ˈˌ]", "", sounds)  # marks of another language, such as (fr), and of stress
    return tuple(" ".join(SOUNDS[sound] for sound in SOUND.findall(plain)).split())


# The process that reads the words. The constants come from espeak-ng's speak_lib.h.

SYNCHRONOUS, DONT_EXIT = 2, 0x8000
UTF8, IPA, SEPARATOR = 1, 2, ord("_") << 8


def _read(request: dict) -> list[str]:
    """Return the sounds of each word in IPA."""
    espeak = ctypes.CDLL(request["library"])
    if espeak.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(request["data"]), DONT_EXIT) <= 0:
        sys.exit(f"no voice data in {request['data']}")
    if status := espeak.espeak_SetVoiceByName(VOICE.encode()):
        sys.exit(f"libespeak-ng returned {status} for the voice {VOICE}")
    read_clause = espeak.espeak_TextToPhonemes
    read_clause.restype = ctypes.c_char_p
    read_clause.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
    pronunciations = []
    for word in request["words"]:
        text = ctypes.create_string_buffer(word.encode())
        position = ctypes.c_void_p(ctypes.addressof(text))
        clauses = []
        while position.value:  # espeak-ng moves it behind each clause and sets it to null at the end
            clauses.append(read_clause(ctypes.byref(position), UTF8, IPA | SEPARATOR).decode())
        pronunciations.append(" ".join(clauses))
    return pronunciations


if __name__ == "__main__":
    json.dump(_read(json.load(sys.stdin)), sys.stdout)
