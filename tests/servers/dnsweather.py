"""Bad weather between us and a real name server: a forwarder that knows DNS over TCP.

`next(*modes)` says what the coming questions meet, `next_write(*modes)` the coming updates.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from tests.servers.forwarder import Fate, Forwarder

UPDATE = 5


class DnsWeather(Forwarder):
    modes = frozenset({
        "lose_reply",  # forward, swallow the reply
        "cut_reply",   # forward, then close without a reply
        "half",        # forward half of it, and end both connections
        "hang",        # take it, forward nothing, say nothing
        "garbage",     # a message of bytes that are none
        "huge",        # a message of the largest size, of zeros
        "endless",     # a byte now and then
        "unsigned",    # what a server says that knows no key: NOERROR, without a signature
        "forged",      # the real reply with one bit changed
        "servfail",    # an unsigned SERVFAIL
    })

    def __init__(self, port: int) -> None:
        self._for_writes: deque[str] = deque()
        self._forged = False
        self.lasting_writes = ""
        self.updates = 0
        """Updates that were passed on."""
        self.before_update: Callable[[], None] = lambda: None
        """What happens at the server between our last read and our update."""
        super().__init__(port)

    def next_write(self, *modes: str) -> None:
        self._for_writes.extend(modes)

    def clear(self) -> None:
        super().clear()
        self._for_writes.clear()
        self.lasting_writes = ""

    def _pass_on(self, peer: socket.socket, upstream: socket.socket, fate: Fate) -> None:
        for message in _messages(peer):
            self.requests += 1
            write = message[2] >> 3 & 15 == UPDATE
            coming = self._for_writes if write else self._modes
            mode = coming.popleft() if coming else self.lasting_writes if write else ""
            fate.silent = fate.silent or mode not in ("", "cut_reply", "forged")
            if mode == "half":
                part = message[:len(message) // 2]
                upstream.sendall(struct.pack("!H", len(message)) + part)
                peer.shutdown(socket.SHUT_RDWR)
                return
            fate.cut = fate.cut or mode == "cut_reply"
            self._forged = mode == "forged"
            if mode in ("", "lose_reply", "cut_reply", "forged"):
                if write:
                    self.updates += 1
                    self.before_update()
                upstream.sendall(struct.pack("!H", len(message)) + message)
            else:
                self._say(peer, mode, message)

    def _answer(self, data: bytes, fate: Fate) -> bytes:
        if self._forged:
            return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
        return data

    def _say(self, peer: socket.socket, mode: str, message: bytes) -> None:
        said = {"garbage": b"\xff\x00 this is no message" * 9, "huge": bytes(65_535),
                "unsigned": _plain(message, 0), "servfail": _plain(message, 2)}.get(mode)
        if said is not None:
            peer.sendall(struct.pack("!H", len(said)) + said)
        if mode == "endless":
            while not self._stop.wait(0.05):
                peer.sendall(b"\x7f")


def _plain(message: bytes, code: int) -> bytes:
    """A reply without records, question and signature."""
    flags = int.from_bytes(message[2:4], "big") & 0x7800 | 0x8400 | code
    return message[:2] + struct.pack("!HHHHH", flags, 0, 0, 0, 0)


def _messages(peer: socket.socket) -> Iterator[bytes]:
    data = b""
    while more := peer.recv(65_536):
        data += more
        while len(data) >= 2 and len(data) >= (size := 2 + int.from_bytes(data[:2], "big")):
            yield data[2:size]
            data = data[size:]
