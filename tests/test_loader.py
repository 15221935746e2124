"""Batches are a pure function of (seed, step), for any number of workers and processes."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
import pytest

from sfjax import audio
from sfjax.configs import default
from sfjax.data import loader, manifest
from sfjax.data.examples import Simulation
from sfjax.errors import UserError
from sfjax.tasks import Task
from sfjax.text import phones

SPEC = audio.MelSpec(**default.get_config("tiny").mel)


def plan(lengths=None, weights=(1.0,), **changes):
    rng = np.random.default_rng(0)
    lengths = (rng.uniform(1, 20, 100),) if lengths is None else lengths
    options = dict(buckets=(4.0, 8.0, 16.0), seconds=64.0, multiple=1, seed=0) | changes
    return loader.Plan(tuple(lengths), tuple(weights), **options)


def reader(corpus, columns=("speech",), process=(0, 1), **changes):
    columns = dict.fromkeys(columns, 1.0)
    found = sources(f"{corpus}/speech.parquet", task(columns), noise=f"{corpus}/noise.parquet")
    options = dict(buckets=(1.0, 2.0), seconds=4.0, multiple=2, seed=0) | changes
    order = loader.Plan((found[0].manifest.seconds,), (1.0,), **options)
    return loader.Reader(found, order, task(columns), SPEC, process)


def task(columns, **fields):
    """A task that reads these columns."""
    made = Task()
    for name, value in (fields | {"columns": columns}).items():
        setattr(made, name, value)
    return made


def sources(manifests, task, *, split="train", noise="", degrade=MappingProxyType({})):
    """The sources of a list of manifests, by toy mixing rules."""
    mix = dict(noise=noise, probability=1.0, snr=(0.0, 5.0), gain=(-3.0, 3.0), babble=0.0, talkers=2, reach=2.0)
    mixture = dict(noise=noise, probability=1.0, loudness=(-33.0, -25.0), noise_loudness=(-38.0, -30.0))
    simulation = Simulation(mix, dict(default.get_config("tiny").degrade) | degrade, mixture, {})
    return loader.sources(manifests, task, spec=SPEC, simulation=simulation, split=split)


def same(one, two):
    assert one["names"] == two["names"]
    np.testing.assert_array_equal(one["lengths"], two["lengths"])
    for column, wav in one["waves"].items():
        np.testing.assert_array_equal(wav, two["waves"][column])


def test_an_epoch_holds_every_row_and_the_next_one_is_in_another_order():
    order = plan()
    size = sum(order.counts)
    epochs = [[order[step] for step in range(e * size, (e + 1) * size)] for e in range(2)]
    for epoch in epochs:
        assert set(np.concatenate([rows for _, rows in epoch])) == set(range(100))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(*epochs, strict=True))


def test_a_batch_has_one_length_and_as_many_seconds_as_fit():
    order = plan()
    seconds = order.lengths[0]
    for step in range(sum(order.counts)):
        bucket, rows = order[step]
        assert len(rows) == int(64 / order.buckets[bucket])
        longest = order.buckets[bucket]
        shorter = order.buckets[bucket - 1] if bucket else 0
        assert all(shorter < seconds[row] <= longest or (seconds[row] > 16 and bucket == 2) for row in rows)


def test_weights_are_kept_over_an_epoch():
    order = plan([np.full(30, 3.0), np.full(50, 3.0)], weights=(10.0, 4.0), multiple=4)
    rows = np.concatenate([order[step][1] for step in range(sum(order.counts))])
    assert (rows < 30).sum() / (rows >= 30).sum() == pytest.approx(300 / 200, rel=0.04)
    assert len(rows) % 4 == 0


def test_any_step_is_the_same_without_the_steps_before():
    assert all(np.array_equal(plan()[step][1], plan()[step][1]) for step in (0, 3, 50, 1))


@pytest.mark.parametrize("columns", [("speech",), ("speech", "noisy")])
def test_workers_and_processes_change_no_batch(corpus, columns):
    whole = list(itertools.islice(loader.batches(reader(corpus, columns), first=0, last=4, workers=0), 4))
    for other in (
        loader.batches(reader(corpus, columns), first=0, last=4, workers=2),
        map(reader(corpus, columns), range(4)),
    ):
        for one, two in zip(whole, other, strict=True):
            same(one, two)
    for step, batch in enumerate(whole):
        halves = [reader(corpus, columns, process=(i, 2))(step) for i in range(2)]
        assert batch["names"] == halves[0]["names"] + halves[1]["names"]
        for column, wav in batch["waves"].items():
            np.testing.assert_array_equal(wav, np.concatenate([half["waves"][column] for half in halves]))


def test_a_later_start_reads_the_same_batches(corpus):
    whole = list(loader.batches(reader(corpus), first=0, last=5, workers=0))
    for one, two in zip(whole[3:], loader.batches(reader(corpus), first=3, last=5, workers=0), strict=True):
        same(one, two)


def test_a_crop_is_a_piece_of_its_file_and_its_mixture_holds_it(corpus):
    import soundfile

    for step in range(3):
        batch = reader(corpus, ("speech", "noisy"))(step)
        for i, name in enumerate(batch["names"]):
            speech = batch["waves"]["speech"][i, : batch["lengths"][i]]
            whole, _ = soundfile.read(name, dtype="float32")
            lag = np.argmax(np.correlate(whole, speech, "valid"))
            scale = np.linalg.norm(speech) / np.linalg.norm(whole[lag : lag + len(speech)])
            np.testing.assert_allclose(speech, scale * whole[lag : lag + len(speech)], atol=1e-5)
            assert not batch["waves"]["noisy"][i, batch["lengths"][i] :].any()


def test_pairs_are_read_where_the_manifest_has_them(tmp_path, voice):
    import soundfile

    rows = []
    for i in range(4):
        clean = voice(1.5, i)
        soundfile.write(tmp_path / f"c{i}.wav", clean, 16_000, subtype="FLOAT")
        soundfile.write(tmp_path / f"n{i}.wav", clean + 0.25, 16_000, subtype="FLOAT")
        rows.append(dict(path=f"c{i}.wav", noisy=f"n{i}.wav", start=0, frames=len(clean), rate=16_000))
    manifest.write(tmp_path / "pairs.parquet", rows)
    columns = {"speech": 1.0, "noisy": 1.0}
    found = sources(str(tmp_path / "pairs.parquet"), task(columns), split=None)
    order = loader.Plan((found[0].manifest.seconds,), (1.0,), (1.0,), 4.0, 1, 0)
    batch = loader.Reader(found, order, task(columns), SPEC, (0, 1))(0)
    np.testing.assert_allclose(batch["waves"]["noisy"] - batch["waves"]["speech"], 0.25, atol=1e-6)


def test_an_unreadable_file_is_replaced_by_the_next_and_reported(corpus, tmp_path):
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    (copy / "speech_0.flac").write_bytes(b"")
    before, after = reader(corpus), reader(copy)
    named = 0
    for step in range(sum(before.plan.counts)):  # an epoch
        one, two = before(step), after(step)
        for i, name in enumerate(one["names"]):
            hit = name.endswith("speech_0.flac")
            assert two["names"][i].rsplit("/")[-1] == ("speech_1.flac" if hit else name.rsplit("/")[-1])
            named += hit
        assert len(two["bad"]) == sum(name.endswith("speech_0.flac") for name in one["names"])
        assert all("speech_0.flac" in reason for reason in two["bad"])
        same(two, after(step))
    assert named


def test_a_missing_folder_is_an_error(corpus, tmp_path):
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    gone = reader(copy)
    for path in copy.glob("*.flac"):
        path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        gone(0)


@pytest.fixture(scope="module")
def wide(spoken):
    """Manifests with many more columns: `listed` with mixtures, noisy recordings and predicted Mels, and `plain`."""
    found, rows = manifest.read(spoken, split=None), []
    for row in map(found.row, range(len(found))):
        estimate = spoken.with_name(f"{Path(row['path']).stem}.npy")
        np.save(estimate, np.full((1, 400, 80), row["frames"], np.float16))
        other = {"sources": [row["path"], row["path"]], "gains": [0.5, 0.25], "noise": row["path"], "noise_gain": 0.1}
        more = {"name": "a", "prompt": "b.wav", "speakers": ["x", "y"], "mine": {"of": 1}}
        rows.append(row | other | more | {"noisy": row["path"], "estimate": str(estimate)})
    manifest.write(spoken.with_name("listed.parquet"), rows)
    without = ("sources", "gains", "noise", "noise_gain", "noisy", "estimate")
    plain = [{name: row[name] for name in row if name not in without} for row in rows]
    manifest.write(spoken.with_name("plain.parquet"), plain)
    return spoken.parent


TWO = ("source_1", "source_2", "mixture")


@pytest.mark.parametrize(
    "name, waves, predicted, labels, further",
    [
        ("listed", ("speech",), {}, {}, set()),
        ("listed", ("speech", "noisy"), {}, {}, {"noisy", "speaker"}),
        ("plain", ("speech", "noisy"), {}, {}, {"speaker"}),
        ("listed", TWO, {}, {}, {"sources", "gains", "noise", "noise_gain", "speaker"}),
        ("plain", TWO, {}, {}, {"speaker"}),
        ("listed", ("speech", "noisy"), {"estimate": 1}, {}, {"estimate", "noisy", "speaker"}),
        ("listed", ("speech",), {}, {"phones": 1.0}, {"phones", "lengths"}),
        ("listed", (), {}, {"tokens": 0.5, "lengths": 0.5}, {"phones", "lengths"}),
    ],
)
def test_a_source_reads_only_the_columns_that_its_batches_need(wide, name, waves, predicted, labels, further):
    columns = dict.fromkeys(waves, 1.0)
    path, noise = wide / f"{name}.parquet", f"{wide}/noise.parquet"
    known = phones.inventory(manifest.read(path, split=None).table.column("phones").to_pylist())
    simulation = Simulation(
        mix=dict(noise=noise, probability=1.0, snr=(0.0, 5.0), gain=(-3.0, 3.0), babble=0.5, talkers=2, reach=2.0),
        degrade=default.get_config("tiny").degrade,
        mixture=dict(noise=noise, probability=1.0, loudness=(-33.0, -25.0), noise_loudness=(-38.0, -30.0)),
        enrolment={},
    )
    reads = task(columns, predicted=predicted, labels=labels, phones=known)
    (few,) = loader.sources(str(path), reads, spec=SPEC, simulation=simulation, split="train")
    assert set(few.manifest.columns) == {"path", "start", "frames", "rate"} | further
    every = dataclasses.replace(few, manifest=manifest.read(path, split="train"))
    order = loader.Plan((few.manifest.seconds,), (1.0,), (1.0, 2.0), 4.0, 2, 0)
    one, two = (loader.Reader((source,), order, reads, SPEC, (0, 1)) for source in (few, every))
    for step in range(3):
        jax.tree.map(np.testing.assert_array_equal, one(step), two(step))
        assert not one(step)["bad"]


def test_weights_are_read_from_the_list_of_manifests(corpus):
    found = sources(f"{corpus}/speech.parquet:10, {corpus}/noise.parquet", task({"speech": 1.0}), split=None)
    assert [source.weight for source in found] == [10.0, 1.0]
    for text, weight in (("a.parquet:1e3", 1000.0), ("a.parquet:0.5", 0.5), ("a.parquet:.5", 0.5)):
        assert loader.entry(text, named=False) == ("", "a.parquet", weight)
    assert loader.entry("gs://bucket/a.parquet", named=False) == ("", "gs://bucket/a.parquet", 1.0)
    for weight in ("-1", "inf", "nan"):
        with pytest.raises(UserError, match=f"weight .*got {weight}"):
            loader.entry(f"a.parquet:{weight}", named=False)
    with pytest.raises(UserError, match="no manifest"):
        sources("", task({"speech": 1.0}), split=None)
