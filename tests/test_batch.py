"""`sfjax enhance` and `sfjax separate` handle folders, streams, pictures and JSON, and skip files that are finished."""

import dataclasses
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from PIL import Image

import sfjax
from sfjax import audio, audio_io, spectrogram_plot
from sfjax.configs import default
from sfjax.errors import UserError
from sfjax.inference.batch import process_files

RATE = 16_000


@pytest.fixture(scope="module")
def separator(toy_config, tmp_path_factory):
    """The folder of a finished toy run of separation."""
    from sfjax import train

    folder = tmp_path_factory.mktemp("separator")
    train.run(toy_config("separate", **{"run.stop": 1, "mix.noise": ""}), folder)
    return folder


@pytest.fixture
def enhance(call, enhancer, tmp_path, monkeypatch):
    """A function that enhances in one step, in a folder of its own: its exit code, its complaints, all that it said."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: call("enhance", *words, "--model", enhancer, "--steps", 1, "--guidance", 0)


@pytest.fixture
def write(voice, tmp_path):
    """A function that writes a recording below this test's folder."""

    def make(name, seed=0, rate=RATE, seconds=1.0):
        path = tmp_path / name
        audio.write(path, audio.resample(voice(seconds, seed), RATE, rate), rate)
        return path

    return make


@pytest.fixture
def piped(enhancer):
    """A function that pipes a recording through `sfjax enhance -` into a shell's words: code, output, complaints."""
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }

    def run(path, rest):
        line = f'"$0" -m sfjax enhance - --model "$1" --steps 1 --guidance 0 < "$2" {rest}; echo ${{PIPESTATUS[0]}} >&2'
        done = subprocess.run(
            ["bash", "-c", line, sys.executable, enhancer, path], env=environment, capture_output=True, timeout=200
        )
        said = done.stderr.decode().splitlines()
        assert "Traceback" not in done.stderr.decode() and "ignored" not in done.stderr.decode(), said
        return int(said[-1]), done.stdout, [line for line in said if line.startswith("sfjax: ")]

    return run


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Folders


def test_a_folder_is_mirrored_without_what_is_hidden_no_sound_or_a_result(enhance, write, tmp_path):
    for place, name in enumerate(("a.wav", "deep/er/b.flac", "deep/C.WAV")):
        write(f"in/{name}", place)
    write("in/.hidden.wav")
    write("in/.cache/d.wav")
    (tmp_path / "in/notes.txt").write_text("no sound")
    (tmp_path / "in/deep/loop").symlink_to("..")
    (tmp_path / "in/self").symlink_to("self")
    wanted = ["a.wav", "deep/C.WAV", "deep/er/b.flac"]
    code, complaints, said = enhance("in")
    assert (code, complaints) == (0, []) and names(tmp_path / "enhanced") == wanted
    assert said.splitlines()[-1] == "3 of 3 files written to enhanced, 4 other files passed over"
    for _ in range(2):  # the second time with results below what is read
        code, complaints, said = enhance("in", "-o", "in/out")
        assert (code, complaints) == (0, []) and names(tmp_path / "in/out") == wanted
    assert said.splitlines()[-1] == "0 of 3 files written to in/out, 3 there already, 4 other files passed over"


def test_what_goes_wrong_costs_a_line_each_and_no_other_file(enhance, write, tmp_path, content):
    good = write("in/good.wav", 1)
    write("in/sub/b.wav")
    write("other/good.wav", 2)
    (tmp_path / "in/cut.wav").write_bytes(good.read_bytes()[:9000])
    (tmp_path / "in/gone.wav").symlink_to("nowhere.wav")
    locked = tmp_path / "in/locked"
    locked.mkdir(mode=0)
    (tmp_path / "empty").mkdir()
    write("out/here.wav")
    (tmp_path / "out/sub").write_text("a file where a folder is wanted")
    (tmp_path / "out/taken.wav").mkdir()
    write("taken.wav")
    write("here/back.wav").rename(tmp_path / "here/here.wav")
    before = content(tmp_path)
    code, complaints, said = enhance(
        "in", "other/good.wav", "empty", "out", "out/here.wav", "here", "taken.wav", "missing.wav", "", "-o", "out"
    )
    wanted = [
        "in/cut.wav: states .* bytes of sound",
        "in/gone.wav: expected a sound file, found nothing",
        "out/sub/b.wav: could not be written .(File exists|Not a directory).*choose another folder",
        "in/good.wav and other/good.wav would both be written to out/good.wav",
        "empty: expected a folder with sound files, found none",
        "out is where the results go; choose another folder",
        "out/here.wav would be overwritten by its own result",
        "out/here.wav would be overwritten by the result of here/here.wav",
        "out/taken.wav: could not be written .Is a directory",
        "missing.wav: expected a sound file, found nothing",
        r"\.: expected a sound file, found a folder",
    ]
    if not os.access(locked, os.R_OK):  # root reads everything
        wanted.append("in/locked: not readable .Permission denied")
    locked.chmod(0o700)
    for line in wanted:
        assert len([said for said in complaints if re.search(line, said)]) == 1, (line, complaints)
    assert code == 2 and len(complaints) == len(wanted)
    assert f"1 of {len(wanted) + 1} files written to out, {len(wanted)} failed" in said
    assert {name: data for name, data in content(tmp_path).items() if name != tmp_path / "out/good.wav"} == before
    assert audio.probe("out/good.wav").frames == RATE


@pytest.mark.parametrize(
    "expected, words",
    [
        ("good.wav: expected a folder for the results, found a file", ["good.wav", "-o", "good.wav"]),
        ("--plot must .*got a.jpg", ["good.wav", "--plot", "a.jpg"]),
        ("a.png: File exists; .* choose another place", ["good.wav", "--plot", "a.png/b.png"]),
        ("-o must be a folder, got -", ["good.wav", "-o", "-"]),
        ("give - alone, or a folder .* -o", ["-", "good.wav"]),
        ("--json and .* standard output; give a folder .* -o", ["-", "--json"]),
    ],
)
def test_a_mistake_is_told_in_one_line(enhance, write, tmp_path, expected, words):
    write("good.wav")
    (tmp_path / "a.png").write_text("a file where a folder is wanted")
    code, complaints, _ = enhance(*words)
    assert code == 2 and len(complaints) == 1 and re.search(expected, complaints[0])
    assert not (tmp_path / "enhanced").exists() or "a.png" in expected


def test_the_speakers_of_a_stream_want_a_folder(refused):
    refused("standard output; use -o FOLDER", "separate", "-", "--model", "none")


# What is done already


def test_a_second_run_skips_what_is_done_in_every_container(enhance, write, tmp_path):
    for suffix in audio_io.CONTAINERS:
        write(f"in/a{suffix}", rate=48_000)
    assert enhance("in")[0] == 0
    stamps = lambda: {path.name: path.stat().st_mtime_ns for path in sorted((tmp_path / "enhanced").iterdir())}
    first = stamps()
    for name in first:  # a copy is the same recording
        data = (tmp_path / "in" / name).read_bytes()
        (tmp_path / "in" / name).unlink()
        (tmp_path / "in" / name).write_bytes(data)
    code, complaints, said = enhance("in")
    assert (code, complaints) == (0, []) and "0 of 5 files written to enhanced, 5 there already" in said
    assert stamps() == first
    assert "5 of 5 files written to enhanced\n" in enhance("in", "--force")[2]
    assert not set(stamps().values()) & set(first.values())


def test_whatever_a_result_depends_on_it_is_made_again_when_that_changes(enhance, write, tmp_path):
    source, other, result = write("a.wav", 0), write("b.wav", 1), tmp_path / "enhanced/a.wav"
    again = lambda *words: "1 of 1 files written" in enhance("a.wav", *words)[2]
    assert again() and not again()
    for words in (["--seed", 1], ["--sway", "-0.5"], ["--no-ema"]):
        assert again(*words) and not again(*words)
    assert again() and not again()
    stamp = source.stat()
    source.write_bytes(other.read_bytes())
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert source.stat().st_size == stamp.st_size and again() and not again()
    result.write_bytes(result.read_bytes()[:9000])
    assert again() and not again()
    assert audio.comment(result).startswith("sfjax ")


def test_floats_beyond_full_scale_keep_their_scale_and_a_line_says_so(enhance, write, tmp_path):
    wav = audio.read(write("a.wav"))[0]
    for name, scale, subtype in (("one.wav", 1, "FLOAT"), ("many.wav", 2**15, "FLOAT"), ("same.wav", 1, "PCM_24")):
        soundfile.write(tmp_path / name, wav * np.float32(scale), RATE, subtype=subtype)
    code, complaints, said = enhance("one.wav", "many.wav", "same.wav")
    assert (code, complaints) == (0, []) and re.findall(r"(\S+): its samples are not in", said) == ["many.wav"]
    one, many = (soundfile.read(tmp_path / f"enhanced/{name}.wav")[0] for name in ("one", "many"))
    np.testing.assert_allclose(many / 2**15, one, atol=1e-5)


def test_the_library_takes_paths_integers_and_channels(enhancer, write):
    from sfjax import inference

    model, path = inference.load(enhancer), write("a.wav")
    few = {"steps": 1, "guidance": 0.0}
    wav = audio.read(path)[0]
    expected = model.enhance(wav, RATE, **few)
    for recording in ((path,), (str(path), RATE), ((wav * 2**15).astype(np.int16), RATE), (np.stack([wav, wav]), RATE)):
        np.testing.assert_allclose(model.enhance(*recording, **few), expected, atol=1e-5)
    with pytest.warns(UserWarning, match="the same scale"):
        np.testing.assert_allclose(model.enhance(wav * 2**15, RATE, **few) / 2**15, expected, atol=1e-5)
    with pytest.raises(UserError, match="sample rate"):
        model.enhance(wav, **few)


def test_a_recording_of_the_user_is_not_replaced_without_force(enhance, write, tmp_path):
    for number, name in enumerate(("noisy/a.wav", "noisy/b.flac", "noisy/c.wav")):
        write(name, number)
    clean = tmp_path / "clean"
    clean.mkdir()
    for name in ("a.wav", "b.flac"):
        soundfile.write(clean / name, np.zeros(RATE), RATE)
    before = {path: path.read_bytes() for path in clean.iterdir()}
    code, complaints, said = enhance("noisy", "-o", "clean")
    assert code == 2 and "1 of 3 files written to clean, 2 failed" in said
    assert [re.match(r"sfjax: (\S+) exists, .*--force", line)[1] for line in complaints] == [
        "clean/a.wav",
        "clean/b.flac",
    ]
    assert {path: path.read_bytes() for path in before} == before
    code, complaints, said = enhance("noisy", "-o", "clean", "--force")
    assert (code, complaints) == (0, []) and "3 of 3 files written" in said
    assert enhance("noisy", "-o", "clean", "--seed", 1)[0] == 0  # they are ours now


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files_and_the_next_goes_on(shell, enhance, enhancer, write, voice, tmp_path):
    write("in/a.wav")
    soundfile.write(tmp_path / "in/long.wav", np.tile(voice(1.5, 2), 2400), RATE)  # an hour
    options = ["--model", enhancer, "--steps", 1, "--guidance", 0]
    process = shell("enhance", tmp_path / "in", "-o", tmp_path / "out", *options)
    began = time.time()
    while not [*tmp_path.glob("out/.long.wav.*.part")] and process.poll() is None and time.time() - began < 100:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    assert names(tmp_path / "out") == ["a.wav"]
    write("in/long.wav", 2)  # shorter now
    assert "1 of 2 files written to out, 1 there already" in enhance("in", "-o", "out")[2]


def test_what_another_task_made_is_made_again(enhancer, write, tmp_path):
    model, pair = sfjax.load(enhancer), (write("a.wav", 0, seconds=0.7), [tmp_path / "out.wav"])
    one, other = model.enhancing(), dataclasses.replace(model.enhancing(), drop=0.9)
    made = [process_files(model, task, [pair], steps=1, guidance=0.0)[0].status for task in (one, one, other)]
    assert made == ["written", "there already", "written"]


def test_progress_comes_to_the_length_of_what_is_to_be_done(enhancer, write, tmp_path):
    files = [(write(f"{i}.wav", i, seconds=seconds), [tmp_path / f"out/{i}.wav"]) for i, seconds in enumerate((5, 0.7))]
    model, heard = sfjax.load(enhancer), []
    for _ in range(2):  # the second time there is nothing to do
        process_files(model, model.enhancing(), files, steps=1, guidance=0.0, progress=lambda *both: heard.append(both))
    assert sum(seconds for seconds, _ in heard) == pytest.approx(5.7) and {total for _, total in heard} == {5.7}
    assert len(heard) == 4  # 5 s are three chunks of 2 s, half a second in common


# Standard input and output


@pytest.mark.slow
def test_a_stream_becomes_what_the_file_becomes_and_nothing_else_goes_out(enhance, piped, write, tmp_path):
    path = write("a.flac", rate=44_100)
    assert enhance(path)[0] == 0
    code, out, complaints = piped(path, "")
    assert (code, complaints) == (0, [])
    (tmp_path / "out").write_bytes(out)
    assert audio.probe("out") == audio.probe("enhanced/a.flac") == audio.probe(path)
    # quick compilation rounds as it likes
    np.testing.assert_allclose(audio.read("out")[0], audio.read("enhanced/a.flac")[0], atol=1e-3)


@pytest.mark.slow
def test_a_stream_goes_into_a_folder_under_a_name_of_its_own_and_is_drawn(piped, write, tmp_path):
    code, out, complaints = piped(write("a.wav"), f"-o {tmp_path}/out --json --plot {tmp_path}/a.png")
    assert (code, complaints) == (0, []) and names(tmp_path / "out") == ["stdin.wav"]
    found = json.loads(out)["files"]
    assert [(one["source"], one["targets"]) for one in found] == [("-", [f"{tmp_path}/out/stdin.wav"])]
    assert Image.open(tmp_path / "a.png").size[0] > 500


@pytest.mark.slow
def test_a_closed_pipe_is_quiet_and_one_that_takes_nothing_is_told(piped, write):
    path = write("a.wav", rate=192_000)  # more than a pipe holds
    assert piped(path, "| head -c 4") == (141, b"RIFF", [])
    code, out, complaints = piped(path, '1< "$2"')
    assert (code, out) == (2, b"") and len(complaints) == 1
    assert "standard output: could not be written (Bad file descriptor)" in complaints[0]


def test_a_stream_that_is_no_sound_puts_nothing_out(piped, tmp_path):
    (tmp_path / "a.txt").write_text("no sound\n" * 999)
    code, out, complaints = piped(tmp_path / "a.txt", "")
    assert (code, out) == (2, b"") and len(complaints) == 1
    assert complaints[0].startswith("sfjax: standard input: not readable as sound")


def test_sound_goes_to_no_terminal_and_comes_from_none(piped, write):
    terminal, other = pty.openpty()
    name = os.ttyname(other)
    for path, rest, wanted in (
        (write("a.wav"), f"> {name}", "not go to a terminal"),
        (name, "| cat", "found a terminal"),
    ):
        code, out, complaints = piped(path, rest)
        assert (code, out) == (2, b"") and len(complaints) == 1 and wanted in complaints[0]
    os.close(other)
    os.close(terminal)


# Reports and pictures


def test_json_says_what_became_of_each_file(capsys, enhance, enhancer, write, tmp_path):
    write("in/a.wav", seconds=1.5)
    assert enhance("in")[0] == 0
    write("in/b.wav", 1, rate=8_000, seconds=2.0)
    soundfile.write(tmp_path / "in/silent.wav", np.zeros((RATE, 2)), RATE)
    (tmp_path / "in/notes.txt").touch()
    code, complaints, said = enhance("in", "missing.wav", "--json", "--seed", 0)
    found = json.loads(said[said.index("{") :])
    assert code == 2 and len(complaints) == 2
    assert found["model"] == f"{enhancer}, step 6" and found["passed_over"] == 1
    assert found["options"] | {"steps": 1, "guidance": 0, "seed": 0, "solver": "euler"} == found["options"]
    rows = {one.pop("source"): one for one in found["files"]}
    sound = lambda seconds, rate, channels: {"seconds": seconds, "rate": rate, "channels": channels, "reason": None}
    assert rows["in/a.wav"] == sound(1.5, RATE, 1) | {"targets": ["enhanced/a.wav"], "status": "there already"}
    assert rows["in/b.wav"] == sound(2.0, 8_000, 1) | {"targets": ["enhanced/b.wav"], "status": "written"}
    assert rows["in/silent.wav"]["status"] == "failed" and "digital silence" in rows["in/silent.wav"]["reason"]
    assert rows["missing.wav"]["seconds"] is None and "found nothing" in rows["missing.wav"]["reason"]
    assert found["audio_seconds"] == 2.0 and found["work_seconds"] > 0
    assert found["real_time_factor"] == pytest.approx(found["work_seconds"] / 2.0)


@pytest.mark.slow
def test_separating_shares_it_all(call, separator, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("in/sub/a.wav", 0)
    write("in/b.wav", 1)
    words = ["separate", "in", "--model", separator, "--steps", 1, "--json", "--plot", "a.png"]
    (tmp_path / "separated/s2/b.wav").mkdir(parents=True)
    code, complaints, _ = call(*words)
    assert code == 2 and len(complaints) == 1 and "s2/b.wav: could not be written" in complaints[0]
    (tmp_path / "separated/s2/b.wav").rmdir()
    assert names(tmp_path / "separated") == ["s1/b.wav", "s1/sub/a.wav", "s2/sub/a.wav"]  # no half of a file
    code, complaints, said = call(*words)
    found = json.loads(said[said.index("{") :])["files"]
    assert (code, complaints) == (0, [])
    assert [(one["source"], one["targets"], one["status"]) for one in found] == [
        ("in/b.wav", ["separated/s1/b.wav", "separated/s2/b.wav"], "written"),
        ("in/sub/a.wav", ["separated/s1/sub/a.wav", "separated/s2/sub/a.wav"], "there already"),
    ]
    assert Image.open("a.png").size[1] > 600  # three panels
    assert "2 of 2 files written to separated\n" in call(*words, "--force")[2]


@pytest.mark.parametrize("rate, seconds", [(8_000, 0.3), (44_100, 3.0), (RATE, 100.0)])
def test_a_picture_shows_a_tone_at_its_time_pitch_and_level(tmp_path, rate, seconds):
    time = np.arange(round(rate * seconds)) / rate
    tone = np.where((time > seconds / 3) & (time < 2 * seconds / 3), 0.5 * np.sin(2 * np.pi * 1000 * time), 0)
    soundfile.write(tmp_path / "a.wav", tone, rate, subtype="FLOAT")
    level, (length, height) = spectrogram_plot.levels(tmp_path / "a.wav")
    assert (
        height == rate / 2000 and length == pytest.approx(seconds, abs=0.1) and len(level) <= spectrogram_plot.COLUMNS
    )
    bins = np.linspace(0, height, level.shape[1])
    times = (np.arange(len(level)) + 0.5) * length / len(level)
    assert bins[level[len(level) // 2].argmax()] == pytest.approx(1.0, abs=0.03)
    assert level[len(level) // 2].max() == pytest.approx(20 * np.log10(0.5), abs=0.2)
    loud = times[level.max(axis=1) > -20]
    assert loud.min() == pytest.approx(seconds / 3, abs=0.15) and loud.max() == pytest.approx(2 * seconds / 3, abs=0.15)
    panels = {"before $a_$": tmp_path / "a.wav", "after \udcff": tmp_path / "a.wav"}  # what files may be called
    spectrogram_plot.recordings(panels, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_the_frequencies_of_a_mel_axis_are_where_tones_are_loudest():
    spec = audio.MelSpec(**default.get_config("tiny").mel)
    positions, labels = spectrogram_plot.kilohertz_ticks(spec)
    assert labels == ["0.5", "1", "2", "4"]
    for position, label in zip(positions, labels, strict=True):
        tone = np.sin(2 * np.pi * 1000 * float(label) * np.arange(RATE) / RATE).astype(np.float32)
        loudest = int(audio.log_mel(jnp.asarray(tone)[None], spec)[0, 50].argmax())
        assert abs(loudest + 0.5 - position) < 1
