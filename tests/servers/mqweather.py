"""Bad weather between us and a real RabbitMQ: a forwarder that knows AMQP's frames.

`next(*modes)` says what the coming requests meet; between them, and while connections are being
made, it is fair. A request is a claim, a measurement, an ending of claims, or a window of puts;
the message to nowhere that goes before a window is none. `after(count, act)` acts in the middle of
such a window.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

from tests.servers.forwarder import Fate, Forwarder

MODES = frozenset({
    "lose_reply",   # forward, swallow whatever is answered
    "cut_reply",    # forward, then close without an answer
    "hang",         # take it, forward nothing, say nothing
    "busy",         # puts are refused (nack); on anything else the connection is ended (506)
    "garbage",      # bytes that are no frame
    "endless",      # heartbeats without end
    "huge",         # one frame that claims to have a gigabyte
    "half",         # forward of a window of puts only the first three, and take the others in
    "flood",        # deliveries that nobody asked for, without end
})
DECLARE, CONSUME, PUBLISH, ACK, NACK = 0x32000A, 0x3C0014, 0x3C0028, 0x3C0050, 0x3C0078
OPEN = 0x14000A
HALF = 3


class _Fate(Fate):
    def __init__(self) -> None:
        super().__init__()
        self.ready = self.deaf = self.consumes = self.window = False
        self.published = self.last = 0
        self.left: int | None = None


class RabbitWeather(Forwarder):
    modes = MODES
    fates = _Fate
    window = 2
    """Messages in the window that is to meet `busy`."""
    _act: tuple[int, Callable[[], None]] | None = None

    def after(self, count: int, act: Callable[[], None]) -> None:
        """Once, as the last of so many messages of windows has begun to be passed on."""
        self._act = count, act

    def _pass_on(self, peer: socket.socket, upstream: socket.socket, fate: _Fate) -> None:
        for frame in _frames(peer):
            mode = self._mode(frame, fate)
            if mode in ("lose_reply", "cut_reply"):
                fate.silent, fate.cut = True, mode == "cut_reply"
            elif mode == "half":
                fate.left = HALF
            elif mode == "hang":
                fate.silent = fate.deaf = True
            elif mode:
                fate.silent = fate.deaf = True
                self._say(peer, mode, fate)
            if _method(frame) == PUBLISH and fate.left is not None:
                fate.left -= 1
                fate.deaf = fate.left < 0
            if not fate.deaf:
                upstream.sendall(frame)
            if _method(frame) == PUBLISH and fate.window and self._act:
                left, act = self._act
                self._act = (left - 1, act) if left > 1 else None
                if self._act is None:
                    act()

    def _mode(self, frame: bytes, fate: _Fate) -> str:
        """What this frame meets: something only where a request begins."""
        number = _method(frame)
        if number == OPEN:
            fate.ready = True
        fate.consumes = fate.consumes or number == CONSUME
        if number == PUBLISH:
            fate.published += 1
            nowhere = b"ccf.nowhere." in frame
            begins = not nowhere and not fate.window
            fate.window = not nowhere
        else:
            begins = number in (CONSUME, ACK, NACK) and number != fate.last or (
                number == DECLARE and not fate.consumes)
        if number:
            fate.last = number
        if not begins or not fate.ready:
            return ""
        self.requests += 1
        return self._modes.popleft() if self._modes else ""

    def _say(self, peer: socket.socket, mode: str, fate: _Fate) -> None:
        if mode == "busy" and fate.window:
            last = fate.published + self.window - 1
            peer.sendall(struct.pack("!BHIIQBB", 1, 1, 13, NACK, last, 1, 0xCE))
            peer.shutdown(socket.SHUT_WR)  # the broker has not counted them; a new one has to
            return
        if mode == "busy":
            arguments = struct.pack("!IHB", 0x0A0032, 506, 0) + bytes(4)
            peer.sendall(struct.pack("!BHI", 1, 0, len(arguments)) + arguments + b"\xce")
        elif mode == "garbage":
            peer.sendall(b"\xff\xfe\x00 this is not the protocol" * 10)
        elif mode == "huge":
            peer.sendall(b"\x03\0\x01" + struct.pack("!I", 1 << 30) + b"x" * 100_000)
            self._stop.wait(30)
        elif mode == "endless":
            while not self._stop.wait(0.05):
                peer.sendall(b"\x08\0\0\0\0\0\0\xce")
        elif mode == "flood":
            while not self._stop.is_set():
                peer.sendall(_delivery() * 500)
        peer.close()


def _frames(peer: socket.socket) -> Iterator[bytes]:
    data = b""
    header = True
    while more := peer.recv(1 << 20):
        data += more
        if header and len(data) >= 8:
            yield data[:8]
            data, header = data[8:], False
        while len(data) >= 8 and not header:
            size = 8 + int.from_bytes(data[3:7], "big")
            if len(data) < size:
                break
            yield data[:size]
            data = data[size:]


def _method(frame: bytes) -> int:
    return int.from_bytes(frame[7:11], "big") if frame[:1] == b"\x01" else 0


def _delivery() -> bytes:
    method = struct.pack("!I", 0x3C003C) + b"\x01x" + struct.pack("!QB", 1, 0) + b"\0\0"
    head = struct.pack("!HHQH", 60, 0, 2, 0)
    return b"".join(struct.pack("!BHI", kind, 1, len(part)) + part + b"\xce"
                    for kind, part in ((1, method), (2, head), (3, b"{}")))
