"""Bad weather between us and a server that takes one line a connection (HAProxy's runtime API):
`next(*modes)` for the coming lines of any sort, `next_write(*modes)` for those that set something.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from pathlib import Path

from tests.servers.weather import Sky


class LineWeather(Sky):
    modes = frozenset({
        "fair",        # forward as it is
        "hang",        # take the line, say nothing
        "lose_reply",  # forward, swallow the reply, say nothing
        "cut_reply",   # forward, close without a reply
        "half",        # forward the first half of its commands, then close without a reply
        "garbage",     # bytes that are no text of HAProxy
        "huge",        # 64 MB
        "endless",     # a byte now and then, without end
    })

    def __init__(self, port: int, path: Path | None = None) -> None:
        """`path`: listen there too, on a socket of the file system."""
        super().__init__()
        self._upstream = ("127.0.0.1", port)
        self._for_writes: deque[str] = deque()
        self.lasting_writes = ""
        self.writes: list[str] = []
        """Lines that set something and were passed on."""
        self.delay = 0.0
        """Seconds before each answer."""
        self._listeners = [self._listener]
        if path is not None:
            local = socket.socket(socket.AF_UNIX)
            local.bind(str(path))
            local.listen()
            self._listeners.append(local)
        for each in self._listeners:
            threading.Thread(target=self._serve, args=(each,), daemon=True).start()

    def next_write(self, *modes: str) -> None:
        self._for_writes.extend(modes)

    def clear(self) -> None:
        super().clear()
        self._for_writes.clear()
        self.lasting_writes = ""

    def close(self) -> None:
        self._stop.set()
        for each in self._listeners:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept
            each.close()

    def _serve(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._meet, args=(peer,), daemon=True).start()

    def _meet(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            line = b""
            while not line.endswith(b"\n"):
                part = peer.recv(65_536)
                if not part:
                    return
                line += part
            self._exchange(peer, line)

    def _exchange(self, peer: socket.socket, line: bytes) -> None:
        write = line.startswith(b"set ")
        coming = self._for_writes if write and self._for_writes else self._modes
        mode = coming.popleft() if coming else (write and self.lasting_writes) or "fair"
        reply = b""
        if mode == "half":
            commands = line.decode().strip().split("; ")
            line = "; ".join(commands[:len(commands) // 2]).encode() + b"\n"
        if mode in ("fair", "lose_reply", "cut_reply") or mode == "half" and line.strip():
            if write:
                self.writes.append(line.decode())
            with socket.create_connection(self._upstream, 5) as server:
                server.sendall(line)
                while part := server.recv(65_536):
                    reply += part
        self._stop.wait(self.delay)
        if mode == "fair":
            peer.sendall(reply)
        elif mode in ("hang", "lose_reply"):
            peer.settimeout(30)
            peer.recv(1)
        elif mode == "garbage":
            peer.sendall(b"\xff\x00 <html> " * 50)
        elif mode == "huge":
            for _ in range(1000):
                peer.sendall(b"1 " * 32_000)
        elif mode == "endless":
            while not self._stop.wait(0.05):
                peer.sendall(b"1")
