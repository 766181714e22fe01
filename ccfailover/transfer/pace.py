"""No faster than the target can take it."""

from __future__ import annotations

from collections.abc import Callable

from ccfailover.runtime import Runtime


class Pace:
    """At most `rate` items a second (None: no limit), spread evenly, without a first burst."""

    def __init__(self, rate: float | None, runtime: Runtime) -> None:
        self._rate = rate
        self._runtime = runtime
        self._next = runtime.monotonic()

    def most(self, batch: int, claim_seconds: float) -> int:
        """The batch size: never more than can be put in a quarter of a claim's life."""
        if self._rate is None:
            return batch
        return max(1, min(batch, int(self._rate * claim_seconds / 4)))

    def wait(self, deadline: float, stop: Callable[[], bool]) -> bool:
        """Wait until more may go; False when it is not time yet at `deadline`, or when asked to
        stop. Comes before the claim, so that no claim grows old meanwhile."""
        while (left := self._next - self._runtime.monotonic()) > 0:
            room = deadline - self._runtime.monotonic()
            if stop() or room <= 0:
                return False
            self._runtime.sleep(min(0.5, left, room))
        return True

    def spent(self, count: int) -> None:
        """`count` items have gone since `wait`."""
        if self._rate is not None:
            self._next = max(self._next, self._runtime.monotonic()) + count / self._rate
