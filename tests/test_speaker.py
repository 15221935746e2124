"""Speaker similarity separates voices and equals the published network, whose weights are read without running code."""

import importlib.util
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from sfjax import audio
from sfjax.data import synthetic
from sfjax.errors import UserError
from sfjax.metrics import Unscorable, model_input, speaker

PACKAGE = importlib.util.find_spec("resemblyzer")  # may be there without the PyTorch that it needs to be imported
installed = pytest.mark.skipif(PACKAGE is None, reason="the weights of resemblyzer are not installed")


@pytest.fixture(scope="module")
def encode():
    return speaker.encoder("resemblyzer")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Waves of three sentences in each of three voices."""
    folder = tmp_path_factory.mktemp("said")
    synthetic.generate(folder, voices=3, sentences=3, seed=0, workers=2)
    return [[audio.read(path)[0] for path in sorted(one.iterdir())] for one in sorted(folder.glob("v*/"))]


@installed
def test_a_voice_is_more_like_itself_than_like_another(encode, said):
    assert isinstance(encode, speaker.SpeakerEncoder) and encode.name == "resemblyzer"
    vectors = np.array([[encode(wav, 16_000) for wav in waves] for waves in said])
    assert vectors.shape == (3, 3, 256) and vectors.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)
    table = np.einsum("ain,bjn->abij", vectors, vectors)
    for one in range(3):
        own = table[one, one][~np.eye(3, dtype=bool)].mean()
        assert own > max(table[one, other].mean() for other in range(3) if other != one) + 0.02


@installed
def test_the_level_of_a_quiet_recording_does_not_matter(encode, said):
    quiet = 10 ** (-31 / 20) / np.sqrt(np.mean(said[0][0] ** 2)) * said[0][0]
    np.testing.assert_allclose(encode(0.01 * quiet, 16_000), encode(quiet, 16_000), atol=1e-5)


@installed
def test_the_rate_of_a_recording_hardly_matters(encode, said):
    wav = said[0][0]
    assert speaker.similarity(encode(audio.resample(wav, 16_000, 48_000), 48_000), encode(wav, 16_000)) > 0.999


@installed
@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.59, 1.6, 2.7, 2.8, 3.0, 7.0])
def test_vectors_are_those_of_the_package(encode, said, seconds):
    pytest.importorskip("torch")
    pytest.importorskip("webrtcvad")
    resemblyzer = pytest.importorskip("resemblyzer")
    wav = np.concatenate(sum(said, []))[16_000 : 16_000 + round(seconds * 16_000)]
    raised = resemblyzer.normalize_volume(0.1 * wav, -30, increase_only=True)
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False).embed_utterance(raised)
    np.testing.assert_allclose(encode(0.1 * wav, 16_000), theirs, atol=1e-5)


@pytest.mark.slow
@installed
def test_real_speakers_are_told_apart(encode, real_data):
    if real_data is None:
        pytest.skip("SFJAX_DATA names no folder of real speech")
    spoken: dict[str, list[Path]] = {}
    for entry in map(json.loads, (real_data / "manifest.jsonl").read_text().splitlines()):
        if entry["set"] == "so762" and entry["seconds"] > 3:
            spoken.setdefault(entry["spk"], []).append(real_data / entry["path"])
    rng = np.random.default_rng(0)
    names = sorted(name for name, paths in spoken.items() if len(paths) > 1)
    right = 0
    for _ in range(40):
        one, other = rng.choice(names, 2, replace=False)
        first, second = rng.choice(len(spoken[one]), 2, replace=False)
        paths = spoken[one][first], spoken[one][second], spoken[other][rng.integers(len(spoken[other]))]
        prompt, same, different = (encode(audio.read(path, frames=48_000, rate=16_000)[0], 16_000) for path in paths)
        right += speaker.similarity(prompt, same) > speaker.similarity(prompt, different)
    assert right >= 36


def test_similarity_is_the_cosine():
    a, b = np.array([3.0, 0.0]), np.array([1.0, 1.0])
    assert speaker.similarity(a, b) == pytest.approx(np.cos(np.pi / 4))
    assert speaker.similarity(a, 7 * a) == pytest.approx(1) and speaker.similarity(a, -b) < 0


@pytest.mark.parametrize(
    "wav, line",
    [
        (np.zeros(16_000, np.float32), "is silent"),
        (np.ones(6_000), "at least 0.4 s, got 0.38 s"),
        (np.array([np.nan] * 9_000), "NaN or infinite"),
        (np.zeros(0), "is empty"),
    ],
)
def test_a_recording_without_a_voice_has_no_score(wav, line):
    with pytest.raises(Unscorable, match=line):
        model_input.audible(wav, 16_000)


@pytest.mark.parametrize("name", ["", "resemblyzer:x", "wavlm", "wavlm:", "ecapa"])
def test_a_name_that_names_no_encoder_is_one_line(name):
    with pytest.raises(UserError, match=f"unknown speaker encoder '{name}'; choose from resemblyzer"):
        speaker.encoder(name)


def test_missing_weights_are_named_with_the_way_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)  # as if it were not installed
    with pytest.raises(UserError, match="resemblyzer: pip install --no-deps resemblyzer$"):
        speaker.Resemblyzer()


def test_other_weights_of_the_same_name_are_refused(monkeypatch, tmp_path):
    package = tmp_path / "resemblyzer"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "resemblyzer", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for content, line in ((None, "FileNotFoundError"), (checkpoint(b"}."), "model_state"), (b"PK", "another|not a")):
        if content is not None:
            (package / "pretrained.pt").write_bytes(content)
        with pytest.raises(UserError, match=line):
            speaker.Resemblyzer()


# The old format of PyTorch, written here by hand

STORAGE = b"(Vstorage\nctorch\n%s\nVkey\nVcpu\nI%d\nNtQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"I%d\n(I2\nI3\nt(I%d\nI1\ntI00\n}tR"


def tensor(kind: bytes = b"FloatStorage", count: int = 8, offset: int = 2, stride: int = 3) -> bytes:
    """The pickle of {"one": a tensor of 2 × 3 in a storage of `count`}."""
    return b"}Vone\n" + TENSOR % (kind, count, offset, stride) + b"s."


def checkpoint(tree: bytes, elements: int | None = None, magic: int = speaker.MAGIC) -> bytes:
    head = [pickle.dumps(part, 2) for part in (magic, speaker.PROTOCOL, {"little_endian": True})]
    keys = [] if elements is None else ["key"]
    data = np.arange(elements or 0, dtype="<f4").tobytes()
    count = (elements or 0).to_bytes(8, "little") if keys else b""
    return b"".join([*head, tree, pickle.dumps(keys, 2), count, data])


def test_a_tensor_is_its_part_of_its_storage(tmp_path):
    path = tmp_path / "old.pt"
    path.write_bytes(checkpoint(tensor(), 8))
    np.testing.assert_array_equal(speaker.read(path)["one"], [[2, 3, 4], [5, 6, 7]])


@installed
def test_what_is_read_is_what_pytorch_reads():
    torch = pytest.importorskip("torch")
    assert PACKAGE is not None and PACKAGE.submodule_search_locations
    path = Path(PACKAGE.submodule_search_locations[0], "pretrained.pt")
    mine, theirs = speaker.read(path), torch.load(path, map_location="cpu", weights_only=True)
    assert mine["step"] == theirs["step"]
    assert mine["model_state"].keys() == theirs["model_state"].keys()
    for name, value in theirs["model_state"].items():
        np.testing.assert_array_equal(mine["model_state"][name], value.numpy())


class Evil:
    """What runs a command when it is unpickled as usual."""

    def __reduce__(self):
        return os.system, ("exit",)


@pytest.mark.parametrize(
    "content, line",
    [
        (checkpoint(pickle.dumps(Evil(), 2)), "it asks for (posix|nt).system"),
        (pickle.dumps(Evil(), 2), "it asks for (posix|nt).system"),
        (checkpoint(pickle.dumps(np.float32, 2)), "it asks for numpy.float32"),
        (checkpoint(tensor(kind=b"DoubleStorage"), 8), "it asks for torch.DoubleStorage"),
        (checkpoint(tensor(stride=1), 8), "not contiguous"),
        (checkpoint(tensor(offset=3), 8), "lies outside"),
        (checkpoint(tensor(offset=-7), 8), "lies outside"),
        (checkpoint(tensor(count=10**12), 8), "it holds a storage"),
        (checkpoint(tensor(count=-1), 8), "it holds a storage"),
        (checkpoint(tensor(count=7, offset=0), 8), "truncated"),
        (checkpoint(tensor(), 8)[:-1], "truncated"),
        (checkpoint(b"}.", 8), "'key'"),
        (checkpoint(b"}.", magic=1), "another format"),
        (b"PK\3\4 a zip file", "not a PyTorch checkpoint"),
        (b"", "not a PyTorch checkpoint"),
    ],
)
def test_a_file_that_is_no_such_checkpoint_is_one_line(tmp_path, content, line):
    path = tmp_path / "old.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=line) as caught:
        speaker.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_encoder_is_loaded_once():
    if PACKAGE is not None:
        assert speaker.encoder("resemblyzer") is speaker.encoder("resemblyzer")
