"""The two example recordings differ by noise alone, are small and packed, and state their licence."""

import configparser
from pathlib import Path

import numpy as np
import pytest

import sfjax
from sfjax import audio, examples
from sfjax.errors import UserError

ROOT = Path(sfjax.__file__).parents[1]


def level(wave):
    """The mean power of the 20 ms frames that are at most 30 dB below the loudest, in dB."""
    powers = np.square(wave[: len(wave) // 320 * 320].reshape(-1, 320)).mean(axis=1)
    return 10 * np.log10(powers[powers > 1e-3 * powers.max()].mean())


def test_the_noisy_example_is_the_voice_with_noise_5_db_below_it():
    voice, rate = audio.read(sfjax.examples.path("voice"))
    noisy, noisy_rate = audio.read(examples.path("noisy"))
    assert (rate, len(voice)) == (noisy_rate, len(noisy)) == (16_000, 64_000)
    assert level(voice) - level(noisy - voice) == pytest.approx(5, abs=0.2)
    assert level(voice) - 20 * np.log10(np.abs(voice[-1_600:]).max()) > 10  # it ends in a pause, not within a word


def test_the_examples_are_small_and_packed_and_have_a_licence():
    files = list(examples.FOLDER.glob("*.flac"))
    assert len(files) == 2 and sum(file.stat().st_size for file in files) < 150_000
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "*.flac" in setup["options.package_data"]["sfjax.examples"]
    page = (examples.FOLDER / "README.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == 2 and all(
        "CC0" in row and f"`{file.name}`" in page for row, file in zip(rows, files, strict=True)
    )
    assert examples.TEXT in page


def test_another_name_is_refused():
    with pytest.raises(UserError, match="'rain'.*noisy, voice"):
        examples.path("rain")
