"""What the ledger says of one move: ids, keys, digests, and rows made from claimed items.

One row stands for one physical copy at the source. The first copy of an application carries the
lender's id; a further copy of the same application, and a message whose id cannot be read, have
ids of their own (`…#copy:<message>`, `#message:<message>`), so that counts add up copy by copy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.model.journal import Lease

COPY = "#copy:"
NAMELESS = "#message:"
LONGEST_ID = 200
NOT_DELETED = "its copy could not be deleted at"

AT_TARGET = frozenset({ItemState.DELIVERED, ItemState.SETTLED, ItemState.STRANDED})
"""The target has the item (or had it, until it was done or returned)."""

AT_SOURCE = frozenset({
    ItemState.LEFT, ItemState.QUARANTINED, ItemState.CLAIMED, ItemState.DELIVERED,
    ItemState.STRANDED,
})
"""A copy is, or may still be, at the source."""

_DIGEST = re.compile(r" ?\[body ([0-9a-f]{32})\]$")


class Ledger(Protocol):
    """The part of the store that moves need. `ccfailover.store.Store` is one."""

    def record_items(self, rows: Sequence[LedgerRow], *, lease: Lease | None) -> None: ...

    def items(self, *, run: str | None = None, step: str | None = None,
              queue: str | None = None) -> Iterator[LedgerRow]: ...


@dataclass(frozen=True)
class Move:
    """Which move: a run's step that takes one queue's items from one site to another."""

    run: str
    step: str
    queue: str
    source: str
    target: str

    def key(self, item: WorkItem) -> str:
        """The idempotency key `item:run:hop`: the same on every attempt of this run, another one
        when the item travels again, so that no platform swallows a return as a repetition."""
        return f"{item.item_id}:{self.run}:{item.hops + 1}"

    def digest(self, item: WorkItem) -> str:
        """Of the body, keyed by run and id: tells copies apart and says nothing else."""
        return _digest(self.run, item)

    def row(self, item: WorkItem, state: ItemState, at: int, *, row_id: str | None = None,
            reason: str = "", possible_duplicate: bool = False) -> LedgerRow:
        return LedgerRow(
            run=self.run, step=self.step, item_id=row_id or item.item_id, queue=self.queue,
            source=self.source, target=self.target, state=state, at=at,
            reason=f"{reason} [body {self.digest(item)}]".strip(), message_id=item.message_id,
            handle=item.handle, submitted=item.submitted, hop=item.hops + 1,
            possible_duplicate=possible_duplicate,
        )


def _digest(run: str, item: WorkItem) -> str:
    text = item.item_id.encode() + b"\0" + item.body
    return hmac.new(run.encode(), text, hashlib.sha256).hexdigest()[:32]


def same_body(row: LedgerRow, item: WorkItem) -> bool:
    """Is the body of `item` the one that `row` was written for? False when the row has none."""
    found = _DIGEST.search(row.reason)
    return found is not None and hmac.compare_digest(found[1], _digest(row.run, item))


def reason_of(row: LedgerRow) -> str:
    """The reason as a person reads it, without the digest."""
    return _DIGEST.sub("", row.reason)


def because(row: LedgerRow, reason: str) -> str:
    """Another reason for `row`, with its digest kept."""
    found = _DIGEST.search(row.reason)
    return f"{reason}{found[0] if found else ''}".strip()


def moved_on(row: LedgerRow, state: ItemState, at: int, reason: str | None = None, *,
             handle: str | None = None) -> LedgerRow:
    """`row` in its next state; the reason of the former state goes unless another is given."""
    return replace(row, state=state, at=at, reason=because(row, reason or ""),
                   handle=row.handle if handle is None else handle)


def vanished(row: LedgerRow, state: ItemState, at: int, what: str, *, worked: bool) -> LedgerRow:
    """A delivery whose copy is gone from its source, and not by a deletion that we saw succeed.

    Ours may have worked unheard. Where the source's own consumers may have been at work
    (`worked`), they may have had it instead, and then two sites work one application.
    """
    known = reason_of(row)
    kept = "" if known.startswith(NOT_DELETED) else known  # what is gone was not kept
    said = f"{what}: it may have been worked there" if worked else kept or what
    return replace(moved_on(row, state, at, said),
                   possible_duplicate=row.possible_duplicate or worked)


def is_copy(row: LedgerRow) -> bool:
    """A further copy of an application that has a row of its own."""
    return COPY in row.item_id


def is_nameless(row: LedgerRow) -> bool:
    return row.item_id.startswith(NAMELESS)


def application(row: LedgerRow) -> str:
    """The lender's id; for a message without a readable one, the ledger's own."""
    return row.item_id.split(COPY, 1)[0]


def copy_id(item: WorkItem) -> str:
    return f"{item.item_id}{COPY}{item.message_id}"


def message_key(item: WorkItem) -> str:
    """Tells messages apart; a platform that gives them no ids is left with the claim's handle."""
    return item.message_id or item.handle


def nameless_id(item: WorkItem) -> str:
    return f"{NAMELESS}{item.message_id or item.handle[:LONGEST_ID]}"


def usable_id(item_id: str) -> bool:
    """An id that can be a key and be shown: printable, not too long, none of our own marks."""
    return (0 < len(item_id) <= LONGEST_ID and item_id.isprintable()
            and COPY not in item_id and not item_id.startswith(NAMELESS))


def by_urgency(items: Iterable[WorkItem]) -> list[WorkItem]:
    """The nearest legal deadline first: the clock of every application runs from the day it was
    submitted. Those without a date come last."""
    return sorted(items, key=lambda item: (not item.submitted, item.submitted or "",
                                           item.item_id, item.message_id))


def count_reasons(rows: Iterable[LedgerRow]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        reason = reason_of(row) or "no reason recorded"
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
