"""The intake of applications: promised durably, then forwarded by the shares then in force."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from ccfailover.simulation.processes.calling import call
from ccfailover.simulation.processes.rotation import Rotation
from ccfailover.simulation.processes.switchboard import Held, Switchboard

FORWARD_TIMEOUT = 5.0
"""Seconds for a destination to take an application: long, because a time-out leaves doubt."""

WORKERS = 4
PAUSE = 0.25
LONGEST_PAUSE = 2.0
MAX_WAITING = 20_000


class Intake:
    """`submit` returns once the application is on disk; after that it is never lost.

    A destination that refuses leaves it waiting, and the next try asks the shares again. One
    that answers nothing leaves doubt: the next delivery of that application is listed under
    `possible_duplicates`, whatever becomes of it. The key travels as `Idempotency-Key`.
    """

    def __init__(self, name: str, destinations: Mapping[str, str], shares: Mapping[str, int],
                 board: Switchboard) -> None:
        self._name = name
        self._destinations = dict(destinations)
        self._board = board
        self._rotation = Rotation(shares)
        self._wake = threading.Condition()
        self._not_before: dict[int, float] = {}
        self._tries: dict[int, int] = {}

    def start(self) -> None:
        for _ in range(WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def set_shares(self, shares: Mapping[str, int]) -> None:
        """What waits is tried again at once: the new destination may be alive."""
        with self._wake:
            self._rotation.set(shares)
            self._not_before.clear()
            self._wake.notify_all()

    def submit(self, key: str, body: bytes) -> bool:
        """False when `key` was submitted before. Raises Refusal 503 when too many wait."""
        fresh = self._board.hold(self._name, key, body, MAX_WAITING)
        with self._wake:
            self._wake.notify()
        return fresh

    def counts(self) -> dict[str, Any]:
        counts = self._board.intake_counts(self._name)
        return {**counts, "forwarded": {**dict.fromkeys(self._destinations, 0),
                                        **counts["forwarded"]}}

    def _work(self) -> None:
        while True:
            with self._wake:
                held = self._board.take(self._name, self._not_before)
                if held is None:
                    self._wake.wait(PAUSE)
                    continue
                destination = self._rotation.pick()
            self._forward(held, destination)

    def _forward(self, held: Held, destination: str) -> None:
        answer = call("POST", f"{self._destinations[destination]}/applications", held.body,
                      timeout=FORWARD_TIMEOUT,
                      headers={"Idempotency-Key": f"{self._name}:{held.key}"})
        if answer.ok:
            self._board.forwarded(self._name, held, destination)
            with self._wake:
                self._tries.pop(held.seq, None)
                self._not_before.pop(held.seq, None)
            return
        # An answer of 503 comes from a site that could not put it into its queue, or could not
        # tell: only 502 says that it certainly did not.
        certain = not answer.sent or answer.status == 502
        self._board.give_back(held, in_doubt=not certain)
        with self._wake:
            tries = self._tries[held.seq] = self._tries.get(held.seq, 0) + 1
            pause = min(LONGEST_PAUSE, PAUSE * 2 ** min(tries - 1, 8))
            self._not_before[held.seq] = time.monotonic() + pause
