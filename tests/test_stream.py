"""A causal model gives the same output for a stream as for a whole recording, and no sample waits for a later one."""

import dataclasses
import io
import itertools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfjax import audio, inference, train
from sfjax.errors import UserError
from sfjax.inference import stream
from sfjax.inference.chunking import ChunkBatch
from sfjax.inference.model import sample_waves


@pytest.fixture(scope="module")
def folder(toy_config, tmp_path_factory):
    """The run of a causal toy model."""
    folder = tmp_path_factory.mktemp("live")
    changes = {
        "model.patch": 2,
        "model.history": 40,
        "degrade.room": 0.0,
        "optim.updates": 1,
        "run.valid_batches": 0,
        "sample.steps": 1,
    }
    train.run(toy_config("live", **changes), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """That model with large weights, so that each part of the network has an effect."""
    model = inference.load(folder)
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(next(keys), leaf.shape), model.params)
    return dataclasses.replace(model, params=params)


@pytest.fixture(scope="module")
def noisy(voice):
    wave = voice(1.3, 5)[:-77]  # ends inside of a frame
    return wave + 0.01 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(model, noisy):
    return model.enhance(noisy, 16_000)


def test_a_stream_equals_the_whole_recording_for_pushes_of_any_size(model, noisy, whole):
    assert np.abs(whole - noisy).max() > 0.01  # the model changes the recording
    rng = np.random.default_rng(1)
    for sizes in ((320,), (1, 5000), rng.integers(0, 700, 99), (100_000,)):
        live = model.stream(seed=0)
        pieces, first = [], 0
        for size in itertools.cycle(sizes):
            pieces.append(live.push(noisy[first : first + size]))
            first = min(first + size, len(noisy))
            assert first - live.latency.total <= sum(map(len, pieces)) <= first
            if first == len(noisy):
                break
        streamed = np.concatenate([*pieces, live.flush()])
        np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_the_latency_is_that_of_the_window_the_token_and_the_look_ahead(model):
    parts = stream.latency(model.spec, model.network.config)
    assert (parts.window, parts.token, parts.lookahead) == (640, 160, 640) and parts.total == 1440


def test_no_output_depends_on_samples_after_the_latency(model, noisy, whole):
    first, total = 9_000, stream.latency(model.spec, model.network.config).total
    changed = np.concatenate([noisy[:first], np.random.default_rng(2).uniform(-1, 1, len(noisy) - first)])
    differs = np.flatnonzero(model.enhance(changed.astype(np.float32), 16_000) != whole)
    assert first - total < differs[0] < first - total + 320  # the latency of the other samples of a block is less


def test_gradients_of_early_output_to_later_samples_are_zero(model, noisy):
    first, total = 9_000, stream.latency(model.spec, model.network.config).total
    options = dict(network=model.network, sampler=model.process.sample, task=model.task, spec=model.spec, phase=None)
    number = jnp.zeros(1, jnp.int32)

    def early(wave):
        batch = ChunkBatch(wave[None], number + len(noisy), number, number)
        sampling = tuple(sorted(model.options.items()))
        waves = sample_waves(
            model.params, None, batch, jax.random.key(0), options=sampling, reconstruct="mask", **options
        ).waves
        return jnp.square(waves[0, 0, : first - total + 1]).sum()

    gradient = np.asarray(jax.jit(jax.grad(early))(jnp.asarray(noisy)))
    assert np.isfinite(gradient).all() and np.abs(gradient[: first - 320]).max() > 0
    np.testing.assert_array_equal(gradient[first:], 0)


@pytest.mark.parametrize("samples", [0, 1, 241, 500, 640])
def test_a_short_stream_is_as_long_as_its_input(model, noisy, samples):
    live = model.stream()
    pieces = [live.push(noisy[:samples]), live.flush()]
    assert sum(map(len, pieces)) == samples and np.isfinite(np.concatenate(pieces)).all()
    with pytest.raises(UserError, match="ended"):
        live.push(noisy)


def test_a_stream_at_a_higher_rate_has_the_same_gains_and_latency(model, noisy):
    live, wide = model.stream(), model.stream(48_000)
    clean = np.concatenate([live.push(noisy), live.flush()])
    resampled = audio.resample(noisy, 16_000, 48_000)
    wide_clean = np.concatenate([wide.push(resampled), wide.flush()])
    assert len(wide_clean) == len(resampled) and wide.latency.total == 3 * live.latency.total
    inside = slice(800, -1600)
    error = (audio.resample(wide_clean, 48_000, 16_000) - clean)[inside]
    # resampling removes what is just below 8 kHz
    assert np.square(error).mean() < 0.02 * np.square((clean - noisy)[inside]).mean()


def test_integers_are_scaled_and_other_arrays_refused(model, noisy, whole):
    live = model.stream()
    pieces = [live.push(np.round(noisy * 2**15).astype(np.int16)), live.flush()]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-3)
    live = model.stream()
    for wrong, match in ((noisy[:, None], r"\(20723, 1\)"), (noisy * 2**15, "full scale"), (noisy * np.nan, "NaN")):
        with pytest.raises(UserError, match=match):
            live.push(wrong)


def test_models_and_rates_that_cannot_be_streamed_are_refused(model):
    config = dataclasses.replace(model.network.config, lookahead=-1)
    seeing_all = dataclasses.replace(model, network=model.network.clone(config=config))
    two_steps = dataclasses.replace(model, options=model.options | {"steps": 2})
    for wrong, rate, match in (
        (seeing_all, None, r"configs/live.py"),
        (two_steps, None, "2 of euler"),
        (dataclasses.replace(model, reconstruct="phase"), None, "reconstruct"),
        (model, 44_100, "got 44100"),
        (model, 8_000, "got 8000"),
    ):
        with pytest.raises(UserError, match=match):
            wrong.stream(rate)


@pytest.fixture
def piped(folder, monkeypatch, call):
    """A function that runs `sfjax enhance --live -` with bytes as standard input; returns the output bytes, too."""

    def run(data, *flags):
        out = io.BytesIO()
        stdin = types.SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)), isatty=lambda: False)
        stdout = types.SimpleNamespace(buffer=out, isatty=lambda: False, flush=lambda: None)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", stdout)
            code, complaints, text = call("enhance", "--live", "-", "--model", folder, *flags)
        return code, complaints, text, out.getvalue()

    return run


def test_a_pipe_is_cleaned_and_its_latency_and_speed_are_reported(piped, folder, noisy):
    whole = np.round(noisy * 2**15).astype("<i2")
    code, complaints, text, data = piped(whole.tobytes() + b"x")
    assert (code, complaints) == (0, [])
    assert "latency 90 ms at 16000 Hz: window 40, token 10, look-ahead 40" in text and "1.3 s of sound" in text
    expected = inference.load(folder).enhance(whole.astype(np.int16), 16_000)
    np.testing.assert_allclose(np.frombuffer(data, "<i2") / 2**15, expected, atol=1.1 / 2**15)
    assert piped(b"")[3] == b""


def test_live_refuses_what_it_cannot_do_in_one_line(piped, refused, folder, tmp_path):
    code, complaints, _, data = piped(b"RIFF" + bytes(100))
    assert code == 2 and "WAV" in complaints[0] and not data
    assert "configs/live.py" in piped(b"", "--model", "sfjax://enhance")[1][0]
    assert "--steps" in piped(b"", "--steps", 2)[1][0]
    for expected, words in (
        ("--live out", ["--live", tmp_path / "a.wav"]),
        ("leave out -o", ["--live", "-o", tmp_path]),
        ("sounddevice|PortAudio|microphone", ["--live", "--model", folder]),  # no device on test machines
        ("expected recordings or --live", []),
        ("--rate needs --live", ["a.wav", "--rate", 8000]),
    ):
        refused(expected, "enhance", *words)
