"""Bad weather between us and a real PostgreSQL: a forwarder that knows where a request begins.

`next(*modes)` says what the coming requests of established connections meet; after that, and
while connections are being made, it is fair.
"""

from __future__ import annotations

import socket
import struct
import threading

from tests.servers.forwarder import Fate, Forwarder

MODES = frozenset({
    "lose_reply",   # forward, swallow whatever is answered
    "cut_reply",    # forward, then close without an answer
    "farewell",     # forward, and warn of an immediate shutdown at the end of the answer
    "hang",         # take it, forward nothing, say nothing
    "busy",         # a FATAL of the server: too many connections
    "garbage",      # bytes that are no message
    "endless",      # notices without end, a byte now and then
    "huge",         # one message that claims to have a gigabyte
})


_FIELDS = b"SWARNING\0VWARNING\0C57P01\0Mterminating connection due to immediate shutdown\0\0"
FAREWELL = b"N" + struct.pack("!i", 4 + len(_FIELDS)) + _FIELDS


class _Fate(Fate):
    def __init__(self) -> None:
        super().__init__()
        self.farewell = False
        self.ready = threading.Event()


class PostgresWeather(Forwarder):
    modes = MODES
    fates = _Fate

    def _pass_on(self, peer: socket.socket, upstream: socket.socket, fate: _Fate) -> None:
        """A client sends one whole request at a time: what comes in one piece is one."""
        first = True
        while data := peer.recv(1 << 20):
            starting, first = first or not fate.ready.is_set(), False
            mode = ""
            if not starting and data[:1] != b"X":
                self.requests += 1
                mode = self._modes.popleft() if self._modes else ""
            if mode == "hang":
                fate.silent = True
                continue
            fate.farewell = mode == "farewell"
            if mode in ("lose_reply", "cut_reply"):
                fate.silent, fate.cut = True, mode == "cut_reply"
            elif mode and not fate.farewell:
                fate.silent = True
                self._say(peer, mode)
                return
            upstream.sendall(data)

    def _say(self, peer: socket.socket, mode: str) -> None:
        if mode == "busy":
            fields = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0"
            peer.sendall(b"E" + struct.pack("!i", 4 + len(fields)) + fields)
        elif mode == "garbage":
            peer.sendall(b"\xff\xfe\x00 this is not the protocol" * 10)
        elif mode == "huge":
            peer.sendall(b"D" + struct.pack("!i", 1 << 30) + b"x" * 100_000)
            self._stop.wait(30)
        elif mode == "endless":
            notice = b"SNOTICE\0VNOTICE\0C00000\0Mwait\0\0"
            while not self._stop.wait(0.05):
                peer.sendall(b"N" + struct.pack("!i", 4 + len(notice)) + notice)
        peer.close()

    def _answer(self, data: bytes, fate: _Fate) -> bytes:
        if data.endswith(b"Z\x00\x00\x00\x05I"):
            fate.ready.set()  # the server waits for a request
            if fate.farewell:
                return data[:-6] + FAREWELL + data[-6:]
        return data
