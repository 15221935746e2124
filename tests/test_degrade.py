"""Each degradation changes a recording as documented, and a list of degraded recordings holds every kind."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile

from sfjax import audio, metrics, tasks
from sfjax.__main__ import main
from sfjax.configs import default, restore
from sfjax.data import degrade, degraded, examples, loader, manifest, noise_mixer, rooms
from sfjax.errors import UserError

RATE = 16_000


def decaying(rt60, *, delay=200, seconds=1.0, seed=0):
    """An impulse response: a direct sound behind `delay` samples, then noise that decays by 60 dB in `rt60`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tail = 0.05 * rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail[0] = 1
    return np.concatenate([np.zeros(delay), tail]).astype(np.float32)


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    """A manifest of three impulse responses."""
    folder, rows = tmp_path_factory.mktemp("rooms"), []
    for number, rt60 in enumerate((0.3, 0.5, 0.8)):
        wav = decaying(rt60, seed=number)
        soundfile.write(folder / f"{number}.flac", 0.9 * wav, RATE)
        rows.append({"path": f"{number}.flac", "start": 0, "frames": len(wav), "rate": RATE, "kind": "room"})
    manifest.write(folder / "rooms.parquet", rows)
    return folder / "rooms.parquet"


def chain(responses=None, mixer=None, **changes):
    """The chain of the default config, where nothing happens, with changes."""
    options = dict(default.get_config("tiny").degrade) | changes
    options["rooms"] = None if responses is None else manifest.read(responses, split=None)
    return degrade.Chain(mixer, RATE, **options)


def lag(wav, reference):
    """By how many samples `wav` comes later than `reference`."""
    found = scipy.signal.correlate(wav.astype(np.float64), reference.astype(np.float64), method="fft")
    return int(np.argmax(found)) - (len(reference) - 1)


def tone(hertz, seconds=1.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def middle(wav):
    """The level of the inner half of a wave, which no edge reaches."""
    part = wav[len(wav) // 4 : -len(wav) // 4]
    return np.sqrt(np.mean(part.astype(np.float64) ** 2))


# Room


def test_an_impulse_in_a_room_of_half_a_second_decays_in_half_a_second():
    impulse = np.zeros(RATE, np.float32)
    impulse[0] = 1
    _, heard = degrade.reverberate(impulse, (decaying(0.5), 200), early=800)
    assert np.argmax(np.abs(heard)) == 0
    assert rooms.decay_time(heard, RATE) == pytest.approx(0.5, rel=0.05)


def test_the_target_of_a_room_is_its_direct_sound_and_the_next_50_ms():
    impulse = np.zeros(RATE, np.float32)
    impulse[0] = 1
    target, heard = degrade.reverberate(impulse, (decaying(0.5), 200), early=800)
    np.testing.assert_allclose(target[:800], heard[:800], atol=1e-6)
    assert np.abs(target[800:]).max() < 1e-6 < np.abs(heard[800:8000]).max()
    assert np.sum(target**2) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_target_and_reverberant_speech_are_aligned_to_the_speech(voice, sign):
    speech = voice(2.0, 0)
    target, heard = degrade.reverberate(speech, (sign * decaying(0.5), 200), early=800)
    assert lag(target, speech) == lag(heard, speech) == 0
    assert target @ speech > 0 and len(target) == len(heard) == len(speech)


def test_the_snr_counts_the_reverberant_speech(corpus, voice, responses):
    talk = manifest.read(corpus / "speech.parquet", split=None)
    mix = dict(default.get_config("tiny").mix) | {"snr": (5.0, 5.0), "gain": (0.0, 0.0)}
    mixer = noise_mixer.Mixer(**mix | {"noise": manifest.read(corpus / "noise.parquet", split=None)})
    speech = voice(2.0, 1)
    both, alone = (
        chain(responses, mixer=one, room=1.0)(speech, talk, "s0", np.random.default_rng(3)) for one in (mixer, None)
    )
    scale = (both[0] @ alone[0]) / (alone[0] @ alone[0])  # the ceiling may have turned the mixture down
    heard = alone[1] * scale
    snr = noise_mixer.active_level(heard, RATE) - noise_mixer.active_level(both[1] - heard, RATE)
    assert snr == pytest.approx(5, abs=0.3)  # the noise's level is that of 5 s, here of 2 s


def test_a_response_is_read_once(responses, monkeypatch):
    degrade.response.cache_clear()
    read = []
    original = degrade.audio.read
    monkeypatch.setattr(degrade.audio, "read", lambda path, **how: read.append(path) or original(path, **how))
    speech = np.ones(RATE, np.float32)
    for seed in range(20):
        chain(responses, room=1.0)(speech, None, None, np.random.default_rng(seed))
    assert sorted(read) == sorted(set(read)) and len(read) == 3


# Microphone, clipping, band


@pytest.mark.parametrize("samples, taps", [(70_000, 1000), (70_000, 20_000), (300, 1000), (8192, 1), (1, 5)])
def test_block_convolution_equals_one_convolution(samples, taps):
    rng = np.random.default_rng(0)
    wav, one, two = (rng.standard_normal(n).astype(np.float32) for n in (samples, taps, taps // 2 + 1))
    for found, taken in zip(degrade.convolved(wav, one, two), (one, two), strict=True):
        wanted = scipy.signal.fftconvolve(wav.astype(np.float64), taken)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_microphone_changes_levels_by_at_most_its_depth_and_nothing_else():
    gains = degrade.equaliser(RATE, 10.0, np.random.default_rng(0))
    decibels = 20 * np.log10(np.abs(gains))
    assert 3 < np.ptp(decibels) <= 20 and np.abs(decibels).max() <= 20
    assert np.abs(np.diff(decibels[16:])).max() < 1  # smooth
    for hertz in (500, 2000, 5000):
        after = degrade.shaped(tone(hertz), gains)
        gained = 20 * np.log10(middle(after) / middle(tone(hertz)))
        assert gained == pytest.approx(decibels[round(hertz / 8000 * degrade.GRID)], abs=0.2)
    impulse = np.zeros(4000, np.float32)
    impulse[1000] = 1
    heard = degrade.shaped(impulse, gains)
    assert np.sum(heard[:990] ** 2) < 1e-3 * np.sum(heard**2)  # minimum phase: nothing before the sound


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_clipping_cuts_at_its_share_of_the_peak(voice, share):
    wav = voice(1.0, 0)
    limit = share * np.abs(wav).max()
    hard, soft = degrade.clipped(wav, share), degrade.soft_clipped(wav, share)
    assert np.abs(hard).max() == pytest.approx(limit, rel=1e-5)
    below = np.abs(wav) < limit
    np.testing.assert_array_equal(hard[below], wav[below])
    assert np.abs(soft).max() <= limit * (1 + 1e-6) and np.abs(soft).max() > 0.9 * limit
    assert np.all(np.sign(soft) == np.sign(wav))


@pytest.mark.parametrize("seed", range(8))
def test_a_low_pass_keeps_low_tones_and_removes_high_tones(seed):
    gains = degrade.low_pass(RATE, (2500.0, 2500.0), np.random.default_rng(seed))
    low, high = tone(800), tone(7500)
    assert 20 * np.log10(middle(degrade.shaped(low, gains)) / middle(low)) > -3.5
    assert 20 * np.log10(middle(degrade.shaped(high, gains)) / middle(high)) < -12
    assert lag(degrade.shaped(low, gains), low) == 0


def test_filters_differ():
    found = [degrade.low_pass(RATE, (2500.0, 2500.0), np.random.default_rng(seed)) for seed in range(10)]
    assert all(np.abs(one - two).max() > 1e-3 for one, two in itertools.combinations(found, 2))


def test_8_khz_sampling_keeps_a_tone_below_4_khz_and_removes_one_above():
    for hertz, kept in ((1000, 1.0), (6000, 0.0)):
        after = degrade.narrowed(tone(hertz), RATE)
        assert middle(after) / middle(tone(hertz)) == pytest.approx(kept, abs=0.01)
        assert len(after) == RATE


# Codecs


@pytest.mark.parametrize("name", degrade.CODECS)
@pytest.mark.parametrize("compression", [0.0, 1.0])
def test_a_codec_keeps_length_and_time_and_changes_the_sound(voice, name, compression):
    wav = 5 * voice(1.337, 2)
    heard = degrade.coded(wav, RATE, name, compression=compression)
    assert heard.shape == wav.shape and heard.dtype == np.float32
    assert lag(heard, wav) == 0
    assert 0.001 < np.linalg.norm(heard - wav) / np.linalg.norm(wav) < 0.9


def test_mp3_has_a_delay_that_has_to_be_removed():
    low, high = degrade.CODECS["mp3"].levels
    assert degrade._delay("mp3", high) == 1105 and degrade._delay("mp3", low) == 0


@pytest.mark.parametrize("name", ["mp3", "mulaw"])
def test_a_codec_does_not_clip_beyond_full_scale(voice, name):
    wav = 30 * voice(1.0, 2)
    heard = degrade.coded(wav, RATE, name, compression=0.0)
    assert np.abs(wav).max() == pytest.approx(3, rel=0.01) and np.abs(heard).max() > 2
    assert metrics.si_sdr(wav, heard) > 5


# Packets


@pytest.mark.parametrize("share, burst", [(0.1, 1.0), (0.2, 4.0), (0.9, 3.0), (0.0, 1.0)])
def test_the_requested_share_of_packets_is_lost(share, burst):
    lost = degrade.losses(200, share, burst, np.random.default_rng(0))
    assert lost.sum() == round(share * 200) and len(lost) == 200


def test_bursts_have_the_requested_mean_length():
    for burst in (1.0, 3.0):
        edges = [np.diff(degrade.losses(1000, 0.1, burst, np.random.default_rng(i)), prepend=0) for i in range(20)]
        assert 2000 / sum((edge == 1).sum() for edge in np.asarray(edges, int)) == pytest.approx(burst, rel=0.15)


def test_lost_packets_are_silent_or_repeat_the_last_one_and_others_stay():
    wav, lost = np.arange(1, 50, dtype=np.float32), np.array([True, False, True, True, False])
    silent, again = degrade.zeroed(wav, lost, 10), degrade.repeated(wav, lost, 10)
    for heard in (silent, again):
        np.testing.assert_array_equal(heard[10:20], wav[10:20])
        np.testing.assert_array_equal(heard[40:], wav[40:])
        assert not heard[:10].any() and len(heard) == len(wav)
    assert not silent[20:40].any()
    np.testing.assert_array_equal(again[20:40], np.tile(wav[10:20], 2))


# The chain


def test_the_level_changes_target_and_recording_equally_and_stays_below_full_scale(voice):
    speech = voice(1.0, 0)
    for gain in (-20.0, -5.0):
        target, wav = chain(level=1.0, gain=(gain, gain))(speech, None, None, np.random.default_rng(0))
        np.testing.assert_allclose(target, speech * 10 ** (gain / 20), rtol=1e-5)
        np.testing.assert_array_equal(target, wav)
    loud, _ = chain(level=1.0, gain=(40.0, 40.0))(speech, None, None, np.random.default_rng(0))
    assert np.abs(loud).max() == pytest.approx(0.99, rel=1e-3)


def test_a_chain_without_probabilities_changes_nothing(voice):
    speech = voice(1.0, 0)
    assert not chain().on
    for wav in chain()(speech, None, None, np.random.default_rng(0)):
        np.testing.assert_array_equal(wav, speech)


ALL = dict.fromkeys(degrade.PROBABILITIES, 1.0)


@pytest.mark.parametrize("name", degrade.PROBABILITIES)
def test_each_degradation_happens_as_often_as_its_probability_says(name, voice, responses):
    speech, options = voice(0.3, 0), {name: 0.5, "codecs": "mulaw", "loss": (0.5, 0.5)}
    happened = 0
    for seed in range(60):
        target, wav = chain(responses, **options)(speech, None, None, np.random.default_rng(seed))
        happened += not (np.array_equal(target, speech) and np.array_equal(wav, speech))
    assert 18 <= happened <= 42  # three standard deviations


def test_the_same_generator_gives_the_same_recording_and_another_one_another(voice, responses):
    speech = voice(1.0, 0)
    one, two, other = (chain(responses, **ALL)(speech, None, None, np.random.default_rng(seed)) for seed in (5, 5, 6))
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 1e-4
        assert a.dtype == np.float32 and np.isfinite(a).all() and np.abs(a).max() <= 1


def test_silence_survives_the_whole_chain(responses):
    for wav in chain(responses, **ALL)(np.zeros(RATE, np.float32), None, None, np.random.default_rng(1)):
        assert wav.shape == (RATE,) and np.isfinite(wav).all() and np.abs(wav).max() < 1e-3


def reader(corpus, responses):
    config = restore.get_config("tiny")
    config.mix.update(noise=f"{corpus}/noise.parquet", talkers=2)
    config.degrade.rooms = str(responses)
    task, spec = tasks.make(**config.task), audio.MelSpec(**config.mel)
    simulation = examples.Simulation(config.mix, config.degrade, config.mixture, config.enrolment)
    found = loader.sources(f"{corpus}/speech.parquet", task, spec=spec, simulation=simulation, split="train")
    assert isinstance(found[0].make, examples.Degraded)
    order = loader.Plan((found[0].manifest.seconds,), (1.0,), (1.0, 2.0), 4.0, 2, 0)
    return loader.Reader(found, order, task, spec, (0, 1))


def test_workers_change_no_sample_of_a_degraded_batch(corpus, responses):
    here, there = (list(loader.batches(reader(corpus, responses), first=0, last=3, workers=n)) for n in (0, 2))
    for one, two in zip(here, there, strict=True):
        assert one["names"] == two["names"] and not one["bad"]
        for column, wav in one["waves"].items():
            np.testing.assert_array_equal(wav, two["waves"][column])


def test_noisy_recordings_of_the_manifest_are_not_degraded_again(corpus, responses, tmp_path):
    rows = manifest.read(corpus / "speech.parquet", split=None)
    pairs = [rows.row(i) | {"noisy": rows.row(i)["path"]} for i in range(4)]
    manifest.write(tmp_path / "pairs.parquet", pairs)
    config = restore.get_config("tiny")
    config.degrade.rooms = str(responses)
    (found,) = loader.sources(
        str(tmp_path / "pairs.parquet"),
        tasks.make(**config.task),
        spec=audio.MelSpec(**config.mel),
        simulation=examples.Simulation(config.mix, config.degrade, None, None),
        split=None,
    )
    assert isinstance(found.make, examples.Recorded)


# Errors


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"clip": 2.0}, "config.degrade.clip must be .* from 0 to 1, got 2"),
        ({"packets": -0.1}, "config.degrade.packets .*probability.* got -0.1"),
        ({"level": float("nan")}, "config.degrade.level .*probability.* got nan"),
        ({"soft": 1.5}, "config.degrade.soft .*probability.* got 1.5"),
        ({"cutoff": (7000.0, 1500.0)}, r"config.degrade.cutoff .*range.* got \(7000.0, 1500.0\)"),
        ({"peak": (0.0, 0.5)}, r"config.degrade.peak .*range.* got \(0.0, 0.5\)"),
        ({"gain": (float("nan"), 0.0)}, r"config.degrade.gain .*range.* got \(nan, 0.0\)"),
        ({"codecs": "mulaw,amr:2"}, "no codec 'amr'; choose from mp3, opus, vorbis, gsm, mulaw"),
        ({"codecs": "mulaw:0"}, "weight above 0, got 'mulaw:0'"),
        ({"codecs": "mulaw:x"}, "weight above 0, got 'mulaw:x'"),
        ({"codecs": ""}, "no codec ''"),
        ({"room": 0.5}, "there are no impulse responses; set --config.degrade.rooms"),
        ({"early": 2.0}, "config.degrade.early .* got 2.0 and"),
        ({"longest": 11.0}, "at most 10 s, got .* and 11.0"),
    ],
)
def test_invalid_settings_are_rejected(changes, words):
    with pytest.raises(UserError, match=words) as error:
        chain(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wav, rate, words",
    [
        (np.zeros(800), RATE, "the impulse response is silent; drop it"),
        (decaying(0.5, seconds=10.1), RATE, "the impulse response .* at most 10 s, got 10.1 s"),
        (decaying(0.5), 44_100, "the impulse response .* 16000 Hz, got 44100 Hz; resample"),
    ],
)
def test_unusable_responses_are_named(tmp_path, wav, rate, words):
    soundfile.write(tmp_path / "bad.wav", wav, rate)
    row = {"path": "bad.wav", "start": 0, "frames": len(wav), "rate": rate}
    manifest.write(tmp_path / "rooms.parquet", [row])
    with pytest.raises(UserError, match=f"bad.wav: {words}"):
        chain(tmp_path / "rooms.parquet", room=1.0)(np.ones(800, np.float32), None, None, np.random.default_rng(0))


# Simulated rooms and lists


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Four rooms by the command."""
    dest = tmp_path_factory.mktemp("simulated") / "rooms.parquet"
    how = ["--rt60", "0.2", "0.5", "--valid-share", "0.25", "--workers", "1"]
    assert main(["prepare", "rooms", str(dest), "--count", "4", "--seed", "1", *how]) in (0, None)
    return dest


def test_simulated_rooms_decay_as_asked_and_are_held_out_in_part(simulated):
    found = manifest.read(simulated, split=None)
    rows = [found.row(i) for i in range(len(found))]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["valid"]
    for row in rows:
        wav, rate = soundfile.read(row["path"])
        assert rate == row["rate"] == RATE and len(wav) == row["frames"]
        assert row["rt60"] == pytest.approx(rooms.decay_time(wav, rate), rel=0.02) and 0.14 < row["rt60"] < 0.65
        assert row["drr"] == pytest.approx(rooms.direct_ratio(wav, rate), abs=0.05) and -15 < row["drr"] < 25


def test_the_same_seed_simulates_the_same_rooms(simulated, tmp_path):
    how = dict(rt60=(0.2, 0.5), valid_share=0.0, rate=RATE, workers=1)
    again = rooms.simulate(tmp_path / "again", count=2, seed=1, **how)
    other = rooms.simulate(tmp_path / "other", count=1, seed=2, **how)
    first = manifest.read(simulated, split=None).row(0)["path"]
    np.testing.assert_array_equal(soundfile.read(again[0]["path"])[0], soundfile.read(first)[0])
    assert other[0]["rt60"] != again[0]["rt60"] and other[0]["frames"] != again[0]["frames"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"count": 0}, "count .* got 0"),
        ({"rt60": (1.0, 0.2)}, "decay times"),
        ({"valid_share": 1.0}, "share .* got 1.0"),
    ],
)
def test_invalid_rooms_are_rejected(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        rooms.simulate(
            tmp_path, **dict(count=1, seed=0, rt60=(0.2, 0.5), valid_share=0.0, rate=RATE, workers=1) | changes
        )


def test_rooms_without_the_simulator_say_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    assert main(["prepare", "rooms", str(tmp_path / "rooms.parquet"), "--count", "1"]) == 2
    assert 'pip install "sfjax[rooms]"' in capsys.readouterr().err


@pytest.fixture(scope="module")
def listed(corpus, responses, tmp_path_factory):
    """A function from a folder to the rows of a list of two recordings."""

    def draw(folder, **changes):
        config = restore.get_config("tiny")
        config.mix.talkers = 2
        chains = degraded.make_chains(
            noise=corpus / "noise.parquet",
            rooms=responses,
            split="train",
            rate=RATE,
            mix=config.mix,
            degrade=config.degrade,
        )
        how = dict(chains=chains, split="train", count=2, seed=0, seconds=16.0)
        return degraded.draw(corpus / "speech.parquet", folder, **how | changes)

    return draw


def test_a_list_holds_each_recording_with_each_kind_of_degradation(listed, tmp_path):
    rows = listed(tmp_path / "one")
    assert [row["degradation"] for row in rows] == 2 * list(degraded.KINDS)
    for row in rows:
        clean, wav = (soundfile.read(row[name], dtype="float32")[0] for name in ("path", "noisy"))
        assert len(clean) == len(wav) == row["frames"]
        if row["degradation"] == "none":
            np.testing.assert_array_equal(clean, wav)
        else:
            assert np.abs(clean - wav).max() > 1e-3
    for one, two in zip(rows, listed(tmp_path / "two"), strict=True):
        for name in ("path", "noisy"):
            np.testing.assert_array_equal(soundfile.read(one[name])[0], soundfile.read(two[name])[0])


def test_more_recordings_than_there_are_cannot_be_listed(listed, tmp_path):
    with pytest.raises(UserError, match="count .*got 99"):
        listed(tmp_path, count=99)


def test_evaluate_scores_each_kind_of_a_list(listed, corpus, responses, tmp_path, capsys):
    rows = listed(tmp_path / "list", count=1)
    manifest.write(tmp_path / "list.parquet", [row for row in rows if row["degradation"] in ("none", "clipping")])
    command = ["evaluate", "--manifest", str(tmp_path / "list.parquet"), "--system", "noisy", "--workers", "1"]
    assert main([*command, "--by", "degradation"]) == 0
    table = capsys.readouterr().out
    assert "none" in table and "clipping" in table


def test_every_field_of_the_chain_comes_from_the_config():
    fields = {field.name for field in dataclasses.fields(degrade.Chain)} - {"mixer", "rate"}
    assert fields == set(default.get_config("tiny").degrade)
