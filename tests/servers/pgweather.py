"""Bad weather between us and a real PostgreSQL: a forwarder that knows where a request begins.

`next(*modes)` says what the coming requests of established connections meet; after that, and
while connections are being made, it is fair.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from tests.servers.weather import Sky

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


class PostgresWeather(Sky):
    modes = MODES

    def __init__(self, port: int) -> None:
        super().__init__()
        self._upstream = ("127.0.0.1", port)
        self.requests = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        super().close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                peer, _ = self._listener.accept()
                upstream = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                return
            upstream.settimeout(None)
            self._open += [peer, upstream]
            fate = _Fate()
            threading.Thread(target=self._back, args=(upstream, peer, fate), daemon=True).start()
            threading.Thread(target=self._forth, args=(peer, upstream, fate), daemon=True).start()

    def _forth(self, peer: socket.socket, upstream: socket.socket, fate: _Fate) -> None:
        """A client sends one whole request at a time: what comes in one piece is one."""
        with contextlib.suppress(OSError):
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
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)

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

    def _back(self, upstream: socket.socket, peer: socket.socket, fate: _Fate) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 20):
                if data.endswith(b"Z\x00\x00\x00\x05I"):
                    fate.ready.set()  # the server waits for a request
                    if fate.farewell:
                        data = data[:-6] + FAREWELL + data[-6:]
                if fate.cut:
                    peer.shutdown(socket.SHUT_RDWR)
                elif not fate.silent:
                    peer.sendall(data)
        if not fate.silent:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)


class _Fate:
    def __init__(self) -> None:
        self.silent = self.cut = self.farewell = False
        self.ready = threading.Event()
