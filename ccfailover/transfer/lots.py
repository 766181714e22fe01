"""One batch's rows in the ledger: those that go on alike are written once for all of them.

Nearly every application of a batch is claimed, delivered and settled with the others. Whatever
happens to one alone is written for it alone, and it leaves the lot. So the ledger says the same as
if each had been written by itself, at every moment, and whoever reads it need not know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ccfailover.model.items import ItemState, LedgerRow, Lot
from ccfailover.transfer.book import Book

_Place = tuple[str, str, str]
"""Of which move's step a row is, and of which item."""

FEW = 2
"""With fewer it would cost more than it saves."""


class Together:
    """A batch from its claim to its end; one lane's own."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._name: str | None = None
        self._inside: Collection[_Place] = frozenset()

    def begin(self, rows: Sequence[LedgerRow]) -> None:
        """As `Book.write`."""
        alike, rest = _parted(rows, ItemState.CLAIMED, None)
        if len(alike) < FEW:
            self._book.write(rows)
            return
        self._name = self._book.write(rest, Lot(alike))
        self._inside = frozenset(map(_place, alike))

    def go_on(self, rows: Sequence[LedgerRow], state: ItemState) -> None:
        """As `Book.write`, of rows of which most are in `state` now."""
        alike, rest = _parted(rows, state, self._inside)
        if self._name is None or not alike:
            self._book.write(rows)
            return
        self._name = self._book.write(rest, Lot(alike, self._name))
        self._inside = frozenset(map(_place, alike))


def _place(row: LedgerRow) -> _Place:
    return row.run, row.step, row.item_id


def _parted(rows: Sequence[LedgerRow], state: ItemState, inside: Collection[_Place] | None
            ) -> tuple[list[LedgerRow], list[LedgerRow]]:
    """Those that go on together, and the rest; what is named twice is written in its order."""
    if len(set(map(_place, rows))) != len(rows):
        return [], list(rows)
    alike, rest = list[LedgerRow](), list[LedgerRow]()
    for row in rows:
        together = row.state is state and row.plain and (inside is None or _place(row) in inside)
        (alike if together else rest).append(row)
    return alike, rest
