"""Alignments in TextGrids and JSON Lines are read and written, and `sfjax prepare align` adds them to a manifest."""

import dataclasses
import gzip
import json
import lzma

import numpy as np
import pytest

from sfjax import audio
from sfjax.data import attach_phones, manifest
from sfjax.errors import UserError
from sfjax.text import phones, textgrid
from sfjax.text.textgrid import Alignment, Phone, Word

HELLO = [
    ["<sil>", [["SIL", 0, 8]]],
    ["hello", [["HH", 8, 15], ["AH", 15, 30]]],
    ["<sil>", [["SIL", 30, 31]]],
    ["", [["sp", 31, 34]]],
]
THERE = [["there", [["DH", 34, 40], ["EH", 40, 66], ["R", 66, 75]]], ["so", [["S", 75, 90], ["OW", 90, 110]]]]
WORDS = (
    Word("hello", (Phone("HH", 8, 15), Phone("AH", 15, 30))),
    Word("there", (Phone("DH", 34, 40), Phone("EH", 40, 66), Phone("R", 66, 75))),
    Word("so", (Phone("S", 75, 90), Phone("OW", 90, 110))),
)
LINE = phones.line(Alignment(WORDS, None, 0), 120)


def put_jsonl(path, entries):
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    return path


def put_grid(path, words, spoken, end, encoding="utf-8"):
    """A TextGrid in Praat's long form, with just the intervals that are given."""
    text = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = {end} \n'
    text += "tiers? <exists> \nsize = 2 \nitem []: \n"
    for number, (name, tier) in enumerate({"words": words, "phones": spoken}.items(), 1):
        text += f'    item [{number}]:\n        class = "IntervalTier" \n        name = "{name}" \n'
        text += f"        xmin = 0 \n        xmax = {end} \n        intervals: size = {len(tier)} \n"
        for place, (start, stop, label) in enumerate(tier, 1):
            text += f"        intervals [{place}]:\n            xmin = {start} \n            xmax = {stop} \n"
            text += f'            text = "{label}" \n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


# TextGrids

PAUSED = [(0, 0.08, ""), (0.08, 0.3, "hé"), (0.3, 0.5, "")], [(0, 0.08, ""), (0.08, 0.3, "EY1"), (0.3, 0.5, "sp")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_textgrid_is_read_in_every_encoding(tmp_path, encoding):
    path = put_grid(tmp_path / "a.TextGrid", *PAUSED, 0.5, encoding)
    expected = Alignment((Word("hé", (Phone("EY1", 8, 30),)),), 50, 0)
    assert textgrid.read_textgrid(path) == expected
    if encoding in ("utf-16-le", "utf-16-be"):  # as Praat writes them, with their mark
        path.write_bytes("\ufeff".encode(encoding) + path.read_bytes())
        assert textgrid.read_textgrid(path) == expected


@pytest.mark.parametrize("old, new", [(" = ", "="), (" = ", "  =\t"), ("item [", "item["), ("\n", "\r\n")])
def test_white_space_does_not_matter_in_a_textgrid(tmp_path, old, new):
    expected = textgrid.read_textgrid(put_grid(tmp_path / "a.TextGrid", *PAUSED, 0.5))
    (tmp_path / "b.TextGrid").write_bytes((tmp_path / "a.TextGrid").read_bytes().replace(old.encode(), new.encode()))
    assert textgrid.read_textgrid(tmp_path / "b.TextGrid") == expected


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid", "json", "textgrid_json"])
def test_a_textgrid_is_read_in_every_form(tmp_path, form):
    from praatio import textgrid as praat

    put_grid(tmp_path / "a.TextGrid", *PAUSED, 0.5)
    praat.openTextgrid(str(tmp_path / "a.TextGrid"), True).save(str(tmp_path / "b.TextGrid"), form, True)
    assert textgrid.read_textgrid(tmp_path / "b.TextGrid") == textgrid.read_textgrid(tmp_path / "a.TextGrid")


@pytest.mark.parametrize("seed", range(5))
def test_what_was_written_is_read_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    spelled = phones.spell([["AH0"] * int(rng.integers(1, 5)) for _ in range(rng.integers(0, 30))])
    lengths = [int(rng.integers(0, 3) if token == "SIL" else rng.integers(1, 30)) for token in spelled]
    lengths[-1] += 1
    words = tuple(f'say "{number}"' for number in range(spelled.count("SIL") - 1))
    line = phones.Line(spelled, tuple(lengths), words)
    textgrid.write_textgrid(tmp_path / "sub/a.TextGrid", line)
    read = textgrid.read_textgrid(tmp_path / "sub/a.TextGrid")
    assert (read.frames, read.repaired) == (sum(lengths), 0)
    assert phones.line(read, sum(lengths)) == line


def test_another_reader_finds_the_tiers_and_seconds_that_were_written(tmp_path):
    from praatio import textgrid as praat

    textgrid.write_textgrid(tmp_path / "a.TextGrid", LINE)
    grid = praat.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones") and grid.maxTimestamp == 1.2
    words = [tuple(entry) for entry in grid.getTier("words").entries]
    assert words == [
        (0, 0.08, ""),
        (0.08, 0.3, "hello"),
        (0.3, 0.34, ""),
        (0.34, 0.75, "there"),
        (0.75, 1.1, "so"),
        (1.1, 1.2, ""),
    ]
    labels = [entry.label for entry in grid.getTier("phones").entries]
    assert labels == ["", "HH", "AH", "", "DH", "EH", "R", "S", "OW", ""]


def test_phones_without_frames_are_left_out_of_a_textgrid(tmp_path):
    shorter = LINE._replace(lengths=tuple(0 if token == "EH_I" else n for token, n in zip(*LINE[:2], strict=True)))
    textgrid.write_textgrid(tmp_path / "a.TextGrid", shorter)
    read = textgrid.read_textgrid(tmp_path / "a.TextGrid")
    assert [phone.symbol for phone in read.words[1].phones] == ["DH", "R"]


def test_neighbours_meet_in_frames_whatever_their_digits(tmp_path):
    """Boundaries between two frames, the same one printed in two ways, are one boundary."""
    edges = [0, 0.015, 0.0449999, 0.105, 0.155, 0.2]
    spoken = [(a + 3e-5 * (i % 2), b, "T") for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))]
    read = textgrid.read_textgrid(put_grid(tmp_path / "a.TextGrid", [(0, 0.2, "word")], spoken, 0.2))
    line = phones.line(read, 20)
    assert read.repaired == 0 and line.lengths[0] == line.lengths[-1] == 0
    ends = np.cumsum(line.lengths[1:-1])
    assert np.abs(ends - 100 * np.array(edges[1:])).max() < 0.6


@pytest.mark.parametrize("overlap, repaired", [(1e-9, 0), (0.004, 1), (0.02, 1), (0.021, None), (0.1, None)])
def test_tiny_overlaps_are_repaired_and_larger_ones_refused(tmp_path, overlap, repaired):
    spoken = [(0, 0.2, "T"), (0.2 - overlap, 0.5, "UW")]
    path = put_grid(tmp_path / "a.TextGrid", [(0, 0.5, "two")], spoken, 0.5)
    if repaired is None:
        with pytest.raises(UserError, match=rf"^{path}: 'UW' at 0\.1. s of the tier 'phones' starts 0\..* s before"):
            textgrid.read_textgrid(path)
    else:
        read = textgrid.read_textgrid(path)
        assert read == Alignment((Word("two", (Phone("T", 0, 20), Phone("UW", 20, 50))),), 50, repaired)


def test_a_textgrid_that_was_cut_anywhere_is_refused_in_a_line(tmp_path):
    whole = put_grid(tmp_path / "whole.TextGrid", *PAUSED, 0.5).read_bytes()
    path = tmp_path / "cut.TextGrid"
    for end in range(0, len(whole) - 3, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=f"^{path}: ") as refusal:
            textgrid.read_textgrid(path)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "words, spoken, said",
    [
        ([(0, 0.3, "a"), (0.3, 0.5, "b")], [(0, 0.3, "AH"), (0.3, 0.5, "")], r"the word 'b' at 0\.30 s has no phones"),
        ([(0, 0.3, "a"), (0.3, 0.5, "")], [(0, 0.3, "AH"), (0.3, 0.5, "B")], r"the phone 'B' at 0\.30 s lies outside"),
        ([(0, 0.3, ""), (0.3, 0.5, "a")], [(0, 0.3, "B"), (0.3, 0.5, "AH")], r"the phone 'B' at 0\.00 s lies outside"),
        ([(0, 0.3, ""), (0.3, 0.5, "a")], [(0, 0.27, ""), (0.27, 0.5, "AH")], r"the phone 'AH' at 0\.27 s lies outsi"),
        ([(0, 0.3, "a"), (0.3, 0.5, "")], [(0, 0.3, "AH")], "the tier 'phones' must last 0.50 s, but stops at 0.30"),
        ([(0, 0.3, "a")], [(0, 0.3, "AH"), (0.3, 0.5, "")], "the tier 'words' must last 0.50 s"),
        ([(0, 0.5, "a")], [(0.3, 0.1, "AH"), (0.3, 0.5, "")], "'AH' at 0.30 s of the tier 'phones' ends before it sta"),
        ([(0, 0.5, "a")], [(0.3, 0.5, "AH"), (0, 0.3, "B")], "'B' at 0.00 s of the tier 'phones' starts 0.500 s bef"),
    ],
)
def test_tiers_that_contradict_each_other_are_refused_in_a_line(tmp_path, words, spoken, said):
    path = put_grid(tmp_path / "a.TextGrid", words, spoken, 0.5)
    with pytest.raises(UserError, match=f"^{path}: {said}"):
        textgrid.read_textgrid(path)


POINTS = {
    "start": 0,
    "end": 1,
    "tiers": {n: {"type": "TextTier", "entries": [[0.1, "a"]]} for n in ("words", "phones")},
}

TIER = {"class": "IntervalTier", "xmin": 0, "xmax": 1, "entries": [[0, 1, "a"]]}
TWICE = {"xmin": 0, "xmax": 1, "tiers": [TIER | {"name": name} for name in ("words", "phones", "phones")]}


def test_what_is_no_textgrid_is_refused_in_a_line(tmp_path):
    whole = put_grid(tmp_path / "whole.TextGrid", *PAUSED, 0.5).read_text()
    broken = {
        "renamed": (whole.replace('"words"', '"orthography"').encode(), "expected one interval tier 'words'"),
        "twice": (
            json.dumps(TWICE).encode(),
            "expected one interval tier 'phones', got the tiers 'words', 'phones', 'ph",
        ),
        "points": (json.dumps(POINTS).encode(), "expected one interval tier 'words', got the tiers 'words', 'phones'"),
        "latin": (whole.encode("latin-1"), "expected a TextGrid in UTF-8 or UTF-16, got another encoding"),
        "sound": (bytes(range(256)) * 9, "expected a TextGrid in UTF-8 or UTF-16, got another encoding"),
        "list": (b"[1, 2]", "not readable as a TextGrid"),
        "object": (b"{}", "not readable as a TextGrid"),
        "text": (b"hello\nthere\n", "not readable as a TextGrid"),
        "numbers": (whole.replace("xmax = 0.08", "xmax = 0.0.8").encode(), "not readable as a TextGrid"),
        "empty": (b"", "not readable as a TextGrid"),
    }
    for name, (content, said) in broken.items():
        path = tmp_path / f"{name}.TextGrid"
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^{path}: {said}") as refusal:
            textgrid.read_textgrid(path)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="none.TextGrid: expected a TextGrid .No such file"):
        textgrid.read_textgrid(tmp_path / "none.TextGrid")


# Lists


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.xz", "jsonl.gz"])
def test_a_list_is_read_packed_or_not(tmp_path, suffix):
    path = put_jsonl(tmp_path / f"a.{suffix}", [{"id": "s/1", "words": HELLO + THERE}, {"id": "é", "words": HELLO[:1]}])
    assert textgrid.read_jsonl(path) == {"s/1": Alignment(WORDS, 110, 0), "é": Alignment((), 8, 0)}


@pytest.mark.parametrize(
    "line, said",
    [
        ("nonsense", "Expecting value"),
        ('{"id": "b", "words": [["so", [["S", 75', "Expecting|Unterminated"),
        ("[1, 2]", r"expected an object with 'id' and 'words', got \[1, 2\]"),
        ('{"id": "b"}', "expected an object"),
        ('{"id": 3, "words": []}', "expected an object"),
        ('{"id": "b", "words": "hello"}', "expected an object"),
        ('{"id": "b", "words": ["hello"]}', r"expected a word as \[text, phones\], got \"hello\""),
        ('{"id": "b", "words": [["hello", 3]]}', "expected a word"),
        ('{"id": "b", "words": [["a", [["AH", 1]]]]}', r"expected a phone as \[symbol, first frame, last frame \+ 1\]"),
        ('{"id": "b", "words": [["a", [["AH", 0.1, 0.2]]]]}', "expected a phone"),
        ('{"id": "b", "words": [["a", [["AH", -1, 2]]]]}', "expected a phone"),
        ('{"id": "b", "words": [["a", [["AH", 4, 2]]]]}', "expected a phone"),
        ('{"id": "b", "words": [["a", [[1, 2, 4]]]]}', "expected a phone"),
        ('{"id": "b", "words": [["a", []]]}', r"expected one phone or more .* in the word 'a', got \[\]"),
        (
            '{"id": "b", "words": [["a", [["SIL", 1, 2]]]]}',
            r"expected one phone or more .* in the word 'a', got \[\"SIL\"\]",
        ),
        ('{"id": "b", "words": [["<sil>", [["AH", 1, 2]]]]}', "expected only silence in the word '<sil>'"),
        ('{"id": "a", "words": []}', "the id 'a' occurs twice"),
        ("", "Expecting value"),
    ],
)
def test_a_line_that_is_no_alignment_is_named(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "words": []}\n' + line + "\n")
    with pytest.raises(UserError, match=f"^{path}: line 2: {said}") as refusal:
        textgrid.read_jsonl(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def test_a_list_that_is_cut_not_packed_empty_or_not_there_is_refused_in_a_line(tmp_path):
    entries = [{"id": f"{i}", "words": HELLO + THERE} for i in range(200)]
    for suffix in (".xz", ".gz"):
        whole = put_jsonl(tmp_path / f"a{suffix}", entries).read_bytes()
        for content in (whole[: len(whole) // 2], whole[:20] + b"damage" + whole[26:], b"plain", whole[:-3]):
            (tmp_path / f"b{suffix}").write_bytes(content)
            with pytest.raises(UserError, match=f"b{suffix}: (not readable after .* alignments|line 1?.*: )"):
                textgrid.read_jsonl(tmp_path / f"b{suffix}")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="empty.jsonl: expected alignments, one a line, found none"):
        textgrid.read_jsonl(tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match="none.jsonl: expected a list of alignments, found no such file"):
        textgrid.read_jsonl(tmp_path / "none.jsonl")


# Manifests


def row(path, frames=19_200, **known):
    return {"path": path, "start": 0, "frames": frames, "rate": 16_000} | known


def entry(name, words=None):
    return {"id": name, "words": HELLO + THERE if words is None else words}


@pytest.fixture
def join(tmp_path, spec):
    """A function from rows and alignments to what `align.run` makes of them: its summary and the new rows."""

    def run(rows, entries, dest="out.parquet", longest=0.5, source="in.parquet"):
        manifest.write(tmp_path / source, rows)
        listed = entries if not isinstance(entries, list) else put_jsonl(tmp_path / "a.jsonl", entries)
        summary = attach_phones.run(tmp_path / source, listed, tmp_path / dest, longest=longest, spec=spec)
        made = manifest.read(summary.dest, split=None)
        return summary, [made.row(i) for i in range(len(made))]

    return run


def rejected(summary):
    lines = [json.loads(line) for line in summary.rejects.read_text().splitlines()]
    return {line["path"]: line["reason"] for line in lines}


def test_rows_get_their_phones_lengths_and_words_and_keep_the_rest(join, tmp_path):
    rows = [row("x/s/1.ogg", speaker="ann", split="train", snr=3.5), row("x/s/2.ogg", text="Hello, there; so!")]
    summary, made = join(rows, [entry("s/2"), entry("s/1")])
    assert summary == (tmp_path / "out.parquet", None, 2, 2 * 1.2 / 3600, {}, 0)
    for one in made:
        assert (one["phones"], one["lengths"], one["words"]) == tuple(map(list, LINE))
    assert [one["text"] for one in made] == ["hello there so", "Hello, there; so!"]
    assert [one["speaker"] for one in made] == ["ann", None] and made[0]["snr"] == 3.5
    assert not list(tmp_path.glob("out.rejects*"))


@pytest.mark.parametrize("rate, frames", [(16_000, 19_200), (16_000, 19_201), (44_100, 52_921), (48_000, 57_600)])
def test_lengths_sum_to_the_frames_of_the_resampled_recording(join, rate, frames, spec):
    _, made = join([row("1.wav", frames=frames, rate=rate)], [entry("1")])
    resampled = audio.resample(np.zeros(frames, np.float32), rate, spec.sample_rate)
    assert sum(made[0]["lengths"]) == spec.num_frames(len(resampled))


def test_what_cannot_be_used_is_left_out_with_its_reason(join):
    slow = [["so", [["S", 0, 20], ["OW", 20, 71]]]]
    rows = [
        row("ok.wav"),
        row("none.wav"),
        row("slow.wav"),
        row("just.wav"),
        row("short.wav", frames=16_000),
        row("late.wav", start=160),
        row("mixed.wav"),
        row("rest.wav"),
        row("a/same.wav"),
        row("b/same.wav"),
    ]
    entries = [entry(name) for name in ("ok", "short", "late", "unheard", "same")] + [
        entry("slow", slow),
        entry("just", [["so", [["S", 0, 20], ["OW", 20, 70]]]]),
        entry("mixed", THERE + HELLO),
        entry("rest", [["<sil>", [["SIL", 0, 100]]]]),
    ]
    summary, made = join(rows, entries)
    assert [one["words"] for one in made] == [["hello", "there", "so"], ["so"], []]
    assert summary.reasons == {
        "no alignment": 1,
        "a phone longer than 0.5 s": 1,
        "an alignment that cannot be used": 2,
        "a crop of a longer file": 1,
        "an alignment that several recordings share": 2,
    }
    found = rejected(summary)
    assert len(found) == sum(summary.reasons.values()) == 7 and summary.files == 3
    assert found["none.wav"] == "no alignment"
    assert found["slow.wav"] == "a phone longer than 0.5 s: OW_E of 0.51 s"
    assert "lasts 1.1 s, the recording 1.0 s" in found["short.wav"]
    assert "must start at" in found["mixed.wav"]
    assert found["a/same.wav"] == "an alignment that several recordings share: same"
    summary, _ = join(rows, entries, longest=0.2)
    assert summary.reasons["a phone longer than 0.2 s"] == 3


def test_an_id_is_the_end_of_a_path_by_whole_names_and_the_longest_counts(join):
    rows = [row("a/b/1.x.ogg"), row("ab/1.x.ogg"), row("c/2.ogg"), row("c/12.ogg")]
    other = [["so", [["S", 0, 20], ["OW", 20, 40]]]]
    summary, made = join(rows, [entry("1.x", other), entry("b/1.x"), entry("2"), entry("d/12")])
    assert [one["words"] for one in made] == [["hello", "there", "so"], ["so"], ["hello", "there", "so"]]
    assert rejected(summary) == {"c/12.ogg": "no alignment"}


def test_paths_stay_right_wherever_the_manifest_goes(join, tmp_path):
    known = {"noisy": "noisy/1.wav", "sources": ["s1/1.wav", "/far/1.wav"], "gains": [1.0, 1.0], "noise": None}
    rows = [row("clean/1.wav", **known), row("/far/2.wav")]
    for dest in ("out.parquet", "deep/er/out.parquet"):
        _, made = join(rows, [entry("1"), entry("2")], dest=dest)
        assert [one["path"] for one in made] == [str(tmp_path / "clean/1.wav"), "/far/2.wav"]
        assert made[0]["noisy"] == str(tmp_path / "noisy/1.wav") and made[0]["noise"] is None
        assert made[0]["sources"] == [str(tmp_path / "s1/1.wav"), "/far/1.wav"]
    beside = manifest.read(tmp_path / "out.parquet", split=None)
    assert beside.table.column("path").to_pylist() == ["clean/1.wav", "/far/2.wav"]  # can move with its folder
    assert beside.table.column("sources")[0].as_py() == ["s1/1.wav", "/far/1.wav"]
    assert str(beside.table.schema.field("lengths").type) == "list<element: int32>"


def test_the_list_of_what_was_left_out_is_that_of_the_last_run(join):
    summary, _ = join([row("1.wav"), row("2.wav")], [entry("1")])
    assert rejected(summary) == {"2.wav": "no alignment"}
    again, _ = join([row("1.wav"), row("2.wav")], [entry("1"), entry("2")])
    assert again.rejects is None and not summary.rejects.exists()


def test_textgrids_of_a_folder_are_joined_and_broken_ones_left_out(join, tmp_path):
    grids = tmp_path / "grids"
    for name in ("ann/1", "ann/2.b", "ben/1"):
        textgrid.write_textgrid(grids / f"{name}.TextGrid", LINE)
    whole = (grids / "ann/1.TextGrid").read_text()
    (grids / "utf16.textgrid").write_text(whole, encoding="utf-16")
    (grids / "cut.TextGrid").write_text(whole[: len(whole) // 2])
    words, spoken = [(0, 0.5, "two")], [(0, 0.2, "T"), (0.19, 0.5, "UW")]
    put_grid(grids / "tiny.TextGrid", words, spoken, 0.5)
    put_grid(grids / "overlap.TextGrid", words, [(0, 0.4, "T"), (0.2, 0.5, "UW")], 0.5)
    good = ["ann/1", "ann/2.b", "ben/1", "utf16", "tiny"]
    rows = [row(f"wav/{name}.wav") for name in [*good, "cut", "overlap", "none"]] + [row("short/ben/long.wav", 8000)]
    textgrid.write_textgrid(grids / "long.TextGrid", LINE)
    summary, made = join(rows, grids)
    assert (summary.files, summary.repaired) == (5, 1)
    assert all(one["lengths"] == list(LINE.lengths) for one in made[:4])
    assert summary.reasons == {"an alignment that cannot be used": 3, "no alignment": 1}
    found = rejected(summary)
    assert f"{grids}/cut.TextGrid" in found["wav/cut.wav"]
    assert "'UW' at 0.20 s" in found["wav/overlap.wav"]
    assert "lasts 1.2 s, the recording 0.5 s" in found["short/ben/long.wav"]


def test_a_join_that_makes_no_sense_is_refused_in_a_line_and_writes_no_manifest(join, tmp_path, spec):
    with pytest.raises(UserError, match="1 with no alignment.*1.wav.*'s/1'"):
        join([row("1.wav")], [entry("s/1")])
    assert not (tmp_path / "out.parquet").exists() and (tmp_path / "out.rejects.jsonl").exists()
    with pytest.raises(UserError, match="its own source"):
        join([row("1.wav")], [entry("1")], dest="in.parquet")
    with pytest.raises(UserError, match=r"ends in \.parquet"):
        join([row("1.wav")], [entry("1")], dest="out.jsonl")
    for longest in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="longest phone .* more than 0 s, got"):
            join([row("1.wav")], [entry("1")], longest=longest)
    (tmp_path / "no").mkdir()
    with pytest.raises(UserError, match="expected a folder of TextGrids, found none"):
        join([row("1.wav")], tmp_path / "no")
    with pytest.raises(UserError, match="expected a list of alignments"):
        join([row("1.wav")], tmp_path / "nowhere")
    other = dataclasses.replace(spec, hop=200)
    with pytest.raises(UserError, match="have 100 frames a second, the Mel 80"):
        attach_phones.run(
            tmp_path / "in.parquet", tmp_path / "a.jsonl", tmp_path / "b.parquet", longest=0.5, spec=other
        )
    assert not (tmp_path / "out.parquet").exists()


# The whole corpus


@pytest.fixture(scope="module")
def whole(real_data, tmp_path_factory):
    """Recordings and the list of their alignments, of real speech or else generated."""
    if real_data is not None:
        listed = map(json.loads, (real_data / "manifest.jsonl").read_text().splitlines())
        paths = [real_data / entry["path"] for entry in listed if entry["set"] in ("so762", "kathleen")]
        return real_data / "align.jsonl.xz", paths
    folder, rng, entries, paths = tmp_path_factory.mktemp("whole"), np.random.default_rng(0), [], []
    for number in range(40):
        samples, words, at = int(rng.integers(8_000, 32_000)), [], 0
        while at + 30 < samples // 160 - 55:  # room for a drawl
            ends = [at + 10, at + 25]
            words.append(["so", [["S", at, ends[0]], ["OW", *ends]]])
            at = ends[1] + int(rng.integers(0, 3))
        left = samples // 160 - int(rng.integers(0, 2))
        words.append(["<sil>", [["SIL", at, left]]] if number % 10 else ["oh", [["OW", at, at + 51]]])
        path = folder / f"speech/{number % 2}/{number}.wav"
        audio.write(path, np.zeros(samples, np.float32), 16_000)
        paths.append(path)
        if number % 8 != 5:
            entries.append({"id": f"{number % 2}/{number}", "words": words})
    return put_jsonl(folder / "align.jsonl.xz", entries), paths


def test_frames_of_every_alignment_sum_to_those_of_the_mel(whole, spec, real_data):
    listed, paths = whole
    known = textgrid.read_jsonl(listed)
    assert real_data is None or len(known) == 2714
    found = {f"{path.parent.name}/{path.stem}": path for path in paths}
    for name, one in known.items():
        info = audio.probe(found[name])
        frames = spec.num_frames(-(-info.frames * spec.sample_rate // info.rate))
        assert sum(phones.line(one, frames).lengths) == frames
        if real_data is not None:  # made in windows of 410 samples, the last of them padded
            assert one.frames == 2 + (info.frames - 410) // 160 and 1 <= frames - one.frames <= 2


def test_of_a_corpus_all_but_the_drawled_and_the_unaligned_is_kept(whole, real_data, tmp_path, spec):
    listed, paths = whole
    infos = [audio.probe(path) for path in paths]
    rows = [row(str(path), info.frames, rate=info.rate) for path, info in zip(paths, infos, strict=True)]
    manifest.write(tmp_path / "all.parquet", rows)
    summary = attach_phones.run(tmp_path / "all.parquet", listed, tmp_path / "out.parquet", longest=0.5, spec=spec)
    counts = {"a phone longer than 0.5 s": 236, "no alignment": 42}
    if real_data is None:
        counts = {"a phone longer than 0.5 s": 4, "no alignment": 5}
    assert summary.reasons == counts
    assert summary.files == len(rows) - sum(counts.values()) and summary.repaired == 0
    made = manifest.read(tmp_path / "out.parquet", split=None)
    tokens = phones.inventory(made.table.column("phones").to_pylist())
    assert tokens[0] == "SIL" and (
        real_data is None or {token.rpartition("_")[2] for token in tokens[1:]} == set("BIES")
    )
    for i in range(0, len(made), 50):
        one = made.row(i)
        assert len(one["words"]) == len(phones.Line(*(tuple(one[k]) for k in phones.Line._fields)).groups())
        assert phones.numbers(one["phones"], tokens).min() >= 1
