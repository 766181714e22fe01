"""Telephones of a few lines: sites that answer calls, and a caller. UDP, no media, no timers."""

from __future__ import annotations

import itertools
import re
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Self

_numbers = itertools.count(1)
_AT_ONCE = 40
"""Calls that are being set up: more of them could overrun a socket's buffer."""


class Site:
    """Answers OPTIONS, INVITE and BYE with 200, and counts the calls that reached it."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.1)
        self.uri = f"sip:{host}:{self._socket.getsockname()[1]}"
        self.calls: set[str] = set()
        self.refuses: str | None = None
        """What it says to an INVITE instead of 200, such as `486 Busy Here`."""
        self.misses = 0
        """How many copies of a hang-up it does not hear before it answers."""
        self._heard: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Dead: nobody listens there any more. Safe to call twice."""
        self._stop.set()
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                data, peer = self._socket.recvfrom(65_536)
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            request = data.decode()
            method = request.partition(" ")[0]
            if method == "INVITE":
                self.calls.add(_header(request, "Call-ID"))
            if method == "BYE":
                ident = _header(request, "Call-ID")
                self._heard[ident] = self._heard.get(ident, 0) + 1
                if self._heard[ident] <= self.misses:
                    continue
            if method in ("INVITE", "BYE", "OPTIONS"):
                status = self.refuses if method == "INVITE" and self.refuses else "200 OK"
                self._socket.sendto(self._answer(request, status), peer)

    def _answer(self, request: str, status: str) -> bytes:
        kept = [line for line in request.split("\r\n\r\n")[0].split("\r\n")
                if re.match(r"(Via|From|Call-ID|CSeq|Record-Route):", line, re.I)]
        to = f"To: {_header(request, 'To')}"
        tagged = to if ";tag=" in to else f"{to};tag=s{next(_numbers)}"
        return "\r\n".join([f"SIP/2.0 {status}", *kept, tagged, f"Contact: <{self.uri}>",
                            "Content-Length: 0", "", ""]).encode()


class Caller:
    """Many calls at once through one edge."""

    def __init__(self, port: int) -> None:
        self._edge = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._port = self._socket.getsockname()[1]
        self._tag = f"c{next(_numbers)}"
        self._answered: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, count: int = 1, number: str = "18005550100", seconds: float = 10) -> list[int]:
        """The final status of each of so many new calls, in no order."""
        waiting: set[str] = set()
        statuses: list[int] = []
        end = time.monotonic() + seconds
        while len(statuses) < count and time.monotonic() < end:
            while len(waiting) < min(_AT_ONCE, count - len(statuses)):
                ident = f"{self._tag}-{next(_numbers)}@test"
                self._send(self._request("INVITE", f"sip:{number}@127.0.0.1", ident))
                waiting.add(ident)
            if not select.select([self._socket], [], [], 0.2)[0]:
                continue
            reply = self._socket.recv(65_536).decode()
            status, ident = int(reply.split(" ")[1]), _header(reply, "Call-ID")
            if status < 200 or ident not in waiting:
                continue
            waiting.discard(ident)
            statuses.append(status)
            if status == 200:
                self._answered[ident] = reply
            self._send(self._within("ACK", ident, reply))
        return statuses

    def hang_up(self) -> int:
        """Ends every call that was answered; how many of them were confirmed as ended."""
        for ident, reply in self._answered.items():
            self._send(self._within("BYE", ident, reply))
        ended, end = 0, time.monotonic() + 5
        while ended < len(self._answered) and time.monotonic() < end:
            if select.select([self._socket], [], [], 0.2)[0]:
                reply = self._socket.recv(65_536).decode()
                ended += "BYE" in _header(reply, "CSeq") and reply.startswith("SIP/2.0 200")
        self._answered = {}
        return ended

    def _within(self, method: str, ident: str, reply: str) -> str:
        contact = re.search(r"^Contact: *<([^>]+)>", reply, re.M | re.I)
        routes = re.findall(r"^Record-Route: *(.+?)\r$", reply, re.M | re.I)
        return self._request(method, contact[1] if contact else "sip:127.0.0.1", ident,
                             to=_header(reply, "To"), routes=routes[::-1])

    def _request(self, method: str, uri: str, ident: str, to: str = "", routes: Sequence[str] = (),
                 ) -> str:
        sequence = 2 if method == "BYE" else 1
        return "\r\n".join([
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self._port};branch=z9hG4bK{next(_numbers)}",
            *(f"Route: {route}" for route in routes),
            f"From: <sip:caller@127.0.0.1>;tag={self._tag}",
            f"To: {to or f'<{uri}>'}", f"Call-ID: {ident}", f"CSeq: {sequence} {method}",
            f"Contact: <sip:caller@127.0.0.1:{self._port}>", "Max-Forwards: 70",
            "Content-Length: 0", "", ""])

    def _send(self, request: str) -> None:
        self._socket.sendto(request.encode(), self._edge)


def _header(message: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r$", message, re.M | re.I)
    return found[1] if found else ""
