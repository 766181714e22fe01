"""Bad weather between us and a real server: a TCP forwarder that can lose, delay and invent.

One HTTP exchange a connection. `weather.next(*modes)` says what the coming exchanges meet;
after that it is fair again.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from tests.servers.awswire import Cbor, to_cbor

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
    "half",            # forward the first half of the request, and end both connections
    "truncated",       # forward, pass on half of the reply's body as if it were the whole
    "odd",             # forward, every value in the reply's document made one of another type
})


class Sky:
    """What kinds of weather there are, and which ones come next; `close` ends it."""

    modes: ClassVar[frozenset[str]]

    def __init__(self) -> None:
        self._modes: deque[str] = deque()
        self.lasting = "fair"
        """What is met after all that `next` named."""
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
        self.lasting = "fair"

    def coming(self) -> str:
        return self._modes.popleft() if self._modes else self.lasting

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
        self.strikes: Callable[[bytes], bool] = lambda request: True
        """Which requests the weather meets; the others pass in between."""
        self._threads: list[threading.Thread] = []
        self._listener.settimeout(0.1)
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
        mode = self.coming() if self.strikes(request) else "fair"
        reply = b""
        if mode in ("fair", "lose_reply", "cut_reply", "error", "truncated", "odd"):
            reply = self._forward(request)
        if mode == "fair":
            # One exchange a connection, and the client is told so: else it might send its next
            # request into a connection that is just being closed.
            peer.sendall(reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        elif mode in ("hang", "lose_reply"):
            self._until_gone(peer)
        elif mode == "half":
            with socket.create_connection(self._upstream, 5) as server:
                server.sendall(request[:-(len(request.partition(b"\r\n\r\n")[2]) // 2 + 1)])
                server.shutdown(socket.SHUT_WR)
                while server.recv(65536):  # until it has given up on the rest
                    pass
        elif mode in ("truncated", "odd"):
            peer.sendall(_bent(reply, mode))
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


def _bent(reply: bytes, mode: str) -> bytes:
    """The reply with another body, and a length that fits it."""
    head, _, body = reply.partition(b"\r\n\r\n")
    kind = next((line for line in head.lower().split(b"\r\n")
                 if line.startswith(b"content-type:")), b"")
    body = body[:len(body) // 2] if mode == "truncated" else odd(body, kind)
    lines = [line for line in head.split(b"\r\n")
             if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))]
    lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def odd(body: bytes, kind: bytes) -> bytes:
    """The document with its members, and every value of another type."""
    if b"cbor" in kind:
        return to_cbor(_other(Cbor(body).value()))
    if b"xml" in kind:
        return re.sub(rb">[^<>]+<", b"><odd>-1</odd><", body)
    return json.dumps(_other(json.loads(body))).encode() if body else body


def _other(value: object) -> object:
    if isinstance(value, dict):
        return {key: _other(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_other(each) for each in value] + [None]
    return 10**30 if isinstance(value, str) else {"odd": [True]}


def _canned(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json",
             f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
