"""Moves within one system of record, where a put assigns the very record anew.

There is one record and no copy of it. So nothing is left over at the source, nothing is there
twice, and a record that is seen at the source again was assigned back. What is in doubt does not
come back by itself, as a message would: the target is asked, by a put with the same key, which
either has been carried out, or is now, or has lost its compare-and-set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims
from ccfailover.transfer.delivery import REFUSED, Delivery, Outcome, Parcel
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.rows import application, cut, is_copy, moved_on

ROWS = 500
"""Rows in one transaction."""

ASSIGNED_BACK = "assigned to its source again"
SECOND_RECORD = "a second record of one application"

Settled = Callable[[LedgerRow], list[LedgerRow]]
"""A row that turns out to be at its target → all rows that this brings to an end."""


def pointer(row: LedgerRow) -> WorkItem:
    """What the ledger knows of an item: enough to assign its record, and no body."""
    return WorkItem(item_id=row.item_id, message_id=row.message_id, body=b"", fields={},
                    handle=row.handle, submitted=row.submitted, hops=row.hop - 1)


def find_out(book: Book, claims: Claims, delivery: Delivery, now: int, settled: Settled) -> None:
    """Bring to an end what this move, and other runs between the same sites, left open."""
    for rows in cut(list(book.stored(ItemState.DELIVERED, ItemState.STRANDED)), ROWS):
        with _at_hand(book, rows):
            book.record(closed(rows, claims, settled, now))
    for rows in cut(list(book.doubtful()), ROWS):
        with _at_hand(book, rows):
            book.record(_found(_asked(rows, delivery), book.earlier, settled, now))


@contextmanager
def _at_hand(book: Book, rows: Sequence[LedgerRow]) -> Iterator[None]:
    """What the ledger knows of the same applications, which decides what else comes to an end."""
    ids = {row.item_id for row in rows} | {application(row) for row in rows}
    book.open(ids)
    yield
    book.shut(ids)


def _asked(rows: Iterable[LedgerRow], delivery: Delivery) -> list[Outcome]:
    """How the puts in doubt really ended: each is asked for with the key of its own run."""
    parcels: dict[tuple[str, str], list[Parcel]] = {}
    for row in rows:
        if row.handle and not is_copy(row):
            parcels.setdefault((row.run, row.step), []).append(
                Parcel(pointer(row), row, doubtful=True))
    return [outcome for move, each in parcels.items() for outcome in delivery.of(*move).put(
        each, lambda left: {parcel.item.item_id for parcel in left})]


def _found(outcomes: Sequence[Outcome], earlier: Earlier, settled: Settled,
           now: int) -> list[LedgerRow]:
    """What the ledger has to say of them; nothing of those that are still in doubt."""
    rows: list[LedgerRow] = []
    for outcome in outcomes:
        row = outcome.parcel.row
        if outcome.ok:
            rows += settled(replace(row, target_ref=outcome.target_ref))
        elif outcome.permanent and earlier.taken_on(row):
            rows.append(moved_on(row, ItemState.RETURNED, now, ASSIGNED_BACK))
        elif outcome.permanent:
            rows.append(moved_on(row, ItemState.LEFT, now, outcome.reason or REFUSED))
    return rows


def closed(rows: Iterable[LedgerRow], claims: Claims, settled: Settled,
           now: int) -> list[LedgerRow]:
    """Deliveries that nobody saw settled, now that their source was asked.

    A no may mean that the source did not hear the question: it counts only when it is repeated
    by one that answers.
    """
    open_ = [row for row in rows
             if row.state in (ItemState.DELIVERED, ItemState.STRANDED) and row.handle]
    answer = dict(claims.settle([row.handle for row in open_]) or {})
    unsure = [row.handle for row in open_ if not answer.get(row.handle)]
    again = dict(claims.settle(unsure) or {}) if unsure and claims.measure() is not None else {}
    out: list[LedgerRow] = []
    for row in open_:
        if answer.get(row.handle) or again.get(row.handle):
            out += settled(row)
        elif row.handle in again:
            out.append(moved_on(row, ItemState.RETURNED, now, ASSIGNED_BACK))
    return out
