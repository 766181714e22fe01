"""One move's rows in memory, in step with the ledger, with running counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.model.journal import Lease
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.rows import AT_SOURCE, AT_TARGET, Ledger, Move, is_copy


class Book:
    """Reads the queue's rows once; afterwards every change goes through `record`."""

    def __init__(self, store: Ledger, lease: Lease | None, move: Move) -> None:
        self._store, self._lease, self._move = store, lease, move
        rows = list(store.items(queue=move.queue))
        self._rows: dict[str, LedgerRow] = {}
        self._counts: Counter[tuple[ItemState, bool]] = Counter()
        for row in rows:
            self._keep(row)
        self.earlier = Earlier(rows, run=move.run, step=move.step)

    @property
    def rows(self) -> Mapping[str, LedgerRow]:
        """This move's own, by ledger id."""
        return self._rows

    def record(self, rows: Iterable[LedgerRow]) -> None:
        """One durable transaction under the fence; only then may anything rest on it."""
        rows = list(rows)
        if not rows:
            return
        self._store.record_items(rows, lease=self._lease)
        self.earlier.replace(rows)
        for row in rows:
            self._keep(row)

    def _keep(self, row: LedgerRow) -> None:
        if (row.run, row.step) != (self._move.run, self._move.step):
            return
        old = self._rows.get(row.item_id)
        if old is not None:
            self._counts[old.state, is_copy(old)] -= 1
        self._rows[row.item_id] = row
        self._counts[row.state, is_copy(row)] += 1

    def count(self, *states: ItemState) -> int:
        return sum(self._counts[state, copy] for state in states for copy in (False, True))

    def is_settled(self, item_id: str) -> bool:
        """The target got it, and no copy is left at the source."""
        row = self._rows.get(item_id)
        return row is not None and row.state is ItemState.SETTLED

    @property
    def moved(self) -> int:
        """Applications that the target got."""
        return sum(self._counts[state, False] for state in AT_TARGET)

    @property
    def collapsed(self) -> int:
        """Further copies, deleted because the target has the application already."""
        return sum(self._counts[state, True] for state in AT_TARGET)

    @property
    def here(self) -> int:
        """Copies that are, or may be, at the source."""
        return self.count(*AT_SOURCE)
