"""A gate before a real SQS server: keeps connections, writes down what came, and does what the
service does and small servers do not, or what it should never do.

- It remembers deduplication ids for five minutes, per queue, also when the message is gone.
- It can refuse single entries of a batch, change an answer, break a kept connection after the
  call has been carried out, and say nothing at all.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

WINDOW = 300.0


@dataclass(frozen=True)
class Call:
    operation: str
    payload: dict[str, Any]
    authorization: str
    token: str | None
    peer: int


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed and servers restarted: a broken connection is part of the test."""


class SqsGate:
    """`mishaps`: for the coming calls of an operation, `cut` (carried out, then the connection is
    closed) or `hang` (nothing is done or said)."""

    def __init__(self, port: int) -> None:
        self.calls: list[Call] = []
        self.refuses: Callable[[dict[str, Any]], bool] = lambda entry: False
        self.alter: Callable[[str, dict[str, Any]], Any] = lambda operation, answer: answer
        self.mishaps: dict[str, deque[str]] = {}
        self._upstream = port
        self._ids: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                gate._answer(self)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The payloads that came for one operation, in order."""
        return [call.payload for call in self.calls if call.operation == operation]

    def meet(self, operation: str, *what: str) -> None:
        self.mishaps.setdefault(operation, deque()).extend(what)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        operation, payload = request.headers["X-Amz-Target"].partition(".")[2], json.loads(body)
        call = Call(operation, payload, request.headers["Authorization"],
                    request.headers["X-Amz-Security-Token"], request.client_address[1])
        with self._lock:
            self.calls.append(call)
            waiting = self.mishaps.get(operation)
            mishap = waiting.popleft() if waiting else ""
        if mishap == "hang":
            self._stop.wait(20)
            request.close_connection = True
            return
        if operation == "SendMessageBatch":
            status, answer = self._send(payload, request)
        else:
            status, answer = self._forward(payload, request)
        if mishap == "cut":
            request.close_connection = True
            return
        if status == 200:
            answer = self.alter(operation, answer)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/x-amz-json-1.0")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _send(self, payload: dict[str, Any], request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        """Refused entries and repeated ids go no further; the others do, in their order."""
        done: dict[str, list[dict[str, Any]]] = {"Successful": [], "Failed": []}
        onward = []
        with self._lock:
            for entry in payload["Entries"]:
                key = (payload["QueueUrl"], entry.get("MessageDeduplicationId", ""))
                known = self._ids.get(key) if key[1] else None
                if known is not None and time.monotonic() - known[0] < WINDOW:
                    done["Successful"].append({**known[1], "Id": entry["Id"]})
                elif self.refuses(entry):
                    done["Failed"].append({"Id": entry["Id"], "Code": "InternalError",
                                           "SenderFault": False})
                else:
                    onward.append(entry)
        if onward or not payload["Entries"]:
            status, answer = self._forward({**payload, "Entries": onward}, request)
            if status != 200:
                return status, answer
            entries = {entry["Id"]: entry for entry in onward}
            with self._lock:
                for sent in answer.get("Successful", []):
                    done["Successful"].append(sent)
                    repeat = entries[sent["Id"]].get("MessageDeduplicationId")
                    if repeat:
                        self._ids[payload["QueueUrl"], repeat] = (time.monotonic(), sent)
            done["Failed"] += answer.get("Failed", [])
        return 200, done

    def _forward(self, payload: dict[str, Any], request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        body = json.dumps(payload).encode()
        headers = {name: value for name, value in request.headers.items()
                   if name.lower() not in ("content-length", "host", "connection")}
        link = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=30)
        try:
            link.request("POST", "/", body, headers)
            reply = link.getresponse()
            return reply.status, json.loads(reply.read() or b"{}")
        finally:
            link.close()
