"""What an attempt before this one left open, decided from the ledger."""

from __future__ import annotations

from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.runtime import SECOND, Runtime
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims
from ccfailover.transfer.delivery import LAPSED, REFUSED
from ccfailover.transfer.sorting import TWIN, Sorter


def take_up(book: Book, claims: Claims, sorter: Sorter, runtime: Runtime) -> dict[str, bool]:
    """Settle what was delivered, show again what was claimed, keep hidden what stays.

    A settle by an old handle may be answered with yes and delete nothing, so it counts only once
    the copy has failed to come back: by ledger id, what the source said of each. Claims are
    touched only while they are surely still ours: extending one that is in other hands by now
    would meddle.
    """
    open_ = list(book.stored(ItemState.DELIVERED, ItemState.STRANDED))
    answer = claims.settle([row.handle for row in open_ if row.handle]) or {}
    now, life = runtime.now(), int(claims.seconds * SECOND)
    back = [row for row in book.stored(ItemState.CLAIMED) if 0 <= now - row.at < life]
    stay: list[LedgerRow] = []
    # Held claims have at least half their life left whenever anything is written.
    if 0 <= now - book.newest < life // 2:
        for row in book.stored(ItemState.LEFT, ItemState.QUARANTINED):
            retry = row.reason.startswith((REFUSED, LAPSED, TWIN))
            (back if retry else stay).append(row)
    claims.extend([row.handle for row in back if row.handle], 0)
    kept = claims.extend([row.handle for row in stay if row.handle], claims.seconds)
    since = runtime.monotonic()
    for row in stay:
        if kept.get(row.handle):
            message = row.message_id or row.handle
            claims.hold({message: row.handle}, since=since)
            sorter.judged.add(message)
    return {row.item_id: bool(answer.get(row.handle)) for row in open_}
