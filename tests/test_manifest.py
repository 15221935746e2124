"""Manifests come back as they were written, select splits and columns, and reject wrong rows and files."""

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfjax.data import manifest
from sfjax.errors import UserError


def row(**known):
    return {"path": "a.wav", "start": 0, "frames": 8000, "rate": 16000} | known


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [
        row(speaker="ann", text="één", split="train", kind="read", noisy="n/a.wav", phones=["AH", "B"], snr=1.5),
        row(start=100, rate=44100, phones=[]),
    ]
    manifest.write(tmp_path / "m.parquet", rows)
    read = manifest.read(tmp_path / "m.parquet", split=None)
    empty = dict.fromkeys(("speaker", "text", "split", "kind", "noisy", "snr"))
    for i, wanted in enumerate(rows):
        wanted = empty | wanted | {"path": str(tmp_path / "a.wav")}
        wanted["noisy"] = wanted["noisy"] and str(tmp_path / wanted["noisy"])
        assert read.row(i) == wanted
    assert len(read) == 2
    assert "noisy" in read.columns


def test_a_column_that_no_row_has_is_absent_only_if_it_is_optional(tmp_path):
    manifest.write(tmp_path / "m.parquet", [row()])
    columns = manifest.read(tmp_path / "m.parquet", split=None).columns
    assert columns == ["path", "start", "frames", "rate", "speaker", "text", "split", "kind"]


def test_relative_paths_move_with_the_folder_and_absolute_ones_stay(tmp_path, monkeypatch):
    manifest.write(tmp_path / "old" / "m.parquet", [row(), row(path="/audio/b.wav")])
    os.rename(tmp_path / "old", tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    read = manifest.read("new/m.parquet", split=None)
    monkeypatch.chdir("/")
    assert [read.row(i)["path"] for i in range(2)] == [str(tmp_path / "new" / "a.wav"), "/audio/b.wav"]


def test_a_row_without_split_belongs_to_every_split_and_the_order_stays(tmp_path):
    names = ["train", None, "valid", "train"]
    manifest.write(tmp_path / "m.parquet", [row(split=name, start=i) for i, name in enumerate(names)])

    def starts(split):
        read = manifest.read(tmp_path / "m.parquet", split=split)
        return [read.row(i)["start"] for i in range(len(read))]

    assert starts(None) == [0, 1, 2, 3]
    assert starts("train") == [0, 1, 3]
    assert starts("valid") == [1, 2]
    assert starts("test") == [1]


def test_the_error_for_a_split_without_rows_lists_the_splits(tmp_path):
    manifest.write(tmp_path / "m.parquet", [row(split="train"), row(split="valid"), row(split="train")])
    with pytest.raises(UserError, match=r"split 'test'; choose from 'train' \(2 rows\), 'valid' \(1 rows\)"):
        manifest.read(tmp_path / "m.parquet", split="test")


def test_speaker_codes_point_at_the_speaker_of_each_row_in_any_split(tmp_path):
    rng = np.random.default_rng(0)
    names = [None, "ann", "bob", "cid", "dee"]
    rows = [row(speaker=names[rng.integers(5)], split="ab"[rng.integers(2)]) for _ in range(200)]
    rows.append(row(speaker="only in c", split="c"))
    manifest.write(tmp_path / "m.parquet", rows)
    for split in ("a", "b", "c", None):
        read = manifest.read(tmp_path / "m.parquet", split=split)
        wanted = [r["speaker"] for r in rows if split in (None, r["split"])]
        assert [([*read.speakers, None])[code] for code in read.speaker_codes] == wanted
        assert read.speakers == sorted(set(wanted) - {None})


def test_seconds_are_the_frames_over_each_files_own_rate(tmp_path):
    manifest.write(tmp_path / "m.parquet", [row(frames=8000), row(frames=8000, rate=8000)])
    seconds = manifest.read(tmp_path / "m.parquet", split=None).seconds
    assert seconds.dtype == np.float64
    assert seconds.tolist() == [0.5, 1.0]


def test_a_pickled_manifest_is_the_same_and_no_larger_than_its_columns(tmp_path):
    rows = [row(path=f"{i}.wav", speaker=f"s{i % 7}", split=("train", "valid")[i % 2]) for i in range(10_000)]
    manifest.write(tmp_path / "m.parquet", rows)
    whole, half = (manifest.read(tmp_path / "m.parquet", split=split) for split in (None, "valid"))
    for read in (whole, half):
        data = pickle.dumps(read)
        assert pickle.loads(data) == read
        assert len(data) < 1.05 * read.table.nbytes + 5000  # the schema and the names of the columns
    assert half.table.nbytes < 0.6 * whole.table.nbytes


def test_a_manifest_of_another_program_reads_the_same(tmp_path):
    table = pa.table(
        {
            "path": pa.array(["a.wav"], pa.large_string()),
            "start": pa.array([0], pa.int32()),
            "frames": pa.array([8000.0]),
            "rate": pa.array([16000]),
            "speaker": pa.array(["ann"]),
        }
    )
    pq.write_table(table, tmp_path / "theirs.parquet")
    manifest.write(tmp_path / "ours.parquet", [row(speaker="ann")])
    theirs, ours = (manifest.read(tmp_path / name, split="train") for name in ("theirs.parquet", "ours.parquet"))
    assert theirs.row(0) == ours.row(0)
    assert {c: theirs.table[c].type for c in theirs.columns} == {c: ours.table[c].type for c in ours.columns}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([{"path": "a.wav", "start": 0, "frames": 1}], "'rate'"),
        ([row(frames=0)], "'frames' must be at least 1"),
        ([row(start=-1)], "'start' must be at least 0"),
        ([row(path="")], "'path' must name a file"),
        ([row(), row(path=None)], "'path' must name a file in every row, 1 rows"),
        ([row(frames=0.5)], "'frames' must be int64"),
        ([row(rate="16k")], "'rate' must be int32"),
        ([row(rate=2**40)], "'rate' must be int32"),
        ([row(speaker=7)], "'speaker' must be string"),
        ([row(snr=1.0), row(snr="high")], "'snr' must be of one type"),
    ],
)
def test_invalid_rows_are_rejected_in_one_line_and_leave_no_file(tmp_path, rows, message):
    with pytest.raises(UserError, match=message) as error:
        manifest.write(tmp_path / "m.parquet", rows)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_manifest_is_rejected_in_one_line(tmp_path):
    (tmp_path / "text.parquet").write_text("path,start,frames\n")
    (tmp_path / "empty.parquet").write_bytes(b"")
    pq.write_table(pa.table({"path": ["a.wav"], "seconds": [1.0]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({name: pa.array([], pa.int64()) for name in row()}), tmp_path / "none.parquet")
    manifest.write(tmp_path / "whole.parquet", [row()])
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    for name, message in {
        "missing.parquet": "no such file",
        "text.parquet": "expected a Parquet file",
        "empty.parquet": "expected a Parquet file",
        "cut.parquet": "expected a Parquet file",
        "other.parquet": "start, frames, rate, found only path, seconds",
        "none.parquet": "at least one row, found none",
        ".": "no such file",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            manifest.read(tmp_path / name, split=None)
        assert "\n" not in str(error.value)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.parquet"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), manifest.replacing(path) as part:
        part.write_text("half of the n")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.parquet", "old")]
    with manifest.replacing(path) as part:
        part.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("m.parquet", "new")]
