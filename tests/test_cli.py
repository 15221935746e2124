"""Through the command line: whatever is wrong, one line says so, the exit code is 2, and nothing is half-written."""

import contextlib
import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from tensorboardX import summary

from sfjax import audio, checkpoint
from sfjax.__main__ import main
from sfjax.data import manifest
from sfjax.journal import Board

RATE = 16_000
GOOD = ("good.wav", "good.flac", "r8.wav", "r192.wav", "six.wav")  # whatever rate and channels they have

# What each bad sound is told by `sfjax enhance`; the rest of the table is for those that no header gives away
BAD = {
    "silent.wav": "digital silence; leave it out",
    "empty.wav": "not readable as sound",
    "none.wav": "at least one sample, found 0",
    "one.wav": "at least 640 samples .* got 1",
    "nan.wav": "1 samples are NaN or infinite",
    "cut.wav": "states 48000 bytes of sound, holds 23978; it is cut short",
    "cut.flac": "broken near sample 0|it is cut short",
    "cut.ogg": "the file is empty or cut short",
    "cut.mp3": "it is cut short",
    "text.wav": "not readable as sound",
    "text.txt": "not readable as sound",
    "folder.wav": "expected a sound file, found a folder; check the path",
    "nowhere.wav": "expected a sound file, found nothing; check the path",
    "missing.wav": "expected a sound file, found nothing; check the path",
} | ({"locked.wav": "not readable as sound"} if os.geteuid() else {})  # root reads everything


@pytest.fixture(scope="module")
def sounds(tmp_path_factory, voice):
    """A folder with every file of `GOOD` and of `BAD`, but for the missing one."""
    folder = tmp_path_factory.mktemp("sounds")
    wav = voice(1.5, 0)
    for name in ("good.wav", "good.flac", "cut.wav", "cut.flac", "cut.ogg", "cut.mp3"):
        soundfile.write(folder / name, wav, RATE)
        if name.startswith("cut"):
            (folder / name).write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size // 2])
    soundfile.write(folder / "r8.wav", audio.resample(wav, RATE, 8_000), 8_000)
    soundfile.write(folder / "r192.wav", audio.resample(wav, RATE, 192_000), 192_000)
    soundfile.write(folder / "six.wav", np.stack([wav] * 6, axis=1), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "one.wav", wav[:1], RATE)
    soundfile.write(folder / "nan.wav", np.where(np.arange(len(wav)) == 999, np.nan, wav), RATE, subtype="FLOAT")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound\n" * 99)
    (folder / "text.txt").write_text("no sound\n")
    (folder / "folder.wav").mkdir()
    (folder / "nowhere.wav").symlink_to("gone.wav")
    shutil.copy(folder / "good.wav", folder / "locked.wav")
    (folder / "locked.wav").chmod(0)
    if not os.geteuid():
        (folder / "locked.wav").unlink()
    return folder


@pytest.fixture
def call(capsys):
    """A function that runs the command line in this process: its exit code, its complaints and all that it said."""

    def run(*words):
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, [line for line in said.err.splitlines() if line.startswith("sfjax: ")], said.err + said.out

    return run


@pytest.fixture
def refused(call):
    """A function that runs the command line, which is to end with code 2 and one line that holds `expected`."""

    def run(expected, *words):
        code, complaints, said = call(*words)
        assert code == 2 and len(complaints) == 1, said
        assert re.search(expected, complaints[0]), complaints[0]

    return run


@pytest.fixture(scope="module")
def shell():
    """A function that starts the command line as a process of its own, in a group of its own, as a terminal does."""
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }

    def start(*words, limit=None):
        program = "import sys; from sfjax.__main__ import main; sys.exit(main(sys.argv[1:]))"
        if limit is not None:
            program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {program}"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)], env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@contextlib.contextmanager
def full_disk(size):
    """No file can grow beyond `size` bytes here; what is written beyond is refused, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def flags(config, name):
    """The words that make config `name` of size tiny into `config`."""

    def fields(tree, path):
        for key, value in tree.items():
            yield from fields(value, f"{path}.{key}") if isinstance(value, dict) else [f"{path}.{key}={value}"]

    plain = importlib.import_module(f"sfjax.configs.{name}").get_config("tiny")
    there = set(fields(plain.to_dict(), "--config"))
    changed = [word for word in fields(config.to_dict(), "--config") if word not in there]
    return [f"--config=configs/{name}.py:tiny", *changed]


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Sounds


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sound_is_refused_by_name(refused, sounds, enhancer, tmp_path, name):
    refused(f"{name}: .*({BAD[name]})", "enhance", sounds / name, "-o", tmp_path / "out", "--model", enhancer)
    assert not (tmp_path / "out").exists()


def test_bad_sounds_cost_no_good_one_and_each_is_said_once(call, sounds, enhancer, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "missing.wav").write_text("from before")
    files = [sounds / name for name in (*BAD, *GOOD)]
    code, complaints, said = call("enhance", *files, "-o", out, "--model", enhancer)
    assert code == 2
    assert sorted(re.search(r"([\w.]+): ", line[len("sfjax: ") :])[1] for line in complaints) == sorted(BAD)
    assert f"{len(GOOD)} of {len(files)} files written" in said
    assert {path.name for path in out.iterdir()} == {*GOOD, "missing.wav"}
    assert (out / "missing.wav").read_text() == "from before"
    for name in GOOD:
        info = audio.probe(sounds / name)
        assert audio.probe(out / name) == info._replace(channels=1)
        assert np.abs(audio.read(out / name)[0]).max() > 0
    assert re.findall("1 of 19 files have several channels.*", said) == [
        f"1 of 19 files have several channels, as {sounds / 'six.wav'}, which has 6: their average is enhanced"
    ]


@pytest.mark.parametrize("name", sorted({*BAD} - {"missing.wav", "text.txt", "folder.wav"}))
def test_a_folder_of_nothing_but_bad_sound_is_refused(refused, sounds, tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).symlink_to(sounds / name)
    refused(f"found none, 1 rejected; the first, .*{name}: ", "prepare", "folder", tmp_path / "in",
            tmp_path / "a.parquet", "--workers", 1)  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"in", "a.rejects.jsonl"}


def test_preparing_lists_every_bad_sound_and_takes_every_good_one(call, sounds, tmp_path):
    code, complaints, said = call("prepare", "folder", sounds, tmp_path / "a.parquet", "--workers", 1)
    assert (code, complaints) == (0, []) and "1 of 5 files have several channels" in said
    rejects = [json.loads(line)["path"] for line in (tmp_path / "a.rejects.jsonl").read_text().splitlines()]
    assert {os.path.basename(path) for path in rejects} == {*BAD} - {"missing.wav", "text.txt", "folder.wav"}
    rows = manifest.read(tmp_path / "a.parquet", split=None)
    assert {os.path.basename(rows.row(i)["path"]) for i in range(len(rows))} == {*GOOD}


def test_scoring_names_every_bad_sound_and_scores_the_others(refused, sounds, tmp_path, capsys):
    names = [name for name in BAD if name.endswith(".wav")] + ["good.wav"]
    for folder in ("clean", "enhanced"):
        (tmp_path / folder).mkdir()
    for name in names:
        shutil.copy(sounds / "good.wav", tmp_path / "clean" / name)
        (tmp_path / "enhanced" / name).symlink_to(sounds / name)
    refused(f"{len(names) - 1} of {len(names)} could not be scored", "score", "--reference", tmp_path / "clean",
            "--estimate", tmp_path / "enhanced", "--workers", 1, "-o", tmp_path / "scores.json")  # fmt: skip
    report = json.loads((tmp_path / "scores.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["good"]
    assert {item["name"] + ".wav" for item in report["failed"]} == {*names} - {"good.wav"}
    assert not [item for item in report["failed"] if len(item["reason"].splitlines()) != 1]


# Words


def enhancing(*words):
    return ["enhance", "{sounds}/good.wav", "-o", "{out}", "--model", "{enhancer}", *words]


def training(*words, config="configs/enhance.py:tiny", train="{corpus}/speech.parquet"):
    data = [f"--config.data.train={train}", "--config.mix.noise={corpus}/noise.parquet"]
    brief = ["--config.optim.updates=1", "--config.run.workers=0"]  # should a mistake go unnoticed
    return ["train", f"--config={config}", "--workdir={out}/run", *data, *brief, *words]


def scoring(*words):
    return ["score", "--reference", "{sounds}/good.wav", "--estimate", "{sounds}/good.wav", *words]


REFUSED = [
    ("the following arguments are required: VERB; see `sfjax --help`", []),
    ("invalid choice: 'fly'", ["fly"]),
    ("unrecognized arguments: --loud; see `sfjax enhance --help`", enhancing("--loud")),
    ("--steps: invalid int value: 'few'", enhancing("--steps", "few")),
    ("wants at least 1 step, got 0", enhancing("--steps", "0")),
    ("wants at least 1 step, got -3", enhancing("--steps", "-3")),
    ("guidance wants a number, got nan", enhancing("--guidance", "nan")),
    ("guidance wants a number, got inf", enhancing("--guidance", "inf")),
    ("sway nan folds the time axis", enhancing("--sway", "nan")),
    ("unknown solver 'magic'; choose from euler,", enhancing("--solver", "magic")),
    (r"no checkpoint of step 99; there are \[6\]", enhancing("--step", "99")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{sounds}")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{sounds}/good.wav")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{out}/none")),
    (
        "good.wav and .*/good.wav would both be written to .*; enhance them in two calls",
        ["enhance", "{sounds}/good.wav", "{sounds}/../{sounds.name}/good.wav", "-o", "{out}", "--model", "{enhancer}"],
    ),
    (
        "good.wav would be overwritten by its own result; choose another folder",
        ["enhance", "{sounds}/good.wav", "-o", "{sounds}", "--model", "{enhancer}"],
    ),
    ("good.wav: File exists", ["enhance", "{sounds}/r8.wav", "-o", "{sounds}/good.wav", "--model", "{enhancer}"]),
    ("--speech and --noise go together", ["quickstart", "--speech", "{corpus}", "-o", "{out}/quick"]),
    ("expected a folder with sound files, found no such folder", ["prepare", "folder", "{out}/no", "{out}/a.parquet"]),
    ("wants a name that ends in .parquet", ["prepare", "folder", "{corpus}", "{out}/a.txt"]),
    ("missing.wav does not exist", scoring("--estimate", "{sounds}/missing.wav")),
    ("written as .json or .csv, not .txt", scoring("-o", "{out}/a.txt")),
    ("found no such file; make one with `sfjax prepare`", ["evaluate", "--model", "{enhancer}", "--manifest", "no"]),
    (
        "wants frames, rate, found only path, start",
        ["evaluate", "--system", "noisy", "--manifest", "{tables}/lacking.parquet"],
    ),
    ("expected a column 'noisy'", ["evaluate", "--system", "noisy", "--manifest", "{corpus}/speech.parquet"]),
    ("wants frames, rate, found only path, start", training(train="{tables}/lacking.parquet")),
    ("wants path, start, frames, rate, found only x", training(train="{tables}/other.parquet")),
    ("expected a Parquet file", training(train="{tables}/text.parquet")),
    ("expected a manifest, found no such file", training(train="{tables}/none.parquet")),
    ("no manifest given", training(train="")),
    ("no noise to mix", training("--config.mix.noise=")),
    ("has no field 'peek'; Did you mean \"peak\"", training("--config.optim.peek=1")),
    ("has no field 'optm'; Did you mean \"optim\"", training("--config.optm.peak=1")),
    ("peak=abc: could not convert string to float", training("--config.optim.peak=abc")),
    ("data.buckets wants numbers as in", training("--config.data.buckets=abc")),
    ("unknown size 'huge'; choose from tiny, small, base, large", training(config="configs/pretrain.py:huge")),
    ("none.py: no such config", training(config="configs/none.py")),
    ("text.txt: .*mend it", training(config="{sounds}/text.txt")),
    ("Unknown command line flag 'loud'", training("--loud=1")),
    ("unexpected 'loud'; overrides look like", training("loud")),
    ("required: --workdir", ["train", "--config=configs/enhance.py"]),
    ("holds a run with another config .*there, .* here", training("--workdir", "{enhancer}")),
    ("expected a run folder with config.json|expected a run with checkpoints", training("--config.init_from={sounds}")),
    ("unknown task 'sing'; choose from", training("--config.task.name=sing")),
    ("task 'pretrain' wants drop, fraction, shortest, got drop", training("--config.task.name=pretrain")),
    ("unknown precision 'fp8'; choose from", training("--config.precision=fp8")),
    ("unknown solver 'magic'; choose from", training("--config.sample.solver=magic")),
    ("wants at least 1 step, got 0", training("--config.sample.steps=0")),
    ("mesh data 7 × fsdp 1 × tensor 1 does not divide", training("--config.mesh.data=7")),
    (
        "a batch of 6 examples of 8.0 s does not divide .*accumulate 4; set --config.data.multiple=4",
        training("--config.accumulate=4"),
    ),
    ("mesh data -1 × fsdp 0 × tensor 1 does not divide", training("--config.mesh.fsdp=0")),
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Parquet files that are no manifests."""
    folder = tmp_path_factory.mktemp("tables")
    pq.write_table(pa.table({"path": ["a.wav"], "start": [0]}), folder / "lacking.parquet")
    pq.write_table(pa.table({"x": [1.0]}), folder / "other.parquet")
    (folder / "text.parquet").write_text("no table\n")
    return folder


@pytest.mark.parametrize("expected, words", REFUSED)
def test_a_mistake_is_told_in_one_line(
    refused, sounds, corpus, tables, enhancer, tmp_path, monkeypatch, expected, words
):
    places = dict(sounds=sounds, corpus=corpus, tables=tables, enhancer=enhancer, out=tmp_path)
    before = content(sounds) | content(enhancer)
    monkeypatch.chdir(tmp_path)
    refused(expected, *(word.format(**places) for word in words))
    assert content(sounds) | content(enhancer) == before
    assert {path.name for path in content(tmp_path)} <= {"config.json"}


def test_a_start_that_failed_does_not_bind_its_workdir_to_the_mistake(call, toy_config, tmp_path):
    config = toy_config("enhance", **{"run.stop": 1, "run.valid_batches": 0, "init_from": "nowhere"})
    assert call("train", f"--workdir={tmp_path}", *flags(config, "enhance"))[0] == 2
    code, complaints, _ = call("train", f"--workdir={tmp_path}", *flags(config, "enhance"), "--config.init_from=")
    assert (code, complaints) == (0, [])
    assert checkpoint.params(tmp_path, ema=True)[1] == 1


@pytest.mark.parametrize("place", ["state/_METADATA", "state/manifest.ocdbt", "state/ocdbt.process_0", "digests"])
def test_a_checkpoint_cut_short_is_told_in_one_line(refused, sounds, enhancer, tmp_path, place):
    shutil.copytree(enhancer, tmp_path / "run")
    found = tmp_path / "run/checkpoints/6" / place
    for path in [found] if found.is_file() else [path for path in found.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[:50])
    refused("checkpoints/6: the checkpoint is damaged", "enhance", sounds / "good.wav", "-o", tmp_path / "out",
            "--model", tmp_path / "run")  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "expected, words",
    [
        ("missing.wav: expected a sound file", ["enhance", "missing.wav", "-o", "{out}", "--model", "{enhancer}"]),
        ("has no field 'peek'", training("--config.optim.peek=1")),
        ("unrecognized arguments: --loud", ["score", "--reference", "a", "--estimate", "b", "--loud"]),
    ],
)
def test_a_process_of_its_own_ends_with_code_2_and_without_a_traceback(
    shell, corpus, enhancer, tmp_path, expected, words
):
    process = shell(*(word.format(corpus=corpus, enhancer=enhancer, out=tmp_path) for word in words))
    _, said = process.communicate()
    assert process.returncode == 2 and "Traceback" not in said
    assert [bool(re.search(expected, line)) for line in said.splitlines() if line.startswith("sfjax: ")] == [True]


# A full disk


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_costs_only_the_files_that_do_not_fit(call, sounds, enhancer, voice, tmp_path, suffix):
    out, large, small = tmp_path / "out", tmp_path / f"large.{suffix}", tmp_path / f"small.{suffix}"
    soundfile.write(large, audio.resample(voice(1.0, 1), RATE, 48_000), 48_000)  # the shorter one, so done first
    soundfile.write(small, audio.resample(voice(1.5, 1), RATE, 8_000), 8_000)
    assert call("enhance", large, "-o", out, "--model", enhancer)[0] == 0
    before, size = content(out), (out / large.name).stat().st_size
    for missing in (size // 4, 50):
        with full_disk(size - missing):
            code, complaints, _ = call("enhance", large, small, "-o", out, "--model", enhancer)
        assert code == 2 and len(complaints) == 1
        assert re.search(rf"large.{suffix}: .*could not be written .*free space", complaints[0])
        assert sorted(path.name for path in out.iterdir()) == [large.name, small.name]
        assert content(out).items() >= before.items() and audio.probe(out / small.name).frames == 12_000


def test_a_full_disk_leaves_the_manifest_of_before(call, refused, corpus, tmp_path):
    words = ("prepare", "folder", corpus, tmp_path / "a.parquet", "--workers", 1)
    assert call(*words)[0] == 0
    before = content(tmp_path)
    for size in (100, 1500):  # not even the statistics; the statistics but not the manifest
        with full_disk(size):
            refused("a.(stats.json|parquet): could not be written .*free space", *words, "--split", "other")
        assert content(tmp_path) == before


def test_a_full_disk_leaves_the_scores_of_before_and_shows_the_new_ones(call, sounds, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("from before")
    words = ("score", "--reference", sounds / "good.wav", "--estimate", sounds / "good.flac", "--workers", 1)
    with full_disk(100):
        code, complaints, said = call(*words, "-o", path)
    assert code == 2 and len(complaints) == 1 and "scores.json: could not be written" in complaints[0]
    assert "1 scored, 0 failed" in said
    assert content(tmp_path) == {path: b"from before"}


def test_a_full_disk_ends_training_and_leaves_the_checkpoints_of_before(call, shell, toy_config, tmp_path):
    config = toy_config("enhance", **{"run.save": 2, "run.valid_batches": 0})
    words = ("train", f"--workdir={tmp_path}", *flags(config, "enhance"))
    assert call(*words, "--config.run.stop=2")[0] == 0
    before = content(tmp_path / "checkpoints/2")
    process = shell(*words, limit=50_000)  # less than the state's metadata
    _, said = process.communicate(timeout=100)
    assert process.returncode == 2 and "Traceback" not in said and "ERROR" not in said
    complaints = [line for line in said.splitlines() if line.startswith("sfjax: ")]
    assert len(complaints) == 1 and re.search("step 4 was not saved .*File too large.*free space", complaints[0])
    assert content(tmp_path / "checkpoints/2") == before
    code, complaints, _ = call(*words)
    assert (code, complaints) == (0, [])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "6"]


def test_a_record_that_does_not_fit_is_an_error_and_no_wait(tmp_path):
    board = Board(tmp_path, first=0)  # that of tensorboardX would never return
    with full_disk(2_000), pytest.raises(OSError):
        for step in range(1000):
            board.write(step, summary.scalar("loss", 1.0))


# Ctrl-C


def interrupt(process, ready):
    """Sends the process and its children what a terminal sends on Ctrl-C, once `ready`; the complaints after it."""
    began = time.time()
    while not ready() and process.poll() is None and time.time() - began < 100:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("sfjax: ")]


def test_an_interrupted_enhancement_leaves_only_whole_files(shell, sounds, enhancer, voice, tmp_path):
    out, long = tmp_path / "out", tmp_path / "long.wav"
    soundfile.write(long, np.tile(voice(1.5, 2), 2400), RATE)  # an hour
    process = shell("enhance", long, sounds / "good.wav", "-o", out, "--model", enhancer)
    complaints = interrupt(process, (out / "long.wav.part").exists)
    assert len(complaints) == 1 and "interrupted" in complaints[0]
    assert [path.name for path in out.iterdir()] == ["good.wav"]
    assert len(audio.read(out / "good.wav")[0]) == 1.5 * RATE


def test_an_interrupted_training_leaves_only_whole_checkpoints(shell, toy_config, tmp_path):
    config = toy_config("enhance", **{"run.valid_batches": 0, "run.workers": 1, "optim.updates": 100_000})
    process = shell("train", f"--workdir={tmp_path}", *flags(config, "enhance"))
    record = tmp_path / "metrics.jsonl"
    complaints = interrupt(process, lambda: record.exists() and len(record.read_text().splitlines()) > 2)
    assert len(complaints) == 1 and "interrupted" in complaints[0]
    saved = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert len(saved) == 1 and int(saved[0]) == len(record.read_text().splitlines())
    assert not list(tmp_path.rglob("*.part")) and checkpoint.params(tmp_path, ema=True)[1] == int(saved[0])
