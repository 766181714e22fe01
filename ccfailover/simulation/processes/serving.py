"""One small HTTP server for JSON over loopback, and how a server process lives and dies."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MAX_BODY = 300_000
"""Bytes of a request body that are read; an SQS message has at most 262,144."""


class Refusal(Exception):
    """The request is not done: `status` and a sentence go back to the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Request:
    """`parts` are the decoded segments of the path; `query` holds the first value of each key."""

    method: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises Refusal 400 for anything else."""
        try:
            value = json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not a JSON object")
        return value

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())


@dataclass(frozen=True)
class Reply:
    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[Request], "Reply | None"]
"""None: close the connection without a word, as a server does that dies while it answers."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is everyday life in a failover test; anything else is logged."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def _handler(handle: Handle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            try:
                reply = handle(self._request())
            except Refusal as refusal:
                reply = Reply(refusal.status, {"error": refusal.message})
            if reply is None:
                self.close_connection = True
                return
            body = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = _answer

        def _request(self) -> Request:
            split = urlsplit(self.path)
            length = self._length()
            return Request(
                self.command,
                tuple(unquote(part) for part in split.path.split("/") if part),
                {key: values[0] for key, values in parse_qs(split.query).items()},
                {key.lower(): value for key, value in self.headers.items()},
                self.rfile.read(length) if length else b"",
            )

        def _length(self) -> int:
            """Bytes of the body. An unread body would be taken for the next request: hang up."""
            text = self.headers.get("Content-Length", "0")
            if self.headers.get("Transfer-Encoding") or not text.isdecimal():
                self.close_connection = True
                raise Refusal(411, "Content-Length is needed")
            if len(text) > 9 or int(text) > MAX_BODY:
                self.close_connection = True
                raise Refusal(413, f"the body is over {MAX_BODY} bytes")
            return int(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: a line for each contact would be the larger part of the server's work."""

    return Handler


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every server has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (0: a free one)")
    parser.add_argument(
        "--tethered", action="store_true",
        help="end when standard input closes: a server never outlives who started it",
    )
    return parser


def serve(handle: Handle, options: argparse.Namespace) -> None:
    """Listen on loopback, print {"port": n}, and answer until SIGTERM or the tether's end."""
    server = _Server(("127.0.0.1", options.port), _handler(handle))
    if options.tethered:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdout.write(json.dumps({"port": server.server_port}) + "\n")
    sys.stdout.flush()
    with server:
        server.serve_forever(poll_interval=0.1)


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    os._exit(0)


def secret(path: str | None) -> str | None:
    """The content of a token file, stripped; None without a path."""
    return Path(path).read_text(encoding="utf-8").strip() if path else None
