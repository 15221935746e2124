"""Recordings are read the same from sound files, ArrayRecord files and Parquet files, and errors name the file."""

import concurrent.futures
import io
import multiprocessing
import os

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
