"""In a browser: the page plays before and after, keeps errors at their fields, fits a phone, and asks nobody else."""

import re
import urllib.parse

import numpy as np
import pytest
import soundfile
from playwright.sync_api import sync_playwright
from web_pages import BITS, RATE, enhancer, served

from sfjax import audio, examples

BROWSER = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox"]}


@pytest.fixture(scope="module")
def model():
    return enhancer()


@pytest.fixture(scope="module")
def requests():
    """All URLs that the browser asks for, and what its console says."""
    return [], []


@pytest.fixture(scope="module")
def window(model, requests):
    """A window of a browser that shows a page."""
    urls, lines = requests
    with served(model) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**BROWSER)
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.set_default_timeout(200_000)
        window.on("request", lambda request: urls.append(request.url))
        window.on("console", lambda message: lines.append(message.text))
        window.on("pageerror", lambda error: lines.append(f"broken: {error}"))
        window.goto(url)
        window.get_by_role("button", name="Enhance", exact=True).wait_for()
        yield window
        browser.close()


@pytest.fixture(scope="module")
def player(window):
    """The window after the example was enhanced."""
    window.get_by_role("button", name="Try the example").click()
    window.get_by_text("0:04").first.wait_for()
    window.get_by_role("button", name="Enhance", exact=True).click()
    window.locator(".sf-player").wait_for()
    return window


@pytest.mark.slow
def test_errors_stay_at_their_field_until_it_changes(window, tmp_path):
    button, error = window.get_by_role("button", name="Enhance", exact=True), window.locator(".sf-error")
    button.click()
    error.wait_for()
    assert "expected a recording" in error.inner_text()
    field = window.locator(".sf-field", has=error)
    assert field.locator("input[type=file]").count() == 1
    (tmp_path / "text.wav").write_text("no sound")
    window.locator("input[type=file]").first.set_input_files(tmp_path / "text.wav")  # it is refused without a click
    window.get_by_text("text.wav: not readable as sound").wait_for()
    assert window.get_by_text("Drop Audio Here").is_visible()
    soundfile.write(tmp_path / "in.wav", 0.1 * np.sin(np.arange(RATE)), RATE)
    window.locator("input[type=file]").first.set_input_files(tmp_path / "in.wav")
    error.wait_for(state="detached")
    assert "Traceback" not in window.locator("body").inner_text()


@pytest.mark.slow
def test_the_example_is_enhanced_and_played_at_the_same_position(player, model):
    assert model.folder in player.locator(".sf-card").inner_text()

    with player.expect_download() as download:
        player.get_by_role("link", name="Download").click()
    wave, rate = audio.read(download.value.path())
    expected = np.clip(model.enhance(audio.read(examples.path("noisy"))[0], RATE), -1, 1)
    assert (rate, download.value.suggested_filename) == (RATE, "noisy-enhanced.wav")
    np.testing.assert_allclose(wave, expected, atol=BITS)

    times = "[...document.querySelectorAll('.sf-player audio')].map(audio => audio.currentTime)"
    paused = "[...document.querySelectorAll('.sf-player audio')].map(audio => audio.paused)"
    plot = player.locator(".sf-plot").nth(1)
    box = plot.bounding_box()
    plot.click(position={"x": box["width"] / 2, "y": box["height"] / 2})  # seeks to the middle of 4 s
    assert player.evaluate(times)[1] == pytest.approx(2.0, abs=0.05)
    player.get_by_role("button", name="Before", exact=True).click()
    assert player.evaluate(times)[0] == pytest.approx(2.0, abs=0.05)
    bar = player.locator(".sf-bar")
    bar.get_by_role("button", name="Play").click()
    bar.get_by_role("button", name="Pause").wait_for()
    assert player.evaluate(paused) == [False, True]
    bar.get_by_role("button", name="Enhanced").click()
    assert player.evaluate(paused) == [True, False]  # it plays on from there
    assert player.evaluate(times)[1] >= 2.0


@pytest.mark.slow
def test_a_phone_shows_the_whole_width(player):
    for width in (420, 1280):
        player.set_viewport_size({"width": width, "height": 900})
        assert player.evaluate("document.documentElement.scrollWidth") <= width
        plots = player.locator(".sf-plot").all()
        boxes = [plot.bounding_box() for plot in plots]
        assert len({(box["x"], box["width"]) for box in boxes}) == 1  # all time axes agree
        assert len(boxes) == 2 and boxes[0]["width"] > 0.7 * min(width, 800)


@pytest.mark.slow
def test_nobody_else_is_asked(window, requests):
    urls, lines = requests
    hosts = {urllib.parse.urlsplit(url).netloc for url in urls if not url.startswith(("blob:", "data:"))}
    assert hosts == {urllib.parse.urlsplit(window.url).netloc} and len(urls) > 10
    assert not [line for line in lines if re.match("broken|.*Content Security Policy", line)]
