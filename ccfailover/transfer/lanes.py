"""Several batches on their way at once, and each stage of them in the order of the source.

While one batch is being put, the next is claimed and written down, and the one before is deleted:
the source, the ledger and the target each have work all the time. Puts go in the order in which
the batches were claimed, so that what the source keeps in order arrives in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from ccfailover.runtime import Runtime


class Lanes:
    """`run` lets `count` workers do the same until there is nothing more to do, or one fails."""

    def __init__(self, count: int, runtime: Runtime) -> None:
        self.count = count
        self._runtime = runtime
        self._changed = Condition()
        self._next = self._serving = 0
        self.failed = False
        self.claiming = Lock()

    def run(self, work: Callable[[], None]) -> None:
        """Raises what the first worker raised, once all have ended."""
        self._next = self._serving = 0
        self.failed = False
        if self.count == 1:
            work()
            return

        def lane(number: int) -> None:
            del number
            try:
                work()
            except BaseException:
                with self._changed:
                    self.failed = True
                    self._changed.notify_all()
                raise

        self._runtime.each(lane, range(self.count), self.count)

    def ticket(self) -> int:
        """Taken with a batch, while claiming."""
        self._next += 1
        return self._next - 1

    @contextmanager
    def turn(self, ticket: int) -> Iterator[bool]:
        """The batch's turn at the target. False: another lane has failed, and nothing may go."""
        with self._changed:
            self._changed.wait_for(lambda: self.failed or self._serving == ticket)
            go_on = not self.failed
        try:
            yield go_on
        finally:
            with self._changed:
                self._serving = max(self._serving, ticket + 1)
                self._changed.notify_all()
