"""A full disk or Ctrl-C ends a command with one line, and files that were written before stay whole."""

import contextlib
import os
import re
import resource
import signal
import time

import numpy as np
import pytest
import soundfile
from tensorboardX import summary

from sfjax import audio, checkpoint
from sfjax.metric_writer import Board

RATE = 16_000


@pytest.fixture(scope="module")
def good(tmp_path_factory, voice):
    """A recording."""
    path = tmp_path_factory.mktemp("good") / "good.wav"
    soundfile.write(path, voice(1.5, 0), RATE)
    return path


@contextlib.contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes here; what is written beyond is refused, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A full disk


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_costs_only_the_files_that_do_not_fit(call, content, enhancer, voice, tmp_path, suffix):
    out, large, small = tmp_path / "out", tmp_path / f"large.{suffix}", tmp_path / f"small.{suffix}"
    soundfile.write(large, audio.resample(voice(1.0, 1), RATE, 48_000), 48_000)  # the shorter one, so done first
    soundfile.write(small, audio.resample(voice(1.5, 1), RATE, 8_000), 8_000)
    # together as below: a batch of two rounds differently from one, and FLAC packs that into other sizes
    assert call("enhance", large, small, "-o", out, "--model", enhancer)[0] == 0
    (out / small.name).unlink()
    before, size = content(out), (out / large.name).stat().st_size
    for missing in (size // 4, 50):
        with full_disk(size - missing):
            code, complaints, _ = call("enhance", large, small, "-o", out, "--force", "--model", enhancer)
        assert code == 2 and len(complaints) == 1
        assert re.search(rf"large.{suffix}: .*could not be written .*free space", complaints[0])
        assert sorted(path.name for path in out.iterdir()) == [large.name, small.name]
        assert content(out).items() >= before.items() and audio.probe(out / small.name).frames == 12_000


def test_a_full_disk_leaves_the_manifest_of_before(call, refused, content, corpus, tmp_path):
    words = ("prepare", "folder", corpus, tmp_path / "a.parquet", "--workers", 1)
    assert call(*words)[0] == 0
    before = content(tmp_path)
    for size in (100, 1500):  # not even the statistics; the statistics but not the manifest
        with full_disk(size):
            refused("a.(stats.json|parquet): could not be written .*free space", *words, "--split", "other")
        assert content(tmp_path) == before


def test_a_full_disk_leaves_the_scores_of_before_and_shows_the_new_ones(call, content, good, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("from before")
    words = ("score", "--reference", good, "--estimate", good, "--workers", 1, "--force")
    with full_disk(100):
        code, complaints, said = call(*words, "-o", path)
    assert code == 2 and len(complaints) == 1 and "scores.json: could not be written" in complaints[0]
    assert "1 scored, 0 failed" in said
    assert content(tmp_path) == {path: b"from before"}


@pytest.mark.slow
def test_a_full_disk_ends_training_and_leaves_the_checkpoints_of_before(
    call, shell, flags, content, toy_config, tmp_path
):
    config = toy_config("enhance", **{"run.save": 2, "run.valid_batches": 0})
    words = ("train", f"--workdir={tmp_path}", *flags(config, "enhance"))
    assert call(*words, "--config.run.stop=2")[0] == 0
    before = content(tmp_path / "checkpoints/2")
    process = shell(*words, limit=50_000)  # less than the state's metadata
    _, said = process.communicate(timeout=100)
    assert process.returncode == 2 and "Traceback" not in said and "ERROR" not in said
    complaints = [line for line in said.splitlines() if line.startswith("sfjax: ")]
    assert len(complaints) == 1 and re.search("step 4 was not saved .*File too large.*free space", complaints[0])
    assert content(tmp_path / "checkpoints/2") == before
    code, complaints, _ = call(*words)
    assert (code, complaints) == (0, [])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "6"]


def test_a_record_that_does_not_fit_is_an_error_and_no_wait(tmp_path):
    board = Board(tmp_path, first=0)  # that of tensorboardX would never return
    with full_disk(2_000), pytest.raises(OSError):
        for step in range(1000):
            board.add_summaries(step, summary.scalar("loss", 1.0))


# Ctrl-C


def interrupt(process, ready):
    """Sends the process and its children what a terminal sends on Ctrl-C, once `ready`; the complaints after it."""
    began = time.time()
    while not ready() and process.poll() is None and time.time() - began < 100:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("sfjax: ")]


def test_an_interrupted_enhancement_leaves_only_whole_files(shell, good, enhancer, voice, tmp_path):
    out, long = tmp_path / "out", tmp_path / "long.wav"
    soundfile.write(long, np.tile(voice(1.5, 2), 400), RATE)  # ten minutes
    process = shell("enhance", long, good, "-o", out, "--model", enhancer)
    complaints = interrupt(process, lambda: [*out.glob(".long.wav.*.part")])
    assert len(complaints) == 1 and "interrupted" in complaints[0]
    assert [path.name for path in out.iterdir()] == ["good.wav"]
    assert len(audio.read(out / "good.wav")[0]) == 1.5 * RATE


@pytest.mark.slow
def test_an_interrupted_training_leaves_only_whole_checkpoints(shell, flags, toy_config, tmp_path):
    config = toy_config("enhance", **{"run.valid_batches": 0, "run.workers": 1, "optim.updates": 100_000})
    process = shell("train", f"--workdir={tmp_path}", *flags(config, "enhance"))
    record = tmp_path / "metrics.jsonl"
    complaints = interrupt(process, lambda: record.exists() and len(record.read_text().splitlines()) > 2)
    assert len(complaints) == 1 and "interrupted" in complaints[0]
    saved = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert len(saved) == 1 and int(saved[0]) == len(record.read_text().splitlines())
    assert not list(tmp_path.rglob("*.part")) and checkpoint.params(tmp_path, ema=True)[2] == int(saved[0])
