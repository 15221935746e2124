"""Mutated inputs: sound files, texts, manifests, configs, exported models, arrays and other documents.

`make(seed, box, stock)` puts the files of an input into the folder `box` and returns how to run it. An input depends
only on its seed. `stock_up(folder)` makes the intact files that are mutated.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import material
import numpy as np
import soundfile

NOW = ("--solver", "euler", "--steps", "1")  # one network evaluation
ENCODINGS = {  # by name of the file: container, encoding, sample rate, channels
    "a.wav": ("WAV", "PCM_16", 16_000, 1),
    "b.wav": ("WAV", "FLOAT", 44_100, 2),
    "c.wav": ("WAVEX", "PCM_24", 48_000, 1),
    "d.wav": ("RF64", "PCM_16", 16_000, 1),
    "e.wav": ("WAV", "GSM610", 8_000, 1),
    "f.wav": ("WAV", "IMA_ADPCM", 16_000, 1),
    "g.flac": ("FLAC", "PCM_16", 16_000, 1),
    "h.ogg": ("OGG", "VORBIS", 16_000, 1),
    "i.opus": ("OGG", "OPUS", 48_000, 1),
    "j.mp3": ("MP3", "MPEG_LAYER_III", 16_000, 1),
    "k.wav": ("W64", "PCM_16", 16_000, 1),
    "l.wav": ("AIFF", "PCM_16", 16_000, 1),
    "m.wav": ("AU", "PCM_16", 16_000, 1),
    "n.wav": ("CAF", "PCM_16", 16_000, 1),
    "o.wav": ("NIST", "PCM_16", 16_000, 1),
    "p.wav": ("VOC", "PCM_16", 16_000, 1),
}
SUFFIXES = [*".wav .flac .ogg .opus .mp3 .m4a .aac .webm .amr .wma .aiff .txt .WAV".split(), ""]
NAMES = [*"a -a é 日本 %s{0} a#1 x.parquet#0 ~ * .a a.b \udcff".split(), "a b", "a\nb", "n" * 200, "'\""]
WORDS = "good day to you night the small dog ran home Dr. St. o'clock don't".split()
ODDITIES = [
    *"-0 0.0000001 1e400 1,000,000,000,000,000,000 ½ 2⁶⁴ ٣٤ MMMCMXCIX $1.999 31/02/99999 25:61 1/0 10% C#".split(),
    *"+1-800-555-0199 http://a.b/c?d=é# a@b.c 日本語 Привет مرحبا &amp; €5bn #1 ... ?! — '' i.e. 12th 1990s".split(),
    *'50km/h 3.14.15 №5" ﬁ Ⅷ ß İ 0x1F NaN -5°C e\u0301\u0323 \u200d\u200b\ufeff \ud83d \x07\x1b[31m \u202e <'.split(),
    *("", " ", "\t\n", "9" * 60, "x" * 300, "\N{WOMAN}\u200d\N{GIRL}"),
    *(f'<break time="{time}"/>' for time in ("500ms", "-5s", "1e9s", "nan")),
]
NUMBERS = (-1, 0, 1, 2, 7, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, 1e-320, math.nan, math.inf, -math.inf)
STRINGS = ("", "abc", "1", "nan", "\0", "x" * 5000, "../..", "/nonexistent/a.wav")
VALUES: tuple[Any, ...] = (None, True, False, *NUMBERS, *STRINGS, [], [None], [1, 2], ["a"], {}, {"a": 1})


class Case(NamedTuple):
    """How to run an input: the words of a command, or a function; what standard input holds; files of the result."""

    kind: str
    run: list[str] | Callable[[], Any]
    stdin: bytes = b""
    outputs: tuple[str, ...] = ()


class Maker(NamedTuple):
    """What inputs are made of: the random numbers, the folder of the input, and the folder of intact files."""

    rng: random.Random
    box: Path
    stock: Path
    quick: bool

    def often(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.rng.random() < probability

    def take(self, *names: str) -> None:
        """Copy intact files or folders into the folder of the input."""
        for name in names:
            source = self.stock / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.box / name)


def make(seed: int, box: Path, stock: Path, *, kinds: tuple[str, ...], quick: bool) -> Case:
    """Put the files of an input into the empty folder `box`; with `quick`, one that compiles no program."""
    rng = random.Random(seed)
    kind = rng.choice(kinds)
    return KINDS[kind](Maker(rng, box, stock, quick))._replace(kind=kind)


# Intact files


def stock_up(folder: Path) -> None:
    """Write the files that are mutated; the folder is empty."""
    for number, (name, (form, encoding, rate, channels)) in enumerate(ENCODINGS.items()):
        wave = np.interp(np.arange(0, 0.8, 1 / rate), np.arange(16_000) / 16_000, material.voice(1.0, number))
        (folder / "sounds").mkdir(exist_ok=True)
        soundfile.write(folder / "sounds" / name, np.stack([wave] * channels, 1), rate, encoding, format=form)
    for name in ("clean", "noisy"):
        (folder / name).mkdir()
        for number in range(4):
            wav = material.voice(0.7 + 0.1 * number, number)
            soundfile.write(
                folder / name / f"{number}.flac", wav + (name == "noisy") * material.noise(9, 0)[: len(wav)], 16_000
            )
    _stock_tables(folder)
    _stock_documents(folder)


def _rows() -> list[dict[str, Any]]:
    """Return the rows of a manifest that every command on manifests can use."""
    from sfjax.text import phones

    rows = []
    tokens = phones.spell([["HH", "AH"], ["D", "AO", "G"]])
    for number in range(4):
        frames = round(16_000 * (0.7 + 0.1 * number))
        files = {"path": f"clean/{number}.flac", "noisy": f"noisy/{number}.flac"}
        place = {"start": 0, "frames": frames, "rate": 16_000, "split": "valid" if number == 3 else "train"}
        facts = {"speaker": f"s{number // 2}", "text": "a dog", "kind": "speech"}
        mixed = {"sources": [*files.values()], "gains": [1.0, 0.5]}
        lengths = [10] + [5] * (len(tokens) - 2) + [frames // 160 - 10 - 5 * (len(tokens) - 2)]
        aligned = {"phones": list(tokens), "lengths": lengths, "words": ["a", "dog"]}
        rows.append(files | place | facts | mixed | aligned)
    return rows


def _stock_tables(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sfjax.data import manifest

    rows = _rows()
    manifest.write(folder / "m.parquet", rows)
    (folder / "m.stats.json").write_text(json.dumps({"made_by": "sfjax", "mixed": 0, "corpus": None}))
    lines = [{"path": row["path"], "text": "a dog", "speaker": "s", "offset": 0.1, "duration": 0.5} for row in rows]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"type": "file", "channels": [0], "source": str(folder / "clean/0.flac")}
    cut = {
        "type": "MonoCut",
        "id": "a",
        "start": 0.1,
        "duration": 0.4,
        "channel": 0,
        "supervisions": [{"text": "a", "speaker": "s"}],
    }
    (folder / "cuts.jsonl").write_text(json.dumps(cut | {"recording": {"sources": [source]}}) + "\n")
    alignments = [
        {"id": str(number), "words": [["a", [["HH", 10, 15], ["AH", 15, 20]]], ["dog", [["D", 22, 27], ["G", 27, 40]]]]}
        for number in range(4)
    ]
    (folder / "align.jsonl").write_text("".join(json.dumps(line) + "\n" for line in alignments))
    sounds = [{"bytes": (folder / row["path"]).read_bytes(), "path": row["path"]} for row in rows]
    pq.write_table(pa.table({"audio": sounds, "text": ["a dog"] * 4, "speaker_id": [1] * 4}), folder / "set.parquet")
    header = "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain\n"
    (folder / "libri2mix_dev-clean.csv").write_text(f"{header}s0-1_s1-2,clean/0.flac,0.5,clean/1.flac,0.7\n")


def _stock_documents(folder: Path) -> None:
    from sfjax.text import durations, phones, textgrid

    row = _rows()[0]
    line = phones.Line(tuple(row["phones"]), tuple(row["lengths"]), tuple(row["words"]))
    textgrid.write_textgrid(folder / "a.TextGrid", line)
    durations.write(folder / "durations.json", [line], hop_seconds=0.01)
    (folder / "a.dict").write_text("dog D AO1 G\ncat K AE1 T\n")
    (folder / "notes.md").write_text("licence: CC0\n\nTrained on nothing.\n")
    for name in ("run0", "run1"):
        (folder / "runs" / name).mkdir(parents=True)
        config = {"data": {"seconds": 4.0}, "process": "flow", "task": {"name": "enhance"}, "seed": int(name[-1])}
        (folder / "runs" / name / "config.json").write_text(json.dumps(config))
        steps = [{"step": step, "loss": 1 / step, "valid_enhance": 2 / step} for step in (1, 2, 3)]
        (folder / "runs" / name / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        (folder / "runs" / name / "scores.json").write_text(json.dumps({"made_by": "sfjax", "mean": {"pesq_wb": 2.0}}))
    clips = {f"{n}": {"system": "ab"[n % 2], "item": f"i{n // 2}"} for n in range(4)}
    key = {"page": "p", "each": 2, "systems": ["a", "b"], "clips": clips, "onboarding": [{"better": "x", "worse": "y"}]}
    (folder / "page").mkdir()
    (folder / "page/key.json").write_text(json.dumps(key))
    scores = [{"clip": clip, "score": 1 + int(clip)} for clip in clips]
    answers = {"page": "p", "rater": "r", "headset": True, "onboarding": ["x"], "answers": scores}
    (folder / "answers.json").write_text(json.dumps(answers))


# Mutations


def _value(rng: random.Random) -> Any:
    """Return a value that few fields expect; it may be changed."""
    return copy.deepcopy(rng.choice(VALUES))


def mutate_bytes(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Return content with bits flipped, bytes cut, inserted, repeated or zeroed, header numbers replaced, or joined."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        end = len(data)
        start = rng.randrange(end + 1) if rng.random() < 0.5 else rng.randrange(min(end, 80) + 1)
        length = min(rng.choice((1, 2, 4, 16, 500)), end - start)
        match rng.randrange(10):
            case 0 | 1:
                for _ in range(rng.choice((1, 3, 30))):
                    at = rng.randrange(min(end, rng.choice((64, 10**9)))) if end else None
                    if at is not None:
                        data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[start:]
            case 3 | 4:
                number = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, rng.getrandbits(32), end, 255))
                data[start : start + 4] = struct.pack(rng.choice("<>") + "I", number)
            case 5:
                data[start : start + length] = bytes(length)
            case 6:
                data[start:start] = rng.randbytes(rng.choice((1, 8, 3000)))
            case 7:
                del data[start : start + length]
            case 8:
                data += rng.choice((bytes(data), other, other[:50], b"\0" * 2000))
            case 9:
                data[:] = rng.choice((b"", other, bytes(data[:20]), rng.randbytes(5000), b"\0" * 5000, b"text\n" * 99))
    return bytes(data)


def mutate_text(rng: random.Random, *, longest: int = 300) -> str:
    """Return words with odd ones between them, of at most so many characters."""
    words = [
        rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(ODDITIES) for _ in range(rng.choice((0, 1, 3, 6, 12)))
    ]
    if rng.random() < 0.3:
        words.append(
            "".join(
                chr(rng.choice((rng.randrange(1, 0x250), rng.randrange(1, 0x30000))))
                for _ in range(rng.choice((1, 5, 30)))
            )
        )
    text = rng.choice((" ", " ", "", ", ", "\n")).join(words)
    if rng.random() < 0.2:
        text *= rng.choice((2, 50, 20_000))
    return text[:longest]


def mutate_json(rng: random.Random, document: Any) -> Any:
    """Return a document with a few values replaced, removed, added or repeated."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 2, 4))):
        holders = list(_holders(document))
        if not holders:
            return _value(rng)
        holder = rng.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys or rng.random() < 0.1:
            holder.update({rng.choice(("a", "path", "")): _value(rng)}) if isinstance(holder, dict) else holder.append(
                _value(rng)
            )
            continue
        key = rng.choice(keys)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 2 if isinstance(holder[key], int | float):
                holder[key] *= rng.choice((-1, 0.5, 1000, 1e12))
            case _:
                holder[key] = _value(rng)
    return document


def _holders(document):
    """Yield every object and array of a document."""
    if isinstance(document, dict | list):
        yield document
        for value in document.values() if isinstance(document, dict) else document:
            yield from _holders(value)


def mutate_file(maker: Maker, path: Path) -> None:
    """Mutate a text file in place: its JSON, its lines or its bytes."""
    rng, content = maker.rng, path.read_bytes()
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    if path.suffix == ".json" and maker.often(0.6):
        path.write_text(json.dumps(mutate_json(rng, json.loads(content))), encoding="utf-8", errors="surrogatepass")
    elif path.suffix == ".jsonl" and maker.often(0.6):
        documents = [mutate_json(rng, json.loads(line)) if rng.random() < 0.6 else json.loads(line) for line in lines]
        path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    elif lines and maker.often(0.5):
        at = rng.randrange(len(lines))
        cells = lines[at].split(" ")
        cells[rng.randrange(len(cells))] = rng.choice((rng.choice(ODDITIES), str(_value(rng))))
        lines[at] = " ".join(cells)
        lines[at : at + 1] = rng.choice(([], [lines[at]], [lines[at]] * 2, [lines[at][: len(lines[at]) // 2]]))
        path.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(mutate_bytes(rng, content, b"\xff\xfe\0{}[]"))


def mutate_table(rng: random.Random, table: Any) -> Any:
    """Return an Arrow table with columns removed, renamed or of another type, and rows changed, repeated or removed."""
    import pyarrow as pa

    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(columns) or ["path"])
        values = columns.pop(name, [])
        match rng.randrange(6):
            case 0:
                pass
            case 1:
                columns[rng.choice(("Path", "x", "noise", "prompt", "anew", "estimate", "noise_gain"))] = values
            case 2:
                columns[name] = [_value(rng)] * len(values)
            case _:
                columns[name] = [_value(rng) if rng.random() < 0.5 else value for value in values]
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
            if "struct<>" in str(arrays[name].type):  # Parquet has no such type
                raise TypeError
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
            arrays[name] = pa.array([repr(value) for value in values])
    rows = rng.choice((None, None, None, [], [0, 0, 1, 2, 3], [3, 2, 1, 0]))
    mutated = pa.table(arrays)
    return mutated if rows is None or not mutated.num_rows else mutated.take(pa.array(rows, pa.int64()))


# Kinds of inputs


def sound(maker: Maker) -> Case:
    """A mutated sound file, for the commands that read recordings."""
    rng, box = maker.rng, maker.box
    source, other = ((maker.stock / "sounds" / rng.choice(list(ENCODINGS))) for _ in range(2))
    content = mutate_bytes(rng, source.read_bytes(), other.read_bytes()) if maker.often(0.9) else source.read_bytes()
    name = rng.choice(NAMES) if maker.often(0.15) else "a"
    path = box / "in" / f"{name}{source.suffix if maker.often(0.8) else rng.choice(SUFFIXES)}"
    path.parent.mkdir()
    path.write_bytes(content)
    if maker.often(0.2):
        shutil.copy(other, box / "in" / f"good{other.suffix}")
    file = str(path.relative_to(box))
    quick = [
        Case("", ["prepare", "folder", "in", "out.parquet", "--workers", "1", "--min-seconds", "0.1"]),
        Case("", ["prepare", "folder", "in", "out.parquet", "--workers", "1", "--shards"]),
        Case("", _prepare_pairs(maker, path)),
        Case("", ["mos", "make", "a=in", "b=in", "-o", "page"]),
        Case("", functools.partial(_read_everything, path)),
    ]
    if maker.quick:
        return rng.choice(quick)
    text = ["--prompt-text", "good day"]
    one = ("out.wav",)
    slow = [
        Case("", ["enhance", file, "-o", "out", *NOW]),
        Case("", ["enhance", "in", *NOW, *rng.choice(([], ["--json"], ["--plot", "p.png"]))]),
        Case("", ["enhance", "-", *NOW, *rng.choice(([], ["-o", "out"]))], content),
        Case("", ["separate", file, "-o", "out", "--model", "sfjax://separate", *NOW]),
        Case("", ["infill", file, "-o", "out.wav", "--model", "sfjax://base", *NOW, "--gaps", "0.2-0.3"], b"", one),
        Case(
            "",
            ["infill", file, "-o", f"out{path.suffix}", "--model", "sfjax://base", *NOW],
            b"",
            (f"out{path.suffix}",),
        ),
        Case("", ["edit", file, "--from", "good day", "--to", "good night", "-o", "out.wav", *NOW], b"", one),
        Case("", ["speak", "hello", "--prompt", file, *text, "-o", "out.wav", *NOW], b"", one),
    ]
    if maker.often(0.03):
        return Case("", ["score", "--reference", str(source), "--estimate", file, "--workers", "1", "-o", "out.json"])
    return _with_foreign_file(maker, rng.choice((*slow, *slow, *quick)))


def _prepare_pairs(maker, path):
    (maker.box / "noisy").mkdir()
    shutil.copy(path, maker.box / "noisy")
    return ["prepare", "pairs", "in", "noisy", "out.parquet", "--workers", "1", "--min-seconds", "0.1"]


def _read_everything(path):
    """Read a file in all ways, which must agree on its length."""
    from sfjax import audio

    info = audio.probe(path)
    wave, rate = audio.read(path)
    pieces = list(audio.blocks(path, rate=rate, seconds=0.1))
    assert len(wave) == sum(map(len, pieces)) and rate == info.rate, f"{path}: its lengths differ"


def _with_foreign_file(maker, case):
    """Sometimes put a file of another program where the command writes."""
    for name in case.outputs:
        if maker.often(0.15):
            (maker.box / name).write_text("mine")
    if isinstance(case.run, list) and "out" in case.run and maker.often(0.1):
        (maker.box / "out").mkdir()
        for path in (maker.box / "in").glob("*"):
            (maker.box / "out" / path.name).write_text("mine")
    return case


def text(maker: Maker) -> Case:
    """A mutated text, for speaking, editing, and the functions on texts."""
    rng, box = maker.rng, maker.box
    written = mutate_text(rng)
    if maker.quick or maker.often(0.5):
        longer = mutate_text(rng, longest=rng.choice((300, 20_000)))
        return Case(
            "", rng.choice((functools.partial(_say, longer), functools.partial(_compare, longer, mutate_text(rng))))
        )
    soundfile.write(box / "a.wav", material.voice(1.2, 0), 16_000)
    argument = written.replace("\0", "")
    content = rng.choice(
        (written.encode("utf-8", "surrogatepass"), written.encode("utf-16", "surrogatepass"), rng.randbytes(50))
    )
    flags = ["-o", "out.wav", *NOW]
    if maker.often(0.3):
        flags += rng.choice((["--speed", str(_value(rng))], ["--guidance", str(_value(rng))], ["--seed", "-1"]))
    case = rng.choice(
        (
            Case("", ["speak", argument, *flags, "--textgrid", "out.TextGrid"], b"", ("out.wav",)),
            Case("", ["speak", "-", *flags, "--write-durations", "out.json"], content, ("out.wav",)),
            Case("", ["speak", "hello", "--prompt", "a.wav", "--prompt-text", argument, *flags], b"", ("out.wav",)),
            Case("", ["edit", "a.wav", "--from", argument, "--to", "good night", *flags], b"", ("out.wav",)),
            Case("", ["edit", "a.wav", "--from", "good day", "--to", argument, *flags], b"", ("out.wav",)),
            Case("", ["infill", "a.wav", "--gaps", argument, "--model", "sfjax://base", *flags], b"", ("out.wav",)),
        )
    )
    return _with_foreign_file(maker, case)


def _say(written):
    from sfjax.text import encoding, g2p

    encoding.check_characters(written)
    lexicon = g2p.default_lexicon()
    plain = frozenset(symbol for entry in lexicon.values() for symbol in entry)
    g2p.Pronouncer(lexicon, plain)(written)


def _compare(reference, hypothesis):
    from sfjax.metrics import wer

    wer.rate([wer.word_errors(reference, hypothesis)])


# Commands, and the files to mutate for them; one file is drawn
TABLES = """
prepare merge m.parquet out.parquet | m.parquet m.stats.json
prepare subset m.parquet out.parquet --hours 0.0001 | m.parquet
prepare subset m.parquet out.parquet --hours nan | m.parquet
prepare mixtures m.parquet out.parquet --count 2 | m.parquet
prepare mixtures m.parquet out.parquet --count 2 --noise noise.parquet | noise.parquet
prepare protocol m.parquet out.parquet --between 0.1 9 --seconds 0.2 --kind cross | m.parquet
prepare protocol m.parquet out.parquet --between 0.1 9 --seconds 0.2 --kind continued | m.parquet
prepare protocol m.parquet out.parquet --between 0.1 9 --seconds 0.2 --kind edited | m.parquet
prepare align m.parquet align.jsonl out.parquet | m.parquet align.jsonl
prepare jsonl list.jsonl out.parquet --workers 1 --min-seconds 0.1 | list.jsonl
prepare lhotse cuts.jsonl out.parquet --workers 1 --min-seconds 0.1 | cuts.jsonl
prepare parquet set.parquet out.parquet --workers 1 --min-seconds 0.1 | set.parquet
prepare librimix libri2mix_dev-clean.csv out.parquet --speech . --workers 1 | libri2mix_dev-clean.csv
"""
SLOW_TABLES = """
speak-list m.parquet -o out --solver euler --steps 1 --duration-model sfjax://durations | m.parquet
cache-mels --manifest m.parquet -o out --model sfjax://enhance --solver euler --steps 1 | m.parquet
cache-mels --manifest m.parquet -o out --model sfjax://separate --solver euler --steps 1 | m.parquet
"""
SCORED_TABLES = """
evaluate --system noisy --manifest m.parquet --workers 1 -o out.json | m.parquet
wer clean --text m.parquet --transcriber command:cat --workers 1 -o out.json | m.parquet
wer clean --text list.jsonl --transcriber command:cat --workers 1 -o out.json | list.jsonl
"""


def _choose(rng, commands):
    """Return the words of a command of such a table, and the file to mutate for it."""
    words, _, files = rng.choice([line for line in commands.splitlines() if line]).partition(" | ")
    return words.split(), rng.choice(files.split())


def manifest(maker: Maker) -> Case:
    """A mutated manifest or list, for the commands that read them."""
    import pyarrow.parquet as pq

    rng, box = maker.rng, maker.box
    maker.take("clean", "noisy", "m.parquet", "m.stats.json", "list.jsonl", "cuts.jsonl", "align.jsonl", "set.parquet")
    maker.take("libri2mix_dev-clean.csv")
    shutil.copy(box / "m.parquet", box / "noise.parquet")
    commands = TABLES
    if not maker.quick:
        commands = SCORED_TABLES if maker.often(0.02) else TABLES + SLOW_TABLES
    words, name = _choose(rng, commands)
    run: Any = words
    if not maker.quick and maker.often(0.2):
        task = rng.choice(("enhance", "pretrain", "separate", "speak", "durations"))
        fields = ["--config.data.train=m.parquet", "--config.mix.noise=noise.parquet", "--config.mixture.noise="]
        run, name = _dry(maker, f"{task}.py:tiny", fields, traced=False), rng.choice(("m.parquet", "noise.parquet"))
    path = box / name
    if path.suffix == ".parquet" and maker.often(0.8):
        pq.write_table(mutate_table(rng, pq.read_table(path)), path)
    else:
        mutate_file(maker, path)
    return Case("", run)


def config(maker: Maker) -> Case:
    """A config with mutated overrides: read and traced, or trained for a step."""
    rng = maker.rng
    maker.take("clean", "noisy", "m.parquet")
    task = rng.choice(
        ("enhance", "pretrain", "separate", "speak", "durations", "vocode", "phase", "restore", "several")
    )
    words = ["--config.data.train=m.parquet", "--config.mix.noise=m.parquet"]
    fields = _fields(task)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name, value = rng.choice(fields)
        new: Any = _value(rng)
        if isinstance(value, tuple) and maker.often(0.7):
            new = tuple(rng.choice((*value, _value(rng))) for _ in range(rng.choice((len(value), 1, 3))))
        elif isinstance(value, int | float) and maker.often(0.7):
            new = rng.choice((value * 2, -value, value + 1, 0, 1e9, math.nan, math.inf, 3, 1e-9))
        words.append(f"--config.{name}{rng.choice(('', '', '', '', '', 'x', '.x'))}={new}")
    if maker.quick or maker.often(0.95):
        return Case("", _dry(maker, f"{task}.py:tiny", words, traced=not maker.quick and maker.often(0.3)))
    words = [word for word in words if word.startswith(TRAINED)]
    return Case("", ["train", "--config=enhance.py:tiny", "--workdir=run", *SMALL, *BRIEF, *words])


def _overrides(**fields):
    return [f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()]


SMALL = _overrides(model__width=32, model__ffn=64, model__layers=2, model__unroll=1, model__attention_block=0)
SMALL += _overrides(data__buckets=(0.5,), data__seconds=1)
BRIEF = _overrides(optim__updates=1, run__workers=0, run__valid_batches=0, run__pictures=0)
TRAINED = ("--config.data", "--config.mix.", "--config.run", "--config.optim", "--config.ema")  # keep the program


@functools.cache
def _fields(task):
    from sfjax.cli.config_file import load_config

    def flat(section, before):
        for name, value in section.items():
            yield from flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]

    return list(flat(load_config(f"{task}.py:tiny", []).to_dict(), ""))


def _dry(maker, spec, words, *, traced):
    """Return a function that does what `sfjax train` does before it compiles; with `traced`, also trace a step."""
    small = SMALL if spec.startswith(("enhance", "pretrain", "separate", "speak")) and maker.often(0.9) else ()

    def dry():
        import jax

        from sfjax import sharding, train
        from sfjax.cli.config_file import load_config
        from sfjax.config import read
        from sfjax.data import inventory

        config = read(inventory.with_phones(load_config(spec, [*small, "--config.run.workers=0", *words])))
        mesh = sharding.mesh(**config.mesh)
        program = train.make_program(config)
        training, _ = train.readers(config)
        training.plan.check_divides(sharding.parts(mesh), config.accumulate)
        training(0)
        if traced:
            like, step = train.on_mesh(program, mesh)
            batch = train.batch_shapes(config.task, config.mel, config.data, mesh, pieces=config.accumulate)
            jax.eval_shape(step, like, batch)

    return dry


def model(maker: Maker) -> Case:
    """A mutated exported folder, for the commands that load models."""
    from sfjax.export import locate

    rng, box = maker.rng, maker.box
    name = "durations" if maker.quick else rng.choice(("durations", "enhance", "vocoder", "durations", "speak"))
    folder = box / "model"
    shutil.copytree(locate.OWN / name, folder)
    path = folder / rng.choice(
        ("config.json", "config.json", "model.safetensors", "model.safetensors", "README.md", "SHA256SUMS")
    )
    match rng.randrange(8):
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            rng.choice((path.mkdir, lambda: path.symlink_to("/etc/hostname"), lambda: path.symlink_to("gone")))()
        case _ if path.suffix == ".safetensors":
            path.write_bytes(_mutate_tensors(rng, path.read_bytes()))
        case _:
            mutate_file(maker, path)
    if path.name != "SHA256SUMS" and maker.often(0.8):
        files = [folder / file for file in locate.FILES if (folder / file).is_file()]
        (folder / "SHA256SUMS").write_text("".join(f"{locate.digest(file)}  {file.name}\n" for file in files))
    soundfile.write(box / "a.wav", material.voice(0.8, 0), 16_000)
    quick = [
        ["info", "model"],
        ["info", "model", "--json"],
        [
            "export",
            "--workdir",
            "model",
            "-o",
            "out",
            "--dtype",
            rng.choice(("float32", "float16", "bfloat16", "int8")),
        ],
    ]
    if maker.quick:
        return Case("", rng.choice(quick))
    flag = {"durations": "--duration-model", "vocoder": "--vocoder"}.get(name, "--model")
    speak = ["speak", "hello", flag, "model", "-o", "out.wav", *NOW]
    speak += ["--duration-model", "sfjax://durations"] if name == "speak" else []
    use = ["enhance", "a.wav", "--model", "model", "-o", "out", *NOW] if name == "enhance" else speak
    return Case("", rng.choice((*quick, use)))


def _mutate_tensors(rng, content):
    """Mutate the JSON of the header of a safetensors file, or any bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    if rng.random() < 0.4:
        return mutate_bytes(rng, content[: 8 + length], b"") + content[8 + length :]
    if rng.random() < 0.3:
        return mutate_bytes(rng, content, b"{}")
    header = json.dumps(mutate_json(rng, json.loads(content[8 : 8 + length]))).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def array(maker: Maker) -> Case:
    """An odd array or argument, for the functions of a loaded model."""
    rng = maker.rng
    wave, rate = (
        _odd_array(rng),
        rng.choice((16_000, 16_000, 16_000, 8_000, 44_100, np.int64(22_050), 16_000.0, *VALUES)),
    )
    options: dict[str, Any] = {"solver": "euler", "steps": 1}
    if maker.often(0.3):
        options[rng.choice(("steps", "guidance", "sway", "solver", "tolerance", "seed", "speed"))] = _value(rng)
    text = rng.choice(("good day", mutate_text(rng)))
    gaps, waves = rng.choice(GAPS), [_odd_array(rng, types=TYPES[:3]) for _ in range(2)]

    def score():
        from sfjax import metrics

        metrics.score(*(np.ravel(wave) for wave in waves), 16_000)

    def use(name, method, *arguments, **keywords):
        import sfjax

        getattr(sfjax.load(name), method)(*arguments, **keywords, **options)

    if maker.quick:
        return Case("", score)
    plain = material.voice(1.0, 0)
    return Case(
        "",
        rng.choice(
            (
                functools.partial(use, "sfjax://enhance", "enhance", wave, rate),
                functools.partial(use, "sfjax://separate", "separate", wave, rate),
                functools.partial(use, "sfjax://base", "infill", wave, rate, gaps=gaps),
                functools.partial(use, "sfjax://base", "infill", plain, 16_000, gaps=gaps),
                functools.partial(use, "sfjax://speak", "speak", "hello", prompt=(wave, rate, text)),
                functools.partial(use, "sfjax://speak", "speak", text, prompt=(plain, 16_000, "good day")),
                functools.partial(use, "sfjax://speak", "edit", plain, rate, old="good day", new=text),
                score,
            )
        ),
    )


TYPES = "float32 float64 float16 int16 int32 uint8 int8 int64 bool complex64 object U4".split()
SHAPES = ((9_000,), (8_000, 2), (2, 8_000), (1, 16_000), (0,), (1,), (639,), (640,), (), (3, 3, 3), (5, 0), (70_000,))
GAPS = (
    None,
    [],
    [(5, 2)],
    [(0, 0)],
    [(100, 3_000)],
    [(-5, 10)],
    [(0, 10**9)],
    [(0.5, 1.5)],
    [(1,)],
    [(9, 99), (50, 99)],
)
NO_ARRAYS = (None, "a.wav", 5, b"abc", {}, Path("none"))


def _odd_array(rng, *, types=()):
    """Return an array of any type and shape, or no array; with `types`, always an array of one of these types."""
    kind, shape = rng.choice(types or TYPES), rng.choice((*[(16_000,)] * 4, *SHAPES))
    values = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.choice((0.1, 0, 1e-30, 30, 3e4, 1e30)), shape)
    if rng.random() < 0.2 and values.size:
        values.flat[rng.randrange(values.size)] = rng.choice((math.nan, math.inf, 1e300))
    with np.errstate(all="ignore"):
        array = (values * 3e4 if kind.startswith(("int", "uint")) else values).astype(kind)
    return array if types else rng.choice((*[array] * 8, array.tolist(), rng.choice(NO_ARRAYS)))


DOCUMENTS = """
report runs -o out.csv | runs/run0/config.json runs/run1/metrics.jsonl runs/run0/scores.json
report runs -o out.json out.png | runs/run0/config.json runs/run1/metrics.jsonl runs/run0/scores.json
report runs -o runs/run0/config.json | runs/run1/config.json
mos score page answers.json -o out.json | page/key.json answers.json
mos score page answers.json -o notes.md | answers.json
export --workdir sfjax://durations -o out --notes notes.md | notes.md
export --workdir sfjax://durations -o page --notes notes.md | notes.md
"""
SPOKEN_DOCUMENTS = """
speak dog -o out.wav --solver euler --steps 1 --durations durations.json | durations.json
speak cat -o out.wav --solver euler --steps 1 --lexicon a.dict | a.dict
speak cat -o out.wav --solver euler --steps 1 --prompt a.wav --prompt-textgrid a.TextGrid | a.TextGrid
edit a.wav --textgrid-in a.TextGrid --to cat -o out.wav --solver euler --steps 1 | a.TextGrid
"""


def document(maker: Maker) -> Case:
    """A mutated TextGrid, durations, lexicon, run folder, answers of a listening test or notes."""
    maker.take("a.TextGrid", "durations.json", "a.dict", "notes.md", "runs", "page", "answers.json")
    soundfile.write(maker.box / "a.wav", material.voice(0.7, 0), 16_000)
    words, name = _choose(maker.rng, DOCUMENTS if maker.quick else DOCUMENTS + SPOKEN_DOCUMENTS)
    mutate_file(maker, maker.box / name)
    return Case("", words)


KINDS: dict[str, Callable[[Maker], Case]] = {
    "sound": sound,
    "text": text,
    "manifest": manifest,
    "config": config,
    "model": model,
    "array": array,
    "document": document,
}
