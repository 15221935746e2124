"""The web page returns what the models compute, refuses foreign requests and bad uploads, and contacts nobody else."""

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import zipfile

import gradio as gr
import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import sync_playwright

import sfjax
from sfjax import audio, flow, inference, tasks
from sfjax.data import synthetic
from sfjax.errors import UserError
from sfjax.inference import splicing
from sfjax.web import FOLDER, security
from sfjax.web import app as pages
from sfjax.web.tabs import Limits, recording, tabs

RATE = 16_000
LIMITS = Limits(seconds=30.0, megabytes=1.0)
STEPS = ("euler", 1, 0.0, 0.0)  # solver, steps, guidance, sway
HOW = dict(solver="euler", steps=1, guidance=0.0, sway=0.0)
web = httpx.Client(timeout=200)
BITS = 2**-14  # what 16 bits and their scale of 32767 leave of a sample


class Counted(inference.Model):
    """A model that knows how many use it at once."""

    now, most = 0, 0

    def run(self, *given, **how):
        Counted.now += 1
        Counted.most = max(Counted.most, Counted.now)
        try:
            super().run(*given, **how)
        finally:
            Counted.now -= 1


@pytest.fixture(scope="module")
def model(enhancer):
    found = inference.load(enhancer)
    return Counted(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})


@pytest.fixture(scope="module")
def speaking(speaker):
    return inference.load(speaker[0], duration_model=speaker[1])


@contextlib.contextmanager
def served(*models):
    """The address of a page of models, as long as it is wanted."""
    with pages.listen("127.0.0.1", 0) as bound:
        server = pages.server(models, bound, LIMITS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield pages.address(bound)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def url(model):
    with served(model) as found:
        yield found


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, voice):
    """A recording of less than a second at 16 kHz, exact in 16 bits."""
    path = tmp_path_factory.mktemp("noisy") / "noisy.wav"
    soundfile.write(path, voice(0.8, 0), RATE)
    return path


def asking(url, folder):
    """A program that uses the page at `url`."""
    return Client(url, verbose=False, analytics_enabled=False, download_files=folder)


def silent_bar(share, said):
    """Hears of progress and says nothing."""


# What is offered and given


TALK = tasks.Separate(speakers=3, drop=0.3, order="random", copies="plain", mask=0.0, cluster=0.0)


@pytest.mark.parametrize(
    "kinds, offered",
    [
        (["enhance"], ["enhance"]),
        (["speak"], ["infill", "speak", "edit"]),
        (["mute"], ["infill"]),
        (["enhance", "separate", "speak"], ["enhance", "separate", "infill", "speak", "edit"]),
        (["both"], ["enhance", "separate"]),
    ],
)
def test_tabs_are_those_that_the_models_can_do(model, speaking, kinds, offered):
    both = tasks.Several(("a", "b"), (TALK, model.task))
    found = {
        "enhance": model,
        "speak": speaking,
        "mute": dataclasses.replace(speaking, duration_model=None),
        "separate": dataclasses.replace(model, task=TALK),
        "both": dataclasses.replace(model, task=both),
    }
    models = [found[kind] for kind in kinds]
    assert list(tabs(models, LIMITS)) == offered
    config = pages.blocks(models, LIMITS).get_config_file()
    parts = [(part["type"], part["props"]) for part in config["components"]]
    assert [props["label"].lower() for kind, props in parts if kind == "tabitem"] == offered
    players = [props["label"] for kind, props in parts if kind == "audio" and props.get("interactive") is False]
    assert [name for name in players if name.startswith("Speaker")] == [
        f"Speaker {i}" for i in (1, 2, 3) if "separate" in offered
    ]
    lines = [props["value"] for kind, props in parts if kind == "markdown" and props.get("value")]
    assert all(one.name in lines[0] for one in models)
    assert ("consent" in " ".join(lines)) == ("speak" in offered)


def test_the_first_model_that_can_do_it_does_it(model, speaking):
    other = dataclasses.replace(model, name="other")
    assert [tab.model.name for tab in tabs([speaking, other, model], LIMITS).values()][0] == "other"


def test_the_knobs_are_set_as_the_model_is(model):
    own = model.options | {"solver": "heun", "steps": 5, "guidance": 1.25, "sway": -0.5}
    config = pages.blocks([dataclasses.replace(model, options=own)], LIMITS).get_config_file()
    knobs = {part["props"]["label"]: part["props"] for part in config["components"] if "label" in part["props"]}
    values = {name: knobs[name.capitalize()]["value"] for name in ("solver", "steps", "guidance", "sway", "seed")}
    assert values == {"solver": "heun", "steps": 5, "guidance": 1.25, "sway": -0.5, "seed": 0}
    assert [choice for choice, _ in knobs["Solver"]["choices"]] == [*flow.SOLVERS, *flow.ADAPTIVE]


@pytest.mark.parametrize("rate, suffix", [(16_000, "wav"), (44_100, "flac")])
def test_what_comes_out_of_the_page_is_what_the_model_makes(url, model, voice, tmp_path, rate, suffix):
    soundfile.write(tmp_path / f"in.{suffix}", audio.resample(voice(0.8, 3), RATE, rate), rate)
    wave = audio.read(tmp_path / f"in.{suffix}")[0]
    made, note, seen = asking(url, tmp_path).predict(
        handle_file(tmp_path / f"in.{suffix}"), *STEPS, 3, api_name="/enhance"
    )
    assert audio.probe(made) == audio.Info(len(wave), rate, 1, "WAV", "PCM_16") and made.endswith("in-enhanced.wav")
    wanted = np.clip(model.enhance(wave, rate, seed=3, **HOW), -1, 1)
    # at another rate the page resamples as it goes, the model at once
    np.testing.assert_allclose(audio.read(made)[0], wanted, atol=BITS if rate == RATE else 5e-3)
    assert np.abs(wanted).max() > 0.01 and not note
    assert os.path.getsize(seen) > 10_000


def test_progress_comes_chunk_by_chunk_and_a_server_that_leaves_ends_a_job(model, voice, tmp_path):
    soundfile.write(tmp_path / "long.wav", voice(16.0, 0), RATE)
    heard, left = [], []
    tab = tabs([model], LIMITS, leaving=lambda: bool(left))["enhance"]
    tab.work([str(tmp_path / "long.wav")], HOW | {"seed": 0}, lambda share, said: heard.append(share))
    assert heard[0] == 0 and heard == sorted(heard) and len(heard) > 8 and heard[-1] == pytest.approx(0.95)
    left.append(True)
    before = set(FOLDER.rglob("*.wav"))
    with pytest.raises(UserError, match="stopped"):
        tab.work([str(tmp_path / "long.wav")], HOW | {"seed": 0}, silent_bar)
    assert set(FOLDER.rglob("*.wav")) == before and not list(FOLDER.rglob("*.part"))


@pytest.mark.slow
def test_what_is_spoken_and_filled_is_what_the_model_makes(speaking, voice, tmp_path):
    made = tabs([speaking], LIMITS)
    found = made["speak"].work(["A zorblax ran.", None, "", 0.5], HOW | {"seed": 2}, silent_bar)
    wanted = speaking.speak("A zorblax ran.", speed=0.5, seed=2, **HOW)
    np.testing.assert_allclose(audio.read(found.files[0])[0], np.clip(wanted.wave, -1, 1), atol=BITS)
    assert list(found.drawn) == ["spoken"] and "zorblax" in found.note
    wave = voice(1.6, 0)
    wave[8_000:8_800] = 0
    soundfile.write(tmp_path / "a.flac", wave, RATE, subtype="PCM_24")
    held, rate, _ = splicing.read(tmp_path / "a.flac")
    for words, gaps in (("", splicing.gaps(held, shortest=80)), ("0.3-0.4", [(4_800, 6_400)])):
        found = made["infill"].work([str(tmp_path / "a.flac"), words], HOW | {"seed": 1}, silent_bar)
        whole, own, info = splicing.read(found.files[0])
        wanted = speaking.infill(held, rate, gaps=gaps, seed=1, **HOW).astype(np.int64)
        np.testing.assert_array_equal(whole >> 8, np.minimum((wanted + 128) >> 8, 2**23 - 1))  # 24 bits
        assert len(gaps) == 1 and (whole != held).any()
        assert (own, info.format, info.subtype) == (RATE, "WAV", "PCM_24")


@pytest.mark.slow
def test_a_voice_is_spoken_in_and_its_words_are_changed(speaking, tmp_path):
    library, data = synthetic._espeak()
    sound = {"library": library, "data": data, "voice": "en-us+m1", "pitch": 50, "speed": 150}
    synthetic._record(tmp_path, sound | {"path": "a.flac", "text": "A big dog ran home."})
    made, path = tabs([speaking], LIMITS), str(tmp_path / "a.flac")
    found = made["speak"].work(["It ran.", path, "A big dog ran home.", 1], HOW | {"seed": 0}, silent_bar)
    assert list(found.drawn) == ["the voice", "spoken"]
    prompt = (*audio.read(path), "A big dog ran home.")
    wanted = speaking.speak("It ran.", prompt=prompt, **HOW)
    np.testing.assert_allclose(audio.read(found.files[0])[0], np.clip(wanted.wave, -1, 1), atol=BITS)
    found = made["edit"].work(
        [path, "A big dog ran home.", "A big zorblax ran home.", 1], HOW | {"seed": 4}, silent_bar
    )
    wave, rate, _ = splicing.read(path)
    wanted = speaking.edit(wave, rate, old=prompt[2], new="A big zorblax ran home.", seed=4, **HOW)
    np.testing.assert_array_equal(splicing.read(found.files[0])[0], wanted.wave)
    assert found.note.startswith(f"New from {wanted.span[0]:.2f}") and "zorblax" in found.note


# What is refused


def long_flac(path, seconds):
    """Writes a FLAC of silence whose header says that it lasts so long, though it holds less."""
    soundfile.write(path, np.zeros(RATE), RATE)
    held = bytearray(path.read_bytes())
    held[21:26] = ((held[21] & 0xF0) << 32 | seconds * RATE).to_bytes(5, "big")  # the samples of STREAMINFO
    path.write_bytes(held)


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
def test_a_mistake_is_one_line_and_the_page_goes_on(url, uploads, noisy, tmp_path, capfd, name, expected):
    client = asking(url, tmp_path)
    with pytest.raises(AppError) as refused:
        client.predict(handle_file(uploads / name), *STEPS, 0, api_name="/enhance")
    line = str(refused.value)
    assert re.search(expected, line) and "\n" not in line and str(FOLDER) not in line
    assert "Traceback" not in capfd.readouterr().err
    assert client.predict(handle_file(noisy), *STEPS, 0, api_name="/enhance")


@pytest.mark.parametrize(
    "tab, given, expected",
    [
        ("speak", ["Hello.", None, "What is said.", 1.0], "give both, or neither"),
        ("speak", ["Hello.", "{noisy}", " ", 1.0], "give both, or neither"),
        ("speak", ["a " * 1001 + "b", None, "", 1.0], "at most 2000 letters, got 2003"),
        ("infill", ["{noisy}", ""], "exactly 0 for 5 ms, found none"),
        ("infill", ["{noisy}", "1..2"], "expected gaps in seconds"),
        ("edit", ["{noisy}", "", "Hello.", 1.0], "expected the text of the recording, got none"),
        ("edit", [None, "Hallo.", "Hello.", 1.0], "expected a recording, got none"),
    ],
)
def test_what_cannot_be_done_is_said(speaking, voice, tmp_path, tab, given, expected):
    soundfile.write(tmp_path / "a.wav", voice(0.8, 0) + 0.01, RATE)
    given = [str(tmp_path / "a.wav") if one == "{noisy}" else one for one in given]
    with pytest.raises(UserError, match=expected):
        tabs([speaking], LIMITS)[tab].work(given, HOW | {"seed": 0}, silent_bar)


def test_what_a_visitor_wrote_is_shown_and_not_obeyed(speaking, noisy):
    page = pages.blocks([speaking], LIMITS)
    fill = next(bound.fn for bound in page.fns.values() if bound.api_name == "infill")
    with pytest.raises(AppError) as refused:
        fill(gr.Progress(), str(noisy), "<img src=x>\n1", *STEPS, 0)
    assert "got '&lt;img src=x&gt;" in refused.value.message and "\n" not in refused.value.message


def joining(path):
    """What asks the page to enhance a file."""
    held = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return {"data": [held, *STEPS, 0], "fn_index": 0, "session_hash": "s"}


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=//etc/passwd",
        "gradio_api/file={FOLDER}/../../etc/passwd",
        "gradio_api/file={FOLDER}/%2e%2e/%2e%2e/etc/passwd",
        "gradio_api/file=../../../../../../etc/passwd",
        "gradio_api/file={FOLDER}/%00",
        "gradio_api/file={FOLDER}",
        "gradio_api/file={FOLDER}-other/a",
        "gradio_api/file=http://127.0.0.1:1/a",
        "gradio_api/file=file:///etc/passwd",
        "file=/etc/passwd",
        "gradio_api/file//etc/passwd",
        "static/../../../../../../etc/passwd",
        "assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "static/%2e%2e/%2e%2e/routes.py",
        "gradio_api/proxy=https://a.hf.space/b",
        "docs",
        "openapi.json",
        "gradio_api/run/enhance",
        "gradio_api/deep_link?session_hash=s",
        "monitoring",
        "gradio_api/vibe-code",
    ],
)
def test_no_file_of_the_host_and_no_other_route_is_reached(url, path):
    found = web.get(httpx.URL(url).copy_with(raw_path=f"/{path.format(FOLDER=FOLDER)}".encode()))
    assert found.status_code in (403, 404) and "root:" not in found.text


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "{FOLDER}/../a", "http://127.0.0.1:1/a", "a.wav"])
def test_a_request_that_names_a_file_that_was_not_uploaded_is_refused(url, path):
    path = path.format(FOLDER=FOLDER)
    assert web.post(f"{url}gradio_api/queue/join", json=joining(path)).status_code == 403
    nested = joining("") | {"data": [[{"a": {"path": path}}]]}
    assert web.post(f"{url}gradio_api/queue/join", json=nested).status_code == 403


def test_gradio_itself_refuses_a_file_that_was_not_uploaded(model, monkeypatch):
    monkeypatch.setattr(security, "_inside", lambda path: True)  # the guard asleep
    with served(model) as url:
        assert web.post(f"{url}gradio_api/queue/join", json=joining("/etc/passwd")).status_code == 200
        with web.stream("GET", f"{url}gradio_api/queue/data?session_hash=s") as events:
            told = next(line for line in events.iter_lines() if "process_completed" in line)
        assert '"success":false' in told and "root:" not in told
        assert not [path for path in FOLDER.rglob("passwd")]
        assert web.get(f"{url}gradio_api/file=/etc/passwd").status_code == 403


@pytest.mark.parametrize(
    "code, method, path, how",
    [
        (413, "POST", "upload", {"files": {"files": ("a.wav", b"0" * (2**20 + 2**17))}}),
        (413, "POST", "queue/join", {"content": b"[" + b" " * (2**20 + 2**17) + b"]"}),
        (400, "POST", "queue/join", {"content": b"[" * 100_000}),
        (400, "POST", "queue/join", {"content": b"no JSON"}),
        (411, "POST", "upload", {"content": iter([b"a", b"b"])}),
        (404, "PUT", "upload", {"content": b"a"}),
        (403, "POST", "upload", {"content": b"a", "headers": {"sec-fetch-site": "cross-site"}}),
        (403, "GET", "info", {"headers": {"host": "evil.example"}}),
    ],
)
def test_a_request_that_the_page_would_not_make_is_refused(url, code, method, path, how):
    assert web.request(method, f"{url}gradio_api/{path}", **how).status_code == code


def test_a_browser_is_told_to_ask_nobody_else(url):
    found = web.get(url)
    assert found.status_code == 200 and "default-src 'self'" in found.headers["content-security-policy"]
    assert not re.search('googleapis|cdnjs|jsdelivr|analytics_enabled":true', found.text)


def test_uploads_have_a_place_of_bounded_size_and_old_files_are_deleted(url, noisy):
    send = lambda: web.post(f"{url}gradio_api/upload", files={"files": ("a.wav", noisy.read_bytes())})
    assert send().status_code == 200
    (big := FOLDER / "big").write_bytes(b"")
    os.truncate(big, int(security.ROOM * LIMITS.megabytes * 2**20))
    assert send().status_code == 503
    os.utime(big, (time.time() - security.AGE - 1,) * 2)
    assert send().status_code == 200 and not big.exists()


@pytest.mark.slow
def test_ten_at_once_wait_for_each_other(url, model, noisy, tmp_path):
    Counted.most = 0
    client = asking(url, tmp_path)
    jobs = [client.submit(handle_file(noisy), *STEPS, 5, api_name="/enhance") for _ in range(10)]
    waves = [audio.read(job.result(timeout=300)[0])[0] for job in jobs]
    wanted = np.clip(model.enhance(audio.read(noisy)[0], RATE, seed=5, **HOW), -1, 1)
    for wave in waves:
        np.testing.assert_allclose(wave, wanted, atol=BITS)
    assert Counted.most == 1


def test_more_than_the_queue_holds_are_told_to_wait(model, noisy):
    with served(model) as url:
        path = web.post(f"{url}gradio_api/upload", files={"files": ("a.wav", noisy.read_bytes())}).json()[0]
        codes = [web.post(f"{url}gradio_api/queue/join", json=joining(path)).status_code for _ in range(40)]
    assert set(codes) == {200, 503} and codes[: pages.WAITING] == [200] * pages.WAITING


# The command line


def test_the_port_is_free_or_one_line_says_that_it_is_not(refused, enhancer):
    with pages.listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        refused(f"cannot listen at 127.0.0.1, port {port} .*in use", "serve", "--model", enhancer, "--port", port)
    pages.listen("127.0.0.1", port).close()


@pytest.mark.parametrize(
    "expected, words",
    [
        ("cannot listen at 203.0.113.1, port 0", "--host 203.0.113.1 --port 0"),
        ("cannot listen at 127.0.0.1, port 99999", "--port 99999"),
        ("--megabytes must be positive and finite, got 0 and 100", "--seconds 0"),
        ("must be positive and finite, got 600 and nan", "--megabytes nan"),
        ("give a single --model", "--model a b --adapter c"),
        ("expected a run folder with config.json", "--model nowhere --port 0"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(refused, enhancer, expected, words):
    refused(expected, "serve", "--model", enhancer, *words.split())


def test_without_gradio_one_line_says_what_to_install(refused, enhancer, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("sfjax.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sfjax, "web")
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(r"needs gradio; .*'sfjax\[demo\]'", "serve", "--model", enhancer)


@pytest.mark.parametrize("host, local", [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_this_machine_reaches_a_local_address(host, local):
    with pages.listen(host, 0) as bound:
        assert pages.is_local(bound) == local


@pytest.mark.slow
def test_ctrl_c_ends_it_and_nobody_was_called_and_nothing_is_left(enhancer, tmp_path):
    program = (
        "import sys; from sfjax.__main__ import main\n"
        "def heard(event, given):\n"
        "    if event == 'socket.connect' and given[1][0] != '127.0.0.1': print('called', given[1])\n"
        "    if event == 'socket.getaddrinfo' and given[0] not in ('127.0.0.1', '0.0.0.0'): print('called', given)\n"
        "sys.addaudithook(heard); sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--model", enhancer, "--port", "0", "--host", "0.0.0.0"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    line = process.stdout.readline()
    assert line, process.stderr.read()
    url = re.search(r"http://[\d.]+:\d+/", line)[0].replace("0.0.0.0", "127.0.0.1")
    assert web.get(url).status_code == 200
    assert len(list(tmp_path.glob("sfjax-page-*"))) == 1
    with web.stream("GET", f"{url}gradio_api/heartbeat/s") as open_page:  # as a browser's
        next(open_page.iter_bytes())
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=100)
    assert process.returncode == 130 and said == "" and "Traceback" not in complaints, complaints
    assert "reach 0.0.0.0" in complaints
    assert not list(tmp_path.iterdir())


# In a browser


@pytest.mark.slow
def test_a_visitor_hears_what_the_model_makes_and_nobody_else_is_asked(url, model, uploads, voice, tmp_path):
    soundfile.write(tmp_path / "in.wav", voice(6.0, 1), RATE)
    asked, said = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(200_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(f"broken: {error}"))
        shot = lambda name: page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        page.goto(url)
        button = page.get_by_role("button", name="Enhance", exact=True)
        button.wait_for()
        shot("empty")
        assert model.name in page.locator("body").inner_text()

        def send(path):
            page.locator("input[type=file]").first.set_input_files(path)
            page.get_by_role("button", name="Clear").wait_for()  # the upload is there

        send(tmp_path / "in.wav")
        button.click()
        page.get_by_text(re.compile("starting|of 6 s|drawing")).first.wait_for()
        shot("working")
        link = page.locator("a[download]").first
        link.wait_for()
        with page.expect_download() as fetched:
            link.click()
        made, rate = audio.read(fetched.value.path())
        wanted = np.clip(model.enhance(audio.read(tmp_path / "in.wav")[0], RATE), -1, 1)  # as the knobs are set
        assert rate == RATE
        np.testing.assert_allclose(made, wanted, atol=BITS)
        page.locator(".image-frame img").wait_for()
        for width, name in ((400, "narrow"), (1400, "wide")):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shot(name)

        page.reload()
        button.wait_for()
        send(uploads / "zip.wav")
        button.click()
        page.get_by_text("zip.wav: not readable as sound").wait_for()
        shot("error")
        assert "Traceback" not in page.locator("body").inner_text()
        browser.close()
    hosts = {urllib.parse.urlsplit(one).netloc for one in asked if not one.startswith(("blob:", "data:"))}
    assert hosts == {urllib.parse.urlsplit(url).netloc} and len(asked) > 10
    assert not [line for line in said if "Content Security Policy" in line or line.startswith("broken")]
