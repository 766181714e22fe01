"""A part of a move that another process carries: what a worker does with one token after another.

The run's own mover is the one that decides. It takes up what was left open, waits for what does
not show, proves that nothing is left, and closes the ledger's open rows. A helper only carries
batches, under the run's lease and into the same rows. So however it ends, by its part, by a kill
or by the loss of the lease, the run's own mover finds what it finds after any other crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ccfailover.model.items import WorkItem
from ccfailover.transfer.mover import Mover, MoveResult

SPAN = 1.0
"""Seconds' worth of items in a batch."""

FIRST, LEAST = 250, 50
"""Items in a batch as long as the speed is not known, and where it is slow."""


@dataclass(frozen=True)
class Part:
    """What one token came to: items that were looked at, and why it ended."""

    taken: int
    why: str


class Helper(Mover):
    """As `Mover`, for many parts of one move; keep the object between them, as it keeps hidden
    what stays at the source, so that nobody has to look at it again.

    Nothing is ever given back: the run's own mover takes these claims over by what the ledger
    says of them, and those that it does not take end by themselves.
    """

    _left = _asked = 0
    _since = 0.0
    _seen: float | None = None

    def part(self, items: int, deadline: float) -> Part:
        """Take up to `items` off the source; less when nothing comes, at `deadline`, or when
        asked to stop."""
        if self._started:
            self._claims.look_again()
        self._left = self._asked = items
        self._since = self._runtime.monotonic()
        self.run(deadline)
        why = self._why or ("asked to stop" if self._stop() else "its time is up")
        return Part(items - max(0, self._left), why)

    def keep(self) -> None:
        """Between two parts, every few seconds: what stays remains hidden."""
        if self._started:
            self._claims.keep_alive()

    def _take_up(self) -> None:
        """Open rows may be those of another worker, that is at them just now."""

    def _size(self) -> int:
        """A second's worth: what one helper has in hand for long is kept from the others."""
        spent = self._runtime.monotonic() - self._since
        if spent >= SPAN:
            self._seen = (self._asked - self._left) / spent
        share = FIRST if self._seen is None else max(LEAST, int(self._seen * SPAN))
        return max(1, min(super()._size(), self._left, share))

    def _hold(self, batch: Sequence[WorkItem], began: float) -> None:
        super()._hold(batch, began)
        self._left -= len(batch)

    def _end(self) -> str:
        if broken := self._broken():
            return broken
        if self._left <= 0:
            return "its part is done"
        return "nothing more came" if self._claims.seems_empty else ""

    def _finish(self, why: str) -> MoveResult:
        return self._result(bool(why), why or "stopped")
