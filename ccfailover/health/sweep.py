"""Many HTTP requests at once over curl's multi interface, bounded in number, bytes and time.

Sockets are watched with `selectors` (epoll): curl's own `select` cannot hold more than 1024.
10,000 probes, 1000 at once: `benchmarks/` and docs/adr/0002.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccfailover.runtime import Runtime

AT_ONCE = 1000
BODY_LIMIT = 65_536


@dataclass(eq=False)
class Fetch:
    """One request and what became of it. `prepare` sets options on a curl handle.

    `code` is curl's (0: all went well; None: cut off at the deadline, -1: never begun).
    """

    index: int
    prepare: Callable[[Any, float], None]
    began: float = 0.0
    seconds: float = 0.0
    connect_s: float = 0.0
    status: int = 0
    code: int | None = -1
    os_errno: int = 0
    body: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def take(self, part: bytes) -> int | None:
        """curl's write callback: keeps 64 KiB, then ends the transfer by taking less."""
        room = BODY_LIMIT - len(self.body)
        self.body += part[:room]
        if len(part) <= room:
            return None
        self.truncated = True
        return 0


class Sweep:
    """Runs every fetch; `results` yields each once, as it ends, all before `deadline`."""

    def __init__(self, fetches: Sequence[Fetch], runtime: Runtime, deadline: float) -> None:
        import pycurl

        self._curl = pycurl
        self._runtime = runtime
        self._deadline = deadline
        self._waiting = deque(fetches)
        self._running: dict[Any, Fetch] = {}
        self._idle: list[Any] = []
        self._selector = selectors.DefaultSelector()
        self._wake: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._alarm)
        self._multi.setopt(pycurl.M_PIPELINING, 0)

    def results(self) -> Iterator[Fetch]:
        try:
            while (self._waiting or self._running) and self._left() > 0:
                self._fill()
                self._wait()
                yield from self._finished()
            now = self._runtime.monotonic()
            for fetch in self._running.values():
                fetch.code, fetch.seconds = None, now - fetch.began
                yield fetch
            yield from self._waiting
        finally:
            self._close()

    def _left(self) -> float:
        return self._deadline - self._runtime.monotonic()

    def _fill(self) -> None:
        started = False
        while self._waiting and len(self._running) < AT_ONCE:
            fetch = self._waiting.popleft()
            handle = self._idle.pop() if self._idle else self._curl.Curl()
            fetch.began = self._runtime.monotonic()
            fetch.prepare(handle, fetch.began)
            handle.setopt(self._curl.WRITEFUNCTION, fetch.take)
            self._running[handle] = fetch
            self._multi.add_handle(handle)
            started = True
        if started:
            self._multi.socket_action(self._curl.SOCKET_TIMEOUT, 0)

    def _wait(self) -> None:
        """Until a socket stirs, curl's timer rings or the deadline comes."""
        now = self._runtime.monotonic()
        until = self._deadline if self._wake is None else min(self._wake, self._deadline)
        for key, events in self._selector.select(max(0.0, until - now)):
            mask = (self._curl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                self._curl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0)
            self._multi.socket_action(key.fd, mask)
        if self._wake is not None and self._runtime.monotonic() >= self._wake:
            self._wake = None
            self._multi.socket_action(self._curl.SOCKET_TIMEOUT, 0)

    def _finished(self) -> Iterator[Fetch]:
        more = 1
        while more:
            more, good, failed = self._multi.info_read(256)
            for handle in good:
                yield self._end(handle, 0)
            for handle, code, _ in failed:
                yield self._end(handle, code)

    def _end(self, handle: Any, code: int) -> Fetch:
        fetch = self._running.pop(handle)
        fetch.code = 0 if fetch.truncated and code == self._curl.E_WRITE_ERROR else code
        fetch.seconds = handle.getinfo(self._curl.TOTAL_TIME)
        fetch.connect_s = handle.getinfo(self._curl.CONNECT_TIME)
        fetch.status = handle.getinfo(self._curl.RESPONSE_CODE)
        fetch.os_errno = handle.getinfo(self._curl.OS_ERRNO)
        self._multi.remove_handle(handle)
        handle.reset()
        self._idle.append(handle)
        return fetch

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """curl's socket callback: keep the selector as curl wants it."""
        known = fd in self._selector.get_map()
        if what == self._curl.POLL_REMOVE:
            if known:
                self._selector.unregister(fd)
            return
        events = (selectors.EVENT_READ if what & self._curl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & self._curl.POLL_OUT else 0)
        if not events:
            return
        if known:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def _alarm(self, milliseconds: int) -> None:
        """curl's timer callback; -1 calls the alarm off."""
        self._wake = None if milliseconds < 0 else \
            self._runtime.monotonic() + milliseconds / 1000

    def _close(self) -> None:
        for handle in self._running:
            self._multi.remove_handle(handle)
            handle.close()
        for handle in self._idle:
            handle.close()
        self._running.clear()
        self._idle.clear()
        self._multi.close()
        self._selector.close()
