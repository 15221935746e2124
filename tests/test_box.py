"""The models in the package are complete and small, name their data and licence, and work right after installation."""

import configparser
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import sfjax
from sfjax import audio, examples, inference, metrics
from sfjax.__main__ import main
from sfjax.data import noise_mixer, synthetic
from sfjax.errors import UserError
from sfjax.export import locate, model_card, release

OWN = {
    "base": "pretrain",
    "durations": "durations",
    "enhance": "enhance",
    "extract": "extract",
    "separate": "separate 2 speakers",
    "speak": "speak",
    "vocoder": "vocode",
}  # and tasks
MOST = 60 * 2**20  # bytes of all
ROOT = Path(sfjax.__file__).parents[1]


def test_the_models_are_packed_and_small():
    assert sorted(path.name for path in locate.OWN.iterdir() if (path / locate.CARD).is_file()) == sorted(OWN)
    files = [path for name in OWN for path in (locate.OWN / name).iterdir()]
    assert sum(path.stat().st_size for path in files) < MOST
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packed = [
        path for glob in setup["options.package_data"]["sfjax.weights"].split(", ") for path in locate.OWN.glob(glob)
    ]
    assert {*files} == {*packed}


@pytest.mark.parametrize("name", OWN)
def test_a_model_is_whole_and_names_its_data_and_licence(name):
    found = release.info(f"sfjax://{name}")
    assert found["wrong"] is None and found["task"] == OWN[name] and found["types"] == "float16"
    licence, data = release.card_lines(f"sfjax://{name}")
    assert licence.startswith("licence: CC-BY-") and data.startswith("Trained on ") and "speechocean762" in data
    notes = (locate.OWN / f"{name}.md").read_text()  # what it was exported with
    assert bool(model_card.score(notes)) == (name in ("base", "enhance", "extract", "separate", "speak"))
    assert (locate.OWN / name / locate.CARD).read_text().endswith(f"{model_card.DATA}\n\n{notes.strip()}\n")


def test_the_speaking_model_comes_with_its_durations_and_is_shown_in_one_line():
    model = sfjax.load("sfjax://speak")
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert model.duration_model is not None and sfjax.load().duration_model is None
    assert repr(model) == f"<Model {model.name}: speak, {count / 1e6:.1f} M parameters>"


def test_the_words_of_a_prompt_are_heard_where_none_are_given(tmp_path, capfd):
    pytest.importorskip("pocketsphinx")
    out = tmp_path / "spoken.wav"
    assert main(["speak", "Hello.", "--prompt", str(examples.path("voice")), "-o", str(out), "--steps", "1"]) == 0
    heard = re.search(
        r"heard ['\"](.*)['\"]; if this is wrong, give the words with --prompt-text", capfd.readouterr().err
    )
    words = set(examples.TEXT.lower().strip(".").replace(",", "").split())
    assert len(words & set(heard[1].split())) > len(words) / 2 and audio.probe(out).frames > 0


def test_a_name_of_no_model_of_the_package_is_refused():
    for name in ("sfjax://nothing", "sfjax:///nothing", "sfjax://..", "sfjax://enhance/../speak"):
        with pytest.raises(UserError, match="sfjax://"):
            inference.load(name)
    with pytest.raises(
        UserError,
        match="choose from sfjax://base, sfjax://durations, sfjax://enhance, sfjax://extract, sfjax://separate, "
        "sfjax://speak, sfjax://vocoder",
    ):
        inference.load("sfjax://nothing")


@pytest.fixture(scope="module")
def pairs(real_data, tmp_path_factory):
    """Folders of clean and noisy recordings: six real ones, or generated ones."""
    if real_data is not None:
        return real_data / "pairs/vbd/clean", real_data / "pairs/vbd/noisy"
    folder = tmp_path_factory.mktemp("pairs")
    synthetic.generate(folder / "speech", voices=3, sentences=1, seed=5, workers=1)
    speech = sorted((folder / "speech").rglob("*.flac"))
    noises = synthetic.noises(folder / "noise", count=6, seed=7)
    for i, (path, noise) in enumerate(zip(2 * speech, noises, strict=True)):
        clean, rate = audio.read(path)
        noise = np.resize(audio.read(noise)[0], len(clean))
        levels = {
            "speech_level": noise_mixer.active_level(clean, rate),
            "noise_level": noise_mixer.active_level(noise, rate),
        }
        audio.write(folder / f"clean/{i}.flac", clean, rate)
        audio.write(folder / f"noisy/{i}.flac", noise_mixer.at_snr(clean, noise, 5.0, **levels), rate)
    return folder / "clean", folder / "noisy"


def test_a_recording_is_cleaned_right_after_installation(pairs, tmp_path, call):
    clean, noisy = pairs
    names = sorted(path.name for path in clean.glob("*.flac"))[:3]
    code, _, said = call("enhance", *(noisy / name for name in names), "-o", tmp_path)
    assert code == 0
    assert "enhance with sfjax://enhance, step" in said and "Trained on" in said
    assert len(names) == 3
    scores = {}
    for folder in (noisy, tmp_path):
        read = [(audio.read(clean / name, rate=16_000)[0], audio.read(folder / name, rate=16_000)[0]) for name in names]
        scores[folder] = [metrics.score(*pair, 16_000) for pair in read]
    for metric in ("pesq_wb", "estoi"):
        before, after = (np.mean([score[metric] for score in scores[folder]]) for folder in (noisy, tmp_path))
        assert after > before, metric
    default, named = sfjax.load(), inference.load("sfjax://enhance")
    assert (default.name, default.options) == (named.name, named.options)
    jax.tree.map(np.testing.assert_array_equal, default.params, named.params)


def test_a_text_is_spoken_with_nothing_but_the_package(tmp_path, call):
    code, _, said = call("speak", "Good morning.", "-o", tmp_path / "out.wav", "--steps", 1)
    assert code == 0 and "speak by Griffin-Lim with sfjax://speak, step" in said
    wave, rate = audio.read(tmp_path / "out.wav")
    assert rate == 16_000 and 0.4 < len(wave) / rate < 3 and np.abs(wave).max() > 0.01
