"""Parquet files of Hugging Face and cuts of lhotse become manifests; what cannot be read is rejected."""

import gzip
import io
import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from sfjax import audio
from sfjax.data import manifest, prepare, scan
from sfjax.errors import UserError

RATE = 16_000
SOUND = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.fixture
def checks(spec):
    return {"min_seconds": 0.2, "mel": spec, "seed": 0, "workers": 1, "part": (0, 1)}


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def sound(samples, seed=0, name="a.flac", rate=RATE, form="FLAC"):
    out = io.BytesIO()
    soundfile.write(out, noise(samples, seed), rate, format=form)
    return {"bytes": out.getvalue(), "path": name}


def put(path, rows=2, **columns):
    """A Parquet file with a few rows in a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"audio": SOUND, "clean": SOUND}
    made = {name: pa.array(values, kinds.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(made), path, row_group_size=rows)
    return path


def rows(dest):
    found = manifest.read(dest, split=None)
    return [found.row(i) for i in range(len(found))]


def rejects(summary):
    lines = summary.rejects.read_text().splitlines() if summary.rejects else ()
    return {entry["path"]: entry["reason"] for entry in map(json.loads, lines)}


# Hugging Face


def test_every_row_with_sound_becomes_one_with_its_text_speaker_and_split(checks, tmp_path):
    data = tmp_path / "data"
    put(
        data / "train-00000-of-00002.parquet",
        audio=[sound(8000 + i, i, f"t{i}.flac") for i in range(3)],
        text=["one", "two", None],
        speaker_id=[7, 8, 7],
    )
    put(data / "train-00001-of-00002.parquet", audio=[sound(9000, 3, "t3.flac")], text=["four"], speaker_id=[9])
    dev = dict(sentence=["five"], client_id=["ann"])
    put(data / "validation-00000-of-00001.parquet", audio=[sound(22_050, 4, None, 22_050, "WAV")], **dev)
    summary = prepare.parquet([data], tmp_path / "m.parquet", **checks)
    assert (summary.files, summary.rejected, summary.speakers) == (5, 0, 4)
    found = rows(tmp_path / "m.parquet")
    assert [(os.path.relpath(r["path"], data), r["text"], r["speaker"], r["split"], r["name"]) for r in found] == [
        ("train-00000-of-00002.parquet#0", "one", "7", "train", "t0.flac"),
        ("train-00000-of-00002.parquet#1", "two", "8", "train", "t1.flac"),
        ("train-00000-of-00002.parquet#2", None, "7", "train", "t2.flac"),
        ("train-00001-of-00002.parquet#0", "four", "9", "train", "t3.flac"),
        ("validation-00000-of-00001.parquet#0", "five", "ann", "valid", None),
    ]
    assert [(r["start"], r["frames"], r["rate"]) for r in found[2:]] == [
        (0, 8002, RATE),
        (0, 9000, RATE),
        (0, 22_050, 22_050),
    ]
    for number in range(4):
        wav, _ = audio.read(found[number]["path"])
        np.testing.assert_allclose(wav, noise(len(wav), number), atol=2**-15)


@pytest.mark.parametrize(
    ("name", "split", "kept"),
    [
        ("train-00000-of-00012", "train", "train"),
        ("test.clean-00000-of-00001", "test", "test.clean"),
        ("train.clean.360-00011-of-00012", "train", "train.clean.360"),
        ("validation-00000-of-00001", "valid", "validation"),
        ("dev-00000-of-00001", "valid", "dev"),
        ("my_valid_file", "valid", "my_valid_file"),
        ("data/train/0000", "train", "train"),
        ("data/latest/0000", None, "0000"),
        ("data/trainer-00000-of-00001", None, "trainer"),
    ],
)
def test_the_file_name_gives_the_split(tmp_path, name, split, kept):
    file = put(tmp_path / f"{name}.parquet", audio=[sound(8000)])
    (job,), _ = scan.parquet([file], tmp_path / "m.parquet")
    assert (job.columns["split"], job.columns["set"]) == (split, kept)


def test_a_split_column_wins_over_the_file_name(tmp_path):
    file = put(
        tmp_path / "train.parquet",
        audio=[sound(8000)] * 4,
        split=["dev", "extra", None, "test.other"],
        normalized_text=["a", "b", "c", "d"],
        transcription=["e", None, "", "f"],
        speaker=["x", "y", None, "z"],
    )
    jobs, _ = scan.parquet([file], tmp_path / "m.parquet")
    assert [(job.columns["split"], job.columns["set"]) for job in jobs] == [
        ("valid", "dev"),
        ("extra", "extra"),
        ("train", "train"),
        ("test", "test.other"),
    ]
    assert [(job.columns["text"], job.columns["speaker"]) for job in jobs] == [
        ("e", "x"),
        ("b", "y"),
        ("", None),
        ("f", "z"),
    ]


def test_rows_and_files_without_sound_are_rejected_with_their_reason(checks, tmp_path):
    data = tmp_path / "data"
    bad = [None, {"bytes": None, "path": "x.wav"}, {"bytes": b"no sound", "path": None}, sound(100)]
    put(data / "train.parquet", audio=[sound(8000), *bad])
    put(data / "words.parquet", text=["no sound here"])
    (data / "text.parquet").write_text("no Parquet file\n" * 100)
    prepare.parquet([data], data / "m.parquet", **checks)
    for _ in range(2):  # the manifest of before is none of the files
        summary = prepare.parquet([data], data / "m.parquet", **checks)
        found = rejects(summary)
        for name, reason in {
            "train.parquet#1": "column 'audio' is null",
            "train.parquet#2": "names a file elsewhere",
            "train.parquet#3": "not readable as sound",
            "train.parquet#4": "0.006 s long",
            "words.parquet": "expected a column audio",
            "text.parquet": "magic bytes",
        }.items():
            assert reason in found.pop(name)
        assert not found and summary.files == 1


def test_forgetting_the_manifest_name_overwrites_no_data(refused, content, tmp_path):
    one, two = (put(tmp_path / f"{name}.parquet", audio=[sound(8000)]) for name in ("one", "two"))
    before = content(tmp_path)
    refused("two.parquet exists, and no mark in it", "prepare", "parquet", one, two)
    refused("two.parquet: holds recordings, which the manifest would", "prepare", "parquet", one, two, "--force")
    refused("one.parquet: holds recordings", "prepare", "parquet", one, one, "--force")
    refused("nowhere: expected a Parquet file or a folder", "prepare", "parquet", tmp_path / "nowhere", "m.parquet")
    (tmp_path / "empty").mkdir()
    refused(r"expected \*.parquet files", "prepare", "parquet", tmp_path / "empty", tmp_path / "m.parquet")
    assert content(tmp_path) == before


def test_one_command_copies_a_data_set_into_shards(call, tmp_path):
    sounds = [sound(22_050 + 100 * i, i, rate=44_100) for i in range(5)]
    put(tmp_path / "data" / "train.parquet", audio=sounds, text=list("abcde"))
    words = ("prepare", "parquet", tmp_path / "data", tmp_path / "m.parquet", "--workers", 1)
    assert call(*words)[0] == 0
    before = rows(tmp_path / "m.parquet")
    assert call(*words, "--shards")[0] == 0
    for one, two in zip(before, rows(tmp_path / "m.parquet"), strict=True):
        assert (two["rate"], two["text"], two["name"]) == (RATE, one["text"], "a.flac")
        np.testing.assert_allclose(
            audio.read(two["path"])[0], audio.read(one["path"], rate=RATE)[0], atol=2**-16 + 1e-9
        )


# lhotse


def cut(recorded=(), **changes):
    """A line as lhotse writes it; None takes a key away."""
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
        "sampling_rate": RATE,
        "num_samples": 32_000,
        "duration": 2.0,
    }
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "text": "hello", "speaker": "ann"}
    made = {"id": "c", "start": 0.5, "duration": 1.25, "channel": 0, "supervisions": [said], "type": "MonoCut"}
    made |= {"recording": recording | dict(recorded)} | changes
    return {key: value for key, value in made.items() if value is not None}


def write_cuts(path, cuts):
    lines = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in cuts)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_a_cut_becomes_a_crop_of_its_recording(checks, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # where lhotse's paths start
    soundfile.write("a.wav", noise(32_000), RATE)
    other = {"text": "you", "speaker": "bob"}
    apart = {
        "sources": [{"type": "file", "channels": [i], "source": f"{name}.wav"} for i, name in enumerate("ab")],
        "transforms": [{"name": "Resample", "kwargs": {"sampling_rate": RATE}}],
    }
    soundfile.write("b.wav", noise(44_100, 1), 44_100)
    cuts = [
        cut(),
        "",
        cut(id="d", start=0, duration=2.0, supervisions=None),
        cut(id="e", supervisions=[{"text": "hello", "speaker": "ann"}, {"text": "there", "speaker": "ann"}]),
        cut(id="f", supervisions=[{"text": "hello", "speaker": "ann"}, other]),
        cut(apart, id="g", channel=1, start=0.25, duration=0.5, supervisions=[other]),
    ]
    (tmp_path / "lists").mkdir()
    prepare.lhotse(write_cuts(tmp_path / "lists" / name, cuts), tmp_path / "m.parquet", **checks)
    found = rows(tmp_path / "m.parquet")
    assert [(r["name"], r["start"], r["frames"], r["text"], r["speaker"]) for r in found] == [
        ("c", 8000, 20_000, "hello", "ann"),
        ("d", 0, 32_000, None, None),
        ("e", 8000, 20_000, None, "ann"),
        ("f", 8000, 20_000, None, None),
        ("g", 11_025, 22_050, "you", "bob"),
    ]
    assert [os.path.basename(r["path"]) for r in found] == ["a.wav"] * 4 + ["b.wav"]
    assert {r["split"] for r in found} == {None}


def test_cuts_without_a_one_channel_file_are_rejected_with_their_reason(checks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", noise(32_000), RATE)

    def source(**changes):
        return cut({"sources": [{"type": "file", "channels": [0], "source": "a.wav"} | changes]})

    cuts = {
        "not JSON": "line 1: not JSON",
        json.dumps(cut(type="MixedCut")): "line 2: expected a MonoCut, got MixedCut",
        json.dumps(cut(type="MultiCut", channel=[0, 1])): "line 3: expected a MonoCut, got MultiCut",
        json.dumps(cut(type="PaddingCut")): "line 4: expected a MonoCut, got PaddingCut",
        json.dumps(cut(type=None)): "line 5: expected a MonoCut, got no type",
        json.dumps(cut(recording=None, features={"type": "fbank"})): "line 6: expected a cut with a recording",
        json.dumps(source(type="command", source="sox …")): "line 7: expected a source of type file, got command",
        json.dumps(source(type="url", source="s3://a")): "line 8: expected a source of type file, got url",
        json.dumps(source(type="memory", source="UklGRg==")): "line 9: expected a source of type file, got memory",
        json.dumps(source(channels=[0, 1])): "line 10: expected a file with one channel, got 2",
        json.dumps(cut(channel=1)): "line 11: expected a cut in lhotse's format",
        json.dumps(cut({"transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]})): "line 12: .* transforms Speed",
        json.dumps(cut(start=-1)): "line 13: start must be .*, got -1",
        json.dumps(cut(start=1.5)): "expected 1.500 s to 2.750 s, but the file has 2.000 s",
    }
    listed = write_cuts(tmp_path / "cuts.jsonl", [*cuts, cut()])
    summary = prepare.lhotse(listed, tmp_path / "m.parquet", **checks)
    lines = [json.loads(line) for line in summary.rejects.read_text().splitlines()]
    assert summary.files == 1 and len(lines) == len(cuts)
    for entry, reason in zip(lines, cuts.values(), strict=True):
        assert re.match(reason, entry["reason"]), entry
        assert entry["path"] == ("cuts.jsonl" if reason.startswith("line") else "a.wav")


def test_a_file_that_is_no_list_of_cuts_is_rejected_in_one_line(refused, tmp_path):
    for name in ("none.jsonl", "none.jsonl.gz"):
        refused(f"{name}: expected lhotse's cuts", "prepare", "lhotse", tmp_path / name, tmp_path / "m.parquet")
    (tmp_path / "bad.jsonl.gz").write_text("not gzip")
    refused("bad.jsonl.gz: expected lhotse's cuts", "prepare", "lhotse", tmp_path / "bad.jsonl.gz", "m.parquet")
    whole = write_cuts(tmp_path / "cut.jsonl.gz", [cut()] * 100).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-20])
    refused("cut.jsonl.gz: expected lhotse's cuts", "prepare", "lhotse", tmp_path / "cut.jsonl.gz", "m.parquet")
    with pytest.raises(UserError, match="expected lhotse's cuts"):
        scan.lhotse(tmp_path)
