"""The limit of a platform's interface, as the small servers keep it."""

from __future__ import annotations

import time


class Bucket:
    """2 calls a second, and bursts of 5. `refused`: how many it has let nobody make."""

    def __init__(self, rate: float = 2.0, burst: int = 5) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = float(burst), time.monotonic()
        self.refused = 0

    def take(self) -> bool:
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            self.refused += 1
            return False
        self._level -= 1
        return True
