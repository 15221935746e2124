"""Pronunciations by espeak-ng, in ARPAbet without stress.

libespeak-ng may keep state from one use to the next and is under the GPL, so it is never loaded here: this file, run as
a script, reads words on its input and writes their phonemes to its output. Words of one process do not change each
other (a test holds this), so one process speaks all words of a call.
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
# espeak-ng's sounds of American English, which _ separates (t_ʃ in nutshell is not tʃ).
# The last line is that of borrowed words. The longest that fits is taken
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
    """The phones of each word as espeak-ng would read it alone in American English; letters are spelled if need be.

    An empty tuple for what it does not read. `UserError` without espeak-ng.
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
    # -P keeps this file's folder out of the child's search path; it finds sfjax where this process did
    command = [sys.executable, "-P", os.path.abspath(__file__)]
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    asked = json.dumps(request).encode()
    done = subprocess.run(command, input=asked, capture_output=True, env=os.environ | {"PYTHONPATH": search})
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"espeak-ng should have pronounced {words[0]!r}, it failed ({why[-1]}); reinstall it")
    return [arpabet(sounds) for sounds in json.loads(done.stdout)]


def arpabet(sounds: str) -> tuple[str, ...]:
    """The phones of espeak-ng's IPA; stress, and what is no sound of its English, is left out."""
    plain = re.sub(r"\([^)]*\)|[ˈˌ]", "", sounds)  # a switch of language, as (fr); stress
    return tuple(" ".join(SOUNDS[sound] for sound in SOUND.findall(plain)).split())


# The process that reads the words. The numbers are those of espeak-ng's speak_lib.h

SYNCHRONOUS, DONT_EXIT = 2, 0x8000
UTF8, IPA, SEPARATOR = 1, 2, ord("_") << 8


def _read(request: dict) -> list[str]:
    """The sounds of each word."""
    espeak = ctypes.CDLL(request["library"])
    if espeak.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(request["data"]), DONT_EXIT) <= 0:
        sys.exit(f"no voice data in {request['data']}")
    if failed := espeak.espeak_SetVoiceByName(VOICE.encode()):
        sys.exit(f"libespeak-ng returned {failed} for the voice {VOICE}")
    clause = espeak.espeak_TextToPhonemes
    clause.restype, clause.argtypes = ctypes.c_char_p, [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
    found = []
    for word in request["words"]:
        text = ctypes.create_string_buffer(word.encode())
        place, sounds = ctypes.c_void_p(ctypes.addressof(text)), []
        while place.value:  # it is moved behind each clause, and null at the end
            sounds.append(clause(ctypes.byref(place), UTF8, IPA | SEPARATOR).decode())
        found.append(" ".join(sounds))
    return found


if __name__ == "__main__":
    json.dump(_read(json.load(sys.stdin)), sys.stdout)
