"""Recordings are read the same from sound files, ArrayRecord files and Parquet files, and errors name the file."""

import concurrent.futures
import io
import multiprocessing
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordWriter

from sfjax import audio, audio_io
from sfjax.errors import UserError

WAVES = [np.random.default_rng(seed).integers(-3000, 3000, 4000 + 500 * seed).astype(np.int16) for seed in range(7)]


def encoded(wav, rate=16_000, form="FLAC", subtype="PCM_16"):
    out = io.BytesIO()
    soundfile.write(out, wav, rate, format=form, subtype=subtype)
    return out.getvalue()


def put_records(path, records):
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def put_rows(path, records, column="audio", rows=3):
    """A Parquet file as `datasets` writes it: a struct of bytes and path, a few rows in a row group."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    held = [None if record is None else {"bytes": record, "path": f"{i}.flac"} for i, record in enumerate(records)]
    table = pa.table({"id": list(range(len(held))), column: pa.array(held, kind)})
    pq.write_table(table, path, row_group_size=rows)
    return path


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """The same waves in an ArrayRecord file and in Parquet files with two names of their column."""
    folder = tmp_path_factory.mktemp("big")
    records = [encoded(wav) for wav in WAVES]
    put_rows(folder / "speech.parquet", records, column="speech")
    return put_records(folder / "a.arrayrecord", records), put_rows(folder / "b.parquet", records), folder


def both(big):
    return [*big[:2], big[2] / "speech.parquet"]


def test_a_record_holds_what_its_file_held(big):
    for file in both(big):
        for number in (6, 0, 3, 2, 5, 3):
            wav, rate = audio.read(f"{file}#{number}")
            assert rate == 16_000
            np.testing.assert_array_equal(wav * 2**15, WAVES[number])


def test_a_crop_inside_of_a_record_is_that_stretch(big):
    for file in both(big):
        wav, _ = audio.read(f"{file}#4", start=1234, frames=777)
        np.testing.assert_array_equal(wav * 2**15, WAVES[4][1234:2011])
        with pytest.raises(UserError, match=r"#4: expected 777 samples from 5800, found 200"):
            audio.read(f"{file}#4", start=5800, frames=777)


def test_the_header_and_the_pieces_of_a_record_are_those_of_its_file(big):
    for file in both(big):
        assert audio.probe(f"{file}#2") == audio.Info(5000, 16_000, 1, "FLAC", "PCM_16")
        pieces = np.concatenate(list(audio.blocks(f"{file}#2", rate=16_000, seconds=0.1)))
        np.testing.assert_array_equal(pieces * 2**15, WAVES[2])


@pytest.mark.parametrize("form, subtype", [("WAV", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)])
def test_every_container_is_read_inside_of_a_big_file(tmp_path, form, subtype):
    record = encoded(WAVES[0], form=form, subtype=subtype)
    (tmp_path / "alone").write_bytes(record)
    expected, rate = audio.read(tmp_path / "alone")
    for file in (put_records(tmp_path / "a.arrayrecord", [record]), put_rows(tmp_path / "b.parquet", [record])):
        wav, own = audio.read(f"{file}#0")
        assert own == rate
        np.testing.assert_array_equal(wav, expected)


def test_a_plain_file_may_have_any_name(tmp_path):
    for name in ("a#1.flac", "b.parquet#7", "c.arrayrecord#0", "d#2/e.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(WAVES[1]))
        assert audio.probe(path).frames == len(WAVES[1])
    put_records(tmp_path / "d#2" / "f#3.arrayrecord", [encoded(WAVES[2])])
    assert audio.probe(tmp_path / "d#2" / "f#3.arrayrecord#0").frames == len(WAVES[2])
    with pytest.raises(UserError, match=r"x#1\.flac: expected a sound file, found nothing"):
        audio.read(tmp_path / "x#1.flac")


def _wave(path):
    return audio.read(path)[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_that_start_with_files_open_read_the_same(big, start):
    paths = [f"{file}#{number}" for file in both(big) for number in (5, 1, 6, 0)] * 5
    before = [_wave(path) for path in paths]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(start)) as pool:
        futures = [pool.submit(_wave, path) for path in paths]
        after = [_wave(path) for path in paths]  # at the same time, by what the others may have inherited
        for one, two, future in zip(before, after, futures, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, future.result())


def test_threads_read_the_same(big):
    paths = [f"{file}#{number}" for file in both(big) for number in (5, 1, 6, 0)] * 5
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for path, wav in zip(paths, pool.map(_wave, paths), strict=True):
            np.testing.assert_array_equal(wav, _wave(path))


def test_a_file_that_was_written_again_is_read_again(tmp_path):
    for put, name in ((put_records, "a.arrayrecord"), (put_rows, "b.parquet")):
        for number in (0, 1):
            put(tmp_path / "part", [encoded(WAVES[number])])
            os.replace(tmp_path / "part", tmp_path / name)
            assert audio.probe(tmp_path / f"{name}#0").frames == len(WAVES[number])


def test_few_files_stay_open(tmp_path):
    open_files = lambda: len(os.listdir("/proc/self/fd"))
    before = open_files()
    for number in range(audio_io.READERS + 20):
        put_records(tmp_path / f"{number}.arrayrecord", [encoded(WAVES[0][:100])])
        audio.probe(tmp_path / f"{number}.arrayrecord#0")
    assert open_files() <= before + audio_io.READERS
    audio_io._reader.cache_clear()
    assert open_files() <= before


def put_bad(folder):
    """Every way in which a record cannot be read, with what is said of it."""
    records = [encoded(wav) for wav in WAVES]
    put_records(folder / "good.arrayrecord", records)
    put_rows(folder / "good.parquet", records)
    for name in ("good.arrayrecord", "good.parquet"):
        (folder / f"cut.{name}").write_bytes((folder / name).read_bytes()[:20_000])
        (folder / f"text.{name}").write_text("not this\n" * 1000)
        (folder / f"empty.{name}").touch()
        (folder / f"folder.{name}").mkdir()
    broken = bytearray((folder / "good.arrayrecord").read_bytes())
    broken[1000:9000] = bytes(8000)
    (folder / "broken.arrayrecord").write_bytes(broken)
    put_records(folder / "odd.arrayrecord", [b"no sound", b""])
    put_rows(folder / "odd.parquet", [b"no sound", b"", None])
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    elsewhere = pa.table({"audio": pa.array([{"bytes": None, "path": "a.flac"}], kind)})
    pq.write_table(elsewhere, folder / "elsewhere.parquet")
    pq.write_table(pa.table({"text": ["a"], "audio": ["a.flac"]}), folder / "none.parquet")
    pq.write_table(pa.table({"audio": pa.array([], kind)}), folder / "zero.parquet")
    return {
        "good.arrayrecord#7": "no such record; good.arrayrecord has 7 records, counted from 0",
        "good.parquet#7": "no such record; good.parquet has 7 rows, counted from 0",
        "good.parquet#99999999999999999999": "no such record",
        "zero.parquet#0": "no such record; zero.parquet has 0 rows",
        "gone.arrayrecord#0": "expected a file gone.arrayrecord, found nothing",
        "gone.parquet#0": "expected a file gone.parquet, found nothing",
        "good.parquet#-1": "expected a sound file, found nothing",
        "good.parquet": "not readable as sound",
        "cut.good.arrayrecord#0": "cannot be read .*cut short",
        "text.good.arrayrecord#0": "cannot be read .*no ArrayRecord file",
        "empty.good.arrayrecord#0": "cannot be read",
        "folder.good.arrayrecord#0": "cannot be read",
        "broken.arrayrecord#1": "cannot be read .*orrupt",
        "cut.good.parquet#0": "cannot be read .*magic bytes",
        "text.good.parquet#0": "cannot be read .*magic bytes",
        "empty.good.parquet#0": "cannot be read .*0 bytes",
        "folder.good.parquet#0": "cannot be read",
        "odd.arrayrecord#0": "not readable as sound",
        "odd.arrayrecord#1": "not readable as sound",
        "odd.parquet#0": "not readable as sound",
        "odd.parquet#1": "not readable as sound",
        "odd.parquet#2": "column 'audio' is null",
        "elsewhere.parquet#0": "null here or names a file elsewhere",
        "none.parquet#0": "expected a column audio .*found only text, audio",
    }


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder, put_bad(folder)


def test_what_cannot_be_read_is_one_line_that_names_it(bad):
    folder, reasons = bad
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as error:
            audio.read(folder / name)
        line = str(error.value)
        assert line.startswith(f"{folder / name}: ") and "\n" not in line, line


def test_the_column_of_sound_is_audio_else_the_first_that_fits():
    sound, image = pa.struct({"bytes": pa.binary(), "path": pa.string()}), pa.struct({"bytes": pa.string()})
    assert audio_io.column(pa.schema({"noisy": sound, "audio": sound})) == "audio"
    assert audio_io.column(pa.schema({"x": image, "noisy": sound, "clean": sound})) == "noisy"
    large = pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()})
    assert audio_io.column(pa.schema({"clean": large})) == "clean"
    with pytest.raises(LookupError, match="found only audio"):
        audio_io.column(pa.schema({"audio": image}))


# The files of a folder


@pytest.fixture
def tree(tmp_path):
    """A folder as people have it: hidden files and folders, links, loops, names of any bytes; and what counts in it."""
    wav = encoded(WAVES[0], form="WAV")
    root, outside = os.fsencode(tmp_path / "root"), os.fsencode(tmp_path / "outside")
    latin = b"caf\xe9.wav"
    counted = [b"a.wav", b"A/b.FLAC", b"A/B/C/D/E/f.wav", b"linked/o.wav", b"x.wav/y.wav", latin]
    others = [b"._a.wav", b".hidden.wav", b".Trash-0/files/t.wav", b".ipynb_checkpoints/a-checkpoint.wav", b"n.txt"]
    for name in [*counted[:3], *counted[4:], *others]:
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "wb") as file:
            file.write(wav)
    os.makedirs(outside)
    with open(os.path.join(outside, b"o.wav"), "wb") as file:
        file.write(wav)
    for link, target in ((b"linked", outside), (b"A/up", root), (b"0_first", os.path.join(root, b"A")), (b"l", b"l")):
        os.symlink(target, os.path.join(root, link))
    return tmp_path / "root", sorted(map(os.fsdecode, counted))


def relative(paths, root):
    return sorted(str(path.relative_to(root)) for path in paths)


def test_every_command_takes_the_same_files_of_a_folder(tree, tmp_path):
    from sfjax.cli import recordings
    from sfjax.data import scan

    root, counted = tree
    assert relative([path for path, reason in audio_io.walk(root) if reason == ""], root) == counted
    assert relative(audio_io.recordings(root).values(), root) == counted
    inputs, passed_over = recordings._find_inputs([str(root)], tmp_path / "out", None)
    assert relative([path for path, _, _ in inputs], root) == counted and passed_over == 6
    jobs, rejects = scan.folder(root, speaker_from="none", kind=None)
    assert sorted([*(os.path.relpath(job.path, root) for job in jobs), "caf\udce9.wav"]) == counted
    assert [(os.path.basename(reject.path), "UTF-8" in reject.reason) for reject in rejects] == [
        ("caf\udce9.wav", True)
    ]


def test_a_folder_deeper_than_the_stack_is_walked(tmp_path):
    deep = tmp_path
    for _ in range(300):
        deep = deep / "d"
    os.makedirs(deep)
    (deep / "a.wav").touch()
    assert relative([path for path, _ in audio_io.walk(tmp_path)], deep) == ["a.wav"]


def test_an_unreadable_folder_is_named_and_costs_no_other_file(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.wav").write_bytes(encoded(WAVES[0], form="WAV"))
    listdir = os.listdir

    def refuse(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)  # root, which runs tests in containers, may read everything
    found = {path.name: reason for path, reason in audio_io.walk(tmp_path)}
    assert found.pop("a.wav") == "" and "Permission denied" in found.pop("locked") and not found
    with pytest.raises(UserError, match="locked: not readable"):
        audio_io.recordings(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux")
def test_a_file_that_cannot_be_read_is_named():
    for read in (audio.probe, audio.read):
        with pytest.raises(UserError, match="/proc/self/mem: not readable .Input/output error"):  # also for root
            read("/proc/self/mem")


def test_names_that_are_not_utf_8_are_read_and_written_and_named(call, tmp_path):
    from sfjax.inference import splicing

    folder = tmp_path / os.fsdecode(b"\xfcber")
    folder.mkdir()
    for name in (b"caf\xe9.wav", b"caf\xe9.flac", b"caf\xe9.mp3", b"caf\xe9.ogg"):
        path = folder / os.fsdecode(name)
        audio.write(path, WAVES[0] / np.float32(2**15), 16_000)
        assert audio.probe(path).frames == 4000
        splicing.write(path, splicing.read(path)[0], path)
    (folder / os.fsdecode(b"n\xe4.wav")).write_text("no sound")
    clean = tmp_path / "clean"
    clean.mkdir()
    for name in ("a.wav", os.fsdecode(b"b\xe9.wav")):
        audio.write(clean / name, np.tile(WAVES[0] / np.float32(2**15), 4), 16_000)
    for output in ("scores.json", "scores.csv"):
        words = ("--reference", clean, "--estimate", clean, "--workers", 1, "-o", tmp_path / output)
        code, complaints, said = call("score", *words)
        assert (code, complaints) == (0, []) and "2 scored, 0 failed" in said
    code, _, said = call("prepare", "folder", clean, tmp_path / "m.parquet", "--workers", 1)
    assert code == 0 and "1 recordings" in said and "1 rejected" in said
    assert r"b\udce9.wav" in (tmp_path / "m.rejects.jsonl").read_text()


def test_a_full_disk_is_the_reason_of_a_write_that_failed(tmp_path, monkeypatch):
    assert "(System error); free space" in str(audio_io.write_error(tmp_path / "a.wav", "System error."))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))  # no disk of a test is full
    assert "(No space left on device); free space" in str(audio_io.write_error(tmp_path / "a.wav", "System error."))
    assert "(Read-only file system)" in str(audio_io.write_error(tmp_path / "a.wav", "Read-only file system"))
