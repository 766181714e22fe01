"""What the small servers share that stand for a service's REST interface: they run in the test's
own process, so that it can look at what they hold, refuse whatever the service would, and hold each
request and each reply to the service's published model."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

from tests.servers.bucket import Bucket


class Refusal(Exception):
    """An answer that is an error: status, body and further headers."""

    def __init__(self, status: int, body: Mapping[str, Any],
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class Operation(Protocol):
    """One request that a service takes, and what its model says of both directions."""

    method: str
    path: re.Pattern[str]

    def request_problems(self, asked: Asked) -> Iterator[str]: ...

    def reply_problems(self, told: Any) -> Iterator[str]: ...


class RestServer(ThreadingHTTPServer):
    """`operations`: all that it takes. `throttle` limits it to 2 requests a second, bursts of 5."""

    daemon_threads = True
    too_many: ClassVar[str] = "Too Many Requests"

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.operations = operations
        self.lock = threading.RLock()
        self.bucket: Bucket | None = None
        self.broken: list[str] = []
        """Replies of ours that did not fit the model: there must be none."""
        self.port = int(self.server_address[1])
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()

    def __enter__(self) -> Self:
        return self

    def throttle(self, on: bool = True) -> None:
        self.bucket = Bucket() if on else None

    def perform(self, asked: Asked) -> tuple[int, Any, Mapping[str, str]]:
        """Status, document and further headers."""
        operation, headers = None, {}
        try:
            if self.bucket is not None and not self.bucket.take():
                raise self.refused(429, self.too_many)
            self.admit(asked)
            operation = self._operation(asked)
            if problems := list(operation.request_problems(asked)):
                raise self.refused(400, "; ".join(problems))
            status, told = self.answer(asked)
            wrong = list(operation.reply_problems(told))
        except Refusal as refusal:
            status, told, headers = refusal.status, refusal.body, dict(refusal.headers)
            wrong = list(self.refusal_problems(asked, refusal))
        if wrong:
            self.broken += wrong
            return 500, {"the fake is wrong": wrong}, {}
        return status, told if status != 200 else self.said(asked, told), headers

    def _operation(self, asked: Asked) -> Operation:
        found = [each for each in self.operations if each.path.fullmatch(asked.path)]
        if not found:
            raise self.refused(404, "no such path")
        for each in found:
            if each.method == asked.method:
                return each
        raise self.refused(405, "no such method")

    def admit(self, asked: Asked) -> None:
        """Raises Refusal for whoever may not ask."""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and document for a request that fits its model. Raises Refusal."""
        raise NotImplementedError

    def refused(self, status: int, why: str) -> Refusal:
        """In the service's own words."""
        raise NotImplementedError

    def refusal_problems(self, asked: Asked, refusal: Refusal) -> Iterator[str]:
        """What the model says of it."""
        raise NotImplementedError

    def said(self, asked: Asked, told: Any) -> Any:
        """What is said in the end, after the check: a test may have a service talk nonsense."""
        return told


class Asked:
    """One request, taken apart."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        self.method, self.path = handler.command, parts.path
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = handler.headers
        self.host = str(handler.headers.get("Host"))
        self.body = body

    def login(self) -> tuple[str, str] | None:
        scheme, _, rest = str(self.headers.get("Authorization") or "").partition(" ")
        if scheme != "Basic":
            return None
        user, _, password = base64.b64decode(rest).decode().partition(":")
        return user, password

    def form(self) -> dict[str, str]:
        """Raises ValueError when it is none, or has a field twice."""
        if self.headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise ValueError("no form")
        pairs = parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a field twice")
        return found

    def json(self) -> Any:
        """Raises ValueError when it is none."""
        if self.headers.get("Content-Type") != "application/json":
            raise ValueError("no JSON")
        return json.loads(self.body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RestServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if len(body) < int(self.headers.get("Content-Length") or 0):
            self.close_connection = True  # it was cut off: no request
            return
        with self.server.lock:
            status, told, headers = self.server.perform(Asked(self, body))
        data = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers,
                            "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""
