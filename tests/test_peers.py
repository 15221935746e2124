"""The benchmark against other enhancers: delays are found and removed, and a peer that is missing costs one line."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sfjax import audio

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("peers")


@pytest.fixture
def pairs(voice, tmp_path, peers):
    """Three recordings in noise, and their folder `clean` and `noisy`."""
    rng = np.random.default_rng(0)
    made = []
    for number, seconds in enumerate((1.0, 1.7, 1.3)):
        clean = voice(seconds, number)
        noisy = clean + 0.02 * rng.standard_normal(len(clean)).astype(np.float32)
        made.append(peers.Pair(f"p{number}", clean, noisy))
        for folder, wav in (("clean", clean), ("noisy", noisy)):
            audio.write(tmp_path / folder / f"p{number}.flac", wav, 16_000)
    return made


class Late:
    """A toy system at 48 kHz: everything comes 1001 samples later, and 3 dB weaker."""

    rate = 48_000

    def reset(self):
        pass

    def __call__(self, wav):
        return 0.7 * np.pad(wav, (1001, 0))


def absent():
    raise ImportError("no such package")


@pytest.mark.parametrize("samples", [0, 1, 384, 1600])
def test_the_delay_is_that_of_the_output_in_samples_of_16_khz(peers, pairs, samples):
    clean = [pair.clean for pair in pairs]
    outputs = [np.pad(pair.noisy, (samples, 0)) for pair in pairs]
    late = peers.delay(clean, outputs, rate=16_000)
    assert late * 16_000 == samples
    for pair, out in zip(pairs, outputs, strict=True):
        np.testing.assert_array_equal(peers.advanced(out, late, len(pair.noisy)), pair.noisy)


def test_a_delay_at_48_khz_is_removed_by_fractions_of_a_sample(peers, pairs):
    run = peers.ran(Late, pairs)
    assert run.delay * 48_000 == pytest.approx(1001)
    assert run.cpu > 0 and run.start > 0
    for pair, out in zip(pairs, run.outputs, strict=True):
        inside = slice(400, -400)  # resampling rings at the ends
        error = out[inside] / 0.7 - pair.noisy[inside]
        coarse = np.roll(pair.noisy, 1)[inside] - pair.noisy[inside]
        assert len(out) == len(pair.noisy)
        assert np.std(error) < 0.2 * np.std(coarse)  # noise close to 8 kHz does not survive resampling


def test_a_missing_peer_gives_one_line_with_its_install_command(peers, capsys):
    assert peers.loaded("Absent", peers.Peer(absent, "pip install absent")) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["Absent is skipped (no such package); install it: pip install absent"]


def test_every_peer_that_is_not_installed_is_skipped(peers, capsys, monkeypatch):
    monkeypatch.setattr(peers.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(peers, "packaged", lambda distribution, part: absent())
    for name, peer in peers.PEERS.items():
        assert peers.loaded(name, peer) is None
        assert capsys.readouterr().out.count("\n") == 1


def test_a_distribution_that_is_not_installed_is_an_import_error(peers):
    with pytest.raises(ImportError, match="no-such-enhancer"):
        peers.packaged("no-such-enhancer", ".onnx")
    with pytest.raises(ImportError, match="numpy has no file weights.onnx"):
        peers.packaged("numpy", "weights.onnx")


def test_framed_recordings_keep_their_samples_and_leave_room_for_a_delay(peers):
    wav = np.arange(1, 1000, dtype=np.float32)
    frames = peers.framed(wav, 480, 48_000)
    assert frames.shape[1] == 480
    assert frames.size >= len(wav) + 0.1 * 48_000
    np.testing.assert_array_equal(frames.reshape(-1)[: len(wav)], wav)
    assert not frames.reshape(-1)[len(wav) :].any()


def test_the_tables_compare_every_system_with_the_first_model(peers, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "Sfjax", lambda name: peers.Noisy())
    monkeypatch.setattr(peers, "PEERS", {"Late": peers.Peer(Late, ""), "Absent": peers.Peer(absent, "pip install it")})
    monkeypatch.setitem(sys.modules, "speechmos", None)  # not installed
    peers.dnsmos.network.cache_clear()
    command = ["--pairs", str(tmp_path), "--model", "toy", "--peers", "Late", "Absent", "--workers", "1"]
    peers.main([*command, "-o", str(tmp_path / "peers.json")])
    text = capsys.readouterr().out
    assert "pip install it" in text and "DNSMOS is skipped" in text
    noisy, toy, late = json.loads((tmp_path / "peers.json").read_text())["systems"]
    assert [one["system"] for one in (noisy, toy, late)] == ["noisy", "toy", "Late"]
    assert toy["rows"] == noisy["rows"] and [row["name"] for row in toy["rows"]] == ["p0", "p1", "p2"]
    assert set(noisy["difference"]["mean"].values()) == {0.0} and "difference" not in toy
    for name, mean in late["difference"]["mean"].items():
        assert mean == pytest.approx(late["mean"][name] - toy["mean"][name], abs=1e-6)
    assert late["mean"]["si_sdr"] == pytest.approx(noisy["mean"]["si_sdr"], abs=1)  # a delay would leave less than 0 dB
    assert late["delay_ms"] == pytest.approx(1001 / 48)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| Late")]
    assert len(rows) == 2 and [len(row) for row in rows] == [1 + 7 + 3, 1 + 7]
