"""The command line prints every mistake in one line, exits with code 2 and leaves no incomplete file."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from sfjax import audio, checkpoint, examples
from sfjax.__main__ import main
from sfjax.cli import CONFIGURED, VERBS
from sfjax.cli.config_file import load_config
from sfjax.cli.verb import Group, parser
from sfjax.data import manifest

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
    "folder.wav": "expected a folder with sound files, found none; check the path",
    "nowhere.wav": "expected a sound file, found nothing; check the path",
    "missing.wav": "expected a sound file, found nothing; check the path",
} | ({"locked.wav": "not readable .Permission denied"} if os.geteuid() else {})  # root reads everything


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


# Help


def lines(verbs, before=()):
    """Every verb with the words that lead to it, and those that follow a group's."""
    for verb in verbs:
        words = (*before, verb.name)
        yield words, verb
        if isinstance(verb, Group):
            yield from lines(verb.kinds, words)


EVERY = {" ".join(words): verb for words, verb in lines(VERBS)}


@pytest.mark.parametrize("words", EVERY)
def test_every_verb_says_what_it_does_and_shows_an_example_that_parses(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parser(VERBS).parse_args([*words.split(), "--help"])
    said, verb = capsys.readouterr().out, EVERY[words]
    assert ended.value.code == 0 and f"usage: sfjax {words} " in said
    assert f"\n{verb.text}\n" in said and said.endswith(f"example:\n  {verb.example}\n")
    assert verb.example.startswith(f"sfjax {words} ")
    found, rest = parser(VERBS).parse_known_args(shlex.split(verb.example)[1:])
    assert found.verb == words.split()[0] and (not rest or found.verb in CONFIGURED)
    assert isinstance(verb, Group) or found.run is verb.run


def test_a_closed_standard_error_is_no_error_and_its_lines_do_not_go_to_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)  # as Python has it after 2>&-
    words = ["enhance", str(examples.path("noisy")), "-o", str(tmp_path / "out")]
    assert main(words) == 0 and main(["enhance", str(tmp_path / "gone.wav")]) == 2
    assert capsys.readouterr().out == "" and len(list((tmp_path / "out").iterdir())) == 1


def test_help_names_every_verb_and_loads_no_jax():
    check = "import sys; from sfjax.__main__ import main\ntry: main(['--help'])\nfinally: print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("\nFalse\n"), done.stderr
    names = re.findall(r"^    (\S+)", done.stdout, re.MULTILINE)
    assert names == [verb.name for verb in VERBS] and {*CONFIGURED} < {*names}


def test_enhancing_with_an_exported_model_imports_nothing_that_only_training_needs(tmp_path):
    words = ["enhance", str(examples.path("noisy")), "-o", str(tmp_path)]
    check = f"import sys; from sfjax.__main__ import main; main({words}); sys.exit(str(' '.join(sys.modules)))"
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment)
    assert (tmp_path / "noisy.flac").exists(), done.stderr
    imported = {name.split(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "diffrax" in imported  # the sampler
    assert not imported & {"orbax", "tensorstore", "optax", "grain", "pyarrow", "matplotlib", "librosa", "scipy"}


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        parser(VERBS).parse_args(["--version"])
    assert capsys.readouterr().out == f"sfjax {importlib.metadata.version('sfjax')}\n"


@pytest.mark.parametrize("verb", CONFIGURED)
def test_help_behind_a_config_lists_its_fields_with_values_and_comments(verb, capsys):
    with pytest.raises(SystemExit):
        parser(VERBS).parse_args([verb, "--config=configs/enhance.py:box", "--help"])
    listed = dict(re.findall(r"^  --config\.([\w.]+)=(.*?)(?:$|  )", capsys.readouterr().out, re.MULTILINE))
    config = load_config("configs/enhance.py:box", [])
    assert listed == {name: str(value) for name, value in flatten(config.to_dict()).items()}
    assert listed["optim.peak"] == "0.001" and "data.train" in listed


def flatten(fields, before=""):
    """The fields of a config by their full names."""
    parts = [
        flatten(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
        for name, value in fields.items()
    ]
    return {name: value for part in parts for name, value in part.items()}


CACHE = "import sys; from sfjax.__main__ import main; main(sys.argv[1:]); import os; print(os.environ.get({!r}))"


@pytest.mark.parametrize(
    ("changes", "flags", "expected"),
    [
        ({}, [], "{home}/sfjax/programs-"),
        ({"SFJAX_CACHE": "{home}/other"}, [], "{home}/other/programs-"),
        ({"SFJAX_CACHE": ""}, [], "None"),
        ({"JAX_COMPILATION_CACHE_DIR": "{home}/jax"}, [], "{home}/jax"),
        ({}, ["--no-cache"], "None"),
    ],
)
def test_compiled_programs_are_kept_where_the_user_wants_them(changes, flags, expected, tmp_path):
    changes = {name: value.format(home=tmp_path) for name, value in changes.items()}
    kept = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", CACHE.format("JAX_COMPILATION_CACHE_DIR"), *flags, "report", str(tmp_path)],
        env=kept | {"XDG_CACHE_HOME": str(tmp_path)} | changes,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].startswith(expected.format(home=tmp_path)), done.stderr


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
    assert re.findall("1 of .* files have several channels.*", said) == [
        f"1 of {len(files) - 1} files have several channels, as {sounds / 'six.wav'}, which has 6: their average is "
        "used, because this model generates a phase"
    ]


@pytest.mark.parametrize("name", sorted({*BAD} - {"missing.wav", "text.txt", "folder.wav"}))
def test_a_folder_of_nothing_but_bad_sound_is_refused(refused, sounds, tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).symlink_to(sounds / name)
    refused(
        f"found none, 1 rejected; the first, .*{name}: ",
        "prepare",
        "folder",
        tmp_path / "in",
        tmp_path / "a.parquet",
        "--workers",
        1,
    )
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
    refused(
        f"{len(names) - 1} of {len(names)} could not be scored",
        "score",
        "--reference",
        tmp_path / "clean",
        "--estimate",
        tmp_path / "enhanced",
        "--workers",
        1,
        "-o",
        tmp_path / "scores.json",
    )
    report = json.loads((tmp_path / "scores.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["good"]
    assert {item["name"] + ".wav" for item in report["failed"]} == {*names} - {"good.wav"}
    assert not [item for item in report["failed"] if len(item["reason"].splitlines()) != 1]


def test_evaluating_names_every_bad_sound_and_scores_the_others(refused, sounds, tmp_path):
    good = {
        "path": str(sounds / "good.wav"),
        "noisy": str(sounds / "good.wav"),
        "start": 0,
        "frames": 24_000,
        "rate": RATE,
        "speaker": None,
        "text": None,
        "split": None,
        "kind": None,
    }
    bad = [good | {"noisy": str(sounds / name)} for name in ("missing.wav", "cut.flac", "text.wav")]
    manifest.write(tmp_path / "pairs.parquet", [*bad, good])
    refused(
        "3 of 4 could not be scored",
        "evaluate",
        "--system",
        "noisy",
        "--manifest",
        tmp_path / "pairs.parquet",
        "--workers",
        1,
        "-o",
        tmp_path / "scores.json",
    )
    report = json.loads((tmp_path / "scores.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["good"]
    assert [item["name"] for item in report["failed"]] == ["missing", "cut", "text"]


# Words


def enhancing(*words):
    return ["enhance", "{sounds}/good.wav", "-o", "{out}", "--model", "{enhancer}", *words]


def training(*words, config="configs/enhance.py:tiny", train="{corpus}/speech.parquet"):
    data = [f"--config.data.train={train}", "--config.mix.noise={corpus}/noise.parquet"]
    brief = ["--config.optim.updates=1", "--config.run.workers=0"]  # should a mistake go unnoticed
    return ["train", f"--config={config}", "--workdir={out}/run", *data, *brief, *words]


def separating(*words):
    return training(*words, config="configs/separate.py:tiny")


def scoring(*words):
    return ["score", "--reference", "{sounds}/good.wav", "--estimate", "{sounds}/good.wav", *words]


REFUSED = [
    ("--part 3/3: expected I/N", ["prepare", "folder", "{sounds}", "{out}/a.parquet", "--part", "3/3"]),
    ("--part two: expected I/N", ["prepare", "folder", "{sounds}", "{out}/a.parquet", "--part", "two"]),
    ("none.parquet: expected a manifest", ["prepare", "merge", "{out}/none.parquet", "{out}/a.parquet"]),
    ("unknown topology 'v9:2x2'", ["plan", "--config=configs/pretrain.py:tiny", "--topology", "v9:2x2"]),
    (
        "--utilisation must be .*got 40",
        ["plan", "--config=configs/pretrain.py:tiny", "--topology", "cpu:1", "--utilisation", "40"],
    ),
    (
        "configs/phase.py:tiny trains a phase_net",
        ["plan", "--config=configs/phase.py:tiny", "--topology", "cpu:1"],
    ),
    ("the following arguments are required: COMMAND; see `sfjax --help`", []),
    ("unknown command 'fly'; choose from prepare, train", ["fly"]),
    ("unknown command 'enhnce'; did you mean 'enhance'\\?", ["enhnce"]),
    ("unknown source 'foldr'; did you mean 'folder'\\?", ["prepare", "foldr"]),
    ("unrecognized arguments: --loud; see `sfjax enhance --help`", enhancing("--loud")),
    ("only train and plan take a config", ["prepare", "folder", "a", "b.parquet", "--config.mel.bands=100"]),
    ("--steps: expected an integer, got 'few'", enhancing("--steps", "few")),
    ("steps must .*, got 0", enhancing("--steps", "0")),
    ("steps must .*, got -3", enhancing("--steps", "-3")),
    ("guidance must be .*, got nan", enhancing("--guidance", "nan")),
    ("guidance must be .*, got inf", enhancing("--guidance", "inf")),
    ("sway must .*, got nan", enhancing("--sway", "nan")),
    ("unknown solver 'magic'; choose from euler,", enhancing("--solver", "magic")),
    (r"no checkpoint of step 99; there are \[6\]", enhancing("--step", "99")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{sounds}")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{sounds}/good.wav")),
    ("expected a run folder with config.json, found none", enhancing("--model", "{out}/none")),
    (
        "good.wav would be overwritten by its own result; choose another folder",
        ["enhance", "{sounds}/good.wav", "-o", "{sounds}", "--model", "{enhancer}"],
    ),
    (
        "good.wav: expected a folder for the results, found a file",
        ["enhance", "{sounds}/r8.wav", "-o", "{sounds}/good.wav", "--model", "{enhancer}"],
    ),
    ("--speech and --noise go together", ["quickstart", "--speech", "{corpus}", "-o", "{out}/quick"]),
    ("expected a folder with sound files, found no such folder", ["prepare", "folder", "{out}/no", "{out}/a.parquet"]),
    ("a.txt: .* ends in .parquet", ["prepare", "folder", "{corpus}", "{out}/a.txt"]),
    ("missing.wav does not exist", scoring("--estimate", "{sounds}/missing.wav")),
    ("written as .json or .csv, not .txt", scoring("-o", "{out}/a.txt")),
    ("found no such file; make one with `sfjax prepare`", ["evaluate", "--model", "{enhancer}", "--manifest", "no"]),
    (
        "frames, rate, found only path, start",
        ["evaluate", "--system", "noisy", "--manifest", "{tables}/lacking.parquet"],
    ),
    ("expected a column 'noisy'", ["evaluate", "--system", "noisy", "--manifest", "{corpus}/speech.parquet"]),
    ("frames, rate, found only path, start", training(train="{tables}/lacking.parquet")),
    ("path, start, frames, rate, found only x", training(train="{tables}/other.parquet")),
    ("expected a Parquet file", training(train="{tables}/text.parquet")),
    ("expected a manifest, found no such file", training(train="{tables}/none.parquet")),
    ("no manifest given", training(train="")),
    ("no noise to mix", training("--config.mix.noise=")),
    ("degrade.clip .*probability from 0 to 1, got 2", training("--config.degrade.clip=2.0")),
    ("mix.babble .*probability from 0 to 1, got 2", training("--config.mix.babble=2.0")),
    ("task.order must be random or best, got 'worst'", separating("--config.task.order=worst")),
    ("aligned copies need a model.patch of 1, 2 or 4 frames, got 3", separating("--config.model.patch=3")),
    ("separation needs 2 speakers or more, got 1", separating("--config.task.speakers=1")),
    ("has no field 'peek'; Did you mean \"peak\"", training("--config.optim.peek=1")),
    ("has no field 'optm'; Did you mean \"optim\"", training("--config.optm.peak=1")),
    ("peak=abc: could not convert string to float", training("--config.optim.peak=abc")),
    ("data.buckets must be a tuple of numbers", training("--config.data.buckets=abc")),
    (
        r"task.phones must be .*'AH_S'.*, got \(1,\)",
        training("--config.task.phones=(1,)", config="configs/durations.py:tiny"),
    ),
    ("a batch may have 1048576 examples, got", training("--config.data.buckets=(1e-9,)")),
    ("unknown size 'huge'; choose from tiny, box, small, base, large", training(config="configs/pretrain.py:huge")),
    ("none.py: no such config", training(config="configs/none.py")),
    ("text.txt: .*correct it", training(config="{sounds}/text.txt")),
    ("Unknown command line flag 'loud'", training("--loud=1")),
    ("unexpected 'loud'; overrides look like", training("loud")),
    ("required: --workdir", ["train", "--config=configs/enhance.py"]),
    ("holds a run with another config .*there, .* here", training("--workdir", "{enhancer}")),
    ("expected a run folder with config.json|expected a run with checkpoints", training("--config.init_from={sounds}")),
    ("unknown task 'sing'; choose from", training("--config.task.name=sing")),
    ("task 'pretrain' needs drop, fraction, shortest, got drop", training("--config.task.name=pretrain")),
    ("unknown precision 'fp8'; choose from", training("--config.precision=fp8")),
    ("model.patch must be 1 or more frames, got 0", training("--config.model.patch=0")),
    ("unknown model.precondition 'karras'; choose from none, flow", training("--config.model.precondition=karras")),
    (
        "model.precondition=flow fits process=flow, got process=diffusion; set it to none",
        training("--config.model.precondition=flow", "--config.process=diffusion"),
    ),
    (
        "was trained with model.precondition=none, got flow; set --config.model.precondition=none",
        training("--config.model.precondition=flow", "--config.init_from={enhancer}"),
    ),
    ("unknown solver 'magic'; choose from", training("--config.sample.solver=magic")),
    ("steps must .*, got 0", training("--config.sample.steps=0")),
    ("has no field .*pipeline", training("--config.mesh.pipeline=2")),
    ("s3://bucket/run: .*gs://, got s3://", training("--config.run.checkpoints=s3://bucket/run")),
    ("mesh data 7 × fsdp 1 × tensor 1 does not divide", training("--config.mesh.data=7")),
    (
        "a batch of 8 examples of 4.0 s does not divide .*accumulate 3; set --config.data.multiple=3",
        training("--config.accumulate=3"),
    ),
    ("accumulate must be .*1 or more, got 0", training("--config.accumulate=0")),
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
    refused, content, sounds, corpus, tables, enhancer, tmp_path, monkeypatch, expected, words
):
    places = dict(sounds=sounds, corpus=corpus, tables=tables, enhancer=enhancer, out=tmp_path)
    before = content(sounds) | content(enhancer)
    monkeypatch.chdir(tmp_path)
    refused(expected, *(word.format(**places) for word in words))
    assert content(sounds) | content(enhancer) == before
    assert {path.name for path in content(tmp_path)} <= {"config.json"}


@pytest.mark.parametrize(
    "offered, mine, expected",
    [
        ("always [madvise] never", None, "glibc.malloc.hugetlb=1"),
        ("[always] madvise never", None, None),
        ("always [madvise] never", "glibc.malloc.check=1", "glibc.malloc.check=1"),
    ],
)
def test_the_console_script_asks_for_huge_pages_where_they_are_offered(tmp_path, offered, mine, expected):
    (tmp_path / "enabled").write_text(offered)
    program = (
        "import os, pathlib, sys; from sfjax import __main__ as script; script.PAGES = pathlib.Path(sys.argv[1]); "
        "script.main = lambda: print(os.environ.get('GLIBC_TUNABLES'), sys.argv[2]); script.command()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "enabled", "a word"],
        text=True,
        capture_output=True,
        check=True,
        env=environment | ({"GLIBC_TUNABLES": mine} if mine else {}),
    )
    assert found.stdout == f"{expected} a word\n"


def test_a_start_that_failed_does_not_bind_its_workdir_to_the_mistake(call, flags, toy_config, tmp_path):
    config = toy_config("enhance", **{"run.stop": 1, "run.valid_batches": 0, "init_from": "nowhere"})
    assert call("train", f"--workdir={tmp_path}", *flags(config, "enhance"))[0] == 2
    code, complaints, _ = call("train", f"--workdir={tmp_path}", *flags(config, "enhance"), "--config.init_from=")
    assert (code, complaints) == (0, [])
    assert checkpoint.params(tmp_path, ema=True)[2] == 1


@pytest.mark.parametrize("place", ["state/_METADATA", "state/manifest.ocdbt", "state/ocdbt.process_0", "digests"])
def test_a_checkpoint_cut_short_is_told_in_one_line(refused, sounds, enhancer, tmp_path, place):
    shutil.copytree(enhancer, tmp_path / "run")
    found = tmp_path / "run/checkpoints/6" / place
    for path in [found] if found.is_file() else [path for path in found.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[:50])
    refused(
        "checkpoints/6: the checkpoint is damaged",
        "enhance",
        sounds / "good.wav",
        "-o",
        tmp_path / "out",
        "--model",
        tmp_path / "run",
    )
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


# The machine


def process(*words, **options):
    options = dict(stderr=subprocess.PIPE, text=True) | options
    return subprocess.Popen([sys.executable, "-m", "sfjax", *map(str, words)], **options)


@pytest.mark.parametrize("platform", ["cuda", "tpu", "none"])
def test_a_platform_that_is_not_there_is_one_line(sounds, tmp_path, platform):
    environment = os.environ | {"JAX_PLATFORMS": platform}
    running = process("enhance", sounds / "good.wav", "-o", tmp_path / "out", env=environment)
    complaints = [
        line for line in running.communicate()[1].splitlines() if not line.startswith(("WARNING", "I0", "E0"))
    ]
    assert running.returncode == 2 and "Traceback" not in "".join(complaints)
    assert re.search(f"JAX_PLATFORMS={platform}: .*set it to cpu", complaints[-1])


def test_a_reader_that_leaves_is_no_error_and_a_full_disk_is_one_line():
    running = process("info", "sfjax://enhance", stdout=subprocess.PIPE)
    running.stdout.close()
    assert running.communicate()[1] == "" and running.returncode == 141
    with open("/dev/full", "w") as full:
        running = process("info", "sfjax://enhance", stdout=full)
        complaint = running.communicate()[1]
    assert running.returncode == 2 and re.fullmatch("sfjax: No space left on device.*\n", complaint)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("enhance a.wav --seed 99999999999999999999", "--seed: expected an integer from .* got 99999999999999999999"),
        ("enhance a.wav --seed -1", "--seed: expected an integer of at least 0, got -1"),
        ("enhance a.wav --steps 9999999999", "--steps: expected an integer from"),
        (f"enhance a.wav --steps {'9' * 5000}", "--steps: expected an integer, got '999"),
        ("score --reference a --estimate b --workers 4294967296", "--workers: expected an integer from"),
        ("prepare rooms a.parquet --count 4294967296", "--count: expected an integer from"),
        ("prepare rooms a.parquet --count 1.5", "--count: expected an integer, got '1.5'"),
    ],
)
def test_an_integer_that_is_too_large_is_refused_by_its_flag(refused, words, expected):
    refused(expected, *words.split())


def test_an_integer_of_a_config_that_is_too_large_is_refused_by_its_field(refused, tmp_path):
    words = ("train", "--config=configs/pretrain.py:tiny", f"--workdir={tmp_path / 'run'}")
    refused("config.seed must be an integer of 32 bits, got 4294967296", *words, f"--config.seed={2**32}")
    refused("config.optim.updates must be", *words, f"--config.optim.updates={2**70}")


def test_steps_have_a_limit(refused, sounds, enhancer, tmp_path):
    words = ("enhance", sounds / "good.wav", "-o", tmp_path / "out", "--model", enhancer)
    refused("steps must be from 1 to 1024, got 2000000000", *words, "--steps", 2_000_000_000)
