"""Each tab of the web page returns what its model computes, checks its fields, and describes its model."""

import dataclasses
import re
import zipfile

import gradio as gr
import numpy as np
import pytest
import soundfile
from gradio_client import handle_file
from web_pages import BITS, KNOBS, LIMITS, OPTIONS, RATE, enhancer, no_progress, program, served, web, write_noisy

from sfjax import audio, examples, flow, inference, tasks
from sfjax.data import synthetic
from sfjax.errors import UserError
from sfjax.inference import splicing
from sfjax.web import FOLDER, page
from sfjax.web.cards import card
from sfjax.web.fields import FieldError, recording
from sfjax.web.player import _ticks, player
from sfjax.web.tabs import Result, Track, tabs

SEPARATION = tasks.Separate(speakers=3, drop=0.3, order="random", copies="plain", mask=0.0, cluster=0.0)
EXTRACTION = tasks.Extract(drop=0.0, mask=0.0)


@pytest.fixture(scope="module")
def model():
    return enhancer()


@pytest.fixture(scope="module")
def speaking():
    return inference.load("sfjax://speak")


@pytest.fixture(scope="module")
def url(model):
    with served(model) as address:
        yield address


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, voice):
    return write_noisy(tmp_path_factory.mktemp("noisy"), voice)


def parts(*models):
    """The components of a page as pairs of type and properties."""
    config = page.blocks(models, LIMITS).get_config_file()
    return [(part["type"], part["props"]) for part in config["components"]]


def texts(components):
    """All texts of a page."""
    return " ".join(str(props.get("value")) for kind, props in components if kind in ("markdown", "html"))


# What is offered and given


@pytest.mark.parametrize(
    "kinds, offered",
    [
        (["enhance"], ["enhance"]),
        (["speak"], ["infill", "speak", "edit", "convert"]),
        (["mute"], ["infill", "convert"]),
        (["enhance", "separate", "speak"], ["enhance", "separate", "infill", "speak", "edit", "convert"]),
        (["extract"], ["extract"]),
        (["both"], ["enhance", "separate"]),
    ],
)
def test_tabs_are_those_that_the_models_can_do(model, speaking, kinds, offered):
    models = {
        "enhance": model,
        "speak": speaking,
        "mute": dataclasses.replace(speaking, duration_model=None),
        "separate": dataclasses.replace(model, task=SEPARATION),
        "extract": dataclasses.replace(model, task=EXTRACTION),
        "both": dataclasses.replace(model, task=tasks.Several(("a", "b"), (SEPARATION, model.task))),
    }
    chosen = [models[kind] for kind in kinds]
    by_name = tabs(chosen, LIMITS)
    assert list(by_name) == offered
    assert "separate" not in offered or by_name["separate"].outputs == 3
    components = parts(*chosen)
    assert [props["label"].lower() for kind, props in components if kind == "tabitem"] == offered
    assert all(model.folder in texts(components) for model in chosen)
    assert ("consent" in texts(components)) == ("infill" in offered)


def test_the_first_model_that_can_do_it_does_it_and_a_pretrained_one_fills_gaps(model, speaking):
    other = dataclasses.replace(model, name="other")
    assert tabs([speaking, other, model], LIMITS)["enhance"].model.name == "other"
    filling = inference.load("sfjax://base")
    assert tabs([speaking, filling], LIMITS)["infill"].model is filling


def test_the_knobs_are_set_as_the_model_is(model):
    own = model.options | {"solver": "heun", "steps": 5, "guidance": 1.25, "sway": -0.5}
    knobs = {props["label"]: props for _, props in parts(dataclasses.replace(model, options=own)) if "label" in props}
    values = {name: knobs[name.capitalize()]["value"] for name in ("solver", "steps", "guidance", "sway", "seed")}
    assert values == {"solver": "heun", "steps": 5, "guidance": 1.25, "sway": -0.5, "seed": 0}
    assert [choice for choice, _ in knobs["Solver"]["choices"]] == [*flow.SOLVERS, *flow.ADAPTIVE]


def test_the_card_of_a_model_has_its_score_and_licence_and_of_a_run_what_it_does(model, tmp_path):
    facts = card(model, model.task)
    assert facts.name == "sfjax://enhance" and facts.does == "Cleans noisy recordings of one speaker"
    assert facts.score.startswith("PESQ 2.14") and facts.licence == "CC-BY-SA-4.0" and "ESC-10" in facts.notes
    facts = card(dataclasses.replace(model, folder=str(tmp_path)), SEPARATION)
    assert (facts.name, facts.does, facts.notes) == (str(tmp_path), "Separates the 3 speakers of one recording", "")


def test_required_fields_are_marked(model, speaking):
    labels = [props["label"] for kind, props in parts(model, speaking) if kind in ("audio", "textbox")]
    required = [label.partition(" (required")[0] for label in labels if "(required" in label]
    assert required == [
        "Recording",
        "Recording",
        "Text to speak",
        "Recording",
        "Text of the recording",
        "Text of the result",
        "Recording",
        "Text of the recording",
        "Voice, about 3 s",
        "Text of that voice",
    ]
    assert len([label for label in labels if "(optional" in label]) == len(labels) - len(required) == 3


@pytest.mark.parametrize("rate, suffix", [(16_000, "wav"), (44_100, "flac")])
def test_what_comes_out_of_the_page_is_what_the_model_makes(url, model, voice, tmp_path, rate, suffix):
    soundfile.write(tmp_path / f"in.{suffix}", audio.resample(voice(0.8, 3), RATE, rate), rate)
    wave = audio.read(tmp_path / f"in.{suffix}")[0]
    file, player, *messages = program(url, tmp_path).predict(
        handle_file(tmp_path / f"in.{suffix}"), *KNOBS[:-1], 3, api_name="/enhance"
    )
    assert audio.probe(file) == audio.Info(len(wave), rate, 1, "WAV", "PCM_16") and file.endswith("in-enhanced.wav")
    expected = np.clip(model.enhance(wave, rate, seed=3, **OPTIONS), -1, 1)
    # at another rate the page resamples in pieces, the model as a whole
    np.testing.assert_allclose(audio.read(file)[0], expected, atol=BITS if rate == RATE else 5e-3)
    assert np.abs(expected).max() > 0.01 and not any(message["value"] for message in messages)
    urls = re.findall('<audio preload="auto" src="(.*?)">', player)
    played = [web.get(url + path).content for path in urls]
    assert len(played) == 2 and played[0] == (tmp_path / f"in.{suffix}").read_bytes()
    assert played[1] == open(file, "rb").read()


def test_progress_comes_chunk_by_chunk_and_a_server_that_leaves_ends_a_job(model, voice, tmp_path):
    soundfile.write(tmp_path / "long.wav", voice(6.0, 0), RATE)
    shares, left = [], []
    model = dataclasses.replace(model, chunking=model.chunking | {"seconds": 1.0, "overlap": 0.5})
    tab = tabs([model], LIMITS, leaving=lambda: bool(left))["enhance"]
    values = {"recording": str(tmp_path / "long.wav")}
    tab.work(values, OPTIONS | {"seed": 0}, lambda share, text: shares.append(share))
    assert shares[0] == 0 and shares == sorted(shares) and len(shares) > 8 and shares[-1] == pytest.approx(0.95)
    left.append(True)
    before = set(FOLDER.rglob("*.wav"))
    with pytest.raises(UserError, match="stopped"):
        tab.work(values, OPTIONS | {"seed": 0}, no_progress)
    assert set(FOLDER.rglob("*.wav")) == before and not list(FOLDER.rglob("*.part"))


@pytest.mark.slow
def test_what_is_spoken_and_filled_is_what_the_model_makes(speaking, voice, tmp_path):
    offered = tabs([speaking], LIMITS)
    values = {"text": "A zorblax ran.", "voice": None, "transcript": "", "speed": 0.5}
    result = offered["speak"].work(values, OPTIONS | {"seed": 2}, no_progress)
    expected = speaking.speak("A zorblax ran.", speed=0.5, seed=2, **OPTIONS)
    np.testing.assert_allclose(audio.read(result.files[0])[0], np.clip(expected.wave, -1, 1), atol=BITS)
    assert not result.before and "zorblax" in result.notes[0]
    wave = voice(1.6, 0)
    wave[8_000:8_800] = 0
    soundfile.write(tmp_path / "a.flac", wave, RATE, subtype="PCM_24")
    samples, rate, _ = splicing.read(tmp_path / "a.flac")
    for words, gaps in (("", splicing.gaps(samples, shortest=80)), ("0.3-0.4", [(4_800, 6_400)])):
        values = {"recording": str(tmp_path / "a.flac"), "gaps": words}
        result = offered["infill"].work(values, OPTIONS | {"seed": 1}, no_progress)
        whole, own, info = splicing.read(result.files[0])
        expected = speaking.infill(samples, rate, gaps=gaps, seed=1, **OPTIONS).astype(np.int64)
        np.testing.assert_array_equal(whole >> 8, np.minimum((expected + 128) >> 8, 2**23 - 1))  # 24 bits
        assert len(gaps) == 1 and (whole != samples).any()
        assert (own, info.format, info.subtype) == (RATE, "WAV", "PCM_24")
        assert result.after[0].spans == result.before[0].spans == [(gaps[0][0] / RATE, gaps[0][1] / RATE)]


@pytest.mark.slow
def test_a_voice_is_spoken_in_and_its_words_are_changed(speaking, tmp_path):
    library, data = synthetic._espeak()
    sound = {"library": library, "data": data, "voice": "en-us+m1", "pitch": 50, "speed": 150}
    synthetic._record(tmp_path, sound | {"path": "a.flac", "text": "A big dog ran home."})
    offered, path, text = tabs([speaking], LIMITS), str(tmp_path / "a.flac"), "A big dog ran home."
    values = {"text": "It ran.", "voice": path, "transcript": text, "speed": 1}
    result = offered["speak"].work(values, OPTIONS | {"seed": 0}, no_progress)
    assert [track.title for track in (*result.before, *result.after)] == ["Voice", "Spoken"]
    expected = speaking.speak("It ran.", prompt=(*audio.read(path), text), **OPTIONS)
    np.testing.assert_allclose(audio.read(result.files[0])[0], np.clip(expected.wave, -1, 1), atol=BITS)
    new = "A big zorblax ran home."
    values = {"recording": path, "old": text, "new": new, "speed": 1}
    result = offered["edit"].work(values, OPTIONS | {"seed": 4}, no_progress)
    wave, rate, _ = splicing.read(path)
    expected = speaking.edit(wave, rate, old=text, new=new, seed=4, **OPTIONS)
    edited = splicing.read(result.files[0])[0]
    np.testing.assert_array_equal(edited, expected.wave)
    assert result.notes[0].startswith(f"New from {expected.span[0]:.2f}") and "zorblax" in " ".join(result.notes)
    [(start, end)], [(_, new_end)] = result.before[0].spans, result.after[0].spans
    assert start < end < len(wave) / rate  # the frames around the old and the new words
    assert end - new_end == pytest.approx((len(wave) - len(edited)) / rate)
    values = {"recording": path, "text": text, "voice": str(examples.path("voice")), "transcript": examples.TEXT}
    result = offered["convert"].work(values, OPTIONS | {"seed": 4}, no_progress)
    converted, rate = audio.read(result.files[0])
    assert len(converted) / rate == pytest.approx(len(wave) / audio.probe(path).rate, abs=0.001)


@pytest.mark.parametrize("level, reported", [(0.0, True), (0.01, True), (0.1, False), (0.3, False)])
def test_a_gap_that_comes_out_near_silence_is_reported(speaking, monkeypatch, level, reported):
    def infill(self, wave, rate, *, gaps, **options):
        return np.where(wave == 0, np.int16(level * 2**15), wave)

    monkeypatch.setattr(inference.Model, "infill", infill)
    wave = np.full((RATE, 1), 0.1 * 2**15, np.int16)
    wave[8_000:9_600] = 0
    path = FOLDER / "gap.wav"
    soundfile.write(path, wave, RATE)
    tab = tabs([speaking], LIMITS)["infill"]
    result = tab.work({"recording": str(path), "gaps": ""}, OPTIONS | {"seed": 0}, no_progress)
    assert [warning.startswith("Nearly silent") for warning in result.warnings] == [True] * reported
    assert not reported or "0.50–0.60 s" in result.warnings[0]


def test_the_example_of_each_tab_passes_the_checks_of_its_fields(model, speaking):
    models = [model, *(dataclasses.replace(model, task=task) for task in (SEPARATION, EXTRACTION)), speaking]
    for tab in tabs(models, LIMITS).values():
        values = tab.example()
        assert list(values) == list(tab.fields)
        for name, field in tab.fields.items():
            field.check(values[name])
            assert not isinstance(field.component, gr.Audio) or FOLDER in type(FOLDER)(values[name]).parents


def test_the_example_with_gaps_has_three_gaps_and_that_of_two_speakers_both(model, speaking):
    offered = tabs([dataclasses.replace(model, task=SEPARATION), speaking], LIMITS)
    wave, rate, _ = splicing.read(offered["infill"].example()["recording"])
    assert len(splicing.gaps(wave, shortest=80)) == 3
    mixture = audio.read(offered["separate"].example()["recording"])[0]
    voice = audio.read(examples.path("voice"))[0]
    other = mixture[: len(voice)] - voice
    assert np.abs(other[:9_000]).max() < 1e-3 and np.abs(other).max() > 0.1  # the other one starts later


def test_all_tracks_share_one_time_axis_and_edits_are_framed(voice, tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(2.0, 0), 44_100)  # 0.726 s
    soundfile.write(tmp_path / "b.wav", voice(2.0, 0), RATE)
    before = Track("<b>", tmp_path / "a.wav", [(0.2, 0.7)])
    shown = player(Result([before], [Track("After", tmp_path / "b.wav")], ["A <note>"], ["A <warning>"]))
    widths = [float(width) for width in re.findall(r'(?:svg|") style="width:([\d.]+)%"', shown)]
    np.testing.assert_allclose(widths, [36.3, 36.3, 100, 100], atol=0.6)  # wave and spectrogram of each
    assert re.findall(r'sf-span" style="left:([\d.]+)%;width:([\d.]+)%', shown) == [("10.000", "25.000")]
    assert "&lt;b&gt;" in shown and "A &lt;note&gt;" in shown and "A &lt;warning&gt;" in shown and "<b>" not in shown


@pytest.mark.parametrize(
    "seconds, ticks",
    [(0.55, [0, 0.1, 0.2, 0.3, 0.4, 0.5]), (4.0, [0, 1, 2, 3, 4]), (61.0, [0, 20, 40, 60]), (3.6e4, 7)],
)
def test_the_labels_of_a_time_axis_are_few_and_at_round_times(seconds, ticks):
    labels = _ticks(seconds)
    assert labels == ticks or len(labels) == ticks


# What is refused


def long_flac(path, seconds):
    """Writes a FLAC of silence whose header says that it lasts so long, though it holds less."""
    soundfile.write(path, np.zeros(RATE), RATE)
    data = bytearray(path.read_bytes())
    data[21:26] = ((data[21] & 0xF0) << 32 | seconds * RATE).to_bytes(5, "big")  # the samples of STREAMINFO
    path.write_bytes(data)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory, noisy):
    folder = tmp_path_factory.mktemp("uploads")
    long_flac(folder / "long.flac", 3 * 3600)
    soundfile.write(folder / "dense.flac", np.zeros((29 * 48_000, 6), np.int16), 48_000)
    with zipfile.ZipFile(folder / "zip.wav", "w") as archive:
        archive.writestr("a.txt", "no sound\n" * 99)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    return folder


@pytest.mark.parametrize(
    "name, expected",
    [
        ("long.flac", "long.flac: expected 30 s at most, got 10800.0 s; send a part of it"),
        ("dense.flac", "dense.flac: 6 channels at 48000 Hz are more than 30 s of stereo"),
        ("zip.wav", "zip.wav: not readable as sound"),
        (None, "expected a recording, got none"),
    ],
)
def test_an_upload_that_is_too_large_or_no_sound_is_refused_by_its_header(uploads, name, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        recording(name and str(uploads / name), LIMITS)


@pytest.mark.parametrize(
    "name, expected",
    [("zip.wav", "^zip.wav: not readable"), ("long.flac", "^long.flac: expected 30 s"), ("silent.wav", "silence")],
)
def test_a_mistake_is_one_line_at_its_field_and_the_page_goes_on(url, uploads, noisy, tmp_path, capfd, name, expected):
    client = program(url, tmp_path)
    file, shown, at_recording, elsewhere = client.predict(handle_file(uploads / name), *KNOBS, api_name="/enhance")
    line = re.search('<p class="sf-error" role="alert">(.*)</p>', at_recording["value"])[1]
    assert re.search(expected, line) and str(FOLDER) not in line
    assert file is None and "sf-player" not in shown and not elsewhere["value"]
    assert "Traceback" not in capfd.readouterr().err
    assert client.predict(handle_file(noisy), *KNOBS, api_name="/enhance")[0]


def test_a_file_is_refused_when_it_is_chosen(model, uploads, noisy):
    checks = {bound.fn.__name__: bound.fn for bound in page.blocks([model], LIMITS).fns.values()}
    kept, message = checks["refuse"](str(uploads / "zip.wav"))
    assert kept is None and "not readable" in message.value and message.visible
    kept, message = checks["refuse"](str(noisy))
    assert kept == gr.skip() and not message.visible


@pytest.mark.parametrize(
    "tab, values, field, expected",
    [
        ("speak", ["Hello.", None, "What is said.", 1.0], "voice", "got none; give one, or clear its text"),
        ("speak", ["Hello.", "{noisy}", " ", 1.0], "transcript", "got none; write what it says"),
        ("speak", ["a " * 1001 + "b", None, "", 1.0], "text", "at most 2000 letters, got 2003"),
        ("infill", ["{noisy}", ""], "gaps", "exactly 0 for 5 ms, found none"),
        ("infill", ["{noisy}", "1..2"], "gaps", "expected gaps in seconds"),
        ("edit", ["{noisy}", "", "Hello.", 1.0], "old", "expected a text, got none"),
        ("edit", ["{noisy}", "Hallo.", "", 1.0], "new", "expected a text, got none"),
        ("edit", [None, "Hallo.", "Hello.", 1.0], "recording", "expected a recording, got none"),
    ],
)
def test_what_cannot_be_done_is_said_at_its_field(speaking, voice, tmp_path, tab, values, field, expected):
    soundfile.write(tmp_path / "a.wav", voice(0.8, 0) + 0.01, RATE)
    values = [str(tmp_path / "a.wav") if value == "{noisy}" else value for value in values]
    chosen = tabs([speaking], LIMITS)[tab]
    errors, result = page._attempt(
        chosen, dict(zip(chosen.fields, values, strict=True)), OPTIONS | {"seed": 0}, no_progress
    )
    assert result is None and list(errors) == [field] and expected in errors[field]


def test_all_empty_fields_are_named_and_work_alone_names_the_first(speaking):
    chosen = tabs([speaking], LIMITS)["edit"]
    empty = {"recording": None, "old": "", "new": "", "speed": 1.0}
    errors, _ = page._attempt(chosen, empty, OPTIONS | {"seed": 0}, no_progress)
    assert list(errors) == ["recording", "old", "new"]
    with pytest.raises(FieldError, match="expected a recording") as refused:
        chosen.work(empty, OPTIONS | {"seed": 0}, no_progress)
    assert refused.value.field == "recording"


def test_what_a_visitor_wrote_is_shown_and_not_obeyed(speaking, noisy):
    layout = page.blocks([speaking], LIMITS)
    fill = next(bound.fn for bound in layout.fns.values() if bound.api_name == "infill")
    *_, at_gaps, elsewhere = fill(gr.Progress(), str(noisy), "<img src=x>\n1", *KNOBS)
    assert "got '&lt;img src=x&gt;" in at_gaps.value and "<img" not in at_gaps.value and not elsewhere.value
