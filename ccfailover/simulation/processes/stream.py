"""The stream of contacts of a voice route: real calls to the destinations, and honest counts."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ccfailover.simulation.processes.calling import call
from ccfailover.simulation.processes.rotation import Rotation

CONTACT_TIMEOUT = 1.0
"""Seconds until a caller who is not answered hangs up."""

WORKERS = 64
MAX_EVENTS = 20_000
MAX_SECONDS = 900
MAX_RATE = 500.0


@dataclass
class _Second:
    at: int
    offered: int = 0
    lost: int = 0
    answered: Counter[str] = field(default_factory=Counter)


class Stream:
    """Offers `rate` contacts a second and spreads them by the shares last given.

    Every contact is counted once, when its outcome is known: offered = answered + lost +
    in_flight. `at` of an event is when it ended and rises from event to event, so that a reader
    who asks for what came after the last one misses none; `offered_at` is when it began.
    """

    def __init__(self, destinations: Mapping[str, str], shares: Mapping[str, int],
                 rate: float) -> None:
        self._destinations = dict(destinations)
        self._lock = threading.Lock()
        self._rotation = Rotation(shares)
        self._rate = rate
        self._changed = threading.Condition(self._lock)
        self._since = _now()
        self._offered = 0
        self._answered: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._last_at = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._losses: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._seconds: deque[_Second] = deque(maxlen=MAX_SECONDS)
        self._calls: queue.Queue[tuple[str, int]] = queue.Queue(maxsize=4096)

    def start(self) -> None:
        threading.Thread(target=self._generate, daemon=True).start()
        for _ in range(WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def set_shares(self, shares: Mapping[str, int]) -> None:
        with self._lock:
            self._rotation.set(shares)

    def set_rate(self, rate: float) -> None:
        with self._changed:
            self._rate = rate
            self._changed.notify_all()

    def counts(self) -> dict[str, Any]:
        with self._lock:
            answered, lost = sum(self._answered.values()), sum(self._lost.values())
            return {
                "since": self._since,
                "rate": self._rate,
                "offered": self._offered,
                "answered": {name: self._answered[name] for name in self._destinations},
                "lost": lost,
                "lost_by_destination": {name: self._lost[name] for name in self._destinations},
                "in_flight": self._offered - answered - lost,
                "losses": list(self._losses)[-1000:],
                "per_second": [{"second": s.at, "offered": s.offered, "lost": s.lost,
                                "answered": dict(s.answered)}
                               for s in list(self._seconds)[-120:]],
            }

    def log(self, since: int, limit: int = 5000) -> dict[str, Any]:
        """Events that ended after `since` (µs), oldest first; `more` when there are others.

        `dropped` when the memory no longer reaches back to `since`.
        """
        with self._lock:
            full = len(self._events) == MAX_EVENTS
            dropped = full and self._events[0]["at"] > since
            found = [event for event in self._events if event["at"] > since]
        return {"events": found[:limit], "more": len(found) > limit, "dropped": dropped}

    def _generate(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                if self._rate <= 0:
                    self._changed.wait()
                    due = time.monotonic()
                    continue
                ahead = due - time.monotonic()
                if ahead > 0:
                    self._changed.wait(ahead)
                    continue
                # A stalled machine is not a rush of callers: what is late by a second is let go.
                due = max(due, time.monotonic() - 1.0) + 1.0 / self._rate
                destination = self._rotation.pick()
                self._offered += 1
                self._second().offered += 1
            try:
                self._calls.put_nowait((destination, _now()))
            except queue.Full:
                self._settle(destination, _now(), "no_line")

    def _work(self) -> None:
        while True:
            destination, offered_at = self._calls.get()
            answer = call("POST", f"{self._destinations[destination]}/contacts", b"{}",
                          timeout=CONTACT_TIMEOUT)
            reason = "" if answer.ok else answer.reason or f"http_{answer.status}"
            self._settle(destination, offered_at, reason)

    def _settle(self, destination: str, offered_at: int, reason: str) -> None:
        with self._lock:
            self._last_at = max(_now(), self._last_at + 1)
            event = {"at": self._last_at, "offered_at": offered_at,
                     "destination": destination, "ok": not reason}
            self._events.append(event)
            second = self._second()
            if reason:
                self._lost[destination] += 1
                second.lost += 1
                self._losses.append(
                    {**event, "reason": reason, "monotonic": time.monotonic()})
            else:
                self._answered[destination] += 1
                second.answered[destination] += 1

    def _second(self) -> _Second:
        at = int(time.time())
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]


def _now() -> int:
    return time.time_ns() // 1000
