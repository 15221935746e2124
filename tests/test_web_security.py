"""The web page reads no file of its host, refuses foreign requests, bounds its queue and folder, and calls nobody."""

import os
import re
import time

import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from web_pages import BITS, KNOBS, LIMITS, OPTIONS, RATE, Counted, enhancer, joining, program, served, web, write_noisy

from sfjax import audio
from sfjax.web import FOLDER, security
from sfjax.web.page import WAITING


@pytest.fixture(scope="module")
def model():
    return enhancer()


@pytest.fixture(scope="module")
def url(model):
    with served(model) as address:
        yield address


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, voice):
    return write_noisy(tmp_path_factory.mktemp("noisy"), voice)


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
    response = web.get(httpx.URL(url).copy_with(raw_path=f"/{path.format(FOLDER=FOLDER)}".encode()))
    assert response.status_code in (403, 404) and "root:" not in response.text


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "{FOLDER}/../a", "http://127.0.0.1:1/a", "a.wav"])
def test_a_request_that_names_a_file_that_was_not_uploaded_is_refused(url, path):
    path = path.format(FOLDER=FOLDER)
    assert web.post(f"{url}gradio_api/queue/join", json=joining(path)).status_code == 403
    nested = joining("") | {"data": [[{"a": {"path": path}}]]}
    assert web.post(f"{url}gradio_api/queue/join", json=nested).status_code == 403


def test_gradio_itself_refuses_a_file_that_was_not_uploaded(monkeypatch):
    monkeypatch.setattr(security, "_inside", lambda path: True)  # the guard asleep
    with served(enhancer()) as url:
        assert web.post(f"{url}gradio_api/queue/join", json=joining("/etc/passwd")).status_code == 200
        with web.stream("GET", f"{url}gradio_api/queue/data?session_hash=s") as events:
            completed = next(line for line in events.iter_lines() if "process_completed" in line)
        assert '"success":false' in completed and "root:" not in completed
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
    response = web.get(url)
    assert response.status_code == 200 and "default-src 'self'" in response.headers["content-security-policy"]
    assert not re.search('googleapis|cdnjs|jsdelivr|analytics_enabled":true', response.text)


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
    client = program(url, tmp_path)
    jobs = [client.submit(handle_file(noisy), *KNOBS[:-1], 5, api_name="/enhance") for _ in range(10)]
    waves = [audio.read(job.result(timeout=300)[0])[0] for job in jobs]
    expected = np.clip(model.enhance(audio.read(noisy)[0], RATE, seed=5, **OPTIONS), -1, 1)
    for wave in waves:
        np.testing.assert_allclose(wave, expected, atol=BITS)
    assert Counted.most == 1


def test_more_than_the_queue_holds_are_told_to_wait(noisy):
    with served(enhancer()) as url:
        path = web.post(f"{url}gradio_api/upload", files={"files": ("a.wav", noisy.read_bytes())}).json()[0]
        codes = [web.post(f"{url}gradio_api/queue/join", json=joining(path)).status_code for _ in range(40)]
    assert set(codes) == {200, 503} and codes[:WAITING] == [200] * WAITING
