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
        self._number: int | None = None
        self._inside: Collection[str] = ()

    def begin(self, rows: Sequence[LedgerRow]) -> None:
        """As `Book.write`."""
        alike, rest = _parted(rows, ItemState.CLAIMED, None)
        if len(alike) < FEW:
            self._book.write(rows)
            return
        self._number = self._book.write(rest, Lot(alike))
        self._inside = frozenset(row.item_id for row in alike)

    def go_on(self, rows: Sequence[LedgerRow], state: ItemState) -> None:
        """As `Book.write`, of rows of which most are in `state` now."""
        if self._number is None:
            self._book.write(rows)
            return
        alike, rest = _parted(rows, state, self._inside)
        if not alike:
            self._book.write(rest)
            return
        self._number = self._book.write(rest, Lot(alike, self._number))
        self._inside = frozenset(row.item_id for row in alike)


def _parted(rows: Sequence[LedgerRow], state: ItemState, inside: Collection[str] | None
            ) -> tuple[list[LedgerRow], Sequence[LedgerRow]]:
    """Those that go on together, and the rest; of an item that is named twice the order counts."""
    alike = [row for row in rows if row.state is state and row.plain
             and (inside is None or row.item_id in inside)]
    if len({row.item_id for row in rows}) != len(rows):
        return [], rows
    if len(alike) == len(rows):
        return alike, ()
    going = {row.item_id for row in alike}
    return alike, [row for row in rows if row.item_id not in going]
