"""`sfjax serve` checks its flags, says what is missing, and ends without a trace."""

import os
import re
import signal
import subprocess
import sys

import pytest
from web_pages import web

import sfjax
from sfjax.web import app


def test_the_port_is_free_or_one_line_says_that_it_is_not(refused):
    with app.listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        refused(
            f"cannot listen at 127.0.0.1, port {port} .*in use", "serve", "--model", "sfjax://enhance", "--port", port
        )
    app.listen("127.0.0.1", port).close()


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
def test_what_cannot_be_served_is_said_in_one_line(refused, expected, words):
    refused(expected, "serve", "--model", "sfjax://enhance", *words.split())


def test_without_gradio_one_line_says_what_to_install(refused, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("sfjax.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sfjax, "web")
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(r"needs gradio; .*'sfjax\[demo\]'", "serve", "--model", "sfjax://enhance")


@pytest.mark.parametrize("host, local", [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_this_machine_reaches_a_local_address(host, local):
    with app.listen(host, 0) as bound:
        assert app.is_local(bound) == local


@pytest.mark.slow
def test_ctrl_c_ends_it_and_nobody_was_called_and_nothing_is_left(tmp_path):
    program = (
        "import sys; from sfjax.__main__ import main\n"
        "def hook(event, values):\n"
        "    if event == 'socket.connect' and values[1][0] != '127.0.0.1': print('called', values[1])\n"
        "    if event == 'socket.getaddrinfo' and values[0] not in ('127.0.0.1', '0.0.0.0'): print('called', values)\n"
        "sys.addaudithook(hook); sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--model", "sfjax://enhance", "--port", "0", "--host", "0.0.0.0"],
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
        output, complaints = process.communicate(timeout=100)
    assert process.returncode == 130 and output == "" and "Traceback" not in complaints, complaints
    assert "reach 0.0.0.0" in complaints
    assert not list(tmp_path.iterdir())
