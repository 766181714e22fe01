"""A second chance for what a target did not take and did not refuse for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ccfailover.runtime import Runtime
from ccfailover.transfer.claims import Claims

PAUSES: Final = (5.0, 15.0)
"""Seconds to wait, once nothing else is there, before they are tried anew: a target that restarts
takes them then. After the last time they stay."""


class Again:
    """Messages, by their keys. `judged`: those that are decided on, see `Sorter`."""

    def __init__(self, claims: Claims, judged: set[str], runtime: Runtime) -> None:
        self._claims, self._judged, self._runtime = claims, judged, runtime
        self._messages = set[str]()
        self._times = 0

    def __contains__(self, message: str) -> bool:
        return message in self._messages

    def add(self, message: str) -> None:
        self._messages.add(message)

    def come(self, deadline: float, stop: Callable[[], bool],
             check_fence: Callable[[], None]) -> bool:
        """Wait, and have them shown once more, as if they had not been seen; what else stays is
        kept hidden. False: there are none, or there is no more time. Raises what `check_fence`
        raises."""
        if not self._messages or self._times >= len(PAUSES):
            return False
        end = self._runtime.monotonic() + PAUSES[self._times]
        while (now := self._runtime.monotonic()) < end:
            if stop() or end >= deadline:
                return False
            self._claims.keep_alive()
            self._runtime.sleep(min(1.0, end - now))
        self._times += 1
        check_fence()
        self._judged -= self._messages
        self._claims.release(self._messages)
        self._messages.clear()
        self._claims.look_again()
        return True
