"""One batch's rows in the ledger: those that go on alike are written once for all of them.

Nearly every application of a batch is claimed, delivered and settled with the others. Whatever
happens to one alone is written for it alone, and it leaves the lot. So the ledger says the same as
if each had been written by itself, at every moment, and whoever reads it need not know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ccfailover.model.items import ItemState, LedgerRow, Lot
from ccfailover.transfer.book import Book

FEW = 2
"""With fewer it would cost more than it saves."""


class Together:
    """A batch from its claim to its end; one lane's own."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._name: str | None = None
        self._inside: Collection[str] = frozenset()

    def begin(self, rows: Sequence[LedgerRow]) -> None:
        """As `Book.write`."""
        alike, rest, ids = self._parted(rows, ItemState.CLAIMED, None)
        if len(alike) < FEW:
            self._book.write(rows)
            return
        self._name, self._inside = self._book.write(rest, Lot(alike)), ids

    def go_on(self, rows: Sequence[LedgerRow], state: ItemState) -> None:
        """As `Book.write`, of rows of which most are in `state` now."""
        alike, rest, ids = self._parted(rows, state, self._inside)
        if self._name is None or not alike:
            self._book.write(rows)
            return
        self._name, self._inside = self._book.write(rest, Lot(alike, self._name)), ids

    def _parted(self, rows: Sequence[LedgerRow], state: ItemState, inside: Collection[str] | None
                ) -> tuple[Sequence[LedgerRow], Sequence[LedgerRow], Collection[str]]:
        """Those that go on together, the rest, and the ids of the first. What is named twice is
        written in its order."""
        (run, step), ids = self._book.own, set[str]()
        alike, rest = list[LedgerRow](), list[LedgerRow]()
        for row in rows:  # of a million; so `plain` stands here in full
            if row.state is state and not (row.reason or row.possible_duplicate or row.resent) \
                    and (inside is None or row.item_id in inside) \
                    and row.run == run and row.step == step:
                alike.append(row)
                ids.add(row.item_id)
            else:
                rest.append(row)
        if len(ids) != len(alike) or any(
                row.item_id in ids and (row.run, row.step) == (run, step) for row in rest):
            return [], rows, frozenset()
        return alike, rest, ids
