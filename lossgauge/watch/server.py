"""The server of `lossgauge watch`: three pages on 127.0.0.1, read-only.

    /         the status, and the report in a frame
    /report   the report, as `lossgauge report` writes it
    /status   the status as JSON

Nothing else is served: no path of a request reaches the disk. Only GET and HEAD are answered, and only for requests that name
this machine, because a page of the web may make its own name point here (DNS rebinding).
"""

from __future__ import annotations

import base64
import errno
import hashlib
import signal
import socket
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from jinja2 import Environment
from markupsafe import Markup

from lossgauge import stopping
from lossgauge.errors import InputError, MissingExtra
from lossgauge.watch.live import Body, Live, body

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Hosts that a request may name."""

HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}

NO_REPORT = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>No report yet</title>
<p>No run has ended yet. The report appears here when one has.</p></html>
"""
_NO_REPORT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"


def check_installed() -> None:
    """Raises MissingExtra if the server is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise MissingExtra(
            "watching a study needs a server: pip install 'lossgauge[watch]'"
        ) from None


def listen(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1; without `port`, on a free one. InputError for a port that cannot be used."""
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"port must be from 1 to 65535, got {port}; leave it out for a free one")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or 0))
        listening.listen()
    except OSError as error:
        listening.close()
        why = (
            "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        )
        raise InputError(f"port {port} {why}; give another with --port, or leave it out") from None
    return listening


def serve(live: Live, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C or SIGTERM, and return then. `ready` is called when requests can come."""
    import uvicorn

    config = uvicorn.Config(
        make_app(live),
        access_log=False,
        date_header=False,
        http="h11",
        lifespan="off",
        log_config=None,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        ws="none",
    )
    server = uvicorn.Server(config)

    def end(number: int, frame: FrameType | None) -> None:
        # uvicorn sets its own handlers while it runs, and repeats the signal to these afterwards
        server.should_exit = True

    stopping.hand_over()  # Ctrl-C is the usual end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    live.start()
    ready()
    if not server.should_exit:
        server.run(sockets=[listening])


def make_app(live: Live) -> Starlette:
    """The three pages, with their headers."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    frame, policy = _frame()

    async def index(request: Request) -> Response:
        return _answer(request, frame, "text/html", policy)

    async def report(request: Request) -> Response:
        live.ask()
        if live.page is None:
            return _answer(request, body(NO_REPORT), "text/html", _NO_REPORT_POLICY)
        # the page has its own policy; a header could only add to it
        return _answer(request, live.page, "text/html", "frame-ancestors 'self'")

    async def status(request: Request) -> Response:
        live.ask()
        return _answer(request, live.status, "application/json", _NO_REPORT_POLICY)

    routes = [
        Route(path, page, methods=["GET"])  # with HEAD
        for path, page in (("/", index), ("/report", report), ("/status", status))
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES), www_redirect=False)
    app = Starlette(routes=routes, middleware=[hosts])
    app.router.redirect_slashes = False
    return app


def _answer(request: Request, content: Body, kind: str, policy: str) -> Response:
    """The content, or 304 if the browser has it."""
    from starlette.responses import Response

    headers = {**HEADERS, "ETag": content.tag, "Content-Security-Policy": policy}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if content.tag in known or f"W/{content.tag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(content.data, headers=headers, media_type=kind)


def _frame() -> tuple[Body, str]:
    """The page around the report, and its policy."""
    style, script = (_text(f"watch.{kind}") for kind in ("css", "js"))
    environment = Environment(autoescape=True)
    # trusted: our own files
    text = environment.from_string(_text("watch.html")).render(
        style=Markup(style), script=Markup(script)
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; frame-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return body(text), policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (files("lossgauge.watch") / "templates" / name).read_text(encoding="utf-8")


def watch(folder: Path, port: int | None, say: Callable[[str], None]) -> None:
    """Serve the study in a folder, which need not exist yet, until Ctrl-C. `say` prints a line.

    MissingExtra without the server; InputError for a port that cannot be used, and for a path that is not a folder.
    """
    check_installed()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of a study")
    with listen(port) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        serve(Live(folder), listening, lambda: say(f"watching {folder} at {address} (Ctrl-C ends)"))
