"""What lies in shards is what the rows heard before, and a training over them is the same."""

import os
import re
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordReader

from sfjax import audio, tasks
from sfjax.configs import enhance
from sfjax.data import loader, manifest, shards
from sfjax.data.examples import Simulation
from sfjax.errors import UserError

RATE = 16_000


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, voice):
    """Rows of several rates, channels and encodings, two of one file, some with a noisy recording, one too loud."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = []

    def put(name, wav, rate, **row):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, wav, rate, **row.pop("how", {}))
        kept = dict(path=name, start=0, frames=len(wav), rate=rate, speaker=None, text=name, split="train", kind=None)
        rows.append(kept | row)

    put("a/1.flac", voice(1.1, 0), RATE, speaker="a", noisy="b/1.flac")
    put("b/1.flac", voice(1.1, 1), RATE, speaker="b")
    put("b/2.wav", audio.resample(voice(1.3, 2), RATE, 44_100), 44_100, start=4321, frames=30_000, mood="glad")
    put("b/2.wav", audio.resample(voice(1.3, 2), RATE, 44_100), 44_100, noisy="a/3.wav", phones=["a"], lengths=[130])
    put("a/3.wav", audio.resample(voice(1.3, 3), RATE, 44_100), 44_100, split="valid")
    put("a/4.ogg", np.stack([voice(0.9, 4), voice(0.9, 5)], 1), RATE)
    put("a/5.wav", 20 * voice(0.7, 6), RATE, how={"subtype": "FLOAT"})
    manifest.write(folder / "m.parquet", rows)
    return manifest.read(folder / "m.parquet", split=None)


def written(found, dest, **how):
    return shards.write(found, dest, **{"rate": RATE, "hours": 3 / 3600, "workers": 1} | how)


def heard(row, column="path"):
    return audio.read(row[column], start=row["start"], frames=row["frames"], rate=RATE)[0]


def rounded(wav):
    return np.clip(np.round(wav * 2.0**15), -(2**15), 2**15 - 1) / 2.0**15


def rows(found):
    return [found.row(i) for i in range(len(found))]


def test_every_row_hears_what_it_heard_but_for_rounding_to_16_bits(mixed):
    dest = Path(mixed.folder) / "s.parquet"
    found = written(mixed, dest)
    for before, after in zip(rows(mixed), rows(found), strict=True):
        for column in ("path", "noisy"):
            assert bool(before[column]) == bool(after[column])
            if before[column]:
                expected = heard(before, column)
                assert (after["start"], after["frames"], after["rate"]) == (0, len(expected), RATE)
                assert audio.probe(after[column]) == audio.Info(len(expected), RATE, 1, "FLAC", "PCM_16")
                np.testing.assert_array_equal(heard(after, column), rounded(expected))
        moved = {"path", "noisy", "start", "frames", "rate", "name"}
        assert {k: v for k, v in before.items() if k not in moved} == {k: v for k, v in after.items() if k not in moved}
    assert found.table.column("name").to_pylist() == mixed.table.column("path").to_pylist()
    manifest.write(dest, found)
    assert rows(manifest.read(dest, split=None)) == rows(found)


def test_shards_have_their_hours_and_records_that_are_read_alone(mixed):
    found = written(mixed, Path(mixed.folder) / "t.parquet", hours=2 / 3600)
    inside = [re.fullmatch(r"t\.shards/t-(\d{5})-of-(\d{5})\.arrayrecord#(\d+)", path) for path in places(found)]
    count = int(inside[0][2])
    assert {int(match[1]) for match in inside} == set(range(count)) and count == 4
    files = sorted((Path(mixed.folder) / "t.shards").iterdir())
    held = [ArrayRecordReader(str(file)) for file in files]
    assert sum(reader.num_records() for reader in held) == len(inside) == 7 + 2
    assert all(reader.writer_options_string().startswith("group_size:1,") for reader in held)
    one = written(mixed, Path(mixed.folder) / "u.parquet", hours=1.0)
    assert all(path.startswith("u.shards/u-00000-of-00001.arrayrecord#") for path in places(one))


def places(found):
    return [path for name in ("path", "noisy") for path in found.table.column(name).to_pylist() if path]


def test_processes_write_the_same_bytes_as_one(mixed, content):
    folder = Path(mixed.folder)
    written(mixed, folder / "v.parquet")
    before = content(folder / "v.shards")
    written(mixed, folder / "v.parquet", workers=2)
    assert content(folder / "v.shards") == before and len(before) == 3


def test_shards_of_shards_are_the_same(mixed, content):
    folder = Path(mixed.folder)
    found = written(mixed, folder / "w.parquet")
    before = content(folder / "w.shards")
    again = written(found, folder / "w.parquet")
    assert content(folder / "w.shards") == before
    assert again.table.equals(found.table)


def batches(path, workers):
    config = enhance.get_config("tiny")
    task, spec = tasks.make(**config.task), audio.MelSpec(**config.mel)
    simulation = Simulation(
        mix=dict(
            noise=f"{path}/noise.parquet",
            probability=1.0,
            snr=(0.0, 5.0),
            gain=(-3.0, 3.0),
            babble=0.5,
            talkers=2,
            reach=2.0,
        ),
        degrade=config.degrade,
        mixture=None,
        enrolment=None,
    )
    found = loader.sources(f"{path}/speech.parquet", task, spec=spec, simulation=simulation, split="train")
    order = loader.Plan((found[0].manifest.seconds,), (1.0,), (1.0, 2.0), 4.0, 2, 0)
    reader = loader.Reader(found, order, task, spec, (0, 1))
    return list(loader.batches(reader, first=0, last=6, workers=workers))


def test_a_training_over_shards_has_the_batches_of_one_over_files(corpus, tmp_path):
    whole = batches(corpus, workers=0)
    for name in ("speech", "noise"):
        before = manifest.read(corpus / f"{name}.parquet", split=None)
        absolute = before.table.column("path").to_pylist()
        moved = [row | {"path": str(corpus / path)} for row, path in zip(rows(before), absolute, strict=True)]
        found = manifest.build(tmp_path / f"{name}.parquet", moved)
        manifest.write(tmp_path / f"{name}.parquet", written(found, tmp_path / f"{name}.parquet", hours=10 / 3600))
    assert len(list(tmp_path.glob("*.shards/*"))) > 2
    for workers in (0, 2):
        for one, two in zip(whole, batches(tmp_path, workers), strict=True):
            assert not one["bad"] and not two["bad"]
            assert all(".arrayrecord#" in name for name in two["names"])
            np.testing.assert_array_equal(one["lengths"], two["lengths"])
            for column, wav in one["waves"].items():
                np.testing.assert_array_equal(wav, two["waves"][column])


# What goes wrong


def test_what_cannot_be_put_into_shards_is_refused(mixed, tmp_path):
    folder = Path(mixed.folder)
    row = mixed.row(0) | {"sources": ["a.wav", "b.wav"], "gains": [1.0, 1.0]}
    with pytest.raises(UserError, match="a list of mixtures"):
        written(manifest.build(folder / "x.parquet", [row]), folder / "x.parquet")
    for how, message in (
        ({"hours": 0.0}, "more than 0 hours, got 0"),
        ({"hours": float("nan")}, "more than 0 hours"),
        ({"workers": 0}, "at least one worker, got 0"),
    ):
        with pytest.raises(UserError, match=message):
            written(mixed, folder / "x.parquet", **how)
    with pytest.raises(UserError, match="must be in the folder of its rows"):
        written(mixed, tmp_path / "x.parquet")
    assert not list(folder.glob("x*")) and not list(folder.glob(".*")) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_recording_that_went_bad_is_one_line_and_leaves_what_was_there(mixed, content, workers):
    folder = Path(mixed.folder)
    written(mixed, folder / "y.parquet")
    before = content(folder)
    odd = manifest.build(folder / "y.parquet", [*rows(mixed), mixed.row(0) | {"path": "gone.wav", "noisy": None}])
    with pytest.raises(UserError, match=r"gone\.wav: expected a sound file, found nothing") as error:
        written(odd, folder / "y.parquet", workers=workers)
    assert "\n" not in str(error.value) and content(folder) == before


def test_a_full_disk_is_one_line_and_leaves_what_was_there(mixed, content):
    folder = Path(mixed.folder)
    manifest.write(folder / "z.parquet", written(mixed, folder / "z.parquet"))
    before = content(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (1000, 40_000, 120_000):  # at the first record, at the last, and only when the file is closed
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(UserError, match=r"could not be written .*free space") as error:
                written(mixed, folder / "z.parquet", hours=1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(error.value) and content(folder) == before


def test_a_folder_that_cannot_be_made_is_one_line(mixed):
    folder = Path(mixed.folder)
    (folder / ".q.shards.part").write_text("in the way")
    with pytest.raises(UserError, match=r"q\.shards: could not be written \(File exists\)"):
        written(mixed, folder / "q.parquet")
    (folder / ".q.shards.part").unlink()


def test_a_killed_run_leaves_no_shards_and_can_be_run_again(shell, tmp_path):
    for number in range(30):
        path = tmp_path / "in" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(480_000), 48_000)
    words = "prepare", "folder", tmp_path / "in", tmp_path / "m.parquet", "--workers", 1, "--shards", 0.002
    part = tmp_path / ".m.shards.part"
    process = shell(*words)
    deadline = time.monotonic() + 120
    while not (part.is_dir() and len(list(part.glob("m-*"))) >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "m.parquet").exists() and not (tmp_path / "m.shards").exists() and part.exists()
    again = shell(*words)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.parquet", "m.shards", "m.stats.json"]
    assert len(manifest.read(tmp_path / "m.parquet", split=None)) == 30


# At the command line


def test_the_flag_gives_a_manifest_that_points_into_shards(call, refused, corpus, tmp_path):
    words = ("prepare", "folder", corpus, tmp_path / "m.parquet", "--workers", 1)
    assert call(*words)[0] == 0
    plain = manifest.read(tmp_path / "m.parquet", split=None)
    code, _, said = call(*words, "--shards")
    assert code == 0 and f"{len(plain)} recordings" in said
    found = manifest.read(tmp_path / "m.parquet", split=None)
    assert set(pq.read_table(tmp_path / "m.parquet").column("rate").to_pylist()) == {RATE}
    for before, after in zip(rows(plain), rows(found), strict=True):
        assert after["path"].startswith(f"{tmp_path}/m.shards/m-00000-of-00001.arrayrecord#")
        np.testing.assert_array_equal(heard(before), heard(after))
        assert after["speaker"] == before["speaker"] and after["name"] == before["path"]
    refused("--shards must be above 0 hours, got 0", *words, "--shards", 0)
    assert len(manifest.read(tmp_path / "m.parquet", split=None)) == len(plain)
