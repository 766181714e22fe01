"""Faults that a test may order: how switches lie, stall and fail in real life."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ccfailover.simulation.processes.serving import Refusal, Request

MODES = {
    "none": "as it should be",
    "ack_only": "answers 200 to a write and does not apply it",
    "error500": "answers 500",
    "hang": "does not answer for `seconds`, then hangs up; a write is not applied",
    "lie": "answers 200, does not apply, and reads back what was asked for",
    "slow": "waits `seconds`, then does it: a caller who gave up sees a late write land",
    "drop": "applies a write and hangs up without an answer",
}
ON = ("write", "read", "all")


@dataclass(frozen=True)
class Fault:
    """`on` says which calls it hits: `write` (PUT), `read` (GET) or `all`."""

    mode: str = "none"
    seconds: float = 3600.0
    on: str = "write"

    def hits(self, verb: str) -> str:
        """The mode to play for a `read` or a `write`."""
        return self.mode if self.on in (verb, "all") else "none"


class Faults:
    """One fault for each route; setting another wakes those that hang."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._changed = threading.Condition()

    def get(self, name: str) -> Fault:
        with self._changed:
            return self._faults.get(name, Fault())

    def set(self, name: str, request: Request) -> Fault:
        """Raises Refusal 400 for a fault that does not exist."""
        asked = request.json()
        mode, seconds = asked.get("mode"), asked.get("seconds", 3600.0)
        on = asked.get("on", "write")
        if mode not in MODES or on not in ON:
            raise Refusal(400, f"mode is one of {', '.join(MODES)}; on one of {', '.join(ON)}")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) \
                or not 0 <= seconds <= 3600:
            raise Refusal(400, "seconds is a number from 0 to 3600")
        fault = Fault(mode, float(seconds), on)
        with self._changed:
            self._faults[name] = fault
            self._changed.notify_all()
        return fault

    def wait(self, name: str, fault: Fault) -> None:
        """`fault.seconds`, or until the fault is changed."""
        with self._changed:
            self._changed.wait_for(lambda: self._faults.get(name) is not fault, fault.seconds)
