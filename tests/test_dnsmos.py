"""DNSMOS has the values of its package, falls with noise, needs no reference, and says what to install."""

import sys

import numpy as np
import pytest
import soundfile

from sfjax.errors import UserError
from sfjax.metrics import Unscorable
from sfjax.metrics.dnsmos import dnsmos, network

RATE = 16_000


@pytest.fixture
def recordings(tmp_path, voice):
    """A folder with a voice-like recording, and the same recording in noise."""
    clean = voice(3.0, 0)
    noisy = clean + np.float32(0.05) * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    for name, wav in (("clean", clean), ("noisy", noisy)):
        soundfile.write(tmp_path / f"{name}.wav", wav, RATE)
    return tmp_path


def test_opinions_are_those_of_the_package(voice):
    package = pytest.importorskip("speechmos.dnsmos")
    wav = voice(3.0, 0)
    ours, theirs = dnsmos(wav, RATE), package.run(wav, RATE)
    for name in ("sig", "bak", "ovrl"):
        assert ours[name] == pytest.approx(theirs[f"{name}_mos"], abs=1e-3)  # another number of threads


def test_the_command_scores_without_references_and_beside_other_scores(recordings, call):
    pytest.importorskip("speechmos")
    alone = call("score", "--estimate", recordings, "--dnsmos", "--workers", "1")
    assert alone[0] == 0 and "bak" in alone[2] and "pesq" not in alone[2]
    files = ["--reference", recordings / "clean.wav", "--estimate", recordings / "noisy.wav"]
    code, _, printed = call("score", *files, "--dnsmos", "--workers", "1")
    assert code == 0 and "bak" in printed and "pesq_wb" in printed


def test_noise_lowers_the_opinion_on_the_background(recordings):
    pytest.importorskip("speechmos")
    clean, noisy = (dnsmos(soundfile.read(recordings / f"{name}.wav")[0], RATE) for name in ("clean", "noisy"))
    assert noisy["bak"] < clean["bak"] - 0.3


def test_silence_has_no_opinion_and_a_missing_package_is_one_line(refused, tmp_path, recordings, monkeypatch):
    with pytest.raises(Unscorable, match="silent"):
        dnsmos(np.zeros(RATE, np.float32), RATE)
    refused("--reference", "score", "--estimate", recordings)
    refused("does not exist", "score", "--estimate", tmp_path / "none", "--dnsmos")
    monkeypatch.setitem(sys.modules, "speechmos", None)
    network.cache_clear()
    with pytest.raises(UserError, match=r"sfjax\[dnsmos\]"):
        network()
    refused(r"sfjax\[dnsmos\]", "score", "--estimate", recordings, "--dnsmos")
