"""A JSON-RPC server over HTTP that says what it is told to, for replies that no real one gives."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Fault:
    """An error of the server's own, as a JSON-RPC body with an HTTP status."""

    def __init__(self, message: object, status: int = 500) -> None:
        self.message, self.status = message, status


class Raw:
    """A reply as it is."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.body, self.status = body, status


class Said(ThreadingHTTPServer):
    """`says`: method → result, Fault or Raw. What was asked is in `asked`, with its token."""

    daemon_threads = True

    def __init__(self, says: Mapping[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says = dict(says)
        self.asked: list[tuple[str, list[Any]]] = []
        self.tokens: list[str | None] = []
        self.delay = 0.0
        """Seconds before each answer."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}/RPC"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.shutdown()
        self._thread.join(5)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Said
    wbufsize = 65_536  # head and body in one packet: else the body waits 40 ms for an ACK

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((asked["method"], asked["params"]))
        self.server.tokens.append(self.headers.get("Authorization"))
        time.sleep(self.server.delay)
        said = self.server.says[asked["method"]]
        if isinstance(said, Raw):
            body, status = said.body, said.status
        elif isinstance(said, Fault):
            error = {"code": said.status, "message": said.message}
            body = json.dumps({"jsonrpc": "2.0", "error": error, "id": asked["id"]}).encode()
            status = said.status
        else:
            body = json.dumps({"jsonrpc": "2.0", "result": said, "id": asked["id"]}).encode()
            status = 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Quiet."""
