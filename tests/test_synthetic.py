"""Generated voices and noises are reproducible, have every accent and kind, and reject impossible numbers."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from sfjax.data import synthetic
from sfjax.errors import UserError


def samples(folder):
    return {str(p.relative_to(folder)): soundfile.read(p, dtype="int16")[0] for p in sorted(folder.rglob("*.flac"))}


def test_the_same_seed_gives_the_same_speech_at_any_time_with_any_workers(tmp_path):
    began = int(time.time())
    listed = synthetic.generate(tmp_path / "a", voices=4, sentences=2, seed=1, workers=2)
    entries = [json.loads(line) for line in listed.read_text().splitlines()]
    # breathy timbres draw noise, seeded by the second of the clock unless told otherwise
    assert any(entry["voice"].endswith(("f2", "f3", "f5")) for entry in entries)
    while int(time.time()) < began + 1:
        time.sleep(0.05)
    synthetic.generate(tmp_path / "b", voices=3, sentences=1, seed=1, workers=1)
    first, second = samples(tmp_path / "a"), samples(tmp_path / "b")
    assert sorted(first) == [f"v00{voice}/00{n}.flac" for voice in range(4) for n in range(2)]
    assert sorted(second) == [f"v00{voice}/000.flac" for voice in range(3)]
    for name, wav in second.items():
        assert np.array_equal(wav, first[name])
    for entry in entries:
        wav = first[entry["path"]]
        info = soundfile.info(tmp_path / "a" / entry["path"])
        assert (info.samplerate, info.channels) == (16000, 1)
        assert entry["speaker"] == entry["path"].split("/")[0]
        assert entry["text"] in synthetic.SENTENCES
        assert 7 < len(entry["text"]) / (len(wav) / 16000) < 33  # letters a second
        assert np.abs(wav).max() > 3000


def test_every_accent_and_timbre_is_spoken_at_its_speed_and_none_falls_back_to_another(tmp_path):
    library, data = synthetic._espeak()
    said = {"library": library, "data": data, "pitch": 50, "speed": 170, "text": synthetic.SENTENCES[0]}
    names = [f"{accent}+m1" for accent in synthetic.ACCENTS] + [f"en-us+{timbre}" for timbre in synthetic.TIMBRES[1:]]
    for name in names:
        synthetic._record(tmp_path, said | {"voice": name, "path": f"{name}.flac"})
    spoken = samples(tmp_path)
    assert len({wav.tobytes() for wav in spoken.values()}) == len(names) == 19
    raw = json.dumps(said | {"voice": names[0]}).encode()
    child = subprocess.run([sys.executable, "-P", synthetic.__file__], input=raw, capture_output=True, check=True)
    seconds = (len(child.stdout) - 4) / 2 / 22050
    assert len(spoken[f"{names[0]}.flac"]) / 16000 == pytest.approx(seconds, abs=1e-4)
    with pytest.raises(UserError, match="cannot speak as no-such-voice"):
        synthetic._record(tmp_path, said | {"voice": "no-such-voice", "path": "x.flac"})
    assert not (tmp_path / "x.flac").exists()


def test_all_voices_come_before_any_comes_again():
    kinds = [synthetic._voice(number, 3)["voice"] for number in range(192)]
    assert len(set(kinds[:96])) == len(set(kinds[96:])) == 96
    assert kinds[:96] != kinds[96:]
    assert len(set(synthetic.SENTENCES)) == len(synthetic.SENTENCES) >= 60


def test_noises_are_of_all_kinds_the_same_for_a_seed_and_different_otherwise(tmp_path):
    for name, count, seed in (("a", 12, 0), ("b", 6, 0), ("c", 6, 1)):
        paths = synthetic.noises(tmp_path / name, count=count, seed=seed)
        assert [p.parent.name for p in paths] == list(synthetic.NOISES) * (count // 6)
    first, second, other = (samples(tmp_path / name) for name in "abc")
    assert len({wav.tobytes() for wav in [*first.values(), *other.values()]}) == 18
    for name, wav in second.items():
        assert np.array_equal(wav, first[name])
    for wav in first.values():
        assert len(wav) == 64000
        level = 10 * np.log10(np.mean((wav / 32768.0) ** 2))
        assert -55 < level < -19.9
        assert np.abs(wav).max() < 32767


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_coloured_noise_falls_by_its_decibels_per_octave(kind, slope):
    power = np.abs(np.fft.rfft(synthetic._noise(kind, np.random.default_rng(0)))) ** 2
    octaves = [10 * np.log10(power[4 * low : 8 * low].mean()) for low in (125, 250, 500, 1000, 2000)]  # bins of 1/4 Hz
    # a mean over 500 bins or more has a deviation below 0.2 dB
    assert np.diff(octaves) == pytest.approx(np.full(4, slope), abs=0.8)


def test_impossible_numbers_and_a_missing_espeak_are_reported_in_one_line(tmp_path, monkeypatch):
    for wrong in ({"voices": 0}, {"sentences": 0}, {"sentences": 1000}, {"workers": 0}):
        with pytest.raises(UserError, match="voices and workers must be at least 1 and sentences from 1 to .*, got"):
            synthetic.generate(tmp_path, **{"voices": 1, "sentences": 1, "seed": 0, "workers": 1} | wrong)
    with pytest.raises(UserError, match="count of noises must be at least 1, got 0"):
        synthetic.noises(tmp_path, count=0, seed=0)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # makes its import fail
    with pytest.raises(UserError, match=r'pip install "sfjax\[voices\]"'):
        synthetic.generate(tmp_path, voices=1, sentences=1, seed=0, workers=1)
    assert list(tmp_path.iterdir()) == []
