"""Models named hf://OWNER/NAME are downloaded file by file, kept, and checked like any exported folder."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import sfjax
from sfjax import audio, inference
from sfjax.errors import UserError
from sfjax.export import locate, release
from sfjax.inference import auxiliary

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.json", "model.safetensors", "README.md", "SHA256SUMS")


def keep(cache: Path, repository: str, folder: Path, *, names=FILES) -> Path:
    """Puts a folder into a cache as the hub's client does: links to blobs, and the commit of a branch."""
    place = cache / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (place / part).mkdir(parents=True)
    (place / "refs/main").write_text(COMMIT)
    for number, name in enumerate(names):
        shutil.copy(folder / name, place / f"blobs/{number:040x}")
        (place / f"snapshots/{COMMIT}" / name).symlink_to(f"../../blobs/{number:040x}")
    return place


@pytest.fixture(scope="module")
def folders(enhancer, speaker, tmp_path_factory):
    """Exported folders of a model that enhances, one that speaks and one of durations."""
    place = tmp_path_factory.mktemp("exported")
    runs = {"enhance": enhancer, "speak": speaker[0], "durations": speaker[1]}
    return {name: release.export(run, place / name, ema=True, step=None, dtype="float32") for name, run in runs.items()}


@pytest.fixture
def cache(folders, tmp_path, monkeypatch):
    """A cache that holds these, and a client that is told to stay offline."""
    for name, folder in folders.items():
        keep(tmp_path / "cache", f"someone/{name}", folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_a_name_loads_what_its_folder_does_wherever_a_model_is_named(cache, folders, voice, call, tmp_path):
    wav = voice(1.0, 0)
    wanted = inference.load(folders["enhance"]).enhance(wav, 16_000)
    for name in ("hf://someone/enhance", f"hf://someone/enhance@{COMMIT}", Path("hf://someone/enhance@main")):
        np.testing.assert_array_equal(sfjax.load(name).enhance(wav, 16_000), wanted)
    assert inference.load("hf://someone/speak", duration_model="hf://someone/durations").duration_model.phones
    assert auxiliary.load_duration_model("hf://someone/durations").phones
    for flag, told in (("--phase", "not a phase net"), ("--adapter", "no adapters but a whole network")):
        audio.write(tmp_path / "noisy.wav", wav, 16_000)
        words = ("enhance", tmp_path / "noisy.wav", "-o", tmp_path / "out", "--model", "hf://someone/enhance")
        code, complaints, _ = call(*words, flag, "hf://someone/speak")
        assert code == 2 and "hf://someone/speak" in complaints[0] and told in complaints[0]
    for flag, told in (("--vocoder", "not a vocoder"), ("--duration-model", "not a duration model")):
        words = ("speak", "a", "-o", tmp_path / "a.wav", "--model", "hf://someone/speak")
        timing = () if flag == "--duration-model" else ("--duration-model", "hf://someone/durations")
        code, complaints, _ = call(*words, *timing, flag, "hf://someone/enhance")
        assert code == 2 and "someone/enhance" in complaints[0] and told in complaints[0]


def test_info_of_a_name_needs_neither_a_network_nor_a_device(cache):
    program = (
        "import sys; from sfjax.__main__ import main; code = main(sys.argv[1:]); from jax._src import xla_bridge; "
        "assert not xla_bridge.backends_are_initialized(); sys.exit(code)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    words = ("info", "hf://someone/enhance", "--json")
    done = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["task"], found["wrong"]) == ("hf://someone/enhance", "enhance", None)


def tampered(place):
    (place / "blobs" / f"{2:040x}").write_text("# mine")


@pytest.mark.parametrize(
    "expected, name",
    [
        ("expected sfjax://NAME, hf://OWNER/NAME or hf://OWNER/NAME@REVISION; check the name", "hf://enhance"),
        ("expected .*hf://OWNER/NAME", "hf://someone/enhance/model.safetensors"),
        ("expected .*hf://OWNER/NAME", "hf://someone/enhance@"),
        (r"hf://-a/-b: could not be fetched \(HFValidationError", "hf://-a/-b"),
        ("hf://someone/nothing: the hub cannot be reached and no whole copy was kept", "hf://someone/nothing"),
        ("hf://someone/enhance: the hub cannot be reached and no whole copy", "hf://someone/enhance@v2"),
        ("hf://someone/song: is no exported model, it lacks model.safetensors, SHA256SUMS", "hf://someone/song"),
        ("README.md: checksum mismatch in SHA256SUMS", "hf://someone/other"),
    ],
)
def test_a_name_that_brings_no_exported_model_is_refused_in_one_line(cache, folders, expected, name):
    keep(cache, "someone/song", folders["enhance"], names=("config.json", "README.md"))
    tampered(keep(cache, "someone/other", folders["enhance"]))
    with pytest.raises(UserError, match=expected) as told:
        inference.load(name)
    assert "\n" not in str(told.value)


def test_without_its_client_a_name_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf://someone/enhance needs huggingface_hub: pip install 'sfjax\[hub\]'"):
        inference.load("hf://someone/enhance")


# A hub


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of a hub that the client speaks to, with one repository, which also holds what nobody asked for."""

    folder: Path
    asked: list

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        names = [*FILES, "optimizer.pkl"]
        if parts[:4] == ["api", "models", "someone", "enhance"] and parts[-1] in ("enhance", "main"):
            self._answer(json.dumps({"id": "someone/enhance", "sha": COMMIT}).encode())
        elif parts[:5] == ["api", "models", "someone", "enhance", "tree"]:
            sizes = [(name, (self.folder / name).stat().st_size if name in FILES else 9) for name in names]
            found = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes]
            self._answer(json.dumps(found).encode())
        elif parts[:2] == ["someone", "enhance"] and parts[-1] in names:
            self.asked.append(parts[-1])
            self._answer((self.folder / parts[-1]).read_bytes(), ETag=f'"{parts[-1]}"')
        else:
            wrong = "RevisionNotFound" if "enhance" in parts else "RepoNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", wrong)
            self.end_headers()

    do_HEAD = do_GET

    def _answer(self, content, **headers):
        self.send_response(200)
        for name, value in {"Content-Length": len(content), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A hub on this machine that a client with an empty cache is told to speak to; the files that are asked for."""
    handler = type("Handler", (Hub,), {"folder": folders["enhance"], "asked": []})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler.asked
        server.shutdown()
        thread.join()


def test_four_files_are_asked_of_a_hub_and_kept_for_when_it_is_gone(hub, monkeypatch):
    assert release.info("hf://someone/enhance")["wrong"] is None
    assert {*hub} == {*FILES}
    hub.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert release.info("hf://someone/enhance")["wrong"] is None and not hub


@pytest.mark.parametrize(
    "expected, name",
    [
        ("hf://someone/nothing: no such repository, .*login; check the name", "hf://someone/nothing"),
        ("hf://someone/enhance: has no revision v2; check its name, or leave it out", "hf://someone/enhance@v2"),
    ],
)
def test_what_a_hub_does_not_have_is_told_in_one_line(hub, expected, name):
    with pytest.raises(UserError, match=expected):
        locate.folder_of(name)


def test_a_hub_that_is_not_there_is_told_in_one_line(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="hf://someone/enhance: the hub cannot be reached and no whole copy was kept"):
        locate.folder_of("hf://someone/enhance")
