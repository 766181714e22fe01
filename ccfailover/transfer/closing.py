"""The end of a move: deliveries of which no deletion was seen to succeed."""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims
from ccfailover.transfer.rows import (
    NOT_DELETED,
    Move,
    application,
    cut,
    is_copy,
    moved_on,
    vanished,
)

ROWS = 500
"""Rows in one transaction."""

OPEN = frozenset({ItemState.DELIVERED, ItemState.STRANDED})


def close(book: Book, claims: Claims, unproven: Mapping[str, bool], *, move: Move, proven: bool,
          worked: bool, now: int) -> None:
    """Is each copy gone, or stranded? `unproven`: by ledger id, what the source said when it was
    told to delete. `proven`: nothing is counted there that is not in our hands. `worked`: its own
    consumers may have had it."""
    for ids in cut(list(unproven), ROWS):
        rows: list[LedgerRow] = []
        book.open(ids)
        found = [row for row in (book.rows.get(each) for each in ids)
                 if row is not None and row.state in OPEN]
        # What its source would not delete is hidden by us, and a claim that still lasts shows it.
        here = claims.extend([row.handle for row in found if not unproven[row.item_id]],
                             claims.seconds)
        for row in found:
            said = unproven[row.item_id] and not claims.dead
            if said or (proven and not here.get(row.handle)):
                own = vanished(row, ItemState.SETTLED, now, f"no copy came back at {row.source}",
                               worked=worked)
                rows += [own] if is_copy(row) else [
                    own, *book.earlier.returned(application(row), move, now)]
            elif row.state is not ItemState.STRANDED:
                rows.append(moved_on(row, ItemState.STRANDED, now,
                                     row.reason or f"{NOT_DELETED} {row.source}"))
        book.record(rows)
        book.shut(ids)
