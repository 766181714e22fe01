"""No faster than the target can take it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from ccfailover.runtime import Runtime

SHORT = 0.1
"""Seconds' worth of items in a batch where several movers take turns: so far can what arrives
within one second be above the rate."""


class Reserve(Protocol):
    """The part of the store that paces. `ccfailover.store.Store` is one."""

    def reserve(self, name: str, count: int, rate: float) -> float: ...


@dataclass(frozen=True)
class Turn:
    """A place in the line before `name` (a provider) that all who work with `store` share."""

    store: Reserve
    name: str


class Pace:
    """At most `rate` items a second (None: no limit), spread evenly, without a first burst.

    `shared`: the rate is that of all together who take turns there, in whatever process.
    Threads may share it: whoever waits has a turn of its own."""

    def __init__(self, rate: float | None, runtime: Runtime, shared: Turn | None = None) -> None:
        self._rate = rate
        self._runtime = runtime
        self._shared = shared
        self._next = runtime.monotonic()
        self._lock = Lock()

    def most(self, batch: int, claim_seconds: float) -> int:
        """The batch size: what goes in a second, and in a quarter of a claim's life."""
        if self._rate is None:
            return batch
        span = 1.0 if self._shared is None else SHORT
        return max(1, min(batch, int(self._rate * min(span, claim_seconds / 4))))

    def wait(self, deadline: float, stop: Callable[[], bool]) -> bool:
        """Wait until more may go; False when it is not time yet at `deadline`, or when asked to
        stop. Comes before the claim, so that no claim grows old meanwhile."""
        while (left := self._next - self._runtime.monotonic()) > 0:
            room = deadline - self._runtime.monotonic()
            if stop() or room <= 0:
                return False
            self._runtime.sleep(min(0.5, left, room))
        return True

    def turn(self, count: int, meanwhile: Callable[[], None]) -> None:
        """Just before `count` items go: wait for their turn where it is shared with others.

        Nobody's place is long, so that it is waited for to its end; `meanwhile` is called every
        half second of it."""
        if self._shared is None or self._rate is None or count < 1:
            return
        until = self._runtime.monotonic() + self._shared.store.reserve(
            self._shared.name, count, self._rate)
        while (left := until - self._runtime.monotonic()) > 0:
            self._runtime.sleep(min(0.5, left))
            meanwhile()

    def spent(self, count: int) -> None:
        """`count` items go now, or have gone since `wait`."""
        if self._rate is not None:
            with self._lock:
                self._next = max(self._next, self._runtime.monotonic()) + count / self._rate
