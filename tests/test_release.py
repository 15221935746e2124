"""An exported folder holds the trained weights, describes them, names no path of its machine, and is checked."""

import dataclasses
import json
import re
import shlex
import shutil
import struct
import subprocess

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from sfjax import inference, tasks, train
from sfjax.cli import VERBS
from sfjax.cli.verb import parser
from sfjax.errors import UserError
from sfjax.export import locate, model_card, release
from sfjax.inference import auxiliary

FILES = {"config.json", "model.safetensors", "README.md", "SHA256SUMS"}
COARSE = {"float32": 0, "bfloat16": 2e-2, "float16": 2e-3}  # 24, 8 and 11 bits


@pytest.fixture(scope="module")
def folders(enhancer, tmp_path_factory):
    """A folder for each type, with the toy run's averaged parameters in it."""
    place = tmp_path_factory.mktemp("exported")
    return {dtype: release.export(enhancer, place / dtype, ema=True, step=None, dtype=dtype) for dtype in COARSE}


@pytest.fixture(params=COARSE)
def exported(request, folders):
    """A type, and the folder in it."""
    return request.param, folders[request.param]


@pytest.fixture(scope="module")
def runs(enhancer, speaker, corpus, toy_config, tmp_path_factory):
    """A finished toy run of each kind of model."""
    folder = tmp_path_factory.mktemp("runs")
    brief = {"optim.updates": 1, "run.valid_batches": 0}
    vocoder = {
        "channels": 16,
        "residual_kernels": (3,),
        "dilations": (1,),
        "periods": (2,),
        "scales": 1,
        "frames": 20,
        "discriminators": 0.02,
    }
    vocoder = {f"vocoder.{name}": value for name, value in vocoder.items()}
    sizes = {"phase.width": 16, "phase.layers": 1, "mix.noise": "", "data.buckets": (1.0,), "data.seconds": 2.0}
    train.run(toy_config("phase", **sizes, **brief), folder / "phase")
    train.run(toy_config("vocode", **sizes, **vocoder, **brief), folder / "vocode")
    speech = f"{corpus}/speech.parquet"
    adapts = {"init_from": str(enhancer), "lora.rank": 2, "data.train": f"enhance={speech},separate={speech}", **brief}
    train.run(toy_config("several", **adapts), folder / "adapter")
    return {"enhance": enhancer, "speak": speaker[0], "durations": speaker[1]} | {
        name: folder / name for name in ("phase", "vocode", "adapter")
    }


@pytest.fixture
def given(folders, tmp_path):
    """A copy of an exported folder, to be tampered with."""
    return shutil.copytree(folders["bfloat16"], tmp_path / "given")


def sign(folder):
    """Writes the digests anew, by the tool that others check them with."""
    names = ("config.json", "model.safetensors", "README.md")
    done = subprocess.run(["sha256sum", *names], cwd=folder, check=True, capture_output=True)
    (folder / "SHA256SUMS").write_bytes(done.stdout)


def flat(params):
    return flatten_dict(params, sep="/")


# What it holds


def test_an_exported_network_keeps_every_shape_and_as_float32_every_bit(exported, enhancer):
    dtype, folder = exported
    run = flat(release.weights(enhancer, ema=True)[0])
    written = safetensors.numpy.load_file(folder / locate.TENSORS)
    assert {name: leaf.shape for name, leaf in written.items()} == {name: leaf.shape for name, leaf in run.items()}
    assert {leaf.dtype.name for leaf in written.values()} == {dtype}
    assert any(leaf.ndim == 0 for leaf in written.values())  # the case that this is about
    back = flat(release.weights(folder, ema=True)[0])
    for name, leaf in run.items():
        np.testing.assert_array_equal(back[name], leaf.astype(dtype).astype(np.float32))


def test_an_exported_network_enhances_as_its_run_does(exported, enhancer, voice):
    dtype, folder = exported
    wav = voice(1.5, 0)
    wanted, made = (inference.load(place).enhance(wav, 16_000) for place in (enhancer, folder))
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(made, wanted, rtol=0, atol=COARSE[dtype])


def test_sha256sum_accepts_a_folder_of_four_files(given):
    assert {path.name for path in given.iterdir()} == FILES
    assert len({path.stat().st_mode for path in given.iterdir()}) == 1  # who may read one may read all
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=given, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 3


LOADERS = {
    "enhance": lambda folder: inference.load(folder).params,
    "speak": lambda folder: inference.load(folder).params,
    "durations": lambda folder: auxiliary.load_duration_model(folder).params,
    "phase": lambda folder: auxiliary.load_phase(folder).params,
    "vocode": lambda folder: auxiliary.load_vocoder(folder, inference.load(folder.parent / "enhance").spec).params,
    "adapter": lambda folder: inference.load(folder.parent / "enhance").adapted(folder).params,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_each_kind_of_model_loads_from_an_exported_folder_as_from_its_run(kind, runs, tmp_path, call):
    for folder in {"enhance", kind}:
        code, _, said = call("export", "--workdir", runs[folder], "-o", tmp_path / "out" / folder)
        assert code == 0, said
    (tmp_path / "runs").mkdir()
    for folder in {"enhance", kind}:
        (tmp_path / "runs" / folder).symlink_to(runs[folder])
    there, here = (flat(LOADERS[kind](tmp_path / place / kind)) for place in ("runs", "out"))
    assert there.keys() == here.keys()
    for name, leaf in there.items():
        np.testing.assert_array_equal(leaf, here[name])
    # and what is said of both is the same, but for the name and what only a folder to give away has
    one, other = (release.info(tmp_path / place / kind) for place in ("runs", "out"))
    differ = {name for name in one if one[name] != other[name]}
    assert differ <= {"name", "exported", "licence", "base"} and other["wrong"] is None
    written = safetensors.numpy.load_file(tmp_path / "out" / kind / locate.TENSORS)
    assert other["parameters"] == sum(leaf.size for leaf in written.values())
    assert other["base"] == (runs["enhance"].name if kind == "adapter" else None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_an_exported_folder_says_nothing_of_the_machine_that_it_is_from(kind, runs, tmp_path, monkeypatch):
    release.export(runs[kind], tmp_path / "out", ema=True, step=None, dtype="float16")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert not {"run", "debug", "mesh"} & config.keys()
    assert not [value for value in flat(config).values() if isinstance(value, str) and "/" in value]
    for path in (tmp_path / "out").iterdir():
        for place in (str(tmp_path), str(runs[kind]), "speech.parquet", "spoken.parquet", "noise.parquet"):
            assert place.encode() not in path.read_bytes()
    # what explains the training is there
    run = json.loads((runs[kind] / "config.json").read_text())
    assert all(config[name] == run[name] for name in ("optim", "ema", "task", "mel", "lora", "sample"))
    assert config["data"] == run["data"] | {"train": "", "valid": ""} and config["mix"]["snr"] == run["mix"]["snr"]


@pytest.mark.slow
def test_an_exported_adapter_asks_for_its_base_wherever_it_is_loaded(runs, tmp_path, monkeypatch):
    release.export(runs["adapter"], tmp_path / "adapter", ema=True, step=None, dtype="float32")
    monkeypatch.chdir(runs["enhance"].parent)  # a folder called as its base lies here; that is not for it to know
    with pytest.raises(UserError, match=f"adapts {runs['enhance'].name}, which is not here; .*--adapter"):
        inference.load(tmp_path / "adapter")


@pytest.mark.slow
def test_raw_parameters_of_a_step_are_exported_and_called_so(runs, tmp_path, refused):
    run = runs["enhance"]
    release.export(run, tmp_path / "raw", ema=False, step=6, dtype="float32")
    raw, mean = (flat(release.weights(run, ema=ema)[0]) for ema in (False, True))
    held = flat(release.weights(tmp_path / "raw", ema=True)[0])
    assert all((held[name] == raw[name]).all() for name in raw)
    assert any((held[name] != mean[name]).any() for name in raw)
    about = release.info(tmp_path / "raw")
    assert (about["step"], about["averaged"]) == (6, False)
    words = ("-o", tmp_path / "a", "--workdir")
    refused("holds only step 6, got 5; leave", "export", *words, tmp_path / "raw", "--step", 5)
    # an exported folder is exported again, as another type, and remains what it was
    release.export(tmp_path / "raw", tmp_path / "half", ema=True, step=None, dtype="float16")
    half = release.info(tmp_path / "half")
    differ = {name for name in about if about[name] != half[name]}
    assert differ == {"name", "types", "bytes"} and half["types"] == "float16"
    release.export(run, tmp_path / "mean", ema=True, step=None, dtype="float32")
    refused("holds only averaged parameters; leave .*--no-ema", "export", *words, tmp_path / "mean", "--no-ema")


# How it is written


@pytest.mark.slow
def test_a_folder_appears_whole_or_not_at_all(enhancer, shell, tmp_path, content):
    words = ("export", "--workdir", enhancer, "-o", tmp_path / "out")
    said = shell(*words, limit=50_000).communicate()[1]
    assert [line for line in said.splitlines() if re.match("sfjax: .*out: could not be written .*; free space", line)]
    assert not list(tmp_path.iterdir())
    release.export(enhancer, tmp_path / "out", ema=True, step=None, dtype="float16")
    before = content(tmp_path)
    shell(*words, limit=50_000).communicate()
    assert content(tmp_path) == before


def test_a_release_is_replaced_and_what_else_is_there_is_not(enhancer, tmp_path, content, refused):
    out, words = tmp_path / "out", ("export", "--workdir", enhancer, "-o")
    for dtype in ("float32", "float16"):
        release.export(enhancer, out, ema=True, step=None, dtype=dtype)
        assert release.info(out)["types"] == dtype and [*tmp_path.iterdir()] == [out]
    (out / "song.wav").touch()
    before = content(tmp_path) | content(enhancer)
    for place in (out, enhancer, out / "song.wav"):
        refused(f"{place}: holds other things than an exported model", *words, place)
    refused("unknown type 'int8'; choose from float32, bfloat16, float16", *words, tmp_path / "a", "--dtype", "int8")
    refused("none.md: expected notes as a Markdown file", *words, tmp_path / "a", "--notes", tmp_path / "none.md")
    assert content(tmp_path) | content(enhancer) == before


# What it says


def test_a_card_has_words_for_every_task():
    assert {*model_card.KINDS} == {*tasks.TASKS}


@pytest.mark.slow
def test_every_command_of_a_card_parses(runs, tmp_path):
    for kind, run in runs.items():
        said = (release.export(run, tmp_path / kind, ema=True, step=None, dtype="float16") / "README.md").read_text()
        commands = re.findall(r"```sh\n(.*?)\n```", said)
        assert len(commands) == len(re.findall("```python", said)) == (2 if kind == "adapter" else 1)
        for command in commands:
            arguments = parser(VERBS).parse_args(shlex.split(command)[1:])
            assert kind in map(str, vars(arguments).values())


def test_the_python_of_a_card_makes_what_it_says(enhancer, tmp_path, voice, monkeypatch):
    folder = release.export(enhancer, tmp_path / "it's a model", ema=True, step=None, dtype="float16")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"noisy": voice(1.0, 0), "sample_rate": 16_000}
    exec(code, names)
    assert names["clean"].shape == (16_000,)


def test_a_card_tells_how_it_was_trained_and_the_last_losses_of_validation(enhancer, given):
    said = (given / "README.md").read_text()
    last = [json.loads(line) for line in (enhancer / "metrics.jsonl").read_text().splitlines() if "valid" in line][-1]
    assert f"at step {last['step']}" in said and f"loss {round(last['valid_loss'], 5)}" in said
    for line in ("6 updates of 4 s of audio", "learning rate 0.001 after 2", "from scratch"):
        assert f"\n- {line}" in said
    assert model_card.UNSTATED in said and "license" not in said.split("---")[1]


def test_notes_stand_in_the_card_and_hubs_read_its_head(enhancer, tmp_path, call):
    notes = tmp_path / "notes.md"
    notes.write_text("licence: CC-BY-4.0\n\nRecordings of \u201cA\u201d, CC0.\n\n\x1b[2J## Scores\n\nPESQ 1.8\n")
    assert (
        call("export", "--workdir", enhancer, "-o", tmp_path / "out", "--notes", notes, "--dtype", "bfloat16")[0] == 0
    )
    found = huggingface_hub.ModelCard.load(tmp_path / "out/README.md")
    assert found.data.to_dict() == {
        "library_name": "sfjax",
        "tags": ["speech", "jax", "enhance"],
        "license": "CC-BY-4.0",
    }
    assert found.text.rstrip().endswith(notes.read_text().rstrip()) and model_card.UNSTATED not in found.text
    code, complaints, said = call("info", tmp_path / "out")
    assert (code, complaints) == (0, [])
    lines = dict(re.findall(r"^(\w+) +(.*)$", said, re.MULTILINE))
    assert lines["licence"] == "licence: CC-BY-4.0" and "Recordings of \u201cA\u201d" in said and "\x1b" not in said
    assert lines["task"] == "enhance" and lines["step"] == "6, averaged" and "bfloat16" in lines["parameters"]
    assert "solver euler, steps 2," in lines["sampling"] and lines["files"].startswith("as exported")


def test_an_exported_folder_enhances_as_its_exporter_says(enhancer, tmp_path, call, refused, voice):
    words = ("export", "--workdir", enhancer, "-o", tmp_path / "out")
    assert call(*words, "--solver", "midpoint", "--steps", 3, "--guidance", 0.25, "--reconstruct", "mask")[0] == 0
    run, made, how = (
        inference.load(enhancer),
        inference.load(tmp_path / "out"),
        dict(solver="midpoint", steps=3, guidance=0.25),
    )
    assert made.options == run.options | how and (run.reconstruct, made.reconstruct) == ("phase", "mask")
    wav = voice(1.5, 0)
    wanted = inference.load(enhancer, reconstruct="mask").enhance(wav, 16_000, **how)
    np.testing.assert_allclose(made.enhance(wav, 16_000), wanted, rtol=0, atol=1e-5)
    assert np.abs(wanted - run.enhance(wav, 16_000, **how)).max() > 0.01
    refused("unknown solver 'no'", *words, "--solver", "no")
    refused("unknown reconstruction 'no'; choose from phase, mask", *words, "--reconstruct", "no")


@dataclasses.dataclass(frozen=True)
class Own(tasks.Enhance):
    """A task of somebody else's, made from one of ours."""


def test_a_model_of_a_task_of_ones_own_has_a_card(enhancer, tmp_path, monkeypatch, call):
    monkeypatch.setitem(tasks.TASKS, "own", Own)
    shutil.copytree(enhancer, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(config | {"task": {"name": "own", "drop": 0.1}}))
    assert call("export", "--workdir", tmp_path / "run", "-o", tmp_path / "out")[0] == 0
    assert "cleans noisy recordings" in (tmp_path / "out/README.md").read_text()
    code, _, said = call("info", tmp_path / "out")
    assert code == 0 and re.search("^task +own$", said, re.MULTILINE)


def test_info_says_what_a_run_is_and_what_is_wrong_with_an_exported_folder(enhancer, given, call):
    code, _, said = call("info", enhancer, "--json")
    found = json.loads(said)
    assert code == 0 and found["parameters"] == sum(x.size for x in jax.tree.leaves(inference.load(enhancer).params))
    assert (found["task"], found["types"], found["exported"], found["rank"]) == ("enhance", "float32", False, 0)
    assert found["mel"]["hop"] == 160 and found["figures"]["step"] == 6
    (given / "README.md").write_text("mine")
    code, complaints, said = call("info", given)
    assert code == 2 and "files       changed" in said
    assert re.search("README.md: checksum mismatch in SHA256SUMS", *complaints)


# What is not loaded


@pytest.mark.parametrize("field, value", [("width", 64), ("layers", 4), ("ffn", 8)])
def test_parameters_that_do_not_fit_their_config_are_refused_in_one_line(given, refused, tmp_path, field, value):
    found = json.loads((given / "config.json").read_text())
    found["model"][field] = value
    (given / "config.json").write_text(json.dumps(found))
    sums = [f"{locate.digest(given / name)}  {name}\n" for name in locate.FILES]
    (given / "SHA256SUMS").write_text("".join(sums))
    words = ("enhance", "missing.wav", "-o", tmp_path / "out", "--model", given)
    refused("its config needs .* of shape .*, its parameters have .*export it again", *words)


def config(change):
    def tamper(folder):
        found = json.loads((folder / "config.json").read_text())
        change(found)
        (folder / "config.json").write_text(json.dumps(found))
        sign(folder)

    return tamper


def tensors(content):
    def tamper(folder):
        path = folder / "model.safetensors"
        path.write_bytes(content(path.read_bytes()))
        sign(folder)

    return tamper


def header(**entries):
    head = json.dumps(entries).encode()
    return lambda _: struct.pack("<Q", len(head)) + head + bytes(8)


def one(shape, dtype="F32", end=8):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def add(line):
    return lambda folder: (folder / "SHA256SUMS").open("a").write(line + "\n")


def link(name, *, signed):
    """A file of the folder becomes a link to the same bytes elsewhere."""

    def tamper(folder):
        shutil.move(folder / name, folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)
        if signed:
            sign(folder)

    return tamper


def unlisted(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "config" not in line))


ZEROS = "0" * 64
TAMPERED = [
    ("config.json: checksum mismatch in SHA256SUMS", text("config.json", "{}")),
    ("model.safetensors: checksum mismatch", text("model.safetensors", "")),
    ("README.md: checksum mismatch", text("README.md", "# other")),
    ("SHA256SUMS: does not list config.json;", unlisted),
    ("SHA256SUMS: does not list config.json, model.safetensors, README.md;", text("SHA256SUMS", "")),
    ("config.json: expected SHA256SUMS beside it, found none", lambda folder: (folder / "SHA256SUMS").unlink()),
    ("README.md: expected a file of an exported", lambda folder: (folder / "README.md").unlink()),
    (r"more.txt: expected a file of an exported", add(f"{ZEROS}  more.txt")),
    (r"same folder, found '0{64}  ../config.json'", add(f"{ZEROS}  ../config.json")),
    (r"same folder, found '0{64}  /etc/passwd'", add(f"{ZEROS}  /etc/passwd")),
    (r"same folder, found '0{64}  \.\.'", add(f"{ZEROS}  ..")),
    (r"same folder, found '0{64}  a\\\\b'", add(f"{ZEROS}  a\\b")),
    (r"same folder, found 'no digest'", add("no digest")),
    (r"same folder, found '..'", lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\xfe")),
    ("model.safetensors: is a link out of its folder", link("model.safetensors", signed=True)),
    ("config.json: is a link out of its folder", link("config.json", signed=True)),
    ("SHA256SUMS: is a link out of its folder", link("SHA256SUMS", signed=False)),
    ("model.safetensors: cannot be read .*incomplete", tensors(lambda content: content[:-100])),
    ("model.safetensors: cannot be read", tensors(lambda content: content[:50])),
    ("model.safetensors: cannot be read", tensors(lambda content: b"")),
    ("model.safetensors: cannot be read .*header too large", tensors(lambda _: struct.pack("<Q", 2**62) + b"{}")),
    ("model.safetensors: cannot be read", tensors(header(a=one([2**40], end=2**42)))),
    ("model.safetensors: cannot be read .*overflow", tensors(header(a=one([2**62, 2**62])))),
    ("model.safetensors: holds numbers of type I64", tensors(header(a=one([1], "I64")))),
    ("model.safetensors: holds numbers of type F8_E4M3", tensors(header(a=one([8], "F8_E4M3")))),
    (
        "model.safetensors: cannot be read",
        tensors(header(**{"a": one([1], end=4), "a/b": one([1]) | {"data_offsets": [4, 8]}})),
    ),
    ("config.json: not a config", lambda folder: (text("config.json", "weights")(folder), sign(folder))),
    ("config.json: not a config", lambda folder: (text("config.json", "[" * 10**5)(folder), sign(folder))),
    ("config.json: lacks .*mel", lambda folder: (text("config.json", "[]")(folder), sign(folder))),
    ("config.json: lacks mel;", config(lambda found: found.pop("mel"))),
    ("config.json: expected other values of vocoder", config(lambda found: found.update(vocoder=3))),
    ("config.json: expected other values of degrade", config(lambda found: found.update(degrade=1e308))),
    ("config.json: expected other values of init_from", config(lambda found: found.update(init_from=5))),
    ("config.json: lacks run|config.json: expected its section", config(lambda found: found.pop("exported"))),
    ("config.json: expected other values of step;", config(lambda found: found["exported"].update(step="6"))),
    ("config.json: expected other values of frozen;", config(lambda found: found["exported"].update(frozen=[]))),
    ("config.json: expected other values of format", config(lambda found: found.update(exported=7))),
    (
        "is of format 99, this sfjax knows those up to 1; install a newer one",
        config(lambda found: found["exported"].update(format=99)),
    ),
    ("config.json: unknown task 'sing'; choose from", config(lambda found: found["task"].update(name="sing"))),
    ("config.json: task 'enhance' needs drop, got", config(lambda found: found["task"].update(more=1))),
    ("config.json: unknown .*'odd'", config(lambda found: found["infer"].update(reconstruct="odd"))),
    ("config.json: unknown reconstruction 'no'", config(lambda found: found["infer"].update(reconstruct="no"))),
    ("config.json: unknown precision 'fp8'", config(lambda found: found.update(precision="fp8"))),
    ("config.json: expected other values of mel;", config(lambda found: found.update(mel=3))),
    ("config.json: config.mel.bins is unknown", config(lambda found: found["mel"].update(bins=3))),
]


@pytest.mark.parametrize("expected, tamper", TAMPERED, ids=[expected for expected, _ in TAMPERED])
def test_a_folder_that_was_tampered_with_is_refused_in_one_line(given, expected, tamper):
    tamper(given)
    with pytest.raises(UserError, match=expected) as told:
        inference.load(given)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_a_link_inside_of_a_folder_and_a_folder_that_is_a_link_are_fine(given):
    (given / "model.safetensors").rename(given / "tensors")
    (given / "model.safetensors").symlink_to("tensors")
    (given.parent / "name").symlink_to(given)
    assert inference.load(given.parent / "name").params
