"""The server of `lossgauge watch`: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from lossgauge.errors import InputError
from lossgauge.watch import server
from lossgauge.watch.live import Live, body
from lossgauge.watch.server import listen, serve
from tests.support.command_line import LOSSGAUGE, assert_refused, run_cli
from tests.support.waiting import PATIENCE, wait_for


class Served:
    """A server in this process, whose live data the test sets."""

    def __init__(self, folder: Path) -> None:
        import uvicorn

        self.live = Live(folder)
        self.socket = listen(None)
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(
            server.make_app(self.live), lifespan="off", log_config=None, http="h11", ws="none"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        wait_for(lambda: self.server.started)

    def ask(self, path: str = "/", method: str = "GET", **headers: str):
        """Status, headers and body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    found = Served(tmp_path_factory.mktemp("watch") / "my <study>")
    yield found
    found.close()


def test_it_listens_on_this_machine_only():
    with listen(None) as listening:
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match=f"port {port} is in use; give another with --port"):
            listen(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = run_cli("watch", "study", f"--port={port}")
    assert_refused(wrong, f"port must be from 1 to 65535, got {port}")


def test_what_is_no_folder_is_refused_and_a_missing_server_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert_refused(run_cli("watch", "file"), "file is not a folder")
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert_refused(run_cli("watch", "study"), "pip install 'lossgauge[watch]'")


def test_the_three_pages_and_nothing_else(served):
    served.live.page = body("<!doctype html>report")
    for path, kind in (
        ("/", "text/html"),
        ("/report", "text/html"),
        ("/status", "application/json"),
    ):
        code, headers, text = served.ask(path)
        assert (code, headers["content-type"].partition(";")[0]) == (200, kind)
        assert text
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers or "uvicorn" in headers["server"]
        without, same, nothing = served.ask(path, "HEAD")
        assert (without, nothing) == (200, b"")
        assert same["content-length"] == headers["content-length"]
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            assert served.ask(path, method)[0] == 405, method
    others = "/etc/passwd /../../etc/passwd /%2e%2e/study.json /report/ /report/../study.json //etc/passwd /study.json /status/x"
    for path in others.split():
        code, _, text = served.ask(path)
        assert code == 404, path
        assert b"root" not in text
    assert served.ask("/report?path=/etc/passwd")[2] == b"<!doctype html>report"


def test_only_requests_that_name_this_machine_are_answered(served):
    for host in (f"127.0.0.1:{served.port}", f"localhost:{served.port}", "127.0.0.1"):
        assert served.ask(Host=host)[0] == 200, host
    for host in (
        "evil.example",
        f"evil.example:{served.port}",
        "127.0.0.1.evil.example",
        "www.localhost",
        "",
    ):
        code, headers, text = served.ask("/status", Host=host)
        assert code == 400, host
        assert b"study" not in text
        assert "location" not in headers


def test_a_tag_saves_the_transfer_until_the_page_changes(served):
    served.live.page = body("one")
    _, headers, _ = served.ask("/report")
    tag = headers["etag"]
    code, headers, text = served.ask("/report", If_None_Match=tag)
    assert (code, text, headers["etag"]) == (304, b"", tag)
    assert served.ask("/report", If_None_Match=f'"x", W/{tag}')[0] == 304
    served.live.page = body("two")
    code, _, text = served.ask("/report", If_None_Match=tag)
    assert (code, text) == (200, b"two")
    served.live.page = None
    assert b"No run has ended yet" in served.ask("/report")[2]


def test_the_frame_runs_only_its_own_script(served):
    _, headers, text = served.ask("/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    html = text.decode()
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert f"{kind} {server._hash(content)};" in policy
    assert "innerHTML" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_ctrl_c_ends_it_in_the_usual_way(tmp_path, capsys):
    live, before = Live(tmp_path / "study"), signal.getsignal(signal.SIGINT)
    listening = listen(None)
    port = listening.getsockname()[1]

    def interrupt() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/status")  # and the connection stays open
        assert json.loads(connection.getresponse().read())["study"] == "study"
        os.kill(os.getpid(), signal.SIGINT)
        ended.wait(PATIENCE)
        connection.close()

    asking, ended = threading.Thread(target=interrupt), threading.Event()
    try:
        serve(live, listening, asking.start)
    finally:
        ended.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, before if number == signal.SIGINT else signal.SIG_DFL)
        listening.close()
    asking.join()
    assert capsys.readouterr().err == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_with_exit_code_0(tmp_path, number):
    import subprocess

    command = [*LOSSGAUGE, "watch", str(tmp_path / "later")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert re.fullmatch(r"watching .*/later at http://127.0.0.1:\d+ \(Ctrl-C ends\)\n", line)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_shows_the_report_and_follows_the_study(tmp_path, small_study, browser):
    import shutil

    found = Served(tmp_path / "study")
    tab = browser.new_context(viewport={"width": 1366, "height": 844}).new_page()
    troubles: list[str] = []
    tab.on("console", lambda m: troubles.append(m.text) if m.type != "log" else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    try:
        found.live.start()
        tab.goto(f"http://127.0.0.1:{found.port}/")
        # by what is on the page: its policy forbids the evaluation of texts
        tab.locator("#words", has_text="there is no study in study yet").wait_for()
        shutil.copytree(small_study, tmp_path / "study")
        tab.locator("#words", has_text="finished").wait_for(timeout=1e3 * PATIENCE)
        assert tab.title() == "study: finished"
        assert tab.inner_text("#counts") == "3 done, 0 running, 0 failed, 0 waiting"
        report = tab.frame_locator("#report")
        drawn = report.locator("html[data-drawn]")
        drawn.wait_for(state="attached", timeout=1e3 * PATIENCE)
        assert "triplet" in report.locator("main").inner_text()
        tab.screenshot(path=str(tmp_path / "watch.png"))
        assert troubles == []
    finally:
        tab.context.close()
        found.close()
