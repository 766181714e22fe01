"""Bad weather between us and a real server: a TCP forwarder that can lose, delay and invent.

One HTTP exchange a connection. `weather.next(*modes)` says what the coming exchanges meet;
after that it is fair again.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from types import TracebackType
from typing import ClassVar, Self

MODES = frozenset({
    "fair",            # forward as it is
    "refuse",          # close at once, nothing forwarded
    "hang",            # take the request, say nothing
    "lose_reply",      # forward, swallow the reply, say nothing
    "cut_reply",       # forward, close without a reply
    "busy",            # 429 with Retry-After, nothing forwarded
    "error",           # 500 after forwarding
    "down",            # 503 with Retry-After, nothing forwarded
    "garbage",         # 200 with bytes that are no JSON
    "not_http",        # bytes that are no HTTP
    "huge",            # 200 with 64 MB
    "endless",         # 200 that never ends, a byte now and then
    "headers",         # header lines without end
    "redirect",        # 302 to another place on the same server
})


class Sky:
    """What kinds of weather there are, and which ones come next; `close` ends it."""

    modes: ClassVar[frozenset[str]]

    def __init__(self) -> None:
        self._modes: deque[str] = deque()
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def next(self, *modes: str) -> None:
        unknown = set(modes) - self.modes
        if unknown:
            raise ValueError(f"no such weather: {unknown}")
        self._modes.extend(modes)

    def clear(self) -> None:
        self._modes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._listener.close()


class Weather(Sky):
    modes = MODES

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__()
        self._upstream = (host, port)
        self.requests: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._serve)

    def close(self) -> None:
        super().close()
        for thread in self._threads:
            thread.join(2)

    def _spawn(self, fn: object, *args: object) -> None:
        thread = threading.Thread(target=fn, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stop.is_set():
            try:
                peer, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._spawn(self._meet, peer)

    def _meet(self, peer: socket.socket) -> None:
        with peer:
            try:
                self._exchange(peer)
            except OSError:
                return

    def _exchange(self, peer: socket.socket) -> None:
        peer.settimeout(5)
        request = _request(peer)
        if not request:
            return
        self.requests.append(request)
        mode = self._modes.popleft() if self._modes else "fair"
        reply = b""
        if mode in ("fair", "lose_reply", "cut_reply", "error"):
            reply = self._forward(request)
        if mode == "fair":
            peer.sendall(reply)
        elif mode in ("hang", "lose_reply"):
            self._until_gone(peer)
        elif mode == "busy":
            peer.sendall(_canned("429 Too Many", b"{}", "Retry-After: 7"))
        elif mode == "error":
            peer.sendall(_canned("500 Oh", b'{"token":"' + _secret(request) + b'"}'))
        elif mode == "down":
            peer.sendall(_canned("503 Later", b"{}", "Retry-After: 3"))
        elif mode == "redirect":
            peer.sendall(_canned("302 Elsewhere", b"", "Location: /counts"))
        elif mode == "garbage":
            peer.sendall(_canned("200 OK", b"<html>\xff\x00" + _secret(request) + b"</html>"))
        elif mode == "not_http":
            peer.sendall(b"SSH-2.0-OpenSSH\r\n\r\n" + _secret(request))
        elif mode == "huge":
            self._huge(peer)
        elif mode == "endless":
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
            while not self._stop.wait(0.05):
                peer.sendall(b" ")
        elif mode == "headers":
            peer.sendall(b"HTTP/1.1 200 OK\r\n")
            while not self._stop.is_set():
                peer.sendall(b"X-More: " + b"x" * 4000 + b"\r\n")

    def _huge(self, peer: socket.socket) -> None:
        total = 64_000_000
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 64_000):
            peer.sendall(b" " * 64_000)

    def _forward(self, request: bytes) -> bytes:
        head, _, rest = request.partition(b"\r\n")
        closing = head + b"\r\nConnection: close\r\n" + rest
        with socket.create_connection(self._upstream, 5) as server:
            server.sendall(closing)
            parts = []
            while chunk := server.recv(65536):
                parts.append(chunk)
        return b"".join(parts)

    def _until_gone(self, peer: socket.socket) -> None:
        peer.settimeout(0.05)
        while not self._stop.is_set():
            try:
                if not peer.recv(1):
                    return
            except TimeoutError:
                continue


def _request(peer: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = peer.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


def _secret(request: bytes) -> bytes:
    """What a careless server would echo: the Authorization header."""
    for line in request.split(b"\r\n"):
        if line.lower().startswith(b"authorization:"):
            return line.partition(b":")[2].strip()
    return b""


def _canned(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json",
             f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
