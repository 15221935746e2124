"""Speaking, editing and filling: lengths, what stays as it is, and what is refused."""

import dataclasses
import json

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import soundfile

from sfjax import audio, inference
from sfjax.data import manifest
from sfjax.data.noise_mixer import active_level
from sfjax.errors import UserError
from sfjax.inference import editing, infill, splicing, tts
from sfjax.text import durations, encoding, espeak, g2p, phones, textgrid
from sfjax.text.phones import Line

STEPS = dict(solver="euler", steps=1, guidance=0.0)
LEXICON = g2p.default_lexicon()


@pytest.fixture(scope="module")
def model(speaker):
    run, durations = speaker
    return inference.load(run, duration_model=durations)


@pytest.fixture(scope="module")
def recording(spoken):
    """A recording of a second or two at 16 kHz, and what is said in it."""
    row = manifest.read(spoken, split=None).row(0)
    wave = audio.read(row["path"])[0]
    return wave, Line(tuple(row["phones"]), tuple(row["lengths"]), tuple(row["words"]))


def saying(tokens_of, lengths):
    """A line of words by the lexicon whose phones last as `lengths` says, in turn."""
    tokens = phones.spell([LEXICON[word] for word in tokens_of])
    return Line(tokens, tuple(np.resize(lengths, len(tokens)).tolist()), tuple(tokens_of))


def test_what_is_spoken_lasts_as_its_line_says_and_words_stand_in_their_order(model):
    made = model.speak("A big dog. It ran home!", **STEPS)
    assert [word.text for word in made.words] == ["a", "big", "dog", "it", "ran", "home"] and made.rate == 16_000
    assert len(made.wave) == 160 * sum(made.line.lengths) and np.isfinite(made.wave).all()
    assert len(made.lines) == 2 and made.line.words == made.lines[0].words + made.lines[1].words
    times = [(word.start, word.end) for word in made.words]
    assert times == sorted(times) and 0 <= times[0][0] and times[-1][1] <= len(made.wave) / 16_000 + 1e-6
    assert all(word.phones[0].start == word.start and word.phones[-1].end == word.end for word in made.words)


def test_a_prompt_is_not_heard_but_changes_what_is_said(model, recording):
    wave, line = recording
    lines = [saying(["big", "dog"], [12])]
    alone = model.speak("big dog", lines=lines, **STEPS)
    prompted = model.speak("big dog", lines=lines, prompt=(wave, 16_000, line), **STEPS)
    assert len(alone.wave) == len(prompted.wave) == 160 * 12 * len(lines[0].phones)
    assert np.abs(alone.wave - prompted.wave).max() > 1e-3
    again = model.speak("big dog", lines=lines, prompt=(wave, 16_000, line), **STEPS)
    np.testing.assert_array_equal(again.wave, prompted.wave)
    other = model.speak("big dog", lines=lines, prompt=(wave, 16_000, line), seed=1, **STEPS)
    assert np.abs(other.wave - prompted.wave).max() > 1e-3


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_converted_recording_keeps_its_timing_and_takes_the_voice(model, recording, spoken, rate):
    wave, line = recording
    row = manifest.read(spoken, split=None).row(1)
    voice = Line(tuple(row["phones"]), tuple(row["lengths"]), tuple(row["words"]))
    prompt = (audio.read(row["path"])[0], 16_000, voice)
    source = audio.resample(wave, 16_000, rate)
    made = model.convert(source, rate, said=line, prompt=prompt, **STEPS)
    assert made.rate == 16_000 and abs(len(made.wave) - len(wave)) <= 1
    assert (made.line.phones, made.line.lengths) == (line.phones, line.lengths)
    own = model.convert(source, rate, said=line, prompt=(wave, 16_000, line), **STEPS)
    assert np.abs(own.wave - made.wave).max() > 1e-3


@pytest.mark.parametrize("source", [np.zeros(16_000, np.float32), np.ones(100, np.float32)])
def test_a_recording_without_speech_is_not_converted(model, recording, source):
    wave, line = recording
    with pytest.raises(UserError, match="silent or too short"):
        model.convert(source, 16_000, said=line, prompt=(wave, 16_000, line), **STEPS)


@pytest.mark.parametrize("text", [None, 5, b"dog", ["dog"]])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(UserError, match=f"expected a text as str, got {type(text).__name__}"):
        encoding.check_characters(text)


@pytest.mark.parametrize("parts", [None, (), ("a.wav",), (1, 2, 3, 4), "a.wav", np.zeros(9)])
def test_what_is_no_prompt_is_refused(parts):
    """Of the private function: under pytest, the types of the public one are checked before its values."""
    with pytest.raises(UserError, match="prompt must be .recording, sample rate, text. or .path, text., got"):
        inference.model._prompt(None, parts)


def test_speech_has_the_level_of_its_prompt_and_is_never_clipped(model, recording):
    wave, line = recording
    limited = []
    for gain in (0.01, 30.0):
        prompt = np.clip(gain * wave, -1.0, 1.0)
        speech = model.speak("big dog", prompt=(prompt, 16_000, line), **STEPS).wave
        peak, level, wanted = np.abs(speech).max(), active_level(speech, 16_000), active_level(prompt, 16_000)
        limited.append(peak == pytest.approx(tts.PEAK, abs=1e-4))
        assert level < wanted + 1.0 if limited[-1] else level == pytest.approx(wanted, abs=1.0)  # dB
        assert peak <= tts.PEAK + 1e-6
    assert limited == [False, True]


def test_the_frames_of_a_prompt_are_kept_and_the_others_found(model, recording):
    wave, line = recording
    known = sum(line.lengths)
    origin = np.concatenate([np.arange(known), np.full(30, -1)]).astype(np.int32)
    asked = [infill.Gap(wave, origin, np.ones(known + 30, np.int32))]
    found = infill.regenerate(model, asked, 0, STEPS)[0]
    mel = np.asarray(audio.log_mel(jnp.asarray(wave)[None], model.spec))[0]
    np.testing.assert_allclose(found[:known], mel, atol=1e-4)
    together = infill.regenerate(
        model, asked + [infill.Gap(wave, origin[: known + 9], asked[0].phones[: known + 9])], 0, STEPS
    )
    np.testing.assert_allclose(together[0], found, atol=1e-4)  # not by what it is batched with


def test_sentences_are_joined_in_silence_and_their_seam_is_smooth(model):
    lines = [saying(["big"], [8]), saying(["dog"], [8])]
    made = model.speak("Big. Dog.", lines=lines, **STEPS)
    first = model.speak("Big.", lines=lines[:1], **STEPS)
    fade = tts.JOIN * 160
    np.testing.assert_allclose(made.wave[: len(first.wave) - fade], first.wave[:-fade], atol=1e-5)
    assert sum(made.line.lengths) == sum(map(sum, (line.lengths for line in lines))) - tts.JOIN


def test_sentences_without_silence_between_them_get_some_to_be_joined_in(model):
    lines = [saying([word], [8]) for word in ("big", "dog")]
    lines = [line._replace(lengths=(0, *line.lengths[1:-1], 0)) for line in lines]
    made = model.speak("Big. Dog.", lines=lines, **STEPS)
    assert min(made.line.lengths) >= 0 and len(made.wave) == 160 * sum(made.line.lengths)
    assert made.line.lengths.count(8) == sum(line.lengths.count(8) for line in lines)


def test_a_sentence_that_is_too_long_is_spoken_in_parts(model):
    text = "the big dog ran home and the small dog ran home and the big dog ran"
    line = saying(text.split(), [9])
    assert sum(line.lengths) > 200  # frames of a chunk
    made = model.speak(text, lines=[line], **STEPS)
    assert made.line.words == tuple(text.split()) and len(made.wave) == 160 * sum(made.line.lengths)
    assert sum(line.lengths) - 20 <= sum(made.line.lengths) <= sum(line.lengths)


def test_durations_written_and_read_give_the_same_speech(model, tmp_path):
    made = model.speak("Big dog. It ran.", **STEPS)
    durations.write(tmp_path / "d.json", made.lines, hop_seconds=0.01)
    lines = durations.read(tmp_path / "d.json", hop_seconds=0.01)
    np.testing.assert_array_equal(model.speak("Big dog. It ran.", lines=lines, **STEPS).wave, made.wave)
    textgrid.write_textgrid(tmp_path / "said.TextGrid", made.line)
    read = phones.line(textgrid.read_textgrid(tmp_path / "said.TextGrid"), sum(made.line.lengths))
    assert read.words == made.line.words and sum(read.lengths) == sum(made.line.lengths)


def test_a_break_lasts_as_long_as_it_says_and_speed_divides_lengths(model):
    plain = model.speak("big dog", **STEPS)
    paused = model.speak('big <break time="500ms"/> dog', **STEPS)
    groups = paused.line.groups()
    assert paused.line.lengths[groups[0][1]] == 50
    others = [i for i in range(len(plain.line.lengths)) if i != groups[0][1]]
    assert [paused.line.lengths[i] for i in others] == [plain.line.lengths[i] for i in others]
    long = dataclasses.replace(model, duration_model=lambda line, hidden: np.where(hidden, 12.0, line.lengths))
    half = long.speak("big dog", speed=2.0, **STEPS)
    assert sum(half.line.lengths) == 6 * len(half.line.phones)


def test_unknown_words_are_spelled_by_rule_and_said(model):
    made = model.speak("the zorblax ran", **STEPS | {"guidance": 0.7})
    assert made.unknown == ["zorblax"] and made.words[1].phones


def test_a_long_prompt_is_cut_behind_a_word(model, recording):
    wave, line = recording
    short = dataclasses.replace(model, chunking=model.chunking | {"seconds": 2 * sum(line.lengths) / 100 * 0.6})
    made = tts.prompt(wave, 16_000, line, model=short)
    assert sum(made.line.lengths) == -(-len(made.wave) // 160) < sum(line.lengths) * 0.61
    assert made.line.words == line.words[: len(made.line.words)] and made.line.phones[-1] == phones.SILENCE


@pytest.mark.parametrize(
    "wave, said, wanted",
    [
        (np.zeros(0), "a dog", "0.5 s or more, got 0.00 s"),
        (np.zeros(16_000), "a dog", "the prompt is silent"),
        (np.full(16_000, np.nan), "a dog", "16000 that are NaN"),
        (np.ones((16_000, 2, 1)), "a dog", "got shape .16000, 2, 1."),
        (np.sin(np.arange(16_000)), "  ", "text of the recording, got none"),
    ],
)
def test_a_prompt_that_is_none_is_refused(model, wave, said, wanted):
    with pytest.raises(UserError, match=wanted):
        model.speak("a dog", prompt=(wave.astype(np.float32), 16_000, said), **STEPS)


def test_a_prompt_without_words_is_refused(model, recording):
    silent = Line((phones.SILENCE,), (sum(recording[1].lengths),), ())
    with pytest.raises(UserError, match="alignment has no words"):
        model.speak("a dog", prompt=(recording[0], 16_000, silent), **STEPS)


def test_a_prompt_whose_phones_the_model_does_not_know_is_refused(model, recording):
    wave, line = recording
    strange = line._replace(phones=tuple("QQ_B" if phone.endswith("_B") else phone for phone in line.phones))
    with pytest.raises(UserError, match="phones among the .*got QQ_B"):
        model.speak("a dog", prompt=(wave, 16_000, strange), **STEPS)


@pytest.mark.parametrize("text, wanted", [("", "word"), ("собака", "in Latin letters, got .собак"), ("!?", "word")])
def test_text_that_cannot_be_said_is_refused(model, text, wanted):
    with pytest.raises(UserError, match=wanted):
        model.speak(text, **STEPS)


def test_a_model_that_cannot_speak_says_so(enhancer, model):
    with pytest.raises(UserError, match="without phones.*configs/speak.py"):
        inference.load(enhancer).speak("a dog")
    with pytest.raises(UserError, match="give .*--duration-model, --durations"):
        dataclasses.replace(model, duration_model=None).speak("a dog", **STEPS)
    with pytest.raises(UserError, match="durations .*9 phones.* text has 7"):
        model.speak("a dog", lines=[saying(["big", "dog"], [4])], **STEPS)


# Editing


@pytest.fixture(scope="module")
def story():
    """A recording of int16 stereo, half a second a word, and what is said in it."""
    words = ["the", "big", "dog", "ran", "home"]
    tokens = phones.spell([LEXICON[word] for word in words])
    line = Line(tokens, tuple(5 if token == phones.SILENCE else 7 for token in tokens), tuple(words))
    samples = 160 * sum(line.lengths) - 37
    rng = np.random.default_rng(0)
    wave = (3000 * rng.standard_normal((samples, 2))).astype(np.int16)
    return wave, line


@pytest.mark.parametrize(
    "new, words, old",
    [
        ("the small dog ran home", (1, 2), 1),  # replaced
        ("the big old dog ran home", (2, 3), 0),  # put in
        ("the dog ran home", (1, 1), 1),  # left out
        ("big dog ran home", (0, 0), 1),  # at the start
        ("the big dog ran", (4, 4), 1),  # at the end
        ("the big dog ran away", (4, 5), 1),
        ("every cat slept", (0, 3), 5),  # all of it
    ],
)
def test_what_is_outside_of_an_edit_stays_bit_for_bit_and_lengths_add_up(model, story, new, words, old):
    wave, line = story
    made = model.edit(wave, 16_000, old=line, new=new, **STEPS)
    assert list(made.line.words) == new.split() and made.wave.dtype == np.int16 and made.wave.shape[1] == 2
    start, end = (round(100 * second) for second in made.span)
    grown = sum(made.line.lengths) - sum(line.lengths)
    assert len(made.wave) == len(wave) + 160 * grown or new == "the big dog ran"
    fade = round(editing.FADE * 16_000)
    first, rest = 160 * start - fade, len(made.wave) - 160 * end - fade + 37
    np.testing.assert_array_equal(made.wave[: max(first, 0)], wave[: max(first, 0)])
    if rest > 37:
        np.testing.assert_array_equal(made.wave[-(rest - 37) :], wave[-(rest - 37) :])
    # words that stay last as long as they did
    kept = [(word, token) for word, token in zip(made.line.words, made.line.groups(), strict=True)]
    for place, (_, (a, b)) in enumerate(kept):
        if not words[0] <= place < words[1]:
            there = place if place < words[0] else place - len(kept) + len(line.words)
            c, d = line.groups()[there]
            assert made.line.lengths[a:b] == line.lengths[c:d] and made.line.phones[a:b] == line.phones[c:d]


def test_a_break_in_an_edit_lasts_as_long_as_it_says_where_something_is_new(model, story):
    wave, line = story
    text = 'The big <break time="200ms"/> old dog. <break time="300ms"/> Ran home!'
    made = model.edit(wave, 16_000, old=line, new=text, **STEPS)
    silences = [length for phone, length in zip(made.line.phones, made.line.lengths, strict=True) if phone == "SIL"]
    assert silences[2] == 20 and silences[4:] == [5, 5, 5]  # what was said stays


def test_an_edit_at_another_rate_keeps_its_samples(model, story):
    wave, line = story
    wave = np.repeat(wave, 3, axis=0)[: 480 * sum(line.lengths)]
    made = model.edit(wave, 48_000, old=line, new="the small dog ran home", **STEPS)
    first = round(48_000 * made.span[0]) - round(editing.FADE * 48_000)
    np.testing.assert_array_equal(made.wave[:first], wave[:first])
    np.testing.assert_array_equal(made.wave[-4800:], wave[-4800:])
    assert (made.wave[first + 500 : first + 5000] != wave[first + 500 : first + 5000]).mean() > 0.9


def test_an_edit_in_a_long_recording_looks_at_a_chunk_around_it(model):
    words = ["the", "big", "dog", "ran", "home"] * 6
    line = saying(words, [7])
    wave = (3000 * np.random.default_rng(0).standard_normal(160 * sum(line.lengths))).astype(np.int16)
    assert sum(line.lengths) > 400  # two chunks
    new = [*words[:22], "small", *words[23:]]
    made = model.edit(wave, 16_000, old=line, new=" ".join(new), **STEPS)
    first = round(16_000 * made.span[0]) - round(editing.FADE * 16_000)
    np.testing.assert_array_equal(made.wave[:first], wave[:first])
    np.testing.assert_array_equal(made.wave[-8000:], wave[-8000:])


def test_an_edit_that_changes_nothing_or_too_much_is_refused(model, story):
    wave, line = story
    with pytest.raises(UserError, match="got the same words; change at least one"):
        model.edit(wave, 16_000, old=line, new="The big dog ran home.", **STEPS)
    slow = dataclasses.replace(model, duration_model=lambda line, hidden: np.where(hidden, 60.0, line.lengths))
    with pytest.raises(UserError, match="at most 1.5 s.*change less"):
        slow.edit(wave, 16_000, old=line, new="the small dog ran home", **STEPS)


# Filling


def test_gaps_are_filled_and_the_rest_stays_bit_for_bit(model, story):
    wave = story[0].copy()
    gaps = [(4000, 4800), (9000, 9160)]
    for first, end in gaps:
        wave[first:end] = 0
    assert splicing.gaps(wave, shortest=100) == gaps
    made = model.infill(wave, 16_000, gaps=gaps, **STEPS)
    assert made.shape == wave.shape and made.dtype == wave.dtype
    outside = np.ones(len(wave), bool)
    for first, end in gaps:
        outside[first - 80 : end + 80] = False
        assert (made[first + 10 : end - 10] != 0).mean() > 0.9
    np.testing.assert_array_equal(made[outside], wave[outside])


def test_what_fills_a_gap_is_what_was_found_at_the_same_place(model, story):
    wave, _ = story
    gap = (4037, 4811)  # between the starts of frames
    made = model.infill(wave, 16_000, gaps=[gap], **STEPS)
    frames = -(-len(wave) // 160)
    lost = [160 * f - 240 < gap[1] and 160 * f + 400 > gap[0] for f in range(frames)]  # windows that it touches
    origin = np.where(lost, -1, np.arange(frames)).astype(np.int32)
    asked = infill.Gap((wave.mean(axis=1) / 32768).astype(np.float32), origin, np.zeros(frames, np.int32))
    found = infill.to_waves(model, infill.regenerate(model, [asked], 0, STEPS))[0]
    wanted = np.clip(np.rint(32768 * found[slice(*gap)]), -32768, 32767)
    for channel in made[slice(*gap)].T:
        np.testing.assert_allclose(channel, wanted, atol=2)


@pytest.mark.slow
def test_a_pre_trained_model_fills_gaps_without_phones(toy_config, tmp_path, voice, request):
    from sfjax import train

    train.run(toy_config("pretrain", **{"run.stop": 1}), tmp_path)
    model, wave = inference.load(tmp_path), voice(5.0, 0)
    made = model.infill(wave, 16_000, gaps=[(20_000, 20_400), (60_000, 60_800)], **STEPS)
    np.testing.assert_array_equal(made[:19_000], wave[:19_000])
    assert np.abs(made - wave).max() > 1e-4
    with pytest.raises(UserError, match="leaves too little.*at most 1.5 s"):
        model.infill(wave, 16_000, gaps=[(10_000, 50_000)], **STEPS)
    with pytest.raises(UserError, match="the recording is silent"):
        model.infill(0 * wave, 16_000, gaps=[(0, 100)], **STEPS)
    jaxtyping.config.update("jaxtyping_disable", True)  # users have no checks of annotations
    request.addfinalizer(lambda: jaxtyping.config.update("jaxtyping_disable", False))
    for gaps in ([(5, 2)], [(-5, 10)], [(0, 10**9)], [(7, 7)], [(1,)], [(0.5, 1.5)], None):
        with pytest.raises(UserError, match="gap.* must be .*, got"):
            model.infill(wave, 16_000, gaps=gaps, **STEPS)
    for name, value in {"steps": "four", "solver": ["euler"], "guidance": {}, "seed": 0.5}.items():
        with pytest.raises(UserError, match=f"{name} must be .*, got"):
            model.infill(wave, 16_000, gaps=[(100, 200)], **STEPS | {name: value})


# The command line


@pytest.fixture(scope="module")
def words(speaker):
    """What follows every verb of a test: the models, and few steps."""
    run, durations = speaker
    few = ["--solver", "euler", "--steps", "1", "--guidance", "0"]
    return ["--model", run, *few], ["--duration-model", durations]


def test_speak_writes_sound_durations_and_a_textgrid(call, words, tmp_path, recording):
    wave, line = recording
    audio.write(tmp_path / "p.wav", wave, 16_000)
    textgrid.write_textgrid(tmp_path / "p.TextGrid", line)
    prompt = ["--prompt", tmp_path / "p.wav", "--prompt-textgrid", tmp_path / "p.TextGrid"]
    written = ["--write-durations", tmp_path / "d.json", "--textgrid", tmp_path / "o.TextGrid"]
    code, _, said = call("speak", "A zorblax ran.", "-o", tmp_path / "o.flac", *words[0], *words[1], *prompt, *written)
    assert code == 0 and "spelled by rule: zorblax" in said and "Griffin-Lim" in said
    first = audio.read(tmp_path / "o.flac")[0]
    assert [word["word"] for word in json.loads((tmp_path / "d.json").read_text())["sentences"][0][1::2]] == [
        "a",
        "zorblax",
        "ran",
    ]
    code, _, said = call(
        "speak", "A zorblax ran.", "-o", tmp_path / "again.flac", *words[0], *prompt, "--durations", tmp_path / "d.json"
    )
    assert code == 0, said
    np.testing.assert_array_equal(audio.read(tmp_path / "again.flac")[0], first)


def test_edit_and_infill_write_what_they_left_alone_bit_for_bit(call, words, tmp_path, story):
    wave, line = story
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    textgrid.write_textgrid(tmp_path / "a.TextGrid", line)
    code, _, said = call(
        "edit",
        tmp_path / "a.wav",
        "--textgrid-in",
        tmp_path / "a.TextGrid",
        "--to",
        "the small dog ran home",
        "-o",
        tmp_path / "b.flac",
        *words[0],
        *words[1],
    )
    assert code == 0 and "new from" in said
    made = soundfile.read(tmp_path / "b.flac", dtype="int16")[0]
    np.testing.assert_array_equal(made[-4000:], wave[-4000:])
    holed = wave.copy()
    holed[5000:5500] = 0
    soundfile.write(tmp_path / "h.wav", holed, 16_000)
    code, _, said = call("infill", tmp_path / "h.wav", "-o", tmp_path / "w.wav", *words[0])
    assert code == 0 and "1 gaps filled, 0.03 s in all" in said
    made = soundfile.read(tmp_path / "w.wav", dtype="int16")[0]
    np.testing.assert_array_equal(made[6000:], wave[6000:])
    assert (made[5010:5490] != 0).mean() > 0.9


@pytest.mark.parametrize(
    "wanted, line",
    [
        ("--prompt-text and --prompt-textgrid .* --prompt", "speak hi -o o.wav --model {m} --prompt-text hi"),
        ("not allowed with", "speak hi -o o.wav --model {m} --prompt a.wav --prompt-text hi --prompt-textgrid a"),
        ("expected --duration-model RUN", "speak hi -o o.wav --model {m}"),
        (
            "--duration-model and --durations both",
            "speak hi -o o.wav --model {m} --duration-model {t} --durations d.json",
        ),
        ("expected a name that ends in .wav", "speak hi -o o.aiff --model {m} --duration-model {t}"),
        ("speed from 0.25 to 4, got 9", "speak hi -o {d}/o.wav --model {m} --duration-model {t} --speed 9"),
        ("not a duration model", "speak hi -o o.wav --model {m} --duration-model {m}"),
        ("give it as --duration-model", "speak hi -o o.wav --model {t} --duration-model {t}"),
        ("not a vocoder", "speak hi -o o.wav --model {m} --duration-model {t} --vocoder {t}"),
        ("expected a lexicon, got none", "speak hi -o o.wav --model {m} --duration-model {t} --lexicon nowhere.dict"),
        ("got none .No such file", "speak hi -o o.wav --model {m} --durations nowhere.json"),
        (
            "expected a sound file, found nothing",
            "speak hi -o o.wav --model {m} --duration-model {t} --prompt x --prompt-text y",
        ),
        (
            "the prompt is silent",
            "speak hi -o o.wav --model {m} --duration-model {t} --prompt {d}/s.wav --prompt-text y",
        ),
        ("would be overwritten", "edit {d}/a.wav --from a --to b -o {d}/a.wav --model {m} --duration-model {t}"),
        (
            "expected the text of the recording, got none",
            "speak hi -o o.wav --model {m} --duration-model {t} --prompt {d}/a.wav --prompt-text=",
        ),
        (
            "expected the text of the recording, got none",
            "edit {d}/a.wav --from= --to b -o {d}/b.wav --model {m} --duration-model {t}",
        ),
        ("expected --duration-model RUN", "edit {d}/a.wav --from a --to b -o {d}/b.wav --model {m}"),
        (
            "one of the arguments --from --textgrid-in",
            "edit {d}/a.wav --to b -o {d}/b.wav --model {m} --duration-model {t}",
        ),
        ("both the recording and the voice", "convert {d}/a.wav --voice {d}/a.wav -o {d}/b.wav --model {m}"),
        ("expected a sound file, found nothing", "convert {d}/a.wav --voice {d}/x.wav -o {d}/b.wav --model {m}"),
        (
            "the prompt is silent",
            "convert {d}/a.wav --voice {d}/s.wav --text a --voice-text b -o {d}/b.wav --model {m}",
        ),
        (
            "expected the text of the recording, got none",
            "convert {d}/a.wav --voice {d}/v.wav --text= --voice-text= -o {d}/b.wav --model {m}",
        ),
        ("exactly 0 .*give the gaps with --gaps", "infill {d}/a.wav -o {d}/b.wav --model {m}"),
        ("expected gaps in seconds", "infill {d}/a.wav -o {d}/b.wav --model {m} --gaps 1..2"),
        ("end by 1", "infill {d}/a.wav -o {d}/b.wav --model {m} --gaps 1-99"),
        ("not to speak or to fill gaps", "infill {d}/a.wav -o {d}/b.wav --model {e} --gaps 0.2-0.3"),
        ("could not be written|Is a directory|No such", "infill {d}/a.wav -o /proc/b.wav --model {m} --gaps 0.2-0.3"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(refused, speaker, enhancer, tmp_path, story, wanted, line):
    soundfile.write(tmp_path / "a.wav", story[0], 16_000)
    soundfile.write(tmp_path / "v.wav", story[0], 16_000)
    soundfile.write(tmp_path / "s.wav", np.zeros(16_000), 16_000)
    places = dict(m=speaker[0], t=speaker[1], e=enhancer, d=tmp_path)
    refused(wanted, *(word.format(**places) for word in line.split()))


def test_every_phone_of_english_is_known_to_the_toy(model):
    assert tts.plain_phones(model) == espeak.ARPABET
