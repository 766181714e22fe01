"""When a target that takes little is taken to take nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ccfailover.transfer.delivery import Outcome

REFUSED_BATCHES = 2
"""Whole batches in a row that the target does not take: then it takes none."""

REFUSED_ITEMS = 20
"""Items in a row that the target refuses for good: then the fault is not with the items."""


class Refusals:
    """Those in a row. Not safe for several threads by itself."""

    def __init__(self) -> None:
        self._batches = self._items = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        if any(outcome.ok for outcome in outcomes):
            self._batches = self._items = 0
        elif all(outcome.permanent for outcome in outcomes):
            self._items += len(outcomes)
        elif not any(outcome.lapsed for outcome in outcomes):
            self._batches += 1

    @property
    def enough(self) -> bool:
        return self._batches >= REFUSED_BATCHES or self._items >= REFUSED_ITEMS
