"""A forwarder of whole connections, for protocols that keep theirs: what goes through it, and what
becomes of the answers, is for each protocol to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from tests.servers.weather import Sky


class Fate:
    """What one connection meets. `silent`: no answer goes back any more; `cut`: and it ends."""

    def __init__(self) -> None:
        self.silent = self.cut = False


class Forwarder(Sky):
    fates: type[Any] = Fate

    def __init__(self, port: int) -> None:
        super().__init__()
        self._upstream = ("127.0.0.1", port)
        self.requests = self.connections = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        super().close()
        self.cut()

    def cut(self) -> None:
        """Every connection ends, without a word."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(self._upstream, timeout=5)
            except OSError:  # the server is down, and may come back
                peer.close()
                continue
            upstream.settimeout(None)
            for end in (peer, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open += [peer, upstream]
            fate = self.fates()
            threading.Thread(target=self._back, args=(upstream, peer, fate), daemon=True).start()
            threading.Thread(target=self._forth, args=(peer, upstream, fate), daemon=True).start()

    def _forth(self, peer: socket.socket, upstream: socket.socket, fate: Any) -> None:
        with contextlib.suppress(OSError):
            self._pass_on(peer, upstream, fate)
        with contextlib.suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)

    def _pass_on(self, peer: socket.socket, upstream: socket.socket, fate: Any) -> None:
        """Requests, until there are no more."""
        raise NotImplementedError

    def _answer(self, data: bytes, fate: Any) -> bytes:
        """What becomes of an answer on its way back."""
        return data

    def _back(self, upstream: socket.socket, peer: socket.socket, fate: Any) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 20):
                data = self._answer(data, fate)
                if fate.cut:
                    peer.shutdown(socket.SHUT_RDWR)
                elif not fate.silent:
                    peer.sendall(data)
        if not fate.silent:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
