"""Word error rate: text is normalised, errors are counted at the best alignment, and recognisers can be commands."""

import functools
import itertools
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sfjax import audio
from sfjax.data import synthetic
from sfjax.errors import UserError
from sfjax.evaluation import speech
from sfjax.metrics import Unscorable, wer
from sfjax.metrics.wer import Words

WAV = np.sin(np.arange(16_000) / 20).astype(np.float32)
READER = """
import sys, soundfile
info = soundfile.info(sys.argv[1])
print(info.samplerate, info.frames, info.channels,
      info.subtype)
print(sys.argv[1])
"""


def python(program: str, *words: str) -> str:
    """A command that runs a program, for `Command`."""
    return shlex.join([sys.executable, "-c", program, *words])


@pytest.mark.parametrize(
    "one, other",
    [
        ("2 cups, please!", "Two cups please"),
        ("the 21st of May", "The twenty-first of may."),
        ("1,250 men", "one thousand two hundred and fifty men"),
        ("3.5 miles", "three point five miles"),
        ("007", "seven"),
        ("mp3", "MP three"),
        ("2nd-hand", "second hand"),
        ("it’s six o’clock", "it's six o'clock"),
        ("'Stop,' he said", "stop he said"),
        ("the dogs' bowl — empty…", "the dogs bowl empty"),
        ("a_b", "A B"),
        ("ﬁne ½", "fine 1 2"),
        ("12,34", "twelve thirty four"),
        ("call 1234567890123456", "call one two three four five six seven eight nine zero one two three four five six"),
    ],
)
def test_writings_of_the_same_words_agree(one, other):
    assert wer.normalise(one) == wer.normalise(other)
    assert wer.normalise(wer.normalise(one)) == wer.normalise(one)
    assert wer.word_errors(one, other).errors == 0


def test_an_apostrophe_inside_a_word_tells_it_from_another():
    assert wer.normalise("We're") == "we're" != wer.normalise("were")


def distance(wanted: tuple, heard: tuple) -> int:
    """The least number of replaced, left out and put in words, by its definition."""

    @functools.cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = between(i - 1, j - 1) + (wanted[i - 1] != heard[j - 1])
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, replaced)

    return between(len(wanted), len(heard))


def test_errors_are_those_of_the_best_alignment():
    rng = np.random.default_rng(0)
    for first, second in itertools.product(range(1, 6), range(6)):
        wanted, heard = (tuple(rng.choice(["a", "b", "c"], size=count)) for count in (first, second))
        assert wer.word_errors(" ".join(wanted), " ".join(heard)) == Words(distance(wanted, heard), first)


def test_nothing_heard_is_every_word_left_out():
    assert wer.word_errors("one two three", "") == Words(3, 3)


def test_the_rate_of_many_counts_words_and_not_recordings():
    assert wer.rate([Words(0, 9), Words(1, 1)]) == pytest.approx(1 / 10)
    assert wer.rate([wer.word_errors("no", "oh no no no")]) == pytest.approx(3)


@pytest.mark.parametrize("reference", ["", "…", " ' "])
def test_a_reference_without_words_has_no_score(reference):
    with pytest.raises(Unscorable, match="no words"):
        wer.word_errors(reference, "something")


def test_a_rate_of_no_words_has_no_value():
    with pytest.raises(Unscorable, match="no recording"):
        wer.rate([])


# Recognisers


@pytest.fixture(scope="module")
def pocketsphinx():
    pytest.importorskip("pocketsphinx")
    return wer.transcriber("pocketsphinx")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Two sentences of one American voice, with their texts."""
    folder = tmp_path_factory.mktemp("spoken")
    entries = map(json.loads, synthetic.generate(folder, voices=1, sentences=5, seed=48, workers=2).open())
    return [(audio.read(folder / entry["path"])[0], entry["text"]) for entry in entries][::4]


@pytest.mark.slow
def test_words_are_heard_in_speech_and_lost_in_noise(pocketsphinx, spoken):
    assert isinstance(pocketsphinx, wer.Transcriber)
    noise = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    clean, noisy = (
        wer.rate(wer.word_errors(text, pocketsphinx(wav + level * noise[: len(wav)], 16_000)) for wav, text in spoken)
        for level in (0, 0.3)
    )
    assert clean < 0.9 < noisy  # espeak-ng's voices are hard to understand for a recogniser of people


@pytest.mark.slow
def test_most_words_of_a_real_speaker_are_heard(pocketsphinx, real_data):
    if real_data is None:
        pytest.skip("SFJAX_DATA names no folder of real speech")
    entries = map(json.loads, (real_data / "manifest.jsonl").read_text().splitlines())
    spoken = [entry for entry in entries if entry["set"] == "kathleen"][:10]
    hear = lambda entry: pocketsphinx(audio.read(real_data / entry["path"], rate=16_000)[0], 16_000)
    assert wer.rate(wer.word_errors(entry["text"], hear(entry)) for entry in spoken) < 0.4


def test_what_was_heard_before_does_not_matter(pocketsphinx, spoken):
    wav, noise = spoken[0][0][:24_000], 0.3 * np.random.default_rng(0).standard_normal(4_000)
    fresh = wer.PocketSphinx()(wav, 16_000)
    pocketsphinx(noise, 16_000)
    assert fresh == pocketsphinx(wav, 16_000) == pocketsphinx(wav, 16_000) != ""


def test_a_recording_too_short_for_a_word_holds_none(pocketsphinx):
    assert pocketsphinx(np.zeros(1, np.float32), 16_000) == pocketsphinx(WAV[:50], 48_000) == ""


def test_a_command_reads_a_wav_of_16_khz_and_its_output_is_the_text():
    command = wer.transcriber("command:" + python(READER, "{}"))
    assert isinstance(command, wer.Transcriber) and command.name == python(READER, "{}")
    for wave, rate in ((WAV, 16_000), (np.repeat(WAV, 3), 48_000)):
        *words, path = command(wave, rate).split()
        assert words == ["16000", "16000", "1", "PCM_16"]
        assert not Path(path).exists()


def test_a_command_gets_the_samples():
    program = "import sys, soundfile; print(*soundfile.read(sys.argv[1][5:], dtype='int16')[0])"
    heard = wer.Command(python(program, "file={}"))(2 * WAV, 16_000)
    np.testing.assert_allclose(np.array(heard.split(), int), 32767 * np.clip(2 * WAV, -1, 1), atol=2)


@pytest.mark.parametrize(
    "command, line",
    [
        (python("import sys; sys.exit('no model\\n')", "{}"), r"exit code 1 \(no model\); try it on a file"),
        (python("raise SystemExit(3)", "{}"), r"exit code 3 \(no message\)"),
        ("/no/such/program {}", "could not be run .No such file"),
        ("/ {}", "could not be run .Permission denied"),
    ],
)
def test_a_command_that_fails_is_one_line(command, line):
    with pytest.raises(UserError, match=line) as caught:
        wer.Command(command)(WAV, 16_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, line",
    [
        ("", "unknown recogniser ''"),
        ("whisper", "unknown recogniser 'whisper'"),
        ("pocketsphinx:en", "unknown recogniser 'pocketsphinx:en'"),
        ("hubert:", "unknown recogniser 'hubert:'"),
        ("hubert", "unknown recogniser 'hubert'"),
        ("command", "unknown recogniser 'command'"),
        ("command:", "expected a command with {} .* got ''"),
        ("command:listen", "expected a command with {} .* got 'listen'"),
        ("command:listen '{}", "no closing quotation.; check its quotes"),
    ],
)
def test_a_name_that_names_no_recogniser_is_one_line(name, line):
    with pytest.raises(UserError, match=line):
        wer.transcriber(name)


@pytest.mark.parametrize(
    "package, use",
    [
        ("pocketsphinx", wer.PocketSphinx),
        ("num2words", lambda: wer.normalise("two")),
        ("jiwer", lambda: wer.word_errors("two", "two")),
    ],
)
def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, package, use):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'sfjax\[text\]'$"):
        use()


@pytest.mark.parametrize(
    "wav, line",
    [
        (np.zeros(0, np.float32), "is empty"),
        (np.array([0, np.nan], np.float32), "NaN or infinite"),
        (np.array([0, np.inf]), "NaN or infinite"),
    ],
)
def test_a_recording_that_cannot_be_heard_has_no_score(wav, line):
    with pytest.raises(Unscorable, match=line):
        wer.Command("cat {}")(wav, 16_000)


def test_a_recogniser_is_loaded_once():
    assert wer.transcriber("command:cat {}") is wer.transcriber("command:cat {}")


def test_a_report_of_words_holds_texts_what_was_heard_the_rate_and_the_recogniser(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAV, 16_000)
    recogniser = "command:" + python("print('one to three')", "{}")
    report = speech.words(tmp_path, {"a": "one two three"}, transcriber=recogniser, workers=1, progress=False)
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["rows"] == [{"name": "a", "errors": 1, "words": 3, "text": "one two three", "heard": "one to three"}]
    assert written["word_error_rate"] == pytest.approx(1 / 3) and "print" in written["recogniser"]
    report.write(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text().splitlines()[1] == "a,1.0,3.0,one two three,one to three,"
